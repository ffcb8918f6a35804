//! SHARED MEMORY: files on tmpfs that several processes map, and what lies in them.
//!
//! The only room with `unsafe`. It knows nothing of HTTP, of tasks or of the configuration. What it reads is checked like bytes from the
//! network: another build, a crash or a stranger may have written them. `docs/shm-layout.md` draws what lies where.
//!
//! ```text
//!   region     a file (or private memory): opened safely, reserved, mapped; words, bytes, locks that the kernel drops on death
//!   arena      objects in a region: records, chains, data; many read, one writes
//!   protocol   how readers and the writer agree, in words and without a lock
//!   buddy      which units of the data are free
//! ```
//!
//! Lifetimes: what is opened lives as long as the process.

#![allow(unsafe_code)]

pub mod arena;
mod buddy;
mod locks;
mod numbers;
mod protocol;
mod refusal;
mod region;

pub use locks::{Held, Lock};
pub use refusal::{Bound, OpenError, SetAside};
pub use region::{HEADER_BYTES, How, Opened, Place, Region, Spec};
