//! Rate and concurrency limits: the algorithms, apart from who is limited and what is answered.
//!
//! [`Table`] decides exactly, by GCRA, for as many keys as it was made for, and for several processes where it lies in a file; [`Counters`] is
//! the table of a process; [`fields`] writes what was decided into the `RateLimit` fields; [`inflight`] bounds what runs at once. This room
//! knows no request: a key is a number, time is passed in (by [`clock`]), and nothing here logs, takes a lock or waits.

pub mod clock;
pub mod fields;
pub mod inflight;

mod counters;
mod gcra;
mod key;
mod overflow;
mod set;
mod table;

pub use counters::Counters;
pub use gcra::{Decision, Quota};
pub use key::{Key, Subject, client_subject, client_subject_text, limit_id};
pub use table::{Stats, Table};
