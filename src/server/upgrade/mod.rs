//! Handing a running gateway over to its successor: another release, the same listeners, no request lost.
//!
//! ```text
//!   portcullis upgrade ──▶ control socket ──▶ old process ──starts──▶ successor, with a socket as its stdin
//!                                                 │  descriptors of all listeners ──▶ │
//!                                                 │                                   │ configuration, secrets, cache, names: a whole start
//!                                                 │ ◀── ready, or why not ────────────┤
//!                                                 │ ── serve ───────────────────────▶ │ accepts; its control socket takes the old one's place
//!                                                 │ ◀── serving ──────────────────────┤
//!                            serving: stops accepting, gives up the cache's lease, tells the supervisor, drains, leaves
//!                              not:   serves on, as if nothing had been asked
//! ```
//!
//! Nothing of the old process changes before the successor is ready, and the successor accepts nothing before it is told to: one that is
//! given up has begun nothing. Both hold the same listening sockets, so no connection is lost
//! between them. The successor is a child of the old process: a supervisor that tracks the service finds it where it looks.
//!
//! In a container the first process cannot leave without its container: there a new container takes its place, and finds the cache in
//! the same memory volume (`docs/operations.md`).

mod control;
mod give;
mod take;
mod wire;

use std::ffi::OsString;
use std::path::PathBuf;

pub use control::{Ask, ask};
pub(super) use control::{Control, Who, bind};
pub(super) use give::{End, Giver};
pub use take::Successor;

use serde::{Deserialize, Serialize};

/// How this process was started, so that its successor is started the same way.
#[derive(Debug, Clone, Default)]
pub struct Started {
    /// What stands behind `run --config FILE`.
    pub arguments: Vec<OsString>,
}

/// What an operator asks for.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The program of the successor.
    pub binary: PathBuf,
    /// Its configuration; `None`: that of the running process.
    pub config: Option<PathBuf>,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// The successor serves; the old process drains.
    Done {
        /// The number of the successor.
        pid: u32,
        /// The number of the old process.
        old: u32,
    },
    /// There is no successor; the old process serves on.
    Refused {
        /// Why, for people.
        why: String,
    },
}
