//! Rate and concurrency limits: the algorithms, apart from who is limited and what is answered.
//!
//! [`Table`] decides exactly, by GCRA, for as many keys as it was made for; [`fields`] writes what was decided into the
//! `RateLimit` fields; [`inflight`] bounds what runs at once. This room knows no request: a key is a number, time is
//! passed in, and nothing here logs or takes a lock. Only new keys that meet in one set of the table wait for each
//! other, for as long as one of them is written down.

pub mod fields;
pub mod inflight;

mod gcra;
mod key;
mod overflow;
mod table;

pub use gcra::{Decision, Quota};
pub use key::{Key, Subject, client_subject, client_subject_text};
pub use table::{Stats, Table};
