//! Policies as their authors describe them, without a thought for speed: the exact reference and its neighbours.

use std::collections::VecDeque;

use super::trace::{Dice, Trace};

/// A cache that takes in whatever it is asked for and does not have.
pub trait Policy {
    /// True if the object was there.
    fn request(&mut self, id: u32, cost: u64) -> bool;

    /// How many objects it holds, if it tells.
    fn stored(&self) -> usize {
        0
    }
}

/// Part of the requests and of their bytes that were answered.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Ratio {
    /// Percent of the requests.
    pub objects: f64,
    /// Percent of the bytes.
    pub bytes: f64,
}

/// Lets a policy answer a trace. Returns also the most objects that it held.
pub fn run(policy: &mut dyn Policy, trace: &Trace) -> (Ratio, usize) {
    let (mut hits, mut hit_bytes, mut bytes, mut most) = (0u64, 0u64, 0u64, 0);
    for id in &trace.requests {
        let size = trace.sizes[*id as usize];
        bytes += size;
        if policy.request(*id, size + RECORD_BYTES) {
            hits += 1;
            hit_bytes += size;
        } else {
            most = most.max(policy.stored());
        }
    }
    let percent = |part: u64, whole: u64| part as f64 * 100.0 / whole.max(1) as f64;
    (Ratio { objects: percent(hits, trace.requests.len() as u64), bytes: percent(hit_bytes, bytes) }, most)
}

/// What a policy keeps of each object, by its number.
#[derive(Debug, Clone, Copy, Default)]
struct Object {
    /// 0: not stored.
    cost: u64,
    hits: u8,
    /// When it was last asked for, or when it left.
    stamp: u64,
}

/// First in, first out; or, if a request counts as coming in, least recently used.
pub struct Queue {
    capacity: u64,
    used: u64,
    clock: u64,
    refresh: bool,
    order: VecDeque<(u32, u64)>,
    objects: Vec<Object>,
}

impl Queue {
    pub fn fifo(capacity: u64, trace: &Trace) -> Self {
        let objects = vec![Object::default(); trace.sizes.len()];
        Self { capacity, used: 0, clock: 0, refresh: false, order: VecDeque::new(), objects }
    }

    pub fn lru(capacity: u64, trace: &Trace) -> Self {
        Self { refresh: true, ..Self::fifo(capacity, trace) }
    }

    fn come(&mut self, id: u32) {
        self.clock += 1;
        self.objects[id as usize].stamp = self.clock;
        self.order.push_back((id, self.clock));
    }
}

impl Policy for Queue {
    fn request(&mut self, id: u32, cost: u64) -> bool {
        let hit = self.objects[id as usize].cost > 0;
        if hit && self.refresh {
            self.come(id);
        }
        if hit || cost > self.capacity {
            return hit;
        }
        while self.used + cost > self.capacity {
            let (oldest, stamp) = self.order.pop_front().expect("what is used is in the queue");
            let object = &mut self.objects[oldest as usize];
            // An older ticket of an object that came again since is skipped.
            if object.stamp == stamp {
                self.used -= std::mem::take(&mut object.cost);
            }
        }
        self.objects[id as usize].cost = cost;
        self.used += cost;
        self.come(id);
        false
    }
}

/// SIEVE (NSDI 2024): a queue that nothing moves in; a hand goes from old to new and takes what was not asked for since its last visit.
pub struct Sieve {
    capacity: u64,
    used: u64,
    objects: Vec<Object>,
    /// The newer and the older neighbour of each; the last place is the end of the ring.
    links: Vec<[u32; 2]>,
    hand: u32,
}

impl Sieve {
    pub fn new(capacity: u64, trace: &Trace) -> Self {
        let end = trace.sizes.len() as u32;
        let objects = vec![Object::default(); trace.sizes.len()];
        Self { capacity, used: 0, objects, links: vec![[end; 2]; trace.sizes.len() + 1], hand: end }
    }

    fn evict(&mut self) {
        let end = self.objects.len() as u32;
        loop {
            if self.hand == end {
                self.hand = self.links[end as usize][NEWER];
            }
            let id = self.hand as usize;
            let [newer, older] = self.links[id];
            self.hand = newer;
            if self.objects[id].hits > 0 {
                self.objects[id].hits = 0;
                continue;
            }
            self.links[newer as usize][OLDER] = older;
            self.links[older as usize][NEWER] = newer;
            self.used -= std::mem::take(&mut self.objects[id].cost);
            return;
        }
    }
}

impl Policy for Sieve {
    fn request(&mut self, id: u32, cost: u64) -> bool {
        let object = &mut self.objects[id as usize];
        if object.cost > 0 || cost > self.capacity {
            object.hits = 1;
            return object.cost > 0;
        }
        while self.used + cost > self.capacity {
            self.evict();
        }
        let end = self.objects.len();
        let newest = std::mem::replace(&mut self.links[end][OLDER], id);
        self.links[newest as usize][NEWER] = id;
        self.links[id as usize] = [end as u32, newest];
        self.objects[id as usize] = Object { cost, hits: 0, stamp: 0 };
        self.used += cost;
        false
    }
}

/// S3-FIFO (SOSP 2023) with a ghost that is exact and remembers as many as are stored.
pub struct S3Fifo {
    capacity: u64,
    size_aware: bool,
    small: VecDeque<u32>,
    small_used: u64,
    main: VecDeque<u32>,
    main_used: u64,
    objects: Vec<Object>,
    left: u64,
}

impl S3Fifo {
    /// As published: what was asked for twice moves on.
    pub fn plain(capacity: u64, trace: &Trace) -> Self {
        Self {
            capacity,
            size_aware: false,
            small: VecDeque::new(),
            small_used: 0,
            main: VecDeque::new(),
            main_used: 0,
            objects: vec![Object::default(); trace.sizes.len()],
            left: 0,
        }
    }

    /// What is smaller than the mean moves on when it was asked for once, what is smaller than four times that twice, the rest thrice.
    pub fn size_aware(capacity: u64, trace: &Trace) -> Self {
        Self { size_aware: true, ..Self::plain(capacity, trace) }
    }

    fn used(&self) -> u64 {
        self.small_used + self.main_used
    }

    fn hits_to_move_on(&self, cost: u64) -> u8 {
        let mean = self.used() / self.stored().max(1) as u64;
        match cost {
            _ if !self.size_aware => 2,
            cost if cost <= mean => 1,
            cost if cost < 4 * mean => 2,
            _ => 3,
        }
    }

    fn evict(&mut self) {
        if self.main.is_empty() || self.small_used * 10 >= self.used() {
            let id = self.small.pop_front().expect("not empty, or nothing is used");
            let Object { cost, hits, .. } = self.objects[id as usize];
            let stays = hits >= self.hits_to_move_on(cost);
            self.small_used -= cost;
            if stays {
                self.objects[id as usize].hits = 0;
                self.main_used += cost;
                self.main.push_back(id);
            } else {
                self.left += 1;
                self.objects[id as usize] = Object { cost: 0, hits: 0, stamp: self.left };
            }
        } else {
            let id = self.main.pop_front().expect("not empty");
            let object = &mut self.objects[id as usize];
            if object.hits > 0 {
                object.hits -= 1;
                self.main.push_back(id);
            } else {
                self.main_used -= object.cost;
                *object = Object::default();
            }
        }
    }
}

impl Policy for S3Fifo {
    fn request(&mut self, id: u32, cost: u64) -> bool {
        let object = &mut self.objects[id as usize];
        if object.cost > 0 || cost > self.capacity {
            object.hits = (object.hits + 1).min(3);
            return object.cost > 0;
        }
        let known = object.stamp > 0 && self.left - object.stamp < (self.stored() as u64).max(64);
        while self.used() + cost > self.capacity {
            self.evict();
        }
        self.objects[id as usize] = Object { cost, hits: 0, stamp: 0 };
        if known {
            self.main.push_back(id);
            self.main_used += cost;
        } else {
            self.small.push_back(id);
            self.small_used += cost;
        }
        false
    }

    fn stored(&self) -> usize {
        self.small.len() + self.main.len()
    }
}

/// Knows the future: of some drawn at random, that goes whose next request is the farthest, by distance or by distance times size.
/// What is never asked for again does not come in. Not a proven bound.
pub struct Oracle<'a> {
    capacity: u64,
    used: u64,
    by_size: bool,
    trace: &'a Trace,
    /// When what is asked for at each moment is asked for again.
    next_of: Vec<u64>,
    now: usize,
    stored: Vec<u32>,
    /// Where each stands in `stored`, and when it is asked for next.
    places: Vec<(u32, u64)>,
    dice: Dice,
}

impl<'a> Oracle<'a> {
    pub fn new(capacity: u64, trace: &'a Trace, by_size: bool) -> Self {
        let mut seen = vec![u64::MAX; trace.sizes.len()];
        let mut next_of = vec![u64::MAX; trace.requests.len()];
        for (at, id) in trace.requests.iter().enumerate().rev() {
            next_of[at] = std::mem::replace(&mut seen[*id as usize], at as u64);
        }
        let places = vec![(NOWHERE, 0); trace.sizes.len()];
        Self { capacity, used: 0, by_size, trace, next_of, now: 0, stored: Vec::new(), places, dice: Dice(1) }
    }

    fn evict(&mut self) {
        let price = |id: u32| {
            let distance = u128::from(self.places[id as usize].1 - self.now as u64);
            if self.by_size { distance * u128::from(self.trace.sizes[id as usize]) } else { distance }
        };
        let drawn = (0..SAMPLE).map(|_| self.stored[self.dice.below(self.stored.len() as u64) as usize]);
        let victim = drawn.max_by_key(|id| price(*id)).expect("a sample is not empty");
        let place = std::mem::replace(&mut self.places[victim as usize].0, NOWHERE);
        self.stored.swap_remove(place as usize);
        if let Some(moved) = self.stored.get(place as usize) {
            self.places[*moved as usize].0 = place;
        }
        self.used -= self.trace.sizes[victim as usize] + RECORD_BYTES;
    }
}

impl Policy for Oracle<'_> {
    fn request(&mut self, id: u32, cost: u64) -> bool {
        let next = self.next_of[self.now];
        self.now += 1;
        let hit = self.places[id as usize].0 != NOWHERE;
        self.places[id as usize].1 = next;
        if hit || next == u64::MAX || cost > self.capacity {
            return hit;
        }
        while self.used + cost > self.capacity {
            self.evict();
        }
        self.places[id as usize].0 = self.stored.len() as u32;
        self.stored.push(id);
        self.used += cost;
        false
    }
}

/// What each object costs beyond its size, in every row: the goal of the store in shared memory.
const RECORD_BYTES: u64 = 200;
const NEWER: usize = 0;
const OLDER: usize = 1;
const NOWHERE: u32 = u32::MAX;
const SAMPLE: usize = 64;
