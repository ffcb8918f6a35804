//! Shared memory between real processes: what a kill leaves, what two of them do at once, and what a file does that somebody damaged.
//!
//! The other processes are this program itself, started again (`process`). `DAMAGE_SECONDS=600 cargo test --test shm damage` damages files for
//! so long, each time in other ways (`make test-long` does); without it they are few and always the same.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod churn;
mod content;
mod crash;
mod damage;
mod first_hit;
mod overlap;
mod process;

use process::Started;

/// Not a test: what another process does, which one of the tests has started.
#[test]
#[ignore = "started by the tests that need another process"]
fn started() {
    let Some(started) = Started::read() else { return };
    match started.role.as_str() {
        "crash" => crash::child(started),
        "damage" => damage::child(started),
        "first" => first_hit::child(started),
        "partner" => overlap::partner(started),
        "reader" => overlap::reader(started),
        role => panic!("`{role}` is no role"),
    }
}
