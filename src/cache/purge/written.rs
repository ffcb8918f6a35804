//! The bans as bytes, so that they outlive the process and others see them.
//!
//! ```text
//!   bans      FORMAT u8 | lines u32 | line ...
//!   line      kind u8 | name | bans u32 | ban ...
//!   name      of everything: nothing           of a route: its name               of a prefix: scheme, host, path
//!             of a tag: its hash, 16 bytes     of a URL: its hash, 8 bytes
//!   text      length u32 | UTF-8
//!   ban       mode u8 | epoch u64 | nanoseconds since 1970 u64
//! ```
//!
//! Numbers are little endian. What is read back is checked like bytes from the network: what is not understood refuses the whole.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Ban, Bans, Line, MAX_BANS, Mode, Origin, UrlPrefix};

impl Bans {
    /// Writes them down.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let everything = usize::from(!self.all.is_empty());
        let lines = everything + self.routes.len() + self.tags.len() + self.urls.len() + self.prefixes.len();
        let mut out = Writer(Vec::with_capacity(64 + lines * TYPICAL_LINE_BYTES));
        out.put(&[FORMAT]);
        out.length(lines);
        if !self.all.is_empty() {
            out.put(&[ALL]);
            out.line(&self.all);
        }
        for (name, line) in &self.routes {
            out.put(&[ROUTE]);
            out.text(name);
            out.line(line);
        }
        for (hash, line) in &self.tags {
            out.put(&[TAG]);
            out.put(&hash.to_le_bytes());
            out.line(line);
        }
        for (hash, line) in &self.urls {
            out.put(&[URL]);
            out.put(&hash.to_le_bytes());
            out.line(line);
        }
        for (prefix, line) in &self.prefixes {
            out.put(&[PREFIX]);
            out.text(&prefix.origin.scheme);
            out.text(&prefix.origin.host);
            out.text(&prefix.path);
            out.line(line);
        }
        out.0
    }

    /// Reads them back; `None` if these bytes are something else, or more than [`MAX_BANS`].
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut from = Reader(bytes);
        if from.number()? != FORMAT {
            return None;
        }
        let mut bans = Self::default();
        let mut left = MAX_BANS;
        for _ in 0..from.length()? {
            // A name that comes twice would take the place of its first line: refused.
            let is_new = match from.number()? {
                ALL => {
                    let was_empty = bans.all.is_empty();
                    bans.all = from.line(&mut left)?;
                    was_empty
                }
                ROUTE => bans.routes.insert(from.text()?, from.line(&mut left)?).is_none(),
                TAG => bans.tags.insert(u128::from_le_bytes(from.take()?), from.line(&mut left)?).is_none(),
                URL => bans.urls.insert(u64::from_le_bytes(from.take()?), from.line(&mut left)?).is_none(),
                PREFIX => {
                    let origin = Origin { scheme: from.text()?, host: from.text()? };
                    let prefix = UrlPrefix { origin, path: from.text()? };
                    // Looked up in no map: one that comes twice is judged twice, which changes nothing.
                    bans.prefixes.push((prefix, from.line(&mut left)?));
                    true
                }
                _ => return None,
            };
            if !is_new {
                return None;
            }
        }
        from.0.is_empty().then_some(bans)
    }
}

/// A time as it is written: one from before 1970 is the beginning, one from after 2554 the end.
fn nanoseconds(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

struct Writer(Vec<u8>);

impl Writer {
    fn put(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn length(&mut self, length: usize) {
        // Of names and of lines that are bounded far below 4 GiB.
        self.put(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.length(text.len());
        self.put(text.as_bytes());
    }

    fn line(&mut self, line: &Line) {
        self.length(line.len());
        for ban in line {
            let mode = match ban.mode {
                Mode::Soft => SOFT,
                Mode::Hard => HARD,
            };
            self.put(&[mode]);
            self.put(&ban.epoch.to_le_bytes());
            self.put(&nanoseconds(ban.at).to_le_bytes());
        }
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*first)
    }

    fn number(&mut self) -> Option<u8> {
        self.take().map(u8::from_le_bytes)
    }

    fn length(&mut self) -> Option<usize> {
        usize::try_from(u32::from_le_bytes(self.take()?)).ok()
    }

    fn text(&mut self) -> Option<Box<str>> {
        let length = self.length()?;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        std::str::from_utf8(text).ok().map(Into::into)
    }

    /// A line has at least one ban, and all lines together have at most as many as are left.
    fn line(&mut self, left: &mut usize) -> Option<Line> {
        let count = self.length()?;
        *left = left.checked_sub(count)?;
        let line: Option<Line> = (0..count).map(|_| self.ban()).collect();
        line.filter(|line| !line.is_empty())
    }

    fn ban(&mut self) -> Option<Ban> {
        let mode = match self.number()? {
            SOFT => Mode::Soft,
            HARD => Mode::Hard,
            _ => return None,
        };
        let epoch = u64::from_le_bytes(self.take()?);
        let at = UNIX_EPOCH.checked_add(Duration::from_nanos(u64::from_le_bytes(self.take()?)))?;
        Some(Ban { mode, epoch, at })
    }
}

/// The first byte; another layout gets another number.
const FORMAT: u8 = 1;
const ALL: u8 = 1;
const ROUTE: u8 = 2;
const TAG: u8 = 3;
const URL: u8 = 4;
const PREFIX: u8 = 5;
const SOFT: u8 = 1;
const HARD: u8 = 2;
/// A line for one tag.
const TYPICAL_LINE_BYTES: usize = 38;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cache::key::UrlHash;
    use crate::cache::purge::{Scope, Tag};

    fn scope() -> impl Strategy<Value = Scope> {
        let origin = || {
            ("[a-z]{1,5}", "[a-zü]{0,9}")
                .prop_map(|(scheme, host)| Origin { scheme: scheme.into(), host: host.into() })
        };
        prop_oneof![
            Just(Scope::All),
            "[a-cü]{0,2}".prop_map(|name| Scope::Route(name.into())),
            (0..5_u64).prop_map(|hash| Scope::Url(UrlHash(hash))),
            ("[a-c]", proptest::option::of(origin()))
                .prop_map(|(name, origin)| Scope::Tag(Tag { name: name.into(), origin })),
            (origin(), "/[a-z/]{0,40}")
                .prop_map(|(origin, path)| Scope::Prefix(UrlPrefix { origin, path: path.into() })),
        ]
    }

    fn bans() -> impl Strategy<Value = Bans> {
        let ban = (scope(), any::<bool>(), 0..u64::MAX / 2);
        proptest::collection::vec(ban, 0..30).prop_map(|all| {
            let mut bans = Bans::default();
            for (epoch, (scope, is_hard, at)) in (1..).zip(all) {
                let mode = if is_hard { Mode::Hard } else { Mode::Soft };
                bans.add(&scope, Ban { mode, epoch, at: UNIX_EPOCH + Duration::from_nanos(at) });
            }
            bans
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(bans in bans()) {
            prop_assert_eq!(Bans::from_bytes(&bans.to_bytes()), Some(bans));
        }

        #[test]
        fn every_cut_and_every_addition_is_refused(bans in bans()) {
            let bytes = bans.to_bytes();
            for end in 0..bytes.len() {
                prop_assert_eq!(Bans::from_bytes(&bytes[..end]), None, "cut at {}", end);
            }
            prop_assert_eq!(Bans::from_bytes(&[&bytes[..], &[0]].concat()), None, "one more");
        }

        #[test]
        fn what_is_read_from_any_bytes_has_the_length_of_what_is_written(bytes in proptest::collection::vec(0..6_u8, 0..200)) {
            let framed = [&[FORMAT], &bytes[..]].concat();
            if let Some(bans) = Bans::from_bytes(&framed) {
                prop_assert_eq!(bans.to_bytes().len(), framed.len());
            }
        }
    }

    #[test]
    fn what_is_not_understood_refuses_the_whole() {
        let mut bans = Bans::default();
        bans.add(&Scope::All, Ban { mode: Mode::Hard, epoch: 1, at: UNIX_EPOCH });
        let good = bans.to_bytes();
        let (format, lines, kind, count, mode) = (0, 1, 5, 6, 10);
        for (at, value, what) in [
            (format, FORMAT + 1, "another format"),
            (lines, 0, "fewer lines"),
            (lines, 2, "more lines"),
            (lines + 3, 255, "very many lines"),
            (kind, 0, "no kind"),
            (kind, PREFIX + 1, "an unknown kind"),
            (count, 0, "a line without a ban"),
            (count + 3, 255, "very many bans"),
            (mode, 0, "no mode"),
            (mode, HARD + 1, "an unknown mode"),
        ] {
            let mut bad = good.clone();
            bad[at] = value;
            assert_eq!(Bans::from_bytes(&bad), None, "{what}");
        }
        let line = &good[kind..];
        let twice = [&[FORMAT, 2, 0, 0, 0], line, line].concat();
        assert_eq!(Bans::from_bytes(&twice), None, "a name that comes twice");
        let no_text = [&[FORMAT, 1, 0, 0, 0, ROUTE, 1, 0, 0, 0, 0xff], &line[1..]].concat();
        assert_eq!(Bans::from_bytes(&no_text), None, "no text");
    }

    #[test]
    fn no_more_bans_are_read_than_a_table_holds() {
        let many = |count: u64| {
            let mut bans = Bans::default();
            for epoch in 0..count {
                let scope = if epoch % 2 == 0 { Scope::All } else { Scope::Url(UrlHash(epoch)) };
                bans.add(&scope, Ban { mode: Mode::Soft, epoch, at: UNIX_EPOCH });
            }
            Bans::from_bytes(&bans.to_bytes())
        };
        assert_eq!(many(MAX_BANS as u64).map(|bans| bans.len()), Some(MAX_BANS));
        assert_eq!(many(MAX_BANS as u64 + 1), None, "one too many");
    }

    #[test]
    fn times_out_of_range_are_the_nearest_ones() {
        assert_eq!(nanoseconds(UNIX_EPOCH - Duration::from_secs(1)), 0, "before 1970");
        let far = UNIX_EPOCH + Duration::from_secs(20_000_000_000);
        assert_eq!(nanoseconds(far), u64::MAX, "after 2554");
    }
}
