//! `docs/shm-layout.md` says what the code does.

use std::mem::offset_of;

use super::record::{LISTED, Record, SLOTS};
use super::*;

const DOCUMENT: &str = include_str!("../../../docs/shm-layout.md");

#[test]
fn every_field_of_a_record_stands_where_the_document_says() {
    macro_rules! row {
        ($field:ident) => {{
            let bytes = |record: &Record| size_of_val(&record.$field);
            (stringify!($field), offset_of!(Record, $field), bytes)
        }};
    }
    type Row = (&'static str, usize, fn(&Record) -> usize);
    let rows: [Row; 18] = [
        row!(state),
        row!(primary),
        row!(variance),
        row!(head),
        row!(next),
        row!(heat),
        row!(lane),
        row!(run_count),
        row!(spare),
        row!(pins),
        row!(runs),
        row!(body_bytes),
        row!(body_at),
        row!(sequence),
        row!(stale_from),
        row!(began),
        row!(body_sum),
        row!(sum),
    ];
    let (arena, _) = Arena::open(&tests::SETTINGS).unwrap();
    let mut end = 0;
    for (field, at, bytes) in rows {
        let bytes = bytes(&arena.records[0]);
        says(&format!("| {at} | {field} | {bytes} |"));
        assert_eq!(at, end, "no gap before `{field}`");
        end += bytes;
    }
    assert_eq!(end, size_of::<Record>());
}

#[test]
fn the_other_numbers_of_the_document_are_right() {
    let own = |index: usize| index * 8;
    for text in [
        format!("| 0 | the region's page | {HEADER_BYTES} |"),
        format!("| {HEADER_BYTES} | the arena's own words | {OWN_BYTES} |"),
        format!("| {} | the user's words", HEADER_BYTES + OWN_BYTES),
        format!("| the records | {} each |", size_of::<Record>()),
        format!("| {UNIT} for each unit |"),
        format!("| {} | the number of the last object", own(SEQUENCE)),
        format!("| {} | the process that took the writer's lease last", own(LEASE_PID)),
        format!("| {} | when, in nanoseconds", own(LEASE_SINCE)),
        format!("| {} | how many records", own(RECORDS)),
        format!("| {} | bytes of the user's words", own(USER_BYTES)),
        format!("| {} | the process of each of {SLOTS} slots", own(SLOT_WORDS)),
        format!(
            "Byte {} is the writer's lease, byte {} the user's lock (purges), bytes {SLOT_LOCK} to 15",
            LEASE.0, USER.0
        ),
        format!("{LISTED}: the first one is a list"),
        format!("A list of runs has {}\nbytes", data::LIST_UNITS as usize * UNIT),
        format!("up to {} runs", data::MAX_RUNS),
        format!("More than {SLOTS} processes at a time"),
        format!("-j {} -N 8 $f); U", HEADER_BYTES + own(RECORDS)),
        format!("-j {} -N 8 $f); C", HEADER_BYTES + own(USER_BYTES)),
    ] {
        says(&text);
    }
    assert_eq!(usize::from(SLOT_LOCK) + SLOTS - 1, 15);
}

#[test]
fn the_parts_follow_each_other() {
    let (arena, _) = Arena::open(&tests::SETTINGS).unwrap();
    let Parts { header, own, user, chains, records, data } = arena.parts();
    assert_eq!((header, own, user.start), (0..4096, 4096..8192, 8192));
    assert_eq!((user.end, chains.len()), (chains.start, 64 * 4));
    assert_eq!(records.start, chains.end.next_multiple_of(128));
    assert_eq!((records.len(), data.start), (64 * 128, records.end));
    assert!(data.len() == arena.data_bytes() && data.end <= arena.region().bytes());
}

#[track_caller]
fn says(text: &str) {
    assert!(DOCUMENT.contains(text), "docs/shm-layout.md does not say `{text}`");
}
