//! Why a secret cannot be used. Says what is wrong with it, never what it is.

use std::fmt;
use std::io;

use super::{MAX_SECRET_BYTES, MIN_SECRET_BYTES};

/// Why a secret cannot be used. Always the fault of whoever provides the secret or names it in the configuration, never of a
/// client. Shown with the secret's *name*; neither the value nor a part of it is in here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretProblem {
    /// The variable is not set, or there is no such file.
    Missing,
    /// It is there and holds nothing (or only the one newline that is trimmed).
    Empty,
    /// Fewer than [`MIN_SECRET_BYTES`] bytes.
    TooShort,
    /// More than [`MAX_SECRET_BYTES`] bytes.
    TooLarge,
    /// A CR, LF or NUL inside: it could end a header line early (RFC 9110 §5.5). One newline at the end of a file is fine.
    ForbiddenByte,
    /// The file is there and cannot be read; also a folder, pipe or device (`InvalidInput`).
    Unreadable {
        /// What the system said, without the path.
        kind: io::ErrorKind,
    },
}

impl fmt::Display for SecretProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("not there: the variable is not set or the file does not exist"),
            Self::Empty => f.write_str("empty"),
            Self::TooShort => write!(f, "shorter than {MIN_SECRET_BYTES} bytes"),
            Self::TooLarge => write!(f, "longer than {} KiB", MAX_SECRET_BYTES / 1024),
            Self::ForbiddenByte => f.write_str("has a CR, LF or NUL inside"),
            Self::Unreadable { kind: io::ErrorKind::InvalidInput } => f.write_str("not a regular file"),
            Self::Unreadable { kind: io::ErrorKind::NotFound } => f.write_str("there is no such file"),
            Self::Unreadable { kind } => write!(f, "unreadable: {kind}"),
        }
    }
}

impl std::error::Error for SecretProblem {}
