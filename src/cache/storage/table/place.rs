//! Where the bans lie: a stretch of words that processes share, in which whatever is read is whole.
//!
//! ```text
//!   word 0    which contents: a number, sealed                   read at every lookup, written by purges
//!   word 8    the epoch: purges that there have been, sealed     read at every miss, written by purges; a cache line of its own
//!   word 16   slot 0 | slot 1, of equal size: the contents with an even number | with an odd one
//!
//!   slot      length u32, crc32 u32 | epoch when it was written | retired epoch | bytes, eight to a word ...
//!   sealed    value, 48 bits | check, 16 bits
//! ```
//!
//! **A process that dies while it writes changes nothing.** It writes into the slot that nobody reads; the number, written last and in one
//! piece, makes the contents those in force. Who writes next begins again with the same slot.
//!
//! **Who reads sees one whole contents.** It takes the number, copies the slot, and takes the number again: had somebody begun to write into
//! the slot meanwhile, the number before it would be past ([`Place::read`]).
//!
//! **A word that is not what was written is found out.** The number and the epoch carry a check, and the rest has a sum over it, the number
//! included, so that an old slot is not taken for the present one.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicU64, fence};
use std::time::{SystemTime, UNIX_EPOCH};

/// The words.
#[derive(Debug)]
pub(super) struct Place {
    number: &'static AtomicU64,
    epoch: &'static AtomicU64,
    slots: [&'static [AtomicU64]; 2],
}

/// What a slot holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Contents {
    /// The epoch when it was written.
    pub(super) epoch: u64,
    /// Bans up to this epoch were taken off.
    pub(super) retired: u64,
    /// The bans.
    pub(super) bytes: Vec<u8>,
}

/// What came of reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Read {
    /// The contents that a number names.
    Whole(Contents),
    /// Another number is there by now.
    Moved,
    /// It is not what anybody wrote.
    Spoilt,
}

impl Place {
    /// Takes words that [`bytes_for`] has measured.
    ///
    /// # Panics
    /// When there is no room for two slots: a mistake of the caller's.
    pub(super) fn new(area: &'static [AtomicU64]) -> Self {
        assert!(area.len() * WORD_BYTES >= MIN_BYTES, "an area that was measured");
        let (head, slots) = area.split_at(SLOTS_AT);
        let (even, odd) = slots.split_at(slots.len() / 2);
        let word = |at| head.get(at).expect("the words stand before the slots");
        Self { number: word(NUMBER_AT), epoch: word(EPOCH_AT), slots: [even, odd] }
    }

    /// Whether nobody has ever put contents in force here. Where some were, a slot is written, whatever became of the number.
    pub(super) fn is_blank(&self) -> bool {
        let [even, _] = self.slots;
        let mut words = [self.number, self.epoch].into_iter().chain(even);
        words.all(|word| word.load(Relaxed) == 0)
    }

    /// Puts the first contents in force. Only for who holds the lock.
    pub(super) fn begin(&self, contents: &Contents) {
        // The odd slot: who dies here leaves a place that is blank, or one whose epoch is spoilt.
        self.write(1, contents);
        self.epoch.store(seal(contents.epoch), SeqCst);
    }

    /// Which contents are in force, as it lies there. What has the same word is the same contents.
    ///
    /// Sequentially consistent, as is the store in [`Self::write`]: who looks after a purge has returned sees it, in whatever process.
    pub(super) fn word(&self) -> u64 {
        self.number.load(SeqCst)
    }

    /// Reads the contents that a word names.
    pub(super) fn read(&self, word: u64) -> Read {
        let whole = unseal(word).and_then(|number| self.copy(number));
        // With the fence of who writes, and before the number is taken again: if a word was from a later contents, the number that it
        // came after is seen here.
        fence(Acquire);
        match whole {
            _ if self.number.load(Relaxed) != word => Read::Moved,
            Some(contents) => Read::Whole(contents),
            None => Read::Spoilt,
        }
    }

    fn copy(&self, number: u64) -> Option<Contents> {
        let slot = self.slot(number);
        let (head, rest) = slot.split_first_chunk::<SLOT_HEAD_WORDS>()?;
        let [frame, epoch, retired] = head.each_ref().map(|word| word.load(Relaxed));
        let (length, sum) = ((frame >> 32) as usize, frame as u32);
        // What was taken off had been said.
        let is_sound = epoch <= MAX_VALUE && retired <= epoch;
        if !is_sound || length > rest.len() * WORD_BYTES {
            return None;
        }
        let mut bytes = Vec::with_capacity(length + WORD_BYTES);
        for word in rest.iter().take(length.div_ceil(WORD_BYTES)) {
            bytes.extend_from_slice(&word.load(Relaxed).to_le_bytes());
        }
        bytes.truncate(length);
        let contents = Contents { epoch, retired, bytes };
        (contents.sum(number) == sum).then_some(contents)
    }

    /// Puts other contents in force. Only for who holds the lock, and only if they [fit](Self::room). Returns the word of them.
    pub(super) fn write(&self, number: u64, contents: &Contents) -> u64 {
        self.write_until(number, contents, usize::MAX);
        seal(number)
    }

    /// The same, ended after so many words. True if all were written.
    pub(super) fn write_until(&self, number: u64, contents: &Contents, steps: usize) -> bool {
        // Who reads one of the words below sees the number that was there before; see `read`.
        fence(Release);
        let words = contents.words(number);
        for (word, value) in self.slot(number).iter().zip(&words).take(steps) {
            word.store(*value, Relaxed);
        }
        let is_through = steps > words.len();
        if is_through {
            self.number.store(seal(number), SeqCst);
        }
        is_through
    }

    /// How many bytes fit.
    pub(super) fn room(&self) -> usize {
        let [slot, _] = self.slots;
        slot.len().saturating_sub(SLOT_HEAD_WORDS) * WORD_BYTES
    }

    fn slot(&self, number: u64) -> &'static [AtomicU64] {
        let [even, odd] = self.slots;
        if number.is_multiple_of(2) { even } else { odd }
    }

    /// The epoch; `None` if it is spoilt. Sequentially consistent, as is [`Self::next_epoch`]: a fetch that began after a purge returned
    /// must see that purge's epoch.
    pub(super) fn epoch(&self) -> Option<u64> {
        unseal(self.epoch.load(SeqCst))
    }

    /// Counts the epoch up, and returns the new one, which is above `known`. One that is spoilt is set [beyond](beyond) all that can have been.
    pub(super) fn next_epoch(&self, known: u64) -> u64 {
        let mut found = self.epoch.load(SeqCst);
        loop {
            let next = unseal(found).map_or_else(|| beyond(known), |epoch| epoch.max(known)) + 1;
            match self.epoch.compare_exchange_weak(found, seal(next), SeqCst, SeqCst) {
                Ok(_) => return next,
                Err(other) => found = other,
            }
        }
    }
}

impl Contents {
    /// The words of a slot.
    fn words(&self, number: u64) -> Vec<u64> {
        let frame = (self.bytes.len() as u64) << 32 | u64::from(self.sum(number));
        let mut words = Vec::with_capacity(SLOT_HEAD_WORDS + self.bytes.len().div_ceil(WORD_BYTES));
        words.extend([frame, self.epoch, self.retired]);
        words.extend(self.bytes.chunks(WORD_BYTES).map(|bytes| {
            let mut word = [0; WORD_BYTES];
            word.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
            u64::from_le_bytes(word)
        }));
        words
    }

    fn sum(&self, number: u64) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        for word in [number, self.bytes.len() as u64, self.epoch, self.retired] {
            hasher.update(&word.to_le_bytes());
        }
        hasher.update(&self.bytes);
        hasher.finalize()
    }
}

/// The number in a word; `None` if nobody sealed it. 0 is no sealed word.
pub(super) fn unseal(word: u64) -> Option<u64> {
    let value = word & ((1 << VALUE_BITS) - 1);
    (value <= MAX_VALUE && seal(value) == word).then_some(value)
}

/// A number with a check over it.
fn seal(value: u64) -> u64 {
    value | ((value.wrapping_mul(SPREAD) >> VALUE_BITS) ^ CHECK_OF_NOTHING) << VALUE_BITS
}

/// A number for a counter that is spoilt: above all that it can have been. It counts purges, of which there were fewer than one in each
/// millisecond since 1970; and the next one that is taken in this way is later.
pub(super) fn beyond(known: u64) -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    known.max(u64::try_from(since.as_millis()).unwrap_or_default())
}

/// Bytes for a table in a store of this size, a multiple of a page.
pub(super) fn bytes_for(capacity_bytes: usize) -> usize {
    (capacity_bytes / CAPACITY_PER_BYTE).clamp(MIN_BYTES, MAX_BYTES).next_multiple_of(PAGE_BYTES)
}

/// Bytes of the store for one of the table: from 11 MiB on there is room for as many tags as there may be bans.
const CAPACITY_PER_BYTE: usize = 128;
/// Two slots of 4 KiB: about 100 tags.
const MIN_BYTES: usize = 8 * 1024;
/// Two slots of 256 KiB: all the bans that there may be, with names of 200 bytes.
const MAX_BYTES: usize = 512 * 1024;
const PAGE_BYTES: usize = 4096;
const WORD_BYTES: usize = 8;
const NUMBER_AT: usize = 0;
const EPOCH_AT: usize = 8;
const SLOTS_AT: usize = 16;
const SLOT_HEAD_WORDS: usize = 3;
const VALUE_BITS: u32 = 48;
/// The largest number that is believed, and half of what there is room for. A thousand purges a second get there in 4400 years.
const MAX_VALUE: u64 = (1 << (VALUE_BITS - 1)) - 1;
/// 2^64 by the golden ratio: each bit of a value changes the upper bits of the product.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
/// The check of 0, so that words which nobody has written are not sealed.
const CHECK_OF_NOTHING: u64 = 0x5ca1;

#[cfg(test)]
mod tests;
