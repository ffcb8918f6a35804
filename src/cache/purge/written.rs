//! The bans as bytes, so that they outlive the process and others see them.
//!
//! ```text
//!   version │ count, u32 │ each: kind, mode, epoch u64, at u64 (ns since 1970), then what is named: strings with a u32 length, hashes whole
//! ```
//!
//! What is read back is checked like bytes from the network.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Ban, Bans, Line, Mode, Origin, Scope, UrlPrefix};
use crate::cache::key::UrlHash;

impl Bans {
    /// Writes them down.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![FORMAT];
        out.extend_from_slice(&u32::try_from(self.len()).unwrap_or(u32::MAX).to_le_bytes());
        put(&mut out, ALL, &self.all, |_| {});
        for (name, line) in &self.routes {
            put(&mut out, ROUTE, line, |out| text(out, name));
        }
        for (hash, line) in &self.tags {
            put(&mut out, TAG, line, |out| out.extend_from_slice(&hash.to_le_bytes()));
        }
        for (prefix, line) in &self.prefixes {
            put(&mut out, PREFIX, line, |out| {
                [&prefix.origin.scheme, &prefix.origin.host, &prefix.path]
                    .into_iter()
                    .for_each(|part| text(out, part));
            });
        }
        for (url, line) in &self.urls {
            put(&mut out, URL, line, |out| out.extend_from_slice(&url.to_le_bytes()));
        }
        out
    }

    /// Reads them back; `None` if these bytes are something else.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes.strip_prefix(&[FORMAT])?;
        let count = u32::from_le_bytes(array(&mut rest)?);
        let mut bans = Self::default();
        for _ in 0..count {
            let [kind, mode] = array(&mut rest)?;
            let mode = match mode {
                0 => Mode::Hard,
                1 => Mode::Soft,
                _ => return None,
            };
            let epoch = u64::from_le_bytes(array(&mut rest)?);
            let at = UNIX_EPOCH.checked_add(Duration::from_nanos(u64::from_le_bytes(array(&mut rest)?)))?;
            let ban = Ban { mode, epoch, at };
            match kind {
                ALL => bans.add(&Scope::All, ban),
                ROUTE => bans.add(&Scope::Route(word(&mut rest)?), ban),
                TAG => bans.add_tag(u128::from_le_bytes(array(&mut rest)?), ban),
                PREFIX => {
                    let origin = Origin { scheme: word(&mut rest)?, host: word(&mut rest)? };
                    bans.add(&Scope::Prefix(UrlPrefix { origin, path: word(&mut rest)? }), ban);
                }
                URL => bans.add(&Scope::Url(UrlHash(u64::from_le_bytes(array(&mut rest)?))), ban),
                _ => return None,
            }
        }
        rest.is_empty().then_some(bans)
    }
}

fn put(out: &mut Vec<u8>, kind: u8, line: &Line, name: impl Fn(&mut Vec<u8>)) {
    for ban in line {
        out.extend_from_slice(&[kind, if ban.mode == Mode::Hard { 0 } else { 1 }]);
        out.extend_from_slice(&ban.epoch.to_le_bytes());
        out.extend_from_slice(&nanoseconds(ban.at).to_le_bytes());
        name(out);
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    // Parts of a URL, whose length is bounded far below 4 GiB.
    out.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn word(rest: &mut &[u8]) -> Option<Box<str>> {
    let length = usize::try_from(u32::from_le_bytes(array(rest)?)).ok()?;
    let (text, after) = rest.split_at_checked(length)?;
    *rest = after;
    std::str::from_utf8(text).ok().map(Into::into)
}

fn array<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (array, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*array)
}

fn nanoseconds(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

const FORMAT: u8 = 1;
const ALL: u8 = 0;
const ROUTE: u8 = 1;
const TAG: u8 = 2;
const PREFIX: u8 = 3;
const URL: u8 = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scope() -> impl Strategy<Value = Scope> {
        let origin = ("[a-z]{0,5}", "[a-z.]{0,9}")
            .prop_map(|(scheme, host)| Origin { scheme: scheme.into(), host: host.into() });
        prop_oneof![
            Just(Scope::All),
            ".{0,9}".prop_map(|name| Scope::Route(name.into())),
            any::<u64>().prop_map(|url| Scope::Url(UrlHash(url))),
            (origin.clone(), ".{0,9}")
                .prop_map(|(origin, path)| Scope::Prefix(UrlPrefix { origin, path: path.into() })),
            (".{0,9}", prop::option::of(origin))
                .prop_map(|(name, origin)| Scope::Tag(super::super::Tag { name: name.into(), origin })),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(scopes in prop::collection::vec((scope(), any::<bool>(), any::<u64>(), 0u64..1 << 62), 0..20)) {
            let mut bans = Bans::default();
            for (scope, hard, epoch, at) in scopes {
                let mode = if hard { Mode::Hard } else { Mode::Soft };
                bans.add(&scope, Ban { mode, epoch, at: UNIX_EPOCH + Duration::from_nanos(at) });
            }
            let bytes = bans.to_bytes();
            prop_assert_eq!(&Bans::from_bytes(&bytes), &Some(bans));
            for end in 0..bytes.len() {
                prop_assert_eq!(&Bans::from_bytes(&bytes[..end]), &None, "cut at {}", end);
            }
        }

        #[test]
        fn whatever_the_bytes_are_nothing_breaks(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = Bans::from_bytes(&bytes);
            let _ = Bans::from_bytes(&[&[FORMAT, 1, 0, 0, 0], &bytes[..]].concat());
        }
    }
}
