//! Status codes as a label: every registered code by itself, the rest by class.
//!
//! A table of all 500 codes per route, method and shard would be 4 kB each; the registered ones fit in a ninth of it. An
//! upstream that invents codes gets `5xx`, not a series of its own.

use super::cells::Count;

macro_rules! codes {
    ($($code:literal)+) => { [$(($code, stringify!($code))),+] };
}

/// The codes of the IANA registry (RFC 9110 §15 and later), and 499: the client went away.
static CODES: [(u16, &str); CODE_COUNT] = codes![
    100 101 102 103
    200 201 202 203 204 205 206 207 208 226
    300 301 302 303 304 305 306 307 308
    400 401 402 403 404 405 406 407 408 409 410 411 412 413 414 415 416 417 418
    421 422 423 424 425 426 428 429 431 451 499
    500 501 502 503 504 505 506 507 508 510 511
];
const CODE_COUNT: usize = 64;

/// What is not in [`CODES`]: by first digit; `other` is no status code at all.
static CLASSES: [&str; 6] = ["other", "1xx", "2xx", "3xx", "4xx", "5xx"];

const SLOTS: usize = CODE_COUNT + CLASSES.len();

/// Slot by code, 0 to 599.
static SLOT: [u8; 600] = slots();

const fn slots() -> [u8; 600] {
    let mut table = [0; 600];
    let mut code = 0;
    while code < 600 {
        let class = code / 100;
        table[code] = (CODE_COUNT + class) as u8;
        code += 1;
    }
    let mut index = 0;
    while index < CODE_COUNT {
        table[CODES[index].0 as usize] = index as u8;
        index += 1;
    }
    table
}

/// One counter per status code.
#[derive(Debug)]
pub struct CodeCounts {
    cells: [Count; SLOTS],
}

impl Default for CodeCounts {
    fn default() -> Self {
        Self { cells: std::array::from_fn(|_| Count::default()) }
    }
}

impl CodeCounts {
    /// Counts one answer.
    pub fn add(&self, status: u16) {
        if let Some(cell) = self.cells.get(slot(status)) {
            cell.add(1);
        }
    }

    /// The number of answers in `slot`, 0 for a slot that is not there.
    #[must_use]
    pub fn value(&self, slot: usize) -> u64 {
        self.cells.get(slot).map_or(0, Count::value)
    }
}

fn slot(status: u16) -> usize {
    SLOT.get(usize::from(status)).map_or(CODE_COUNT, |slot| usize::from(*slot))
}

/// All slots with the text of their label.
pub fn labels() -> impl Iterator<Item = (usize, &'static str)> {
    CODES.iter().map(|(_, text)| *text).chain(CLASSES).enumerate()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(status: u16) -> &'static str {
        labels().find(|(index, _)| *index == slot(status)).expect("every status has a slot").1
    }

    #[test]
    fn registered_codes_keep_their_number() {
        for (code, text) in CODES {
            assert_eq!(label(code), text);
            assert_eq!(code.to_string(), text);
        }
    }

    #[test]
    fn invented_codes_fall_into_their_class() {
        assert_eq!(label(299), "2xx");
        assert_eq!(label(420), "4xx");
        assert_eq!(label(599), "5xx");
        for no_code in [0, 99, 600, 999, u16::MAX] {
            assert_eq!(label(no_code), "other", "{no_code}");
        }
    }
}
