//! What is asked for: traces made from a recipe and a seed, the same on every machine, and traces read from a file.

use std::collections::HashMap;

/// Requests for numbered objects, each of one size for the whole trace.
#[derive(Debug)]
pub struct Trace {
    /// The objects in the order they are asked for.
    pub requests: Vec<u32>,
    /// Bytes of each object.
    pub sizes: Vec<u64>,
}

/// How a trace is made.
#[derive(Debug, Clone, Copy)]
pub struct Recipe {
    /// As it stands in the table.
    pub name: &'static str,
    /// Objects of the catalogue. The one of rank `r` is asked for in proportion to `r` to the power of `-zipf`.
    pub objects: u32,
    /// The exponent.
    pub zipf: f64,
    /// Of 100 requests, so many are for an object that is asked for once.
    pub wonders: u64,
    /// Once in [`PERIOD`] requests, so many objects of the catalogue are asked for in the order of their numbers, from where the last
    /// such scan ended.
    pub scan: u32,
    /// Once in [`PERIOD`] requests, so many pairs of objects, drawn evenly, exchange their ranks.
    pub drift: u32,
}

impl Recipe {
    /// A trace of so many requests. Sizes are log-normal and know nothing of ranks.
    pub fn make(&self, seed: u64, requests: usize) -> Trace {
        let mut dice = Dice(seed);
        let mut sizes: Vec<u64> = (0..self.objects).map(|_| dice.size()).collect();
        let mut ranked: Vec<u32> = (0..self.objects).collect();
        for last in (1..self.objects).rev() {
            let other = dice.below(u64::from(last) + 1);
            ranked.swap(last as usize, other as usize);
        }
        let shares = self.shares();
        let mut asked = Vec::with_capacity(requests + self.scan as usize);
        let mut scanned = 0;
        while asked.len() < requests {
            if asked.len() % PERIOD == PERIOD - 1 {
                for _ in 0..self.drift {
                    let (one, other) = (dice.below(self.objects.into()), dice.below(self.objects.into()));
                    ranked.swap(one as usize, other as usize);
                }
                asked.extend((scanned..scanned + self.scan).map(|number| number % self.objects));
                scanned += self.scan;
            }
            if dice.below(100) < self.wonders {
                asked.push(sizes.len() as u32);
                sizes.push(dice.size());
            } else {
                let drawn = dice.unit();
                let rank = shares.partition_point(|share| *share <= drawn);
                asked.push(ranked[rank.min(ranked.len() - 1)]);
            }
        }
        asked.truncate(requests);
        Trace { requests: asked, sizes }
    }

    /// What part of the requests the objects up to each rank take.
    fn shares(&self) -> Vec<f64> {
        let weights = (1..=self.objects).map(|rank| f64::from(rank).powf(-self.zipf));
        let sums = weights.scan(0.0, |sum, weight| {
            *sum += weight;
            Some(*sum)
        });
        let sums: Vec<f64> = sums.collect();
        let all = sums.last().copied().unwrap_or(1.0);
        sums.into_iter().map(|sum| sum / all).collect()
    }
}

impl Trace {
    /// Reads lines of `time id size`. The first size of an id counts.
    ///
    /// # Errors
    /// The line that is not of that form.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut numbers: HashMap<&str, u32> = HashMap::new();
        let mut trace = Self { requests: Vec::new(), sizes: Vec::new() };
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let mut words = line.split_whitespace().skip(1);
            let (id, size) = (words.next(), words.next().and_then(|size| size.parse().ok()));
            let (Some(id), Some(size)) = (id, size) else {
                return Err(format!("line {}: `{line}` is not `time id size`", index + 1));
            };
            let next = numbers.len() as u32;
            let number = *numbers.entry(id).or_insert(next);
            if number == next {
                trace.sizes.push(size);
            }
            trace.requests.push(number);
        }
        Ok(trace)
    }

    /// Bytes of all that is asked for at least once.
    pub fn footprint(&self) -> u64 {
        let mut asked = vec![false; self.sizes.len()];
        self.requests.iter().for_each(|id| asked[*id as usize] = true);
        self.sizes.iter().zip(asked).filter(|(_, asked)| *asked).map(|(size, _)| size).sum()
    }
}

/// splitmix64, and what is drawn from it.
#[derive(Debug)]
pub struct Dice(pub u64);

impl Dice {
    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// Evenly from 0 to `end - 1`.
    pub fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(end)) >> 64) as u64
    }

    /// Evenly from 0 to below 1.
    fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Log-normal (Box and Muller), cut off at both ends.
    fn size(&mut self) -> u64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        let normal = radius * (std::f64::consts::TAU * self.unit()).cos();
        (SIZE_MU + SIZE_SIGMA * normal).exp().clamp(SMALLEST, LARGEST) as u64
    }
}

/// The last step of splitmix64: a hash of a number.
pub fn mix(number: u64) -> u64 {
    let mixed = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

const PERIOD: usize = 50_000;
const SIZE_MU: f64 = 9.0;
const SIZE_SIGMA: f64 = 1.7;
const SMALLEST: f64 = 100.0;
const LARGEST: f64 = 20_000_000.0;
