//! Secrets: the only room that reads the environment or a secret file.
//!
//! The document names a secret by where it lies ([`SecretRef`]); the store reads it, checks it and hands out a
//! [`SecretSlot`] whose value can change under load (a file that was rotated) without a lock and without a gap. A value that
//! cannot be read again stays for a stated time and is then withdrawn: whoever needs it must refuse, never go without.
//!
//! This room does not know what a secret is for, logs nothing, and never shows a value: [`Secret`] has no `Display`, no
//! `Serialize` and no `Clone`, and its `Debug` is a row of dots. It wipes the copies that it made itself; copies made by the
//! HTTP types are out of its reach.
//!
//! Lifetimes: [`SecretStore`] and [`SecretSlot`] live as long as the process; a configuration holds `Arc<SecretSlot>`.

mod problem;
mod slot;
mod source;
mod store;
mod value;
mod watch;

pub use problem::SecretProblem;
pub use slot::{SecretSlot, SecretStats, Versioned};
pub use source::{SecretRef, from_environment, read_pem};
pub use store::{Change, Outcome, SecretStore};
pub use value::Secret;
pub use watch::folders_of;

/// The shortest secret, in bytes. Anything shorter is a placeholder or guessable, and would make the leak guard match by chance.
pub const MIN_SECRET_BYTES: usize = 8;

/// The largest secret or key file, in bytes. A larger file is a wrong path, not a secret.
pub const MAX_SECRET_BYTES: usize = 64 * 1024;
