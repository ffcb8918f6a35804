//! Where what lies in the bytes of a head, and the only code that reads and writes them.
//!
//! ```text
//!    0 checksum u32          4 length u32         8 format u8   9 flags u8   10 status u16   all little endian
//!   12 while revalidate u32 16 if error u32      20 fields u16 22 HTTP version u8            23 zero
//!   24 key length u32       28 tags length u32
//!   32 fresh until u64      40 created u64       48 epoch u64
//!   56 [variance, 16 bytes] [part: first u64, end u64, total u64]      where a flag says so
//!      key | tags (`TagList`) | fields: number of the name u8 [0: length u16, name] | length u32, value
//! ```
//!
//! The checksum (CRC-32) is over all that follows it, the length over all that there is. Times are nanoseconds since 1970; what lies
//! before or after what a word can say is the first or the last that it can. The checksum finds accidents; against a liar every length is
//! compared with what is left at each reading.

use std::ops::{Range, RangeFrom};
use std::time::{Duration, SystemTime};

use http::{HeaderName, StatusCode, Version};
use pingora_cache::key::HashBinary;

use super::names;
use super::{MAX_FIELDS, MAX_HEAD_BYTES, Malformed};
use crate::cache::parts::Part;
use crate::cache::purge::tag_list::TagList;

/// What all heads have, and where the rest lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fixed {
    pub(super) status: StatusCode,
    pub(super) version: Version,
    pub(super) validates: bool,
    pub(super) never_stale: bool,
    pub(super) stale_while_revalidate_sec: u32,
    pub(super) stale_if_error_sec: u32,
    pub(super) fresh_until: Instant,
    pub(super) created: Instant,
    pub(super) epoch: Instant,
    pub(super) variance: Option<HashBinary>,
    pub(super) part: Option<Part>,
    pub(super) fields: u16,
}

/// A time as it is stored: nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Instant(u64);

impl From<SystemTime> for Instant {
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }
}

impl From<Instant> for SystemTime {
    fn from(Instant(nanos): Instant) -> Self {
        // The last one is in the year 2554, which a time of this platform can say.
        Self::UNIX_EPOCH + Duration::from_nanos(nanos)
    }
}

/// Where the parts of variable length begin. Each ends where the next one begins, the last with the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Places {
    key: u32,
    tags: u32,
    fields: u32,
}

impl Places {
    /// Of parts that follow each other from `begin` on.
    fn new(begin: usize, key: usize, tags: usize) -> Self {
        // No head is as long as a word can say.
        let at = |place: usize| u32::try_from(place).unwrap_or(u32::MAX);
        Self { key: at(begin), tags: at(begin + key), fields: at(begin + key + tags) }
    }

    pub(super) fn key(self) -> Range<usize> {
        self.key as usize..self.tags as usize
    }

    pub(super) fn tags(self) -> Range<usize> {
        self.tags as usize..self.fields as usize
    }

    pub(super) fn fields(self) -> RangeFrom<usize> {
        self.fields as usize..
    }
}

/// Reads and checks all of it, but for what values and names of fields consist of.
pub(super) fn read(bytes: &[u8]) -> Result<(Fixed, Places), Malformed> {
    let mut rest = Rest(bytes);
    let (Some(sum), summed, Some(length), Some(format)) = (rest.u32(), rest.0, rest.length(), rest.u8())
    else {
        return Err(Malformed::Length);
    };
    if format != FORMAT {
        return Err(Malformed::Format(format));
    }
    if length != bytes.len() || length > MAX_HEAD_BYTES {
        return Err(Malformed::Length);
    }
    if sum != crc32fast::hash(summed) {
        return Err(Malformed::Checksum);
    }
    parse(bytes).ok_or(Malformed::Content)
}

fn parse(bytes: &[u8]) -> Option<(Fixed, Places)> {
    let mut rest = Rest(bytes.get(FLAGS_AT..)?);
    let (flags, status) = (rest.u8()?, rest.u16()?);
    let (stale_while_revalidate_sec, stale_if_error_sec) = (rest.u32()?, rest.u32()?);
    let (fields, version, _zero) = (rest.u16()?, version_of(rest.u8()?)?, rest.u8()?);
    let (key, tags) = (rest.length()?, rest.length()?);
    let (fresh_until, created, epoch) = (Instant(rest.u64()?), Instant(rest.u64()?), Instant(rest.u64()?));
    let variance = if flags & HAS_VARIANCE == 0 { None } else { Some(*rest.chunk()?) };
    let part = if flags & HAS_PART == 0 {
        None
    } else {
        Some(Part { first: rest.u64()?, end: rest.u64()?, total: rest.u64()? })
    };
    let places = Places::new(bytes.len() - rest.0.len(), key, tags);
    rest.take(key)?;
    let are_tags = TagList::new(rest.take(tags)?).check();
    let mut walk = Fields::new(rest.0);
    let is_whole = walk.by_ref().count() == usize::from(fields) && walk.is_at_end();
    let fixed = Fixed {
        status: StatusCode::from_u16(status).ok()?,
        version,
        validates: flags & VALIDATES != 0,
        never_stale: flags & NEVER_STALE != 0,
        stale_while_revalidate_sec,
        stale_if_error_sec,
        fresh_until,
        created,
        epoch,
        variance,
        part,
        fields,
    };
    (is_whole && are_tags && fields <= MAX_FIELDS && flags & !KNOWN_FLAGS == 0).then_some((fixed, places))
}

/// The bytes of a head and what lies where; `fields` appends the fields, about `spare` bytes. The caller sees to it that they are no more
/// than a head may have.
pub(super) fn write(
    fixed: &Fixed,
    key: &[u8],
    tags: &[u8],
    spare: usize,
    fields: impl FnOnce(&mut Vec<u8>),
) -> (Vec<u8>, Places) {
    let mut bytes = Vec::with_capacity(MOST_FIXED_BYTES + key.len() + tags.len() + spare);
    write_fixed(&mut bytes, fixed, key.len(), tags.len());
    let places = Places::new(bytes.len(), key.len(), tags.len());
    bytes.extend_from_slice(key);
    bytes.extend_from_slice(tags);
    fields(&mut bytes);
    let length = word(bytes.len());
    if let Some(place) = bytes.get_mut(LENGTH_AT) {
        place.copy_from_slice(&length);
    }
    let sum = crc32fast::hash(bytes.get(SUM_BYTES..).unwrap_or_default());
    if let Some(place) = bytes.first_chunk_mut() {
        *place = sum.to_le_bytes();
    }
    (bytes, places)
}

/// All but checksum and length, which come at the end.
fn write_fixed(bytes: &mut Vec<u8>, fixed: &Fixed, key: usize, tags: usize) {
    let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
    let flags = flag(fixed.validates, VALIDATES)
        | flag(fixed.never_stale, NEVER_STALE)
        | flag(fixed.variance.is_some(), HAS_VARIANCE)
        | flag(fixed.part.is_some(), HAS_PART);
    bytes.extend_from_slice(&[0; LENGTH_AT.end]);
    bytes.extend_from_slice(&[FORMAT, flags]);
    bytes.extend_from_slice(&fixed.status.as_u16().to_le_bytes());
    bytes.extend_from_slice(&fixed.stale_while_revalidate_sec.to_le_bytes());
    bytes.extend_from_slice(&fixed.stale_if_error_sec.to_le_bytes());
    bytes.extend_from_slice(&fixed.fields.to_le_bytes());
    bytes.extend_from_slice(&[number_of(fixed.version), 0]);
    bytes.extend_from_slice(&word(key));
    bytes.extend_from_slice(&word(tags));
    for Instant(nanos) in [fixed.fresh_until, fixed.created, fixed.epoch] {
        bytes.extend_from_slice(&nanos.to_le_bytes());
    }
    if let Some(hash) = &fixed.variance {
        bytes.extend_from_slice(hash);
    }
    if let Some(Part { first, end, total }) = fixed.part {
        [first, end, total].iter().for_each(|number| bytes.extend_from_slice(&number.to_le_bytes()));
    }
}

/// Appends a field.
pub(super) fn write_field(bytes: &mut Vec<u8>, name: &HeaderName, value: &[u8]) {
    match names::number_of(name) {
        Some(number) => bytes.push(number),
        None => {
            bytes.push(SPELLED);
            // A name is at most 65 535 bytes long (`http`).
            let length = u16::try_from(name.as_str().len()).unwrap_or(u16::MAX);
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(name.as_str().as_bytes());
        }
    }
    bytes.extend_from_slice(&word(value.len()));
    bytes.extend_from_slice(value);
}

/// The name of a field as it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Name<'a> {
    /// By its number, which is known.
    Known(u8, &'static HeaderName),
    /// Spelled out, unchecked.
    Spelled(&'a [u8]),
}

/// The fields of a head in their order, as far as they make sense.
#[derive(Debug, Clone)]
pub(super) struct Fields<'a>(Rest<'a>);

impl<'a> Fields<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(Rest(bytes))
    }

    fn is_at_end(&self) -> bool {
        self.0.0.is_empty()
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (Name<'a>, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let mut rest = self.0.clone();
        let name = match rest.u8()? {
            SPELLED => {
                let length = rest.u16()?.into();
                Name::Spelled(rest.take(length).filter(|name| !name.is_empty())?)
            }
            number => Name::Known(number, names::name_of(number)?),
        };
        let length = rest.length()?;
        let value = rest.take(length)?;
        self.0 = rest;
        Some((name, value))
    }
}

/// Bytes that are still to be read.
#[derive(Debug, Clone)]
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn chunk<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.chunk().map(|[byte]| *byte)
    }

    fn u16(&mut self) -> Option<u16> {
        self.chunk().map(|bytes| u16::from_le_bytes(*bytes))
    }

    fn u32(&mut self) -> Option<u32> {
        self.chunk().map(|bytes| u32::from_le_bytes(*bytes))
    }

    fn u64(&mut self) -> Option<u64> {
        self.chunk().map(|bytes| u64::from_le_bytes(*bytes))
    }

    fn length(&mut self) -> Option<usize> {
        usize::try_from(self.u32()?).ok()
    }
}

fn word(length: usize) -> [u8; 4] {
    u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes()
}

fn number_of(version: Version) -> u8 {
    VERSIONS.iter().zip(0..).find(|(known, _)| **known == version).map_or(HTTP_11, |(_, number)| number)
}

fn version_of(number: u8) -> Option<Version> {
    VERSIONS.get(usize::from(number)).copied()
}

/// The layout above. Another one gets another number, and its heads are read by no program but its own.
const FORMAT: u8 = 1;
const SUM_BYTES: usize = 4;
const LENGTH_AT: Range<usize> = SUM_BYTES..8;
const FLAGS_AT: usize = 9;
/// Up to where all heads have the same parts.
const FIXED_BYTES: usize = 56;
const MOST_FIXED_BYTES: usize = FIXED_BYTES + 16 + 24;
/// The number that stands before a name that has none.
const SPELLED: u8 = 0;

const VALIDATES: u8 = 1;
const NEVER_STALE: u8 = 2;
const HAS_VARIANCE: u8 = 4;
const HAS_PART: u8 = 8;
const KNOWN_FLAGS: u8 = VALIDATES | NEVER_STALE | HAS_VARIANCE | HAS_PART;

/// Append only, as the names are.
const VERSIONS: [Version; 5] =
    [Version::HTTP_09, Version::HTTP_10, Version::HTTP_11, Version::HTTP_2, Version::HTTP_3];
const HTTP_11: u8 = 2;
