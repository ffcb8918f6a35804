use std::time::Duration;

use http::{StatusCode, Version};
use proptest::prelude::*;

use super::*;
use crate::cache::parts::Part;

const KEY: &[u8] = b"a framed key";

fn at(second: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(second)
}

fn meta_of(status: u16, fields: &[(&'static str, &str)]) -> CacheMeta {
    let mut header = ResponseHeader::build_no_case(status, None).unwrap();
    for (name, value) in fields {
        header.append_header(*name, *value).unwrap();
    }
    CacheMeta::new(at(2_000), at(1_000), 3, 4, header)
}

fn head_of(status: u16, fields: &[(&'static str, &str)]) -> Head {
    Head::encode(KEY, &meta_of(status, fields)).unwrap()
}

/// One with everything that a head can have.
fn full() -> Head {
    let fields =
        [("content-type", "text/plain"), ("x-of-nobody", "a"), ("vary", "accept"), ("x-of-nobody", "")];
    let mut meta = meta_of(200, &fields);
    meta.set_epoch_override(at(900));
    meta.set_variance([9; 16]);
    let part = Some(Part { first: 1, end: 3, total: 5 });
    let tags = ["news", "größe"].iter().collect();
    Terms { validates: true, never_stale: true, tags, part }.stamp(&mut meta);
    Head::encode(KEY, &meta).unwrap()
}

fn read(bytes: &[u8]) -> Result<Head, Malformed> {
    Head::read(Bytes::copy_from_slice(bytes))
}

/// As a liar would write it: with the checksum of its bytes.
fn summed(mut bytes: Vec<u8>) -> Vec<u8> {
    let sum = crc32fast::hash(&bytes[4..]);
    bytes[..4].copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// Uses all that a head has.
fn use_all(head: &Head) -> usize {
    let meta = head.to_meta(Some(at(5)));
    let shift = Shift { since: at(1), now: at(2), passed: Duration::from_secs(u64::MAX) };
    let others = [head.with_length(5), head.shifted(shift)];
    let lines = head.vary_lines().count()
        + head.tags().into_iter().count()
        + head.content_length().unwrap_or_default();
    assert!(others.iter().all(|other| other.key() == head.key()), "of one key");
    meta.headers().len() + lines
}

fn assert_same(meta: &CacheMeta, expected: &CacheMeta) {
    let clamped = |time: SystemTime| {
        time.clamp(SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH + Duration::from_nanos(u64::MAX))
    };
    assert_eq!(meta.headers(), expected.headers(), "fields");
    let (ours, theirs) = (meta.response_header(), expected.response_header());
    assert_eq!((ours.status, ours.version), (theirs.status, theirs.version));
    assert_eq!((ours.has_case(), ours.get_reason_phrase()), (false, theirs.status.canonical_reason()));
    assert_eq!(meta.fresh_until(), clamped(expected.fresh_until()), "fresh until");
    assert_eq!(meta.created(), clamped(expected.created()), "created");
    assert_eq!(meta.epoch(), clamped(expected.epoch()), "epoch");
    assert_eq!(meta.stale_while_revalidate_sec(), expected.stale_while_revalidate_sec());
    assert_eq!(meta.stale_if_error_sec(), expected.stale_if_error_sec());
    assert_eq!(meta.variance(), expected.variance(), "variance");
    assert_eq!(Terms::of(meta), Terms::of(expected), "terms");
}

#[test]
fn the_bytes_of_a_head_stay_what_they_are() {
    let expected = "b39e5adfba000000010fc8000300000004000000040002000c0000000f000000\
        00204aa9d10100000010a5d4e800000000282e8cd1000000";
    let hex: String = full().as_bytes().iter().take(56).map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, expected, "files that older versions wrote are read by this one");
}

#[test]
fn what_a_head_says_is_found_without_a_map() {
    let head = full();
    let read = read(head.as_bytes()).unwrap();
    assert_eq!((read.key(), read.status()), (KEY, 200));
    assert_eq!((read.created(), read.epoch(), read.variance()), (at(1_000), at(900), Some([9; 16])));
    assert_eq!(read.tags().into_iter().collect::<Vec<_>>(), ["news", "größe"]);
    assert_eq!(read.vary_lines().collect::<Vec<_>>(), [b"accept"]);
    assert_eq!((read.fresh_until(None), read.fresh_until(Some(at(5)))), (at(2_000), at(5)));
    assert_eq!(read.fresh_until(Some(at(5_000))), at(2_000), "no purge makes it fresher");
    assert_eq!(read.content_length(), None);
}

#[test]
fn values_are_slices_of_what_was_read() {
    let head = full();
    let bytes = head.as_bytes().as_ptr_range();
    let meta = head.to_meta(None);
    let values: Vec<_> = meta.headers().values().filter(|value| !value.is_empty()).collect();
    assert!(values.iter().all(|value| bytes.contains(&value.as_bytes().as_ptr())), "no copies");
    assert_eq!(values.len(), 3);
    assert!(bytes.contains(&Terms::of(&meta).tags.list().as_bytes().as_ptr()), "tags too");
}

#[test]
fn a_head_that_is_cut_is_refused() {
    let head = full();
    for end in 0..head.as_bytes().len() {
        assert_eq!(read(&head.as_bytes()[..end]).unwrap_err(), Malformed::Length, "cut at {end}");
    }
    assert_eq!(
        read(&[head.as_bytes(), b"x"].concat()).unwrap_err(),
        Malformed::Length,
        "and one that goes on"
    );
}

#[test]
fn a_changed_byte_is_refused_and_with_its_checksum_it_is_survived() {
    let head = full();
    let mut accepted = 0;
    for place in 0..head.as_bytes().len() {
        for change in 1..=u8::MAX {
            let mut bytes = head.as_bytes().to_vec();
            bytes[place] ^= change;
            assert!(read(&bytes).is_err(), "byte {place} changed by {change}");
            if let Ok(lie) = read(&summed(bytes)) {
                use_all(&lie);
                accepted += 1;
            }
        }
    }
    assert!(accepted > 10_000, "values and times may be anything: {accepted}");
}

#[test]
fn a_lie_about_a_length_is_refused() {
    let head = full();
    let lie = |place: std::ops::Range<usize>, bytes: &[u8]| {
        let mut all = head.as_bytes().to_vec();
        all[place].copy_from_slice(bytes);
        read(&summed(all)).unwrap_err()
    };
    assert_eq!(lie(4..8, &u32::MAX.to_le_bytes()), Malformed::Length, "the whole");
    assert_eq!(lie(8..9, &[2]), Malformed::Format(2), "format");
    assert_eq!(lie(10..12, &[0, 0]), Malformed::Content, "status");
    assert_eq!(lie(20..22, &[3, 0]), Malformed::Content, "one field less");
    assert_eq!(lie(24..28, &u32::MAX.to_le_bytes()), Malformed::Content, "key");
    assert_eq!(lie(28..32, &[17, 0, 0, 0]), Malformed::Content, "tags that reach into a field");
}

#[test]
fn a_head_that_is_too_large_is_not_made() {
    let mut meta = meta_of(200, &[]);
    let room = MAX_HEAD_BYTES - LENGTH_FIELD_BYTES - Head::encode(KEY, &meta).unwrap().as_bytes().len();
    let fill = |meta: &mut CacheMeta, length: usize| {
        meta.response_header_mut().insert_header("x-of-nobody", "v".repeat(length)).unwrap();
    };
    let frames = 1 + 2 + "x-of-nobody".len() + 4;
    fill(&mut meta, room - frames);
    let largest = Head::encode(KEY, &meta).unwrap().with_length(usize::MAX);
    assert_eq!((largest.as_bytes().len(), read(largest.as_bytes()).is_ok()), (MAX_HEAD_BYTES, true));
    fill(&mut meta, room - frames + 1);
    assert_eq!(Head::encode(KEY, &meta).err(), Some(TooLarge), "one byte more");
}

#[test]
fn a_head_of_too_many_fields_is_not_made() {
    let mut meta = meta_of(200, &[]);
    (1..MAX_FIELDS).for_each(|_| assert!(meta.response_header_mut().append_header("link", "x").is_ok()));
    let most = Head::encode(KEY, &meta).unwrap().with_length(5);
    assert_eq!(read(most.as_bytes()).unwrap().to_meta(None).headers().len(), usize::from(MAX_FIELDS));
    meta.response_header_mut().append_header("link", "x").unwrap();
    assert_eq!(Head::encode(KEY, &meta).err(), Some(TooLarge), "no room for the length");
}

#[test]
fn a_length_is_added_where_none_is_said_and_one_may_be() {
    let lengths = |head: Head| {
        let head = read(head.with_length(5).as_bytes()).unwrap();
        (head.content_length(), head.to_meta(None).headers().get_all(CONTENT_LENGTH).iter().count())
    };
    assert_eq!(lengths(head_of(200, &[])), (Some(5), 1), "none");
    assert_eq!(lengths(head_of(200, &[("content-length", "6")])), (Some(6), 1), "its own");
    for status in [100, 199, 204, 304] {
        assert_eq!(lengths(head_of(status, &[])), (None, 0), "{status}");
    }
}

#[test]
fn heads_of_one_body_say_the_same_length() {
    let of = |length: &str| head_of(200, &[("etag", "\"a\""), ("content-length", length)]);
    assert!(of("5").describes_same_body(&of("5")));
    assert!(!of("5").describes_same_body(&of("6")));
    assert!(!of("5").describes_same_body(&head_of(200, &[])));
    assert_eq!((of(" 5 ").content_length(), of("-5").content_length()), (Some(5), None));
}

#[test]
fn after_a_shift_of_the_clock_nothing_but_the_times_is_another() {
    let head = full();
    let shift = Shift { since: at(1_000), now: at(1_010), passed: Duration::from_secs(100) };
    let shifted = head.shifted(shift);
    assert_eq!((shifted.created(), shifted.epoch()), (at(910), at(810)), "it stood still for ten seconds");
    assert_eq!((shifted.fresh_until(None), shifted.tags()), (at(1_910), head.tags()));
    assert!(head.shifted(Shift { passed: Duration::MAX, ..shift }).created() == at(0), "no further back");
}

fn a_name() -> impl Strategy<Value = String> {
    let common = ["content-type", "content-length", "vary", "set-cookie", "x-cache", "te", "authorization"];
    prop_oneof![
        prop::sample::select(Vec::from(common)).prop_map(str::to_owned),
        "[a-z0-9!#$%&'*+.^_`|~-]{1,20}"
    ]
}

fn a_time() -> impl Strategy<Value = SystemTime> {
    let edges = [0, 1, u64::MAX / 1_000_000_000, u64::MAX / 1_000_000_000 + 1, 1 << 50];
    let second = prop_oneof![prop::sample::select(Vec::from(edges)), 0..4_000_000_000u64];
    (second, 0..1_000_000_000u32, any::<bool>()).prop_map(|(second, nanos, is_before)| {
        let since = Duration::new(second, nanos);
        if is_before { SystemTime::UNIX_EPOCH - since } else { SystemTime::UNIX_EPOCH + since }
    })
}

prop_compose! {
    fn a_response()(
        status in 100..1000u16,
        version in prop::sample::select(vec![Version::HTTP_09, Version::HTTP_10, Version::HTTP_11, Version::HTTP_2, Version::HTTP_3]),
        fields in prop::collection::vec((a_name(), prop::collection::vec(any::<u8>(), 0..40)), 0..30),
    ) -> ResponseHeader {
        let mut header = ResponseHeader::build_no_case(StatusCode::from_u16(status).unwrap(), None).unwrap();
        header.set_version(version);
        for (name, value) in fields {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                header.append_header(name, value).unwrap();
            }
        }
        header
    }
}

prop_compose! {
    fn some_terms()(
        (validates, never_stale) in any::<(bool, bool)>(),
        tags in prop::collection::vec(".{0,12}", 0..5),
        part in prop::option::of(any::<(u64, u64, u64)>()),
    ) -> Terms {
        let part = part.map(|(first, end, total)| Part { first, end, total });
        Terms { validates, never_stale, tags: tags.iter().collect(), part }
    }
}

prop_compose! {
    fn a_meta()(
        times in (a_time(), a_time(), prop::option::of(a_time())),
        windows in any::<(u32, u32)>(),
        variance in prop::option::of(any::<[u8; 16]>()),
        terms in prop::option::of(some_terms()),
        header in a_response(),
    ) -> CacheMeta {
        let (fresh_until, created, epoch) = times;
        let mut meta = CacheMeta::new(fresh_until, created, windows.0, windows.1, header);
        epoch.into_iter().for_each(|epoch| meta.set_epoch_override(epoch));
        variance.into_iter().for_each(|variance| meta.set_variance(variance));
        terms.into_iter().for_each(|terms| terms.stamp(&mut meta));
        meta
    }
}

proptest! {
    #[test]
    fn every_meta_comes_back(meta in a_meta(), key in prop::collection::vec(any::<u8>(), 0..60)) {
        let made = Head::encode(&key, &meta).unwrap();
        let head = read(made.as_bytes()).unwrap();
        prop_assert_eq!((head.fixed, head.places), (made.fixed, made.places), "read as it was made");
        prop_assert_eq!(head.key(), &key[..]);
        assert_same(&head.to_meta(None), &meta);
        let vary: Vec<_> = meta.headers().get_all(http::header::VARY).iter().map(HeaderValue::as_bytes).collect();
        prop_assert_eq!(head.vary_lines().collect::<Vec<_>>(), vary);
        use_all(&head);
    }

    #[test]
    fn any_bytes_with_their_length_and_checksum_are_survived(
        mut bytes in prop::collection::vec(prop_oneof![0..4u8, any::<u8>()], 9..200),
    ) {
        let length = bytes.len() as u32;
        bytes[4..8].copy_from_slice(&length.to_le_bytes());
        bytes[8] = 1;
        if let Ok(head) = read(&summed(bytes)) {
            use_all(&head);
        }
    }
}
