//! Caches that others have written, as they come, with the same bytes to spend.

use ahash::RandomState;

use super::policies::Policy;
use super::trace::Trace;

/// W-TinyLFU. Its housekeeping is asked for after each object that comes in, so that it is not behind.
pub struct Moka {
    cache: moka::sync::Cache<u32, u32, RandomState>,
}

impl Moka {
    pub fn new(capacity: u64) -> Self {
        let cache = moka::sync::Cache::builder()
            .max_capacity(capacity)
            .weigher(|_: &u32, cost: &u32| *cost)
            .build_with_hasher(hasher());
        Self { cache }
    }
}

impl Policy for Moka {
    fn request(&mut self, id: u32, cost: u64) -> bool {
        let hit = self.cache.get(&id).is_some();
        if !hit {
            self.cache.insert(id, u32::try_from(cost).unwrap_or(u32::MAX));
            self.cache.run_pending_tasks();
        }
        hit
    }
}

/// Near to S3-FIFO and CLOCK-Pro.
pub struct QuickCache {
    cache: quick_cache::unsync::Cache<u32, u64, Weight, RandomState>,
}

#[derive(Clone)]
struct Weight;

impl quick_cache::Weighter<u32, u64> for Weight {
    fn weight(&self, _id: &u32, cost: &u64) -> u64 {
        *cost
    }
}

impl QuickCache {
    pub fn new(capacity: u64, objects: usize) -> Self {
        let lifecycle = quick_cache::unsync::DefaultLifecycle::default();
        Self { cache: quick_cache::unsync::Cache::with(objects, capacity, Weight, hasher(), lifecycle) }
    }
}

impl Policy for QuickCache {
    fn request(&mut self, id: u32, cost: u64) -> bool {
        let hit = self.cache.get(&id).is_some();
        if !hit {
            self.cache.insert(id, cost);
        }
        hit
    }
}

/// S3-FIFO behind TinyLFU. Its weights are 16 bits, so that costs are rounded up to what fits the largest.
pub struct TinyUfo {
    cache: tinyufo::TinyUfo<u32, ()>,
    unit: u64,
}

impl TinyUfo {
    pub fn new(capacity: u64, objects: usize, trace: &Trace) -> Self {
        let largest = trace.sizes.iter().max().copied().unwrap_or_default() + 1024;
        let unit = largest.div_ceil(u64::from(u16::MAX));
        Self { cache: tinyufo::TinyUfo::new((capacity / unit) as usize, objects), unit }
    }
}

impl Policy for TinyUfo {
    fn request(&mut self, id: u32, cost: u64) -> bool {
        let hit = self.cache.get(&id).is_some();
        if !hit {
            self.cache.put(id, (), u16::try_from(cost.div_ceil(self.unit)).unwrap_or(u16::MAX));
        }
        hit
    }
}

/// The same in each run.
fn hasher() -> RandomState {
    RandomState::with_seeds(1, 2, 3, 4)
}
