//! SHARED MEMORY: files on tmpfs that several processes map, and what lies in them.
//!
//! The only room with `unsafe`. It knows nothing of HTTP, of tasks or of the configuration. What it reads is checked like bytes from the
//! network: another build, a crash or a stranger may have written them.
//!
//! ```text
//!   region     a file (or private memory): opened safely, reserved, mapped; words, bytes, locks that the kernel drops on death
//! ```
//!
//! Lifetimes: a [`Region`] lives as long as the process.

#![allow(unsafe_code)]

mod locks;
mod refusal;
mod region;

pub use locks::{Held, Lock};
pub use refusal::{OpenError, SetAside};
pub use region::{HEADER_BYTES, How, Opened, Place, Region, Spec};
