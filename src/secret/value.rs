//! The value itself: wiped when dropped, shown as dots.

use std::fmt;

use zeroize::Zeroizing;

use super::{MAX_SECRET_BYTES, MIN_SECRET_BYTES, SecretProblem};

/// A secret's bytes. Cannot be printed, serialised or cloned; wiped when dropped.
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Checks `bytes` by the rules for what is put into a header or a query, and keeps them. The buffer is wiped whatever the
    /// outcome.
    ///
    /// # Errors
    /// [`SecretProblem`] when it is empty, too short, too large, or has a CR, LF or NUL.
    pub fn checked(bytes: Vec<u8>) -> Result<Self, SecretProblem> {
        let bytes = Zeroizing::new(bytes);
        if bytes.is_empty() {
            return Err(SecretProblem::Empty);
        }
        if bytes.len() > MAX_SECRET_BYTES {
            return Err(SecretProblem::TooLarge);
        }
        // Before the length: `abc\n` from a variable is told what is really wrong with it.
        if bytes.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
            return Err(SecretProblem::ForbiddenByte);
        }
        if bytes.len() < MIN_SECRET_BYTES {
            return Err(SecretProblem::TooShort);
        }
        Ok(Self(bytes))
    }

    /// Keeps the bytes of a PEM file, which has newlines by nature. Checked for size by the reader.
    pub(super) fn of_pem(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes. Every caller is listed in `tests/house.rs`.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Whether `candidate` is this secret. Takes equally long wherever the two differ; only the length can be told from the
    /// time. For the admin token.
    #[must_use]
    pub fn matches(&self, candidate: &[u8]) -> bool {
        if candidate.len() != self.0.len() {
            return false;
        }
        let difference = self.0.iter().zip(candidate).fold(0_u8, |acc, (ours, theirs)| acc | (ours ^ theirs));
        // Keeps the compiler from leaving the loop early once a difference is known.
        std::hint::black_box(difference) == 0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(••••)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(bytes: &[u8]) -> Option<SecretProblem> {
        Secret::checked(bytes.to_vec()).err()
    }

    #[test]
    fn what_could_not_be_a_credential_is_refused() {
        assert_eq!(problem(b""), Some(SecretProblem::Empty));
        assert_eq!(problem(b"1234567"), Some(SecretProblem::TooShort), "seven bytes");
        assert_eq!(problem(b"12345678"), None, "eight bytes are enough");
        assert_eq!(problem(&vec![b'a'; MAX_SECRET_BYTES]), None, "the largest");
        assert_eq!(problem(&vec![b'a'; MAX_SECRET_BYTES + 1]), Some(SecretProblem::TooLarge));
        for byte in [b'\r', b'\n', 0] {
            let mut bytes = b"long-enough".to_vec();
            bytes.insert(4, byte);
            assert_eq!(problem(&bytes), Some(SecretProblem::ForbiddenByte), "byte {byte}");
        }
    }

    #[test]
    fn debug_shows_dots_only() {
        let secret = Secret::checked(b"canary-4711".to_vec()).unwrap();
        assert_eq!(format!("{secret:?} {:?}", Some(&secret)), "Secret(••••) Some(Secret(••••))");
    }

    #[test]
    fn matches_only_itself() {
        let secret = Secret::checked(b"canary-4711".to_vec()).unwrap();
        assert!(secret.matches(b"canary-4711"));
        for other in [&b"canary-4712"[..], b"canary-471", b"canary-47111", b""] {
            assert!(!secret.matches(other), "{other:?}");
        }
    }

    #[test]
    fn a_problem_never_carries_the_value() {
        let shown = problem(b"top\nsecret").map(|problem| format!("{problem} {problem:?}")).unwrap();
        assert!(!shown.contains("top") && !shown.contains("secret"), "{shown}");
    }
}
