//! The head of a stored object: one run of bytes that processes share, and what it says.
//!
//! ```text
//!   CacheMeta ──encode──▶ Head ──as_bytes──▶ memory ──read: length, checksum, bounds──▶ Head ──to_meta──▶ CacheMeta
//! ```
//!
//! A hit reads a head and makes a meta of it: the values of its fields are slices of the bytes that were read, and most names are one byte
//! (`head/names.rs`). The framework's own form costs more than the rest of a hit. Bytes from shared memory are checked like bytes from the
//! network: what is no head is refused, and nothing that lies in one is believed without a look at what is left (`head/layout.rs`).
//!
//! A head never changes; one with another time or length is another head.

mod layout;
mod names;

use std::slice::SliceIndex;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use pingora::http::ResponseHeader;
use pingora_cache::CacheMeta;
use pingora_cache::key::HashBinary;

use self::layout::{Fields, Fixed, Name, Places};
use super::Shift;
use crate::cache::purge::tag_list::{TagList, TagNames};
use crate::cache::terms::Terms;

/// A head, checked when it was made or read.
#[derive(Clone)]
pub struct Head {
    bytes: Bytes,
    fixed: Fixed,
    places: Places,
}

/// Why bytes are no head. Nobody's fault that can be named: an accident with the memory, another program, or a liar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// They are not as long as they say, or no head is that long.
    Length,
    /// They are of another format.
    Format(u8),
    /// They are not the bytes that were written.
    Checksum,
    /// They were written by something that is no gateway of this version.
    Content,
}

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Length => f.write_str("a length that is not its own"),
            Self::Format(number) => write!(f, "format {number}, which this version does not know"),
            Self::Checksum => f.write_str("a checksum of other bytes"),
            Self::Content => f.write_str("content that makes no sense"),
        }
    }
}

impl std::error::Error for Malformed {}

/// A head that is longer than [`MAX_HEAD_BYTES`] or has more than [`MAX_FIELDS`]: the upstream's fault. It is not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLarge;

impl Head {
    /// The head of an answer that is to be stored under a framed `key`.
    ///
    /// # Errors
    /// [`TooLarge`].
    pub fn encode(key: &[u8], meta: &CacheMeta) -> Result<Self, TooLarge> {
        let (header, default) = (meta.response_header(), Terms::default());
        let terms = meta.extensions().get::<Terms>().unwrap_or(&default);
        // Less than the most, so that a length can be added.
        let fields = u16::try_from(header.headers.len()).ok().filter(|count| *count < MAX_FIELDS);
        let fixed = Fixed {
            status: header.status,
            version: header.version,
            validates: terms.validates,
            never_stale: terms.never_stale,
            stale_while_revalidate_sec: meta.stale_while_revalidate_sec(),
            stale_if_error_sec: meta.stale_if_error_sec(),
            fresh_until: meta.fresh_until().into(),
            created: meta.created().into(),
            epoch: meta.epoch().into(),
            variance: meta.variance(),
            part: terms.part,
            fields: fields.ok_or(TooLarge)?,
        };
        let spare =
            header.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + FRAMES_BYTES);
        let (bytes, places) =
            layout::write(&fixed, key, terms.tags.list().as_bytes(), spare.sum(), |bytes| {
                header
                    .headers
                    .iter()
                    .for_each(|(name, value)| layout::write_field(bytes, name, value.as_bytes()));
            });
        let fits = bytes.len() + LENGTH_FIELD_BYTES <= MAX_HEAD_BYTES;
        fits.then(|| Self { bytes: bytes.into(), fixed, places }).ok_or(TooLarge)
    }

    /// Reads a head. Bytes that are no head, or not all of one, are refused; none make it panic.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn read(bytes: Bytes) -> Result<Self, Malformed> {
        let (fixed, places) = layout::read(&bytes)?;
        Ok(Self { bytes, fixed, places })
    }

    /// The meta of it; `stale_from` is since when a purge made it stale, if one did. The values of its fields are slices of the head's
    /// bytes and keep these alive.
    #[must_use]
    pub fn to_meta(&self, stale_from: Option<SystemTime>) -> CacheMeta {
        let mut meta = CacheMeta::new(
            self.fresh_until(stale_from),
            self.created(),
            self.fixed.stale_while_revalidate_sec,
            self.fixed.stale_if_error_sec,
            self.response(),
        );
        if self.fixed.epoch != self.fixed.created {
            meta.set_epoch_override(self.epoch());
        }
        if let Some(variance) = self.fixed.variance {
            meta.set_variance(variance);
        }
        let Fixed { validates, never_stale, part, .. } = self.fixed;
        // An answer that said nothing of its terms has none to look for.
        if validates || never_stale || part.is_some() || !self.places.tags().is_empty() {
            let tags = TagNames::from_framed(self.bytes.slice_ref(self.tags().as_bytes()));
            Terms { validates, never_stale, tags, part }.stamp(&mut meta);
        }
        meta
    }

    fn response(&self) -> ResponseHeader {
        let (mut parts, ()) = Response::new(()).into_parts();
        parts.status = self.fixed.status;
        parts.version = self.fixed.version;
        // Neither fails: there are at most `MAX_FIELDS`.
        parts.headers = HeaderMap::try_with_capacity(self.fixed.fields.into()).unwrap_or_default();
        for (name, value) in self.fields() {
            let name = match name {
                Name::Known(_, name) => Some(name.clone()),
                Name::Spelled(name) => HeaderName::from_bytes(name).ok(),
            };
            let value = HeaderValue::from_maybe_shared(self.bytes.slice_ref(value)).ok();
            // What is no field was written by a liar who can write whole answers as well: nothing is lost with it.
            if let (Some(name), Some(value)) = (name, value) {
                let _ = parts.headers.try_append(name, value);
            }
        }
        parts.into()
    }

    /// Its bytes, as [`Self::read`] takes them.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The framed key that it is stored under.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        self.at(self.places.key())
    }

    /// Until when it is fresh; `stale_from` as in [`Self::to_meta`].
    #[must_use]
    pub fn fresh_until(&self, stale_from: Option<SystemTime>) -> SystemTime {
        let fresh_until = self.fixed.fresh_until.into();
        stale_from.map_or(fresh_until, |at| at.min(fresh_until))
    }

    /// How long it may be given after it has become stale, in one case or another.
    #[must_use]
    pub fn stale_for(&self) -> Duration {
        let Fixed { stale_while_revalidate_sec, stale_if_error_sec, .. } = self.fixed;
        Duration::from_secs(stale_while_revalidate_sec.max(stale_if_error_sec).into())
    }

    /// When it was stored. Names the object to whoever renews it.
    #[must_use]
    pub fn created(&self) -> SystemTime {
        self.fixed.created.into()
    }

    /// Since when its age counts.
    #[must_use]
    pub fn epoch(&self) -> SystemTime {
        self.fixed.epoch.into()
    }

    /// The status of the answer.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.fixed.status.as_u16()
    }

    /// The hash of the request fields that select it, if the answer has a `Vary`.
    #[must_use]
    pub fn variance(&self) -> Option<HashBinary> {
        self.fixed.variance
    }

    /// The names by which it can be purged.
    #[must_use]
    pub fn tags(&self) -> TagList<'_> {
        TagList::new(self.at(self.places.tags()))
    }

    /// The lines of `Vary`.
    pub fn vary_lines(&self) -> impl Iterator<Item = &[u8]> {
        self.values(names::VARY)
    }

    /// The length of the body that its `Content-Length` says.
    #[must_use]
    pub fn content_length(&self) -> Option<usize> {
        // As `exchange::content_length` reads it of a map.
        str::from_utf8(self.values(names::CONTENT_LENGTH).next()?).ok()?.trim_ascii().parse().ok()
    }

    /// False if the length differs: then the other head is about another body.
    #[must_use]
    pub fn describes_same_body(&self, other: &Self) -> bool {
        self.values(names::CONTENT_LENGTH).next() == other.values(names::CONTENT_LENGTH).next()
    }

    /// A stored object whose length is now known says so: without it a hit could not be asked for ranges.
    #[must_use]
    pub fn with_length(&self, length: usize) -> Self {
        let may_have_one = self.status() >= 200 && self.status() != 204 && self.status() != 304;
        if !may_have_one || self.values(names::CONTENT_LENGTH).next().is_some() {
            return self.clone();
        }
        let fixed = Fixed { fields: self.fixed.fields.saturating_add(1), ..self.fixed };
        self.rewritten(fixed, |bytes| {
            layout::write_field(bytes, &CONTENT_LENGTH, itoa::Buffer::new().format(length).as_bytes());
        })
    }

    /// The same head after a [`Shift`] of the clock.
    #[must_use]
    pub fn shifted(&self, shift: Shift) -> Self {
        // An answer that was old when it came has its epoch before it was stored; one that was renewed, after.
        let stored_at = self.created().max(self.epoch());
        let fixed = Fixed {
            fresh_until: shift.of(self.fresh_until(None), stored_at).into(),
            created: shift.of(self.created(), self.created()).into(),
            epoch: shift.of(self.epoch(), stored_at).into(),
            ..self.fixed
        };
        self.rewritten(fixed, |_| ())
    }

    fn rewritten(&self, fixed: Fixed, more: impl FnOnce(&mut Vec<u8>)) -> Self {
        let fields = self.at(self.places.fields());
        let spare = fields.len() + LENGTH_FIELD_BYTES;
        let (bytes, places) = layout::write(&fixed, self.key(), self.tags().as_bytes(), spare, |bytes| {
            bytes.extend_from_slice(fields);
            more(bytes);
        });
        Self { bytes: bytes.into(), fixed, places }
    }

    fn fields(&self) -> Fields<'_> {
        Fields::new(self.at(self.places.fields()))
    }

    fn values(&self, wanted: u8) -> impl Iterator<Item = &[u8]> {
        let is_wanted =
            move |(name, value)| matches!(name, Name::Known(number, _) if number == wanted).then_some(value);
        self.fields().filter_map(is_wanted)
    }

    fn at(&self, place: impl SliceIndex<[u8], Output = [u8]>) -> &[u8] {
        self.bytes.get(place).unwrap_or_default()
    }
}

impl std::fmt::Debug for Head {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Head")
            .field("bytes", &self.bytes.len())
            .field("fixed", &self.fixed)
            .finish_non_exhaustive()
    }
}

/// The longest head, with its key and tags. An upstream's head is shorter in all but hostile cases.
pub const MAX_HEAD_BYTES: usize = 256 * 1024;
/// The most fields of a head, each line counted.
pub const MAX_FIELDS: u16 = 4096;
/// What stands around a name that is spelled out, and its value.
const FRAMES_BYTES: usize = 7;
/// A `Content-Length` that is added when the length is known.
pub const LENGTH_FIELD_BYTES: usize = 1 + 4 + 20;

#[cfg(test)]
mod tests;
