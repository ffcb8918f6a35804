//! Where a secret lies, and reading it from there.
//!
//! Environment variables are fixed for the life of a process, so they are read when a configuration is loaded. Files may
//! change; they are read whole, each time anew, and never followed into a folder, pipe or device.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::{MAX_SECRET_BYTES, Secret, SecretProblem};

/// Where a secret lies, as the document names it (`{ env: NAME }` or `{ file: PATH }`). Not secret itself: it may be shown to
/// an operator, but not to a client.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum SecretRef {
    /// An environment variable, by name. Read once per load of a configuration.
    Env(String),
    /// A file. One newline at its end (LF or CRLF) is not part of the secret. Read again when it changes.
    File(PathBuf),
}

/// How the environment is read; a test has its own.
pub(super) type Environment = fn(&OsStr) -> Option<OsString>;

impl SecretRef {
    /// Reads and checks the value.
    pub(super) fn read(&self, environment: Environment) -> Result<Secret, SecretProblem> {
        match self {
            Self::Env(name) => {
                let value = environment(OsStr::new(name)).ok_or(SecretProblem::Missing)?;
                Secret::checked(value.into_vec())
            }
            Self::File(path) => {
                let bytes = read_file(path, MAX_SECRET_BYTES)?;
                Secret::checked(without_last_newline(&bytes).to_vec())
            }
        }
    }
}

/// Reads a secret from a variable of this process: the token by which a command asks the admin side.
///
/// # Errors
/// [`SecretProblem`] when it is not set or cannot be a secret.
pub fn from_environment(name: &str) -> Result<Secret, SecretProblem> {
    SecretRef::Env(name.to_owned()).read(|name| std::env::var_os(name))
}

/// Reads a PEM file that holds a private key. The rules for credentials do not apply (it has newlines), the size limit does.
/// For TLS key loading only.
///
/// # Errors
/// [`SecretProblem`] when it is missing, empty, too large or unreadable.
pub fn read_pem(path: &Path) -> Result<Secret, SecretProblem> {
    let bytes = read_file(path, MAX_SECRET_BYTES)?;
    if bytes.is_empty() { Err(SecretProblem::Empty) } else { Ok(Secret::of_pem(bytes.to_vec())) }
}

/// The whole file, at most `limit` bytes and a newline. One buffer of the full size: a buffer that grows leaves unwiped copies.
fn read_file(path: &Path, limit: usize) -> Result<Zeroizing<Vec<u8>>, SecretProblem> {
    // A pipe would block for ever in `open`, so what it is must be known before.
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(SecretProblem::Unreadable { kind: io::ErrorKind::InvalidInput });
    }
    let mut file = File::open(path).map_err(unreadable)?;
    // Room for CR, LF and one byte more, which tells "too large" from "just fits".
    let mut buffer = Zeroizing::new(vec![0_u8; limit + 3]);
    let mut filled = 0;
    while let Some(free) = buffer.get_mut(filled..).filter(|free| !free.is_empty()) {
        match file.read(free) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(unreadable(error)),
        }
    }
    if filled > limit + 2 {
        return Err(SecretProblem::TooLarge);
    }
    buffer.truncate(filled);
    Ok(buffer)
}

fn unreadable(error: io::Error) -> SecretProblem {
    match error.kind() {
        io::ErrorKind::NotFound => SecretProblem::Missing,
        kind => SecretProblem::Unreadable { kind },
    }
}

fn without_last_newline(bytes: &[u8]) -> &[u8] {
    match bytes {
        [rest @ .., b'\r', b'\n'] | [rest @ .., b'\n'] => rest,
        whole => whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn no_environment(_: &OsStr) -> Option<OsString> {
        None
    }

    fn from_file(content: &[u8]) -> Result<Vec<u8>, SecretProblem> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        fs::write(&path, content).unwrap();
        SecretRef::File(path).read(no_environment).map(|secret| secret.expose().to_vec())
    }

    #[test]
    fn one_newline_at_the_end_of_a_file_is_trimmed() {
        assert_eq!(from_file(b"long-enough").unwrap(), b"long-enough");
        assert_eq!(from_file(b"long-enough\n").unwrap(), b"long-enough");
        assert_eq!(from_file(b"long-enough\r\n").unwrap(), b"long-enough");
        assert_eq!(from_file(b"long-enough\n\n"), Err(SecretProblem::ForbiddenByte), "only one");
        assert_eq!(from_file(b"long-enough\r"), Err(SecretProblem::ForbiddenByte), "a lone CR is no newline");
        assert_eq!(from_file(b" long-enough ").unwrap(), b" long-enough ", "spaces belong to the secret");
    }

    #[test]
    fn a_file_with_nothing_in_it_is_empty() {
        assert_eq!(from_file(b""), Err(SecretProblem::Empty));
        assert_eq!(from_file(b"\n"), Err(SecretProblem::Empty));
    }

    #[test]
    fn the_size_limit_counts_without_the_newline() {
        let mut content = vec![b'a'; MAX_SECRET_BYTES];
        content.extend_from_slice(b"\r\n");
        assert_eq!(from_file(&content).unwrap().len(), MAX_SECRET_BYTES);
        assert_eq!(from_file(&vec![b'a'; MAX_SECRET_BYTES + 1]), Err(SecretProblem::TooLarge));
        assert_eq!(from_file(&vec![b'a'; 4 * MAX_SECRET_BYTES]), Err(SecretProblem::TooLarge));
    }

    #[test]
    fn a_missing_file_and_a_folder_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let read = |path: PathBuf| SecretRef::File(path).read(no_environment).map(drop);
        assert_eq!(read(folder.path().join("none")), Err(SecretProblem::Missing));
        let kind = io::ErrorKind::InvalidInput;
        assert_eq!(read(folder.path().to_owned()), Err(SecretProblem::Unreadable { kind }));
    }

    #[test]
    fn a_variable_is_taken_as_it_is() {
        let read = |environment: Environment| {
            SecretRef::Env("KEY".to_owned()).read(environment).map(|secret| secret.expose().to_vec())
        };
        assert_eq!(read(no_environment), Err(SecretProblem::Missing));
        assert_eq!(read(|_| Some(OsString::new())), Err(SecretProblem::Empty));
        assert_eq!(read(|_| Some("long-enough".into())).unwrap(), b"long-enough");
        assert_eq!(read(|_| Some("long-enough\n".into())), Err(SecretProblem::ForbiddenByte), "not a file");
    }

    #[test]
    fn a_pem_file_may_have_newlines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        fs::write(&path, "a\nb\n").unwrap();
        assert_eq!(read_pem(&path).unwrap().expose(), b"a\nb\n");
        fs::write(&path, "").unwrap();
        assert_eq!(read_pem(&path).map(drop), Err(SecretProblem::Empty));
    }
}
