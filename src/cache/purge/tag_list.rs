//! Tags as they lie in memory: one run of bytes, each name framed by its length.
//!
//! ```text
//!   length u16, little endian | name, UTF-8 | length | name | ...
//! ```
//!
//! The same form goes with an answer through the gateway, lies in the store, and is read by bans, so nobody builds a list of names at a
//! hit. What is read from memory that another process may write is checked at each step: a list ends where it makes no sense any more.

use bytes::Bytes;

/// Names that somebody holds.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct TagNames {
    framed: Bytes,
}

impl TagNames {
    /// Takes over bytes that [`TagList::check`] accepts. Of others only the beginning that makes sense is ever seen.
    #[must_use]
    pub fn from_framed(framed: Bytes) -> Self {
        Self { framed }
    }

    /// The names.
    #[must_use]
    pub fn list(&self) -> TagList<'_> {
        TagList { framed: &self.framed }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.framed.is_empty()
    }
}

/// A name that is longer than a frame can say is left out; [`super::tags`] takes none that long.
impl<S: AsRef<str>> FromIterator<S> for TagNames {
    fn from_iter<I: IntoIterator<Item = S>>(names: I) -> Self {
        let mut framed = Vec::new();
        for name in names {
            let name = name.as_ref();
            let Ok(length) = u16::try_from(name.len()) else { continue };
            framed.extend_from_slice(&length.to_le_bytes());
            framed.extend_from_slice(name.as_bytes());
        }
        Self { framed: framed.into() }
    }
}

impl std::fmt::Debug for TagNames {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.list().fmt(f)
    }
}

/// Names to look at.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct TagList<'a> {
    framed: &'a [u8],
}

impl<'a> TagList<'a> {
    /// The names in bytes that were [`Self::as_bytes`]. If they are not, it ends where they make no sense any more.
    #[must_use]
    pub fn new(framed: &'a [u8]) -> Self {
        Self { framed }
    }

    /// Whether the bytes are names from the first to the last.
    #[must_use]
    pub fn check(self) -> bool {
        let mut rest = self.framed;
        while next(&mut rest).is_some() {}
        rest.is_empty()
    }

    /// Whether a name is one of them.
    #[must_use]
    pub fn contains(self, name: &str) -> bool {
        self.into_iter().any(|one| one == name)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.framed.is_empty()
    }

    /// The bytes that they are.
    #[must_use]
    pub fn as_bytes(self) -> &'a [u8] {
        self.framed
    }
}

impl<'a> IntoIterator for TagList<'a> {
    type Item = &'a str;
    type IntoIter = TagIter<'a>;

    fn into_iter(self) -> TagIter<'a> {
        TagIter { rest: self.framed }
    }
}

impl std::fmt::Debug for TagList<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(*self).finish()
    }
}

/// The names of a [`TagList`], in their order.
#[derive(Debug, Clone)]
pub struct TagIter<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for TagIter<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        next(&mut self.rest)
    }
}

/// Takes one name off the beginning. `None`, and nothing taken: there is none.
fn next<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let (length, after) = rest.split_first_chunk()?;
    let (name, after) = after.split_at_checked(u16::from_le_bytes(*length).into())?;
    let name = std::str::from_utf8(name).ok()?;
    *rest = after;
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_come_back_in_their_order() {
        let names: TagNames = ["news", "", "größe"].into_iter().collect();
        assert_eq!(names.list().into_iter().collect::<Vec<_>>(), ["news", "", "größe"]);
        assert!(names.list().check() && names.list().contains("größe") && !names.list().contains("new"));
        assert!(TagNames::default().is_empty() && TagNames::from_iter([""; 0]).is_empty(), "none");
        assert_eq!(format!("{names:?}"), r#"["news", "", "größe"]"#);
    }

    #[test]
    fn a_name_that_no_frame_can_hold_is_left_out() {
        let names: TagNames = ["a".to_owned(), "x".repeat(65_536), "b".to_owned()].iter().collect();
        assert_eq!(names.list().into_iter().collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn a_list_ends_where_it_makes_no_sense() {
        let names: TagNames = ["news", "sport"].into_iter().collect();
        let whole = names.list().as_bytes();
        for end in 0..whole.len() {
            let cut = TagList::new(&whole[..end]);
            let expected: &[&str] = if end < 6 { &[] } else { &["news"] };
            assert_eq!(cut.into_iter().collect::<Vec<_>>(), expected, "cut at {end}");
            assert_eq!(cut.check(), end == 0 || end == 6, "cut at {end}");
        }
        assert!(!TagList::new(b"\x01\x00\xff").check(), "no text");
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let list = TagList::new(&bytes);
            prop_assert!(list.into_iter().map(|name| name.len() + 2).sum::<usize>() <= bytes.len());
            if list.check() {
                let again: TagNames = list.into_iter().collect();
                prop_assert_eq!(again.list(), list, "one form for the same names");
            }
        }
    }
}
