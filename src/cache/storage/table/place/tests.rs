use super::*;

/// Words of a fresh table.
fn area() -> &'static [AtomicU64] {
    Box::leak((0..bytes_for(0) / WORD_BYTES).map(|_| AtomicU64::new(0)).collect())
}

fn contents(epoch: u64, length: usize) -> Contents {
    Contents { epoch, retired: epoch / 2, bytes: (0..length).map(|byte| byte as u8).collect() }
}

#[test]
fn what_is_written_is_read() {
    let place = Place::new(area());
    assert!(place.is_blank() && place.epoch().is_none(), "nothing is there");
    place.begin(&contents(5, 3));
    assert!(!place.is_blank());
    assert_eq!(place.epoch(), Some(5));
    assert_eq!(place.read(place.word()), Read::Whole(contents(5, 3)));
    for (number, length) in (2..).zip([0, 1, 7, 8, 9, place.room()]) {
        let word = place.write(number, &contents(number, length));
        assert_eq!(word, place.word());
        assert_eq!(place.read(word), Read::Whole(contents(number, length)), "{length} bytes");
    }
}

#[test]
fn what_a_word_named_is_not_read_once_another_is_there() {
    let place = Place::new(area());
    place.begin(&contents(1, 100));
    let old = place.word();
    place.write(2, &contents(2, 100));
    assert_eq!(place.read(old), Read::Moved, "in whatever slot");
    place.write(3, &contents(3, 100));
    assert_eq!(place.read(old), Read::Moved, "the slot is another's");
}

#[test]
fn where_something_was_is_not_blank_whatever_became_of_the_number() {
    let place = Place::new(area());
    place.begin(&contents(0, 9));
    place.write(2, &contents(1, 9));
    place.number.store(0, SeqCst);
    place.epoch.store(0, SeqCst);
    assert!(!place.is_blank());
}

#[test]
fn who_dies_while_it_makes_the_first_leaves_a_blank_place_or_one_to_be_read() {
    for steps in 0..10 {
        let place = Place::new(area());
        let is_through = place.write_until(1, &contents(0, 9), steps);
        assert_eq!(place.is_blank(), !is_through, "dead after {steps} words");
        let read = place.read(place.word());
        assert_eq!(read, if is_through { Read::Whole(contents(0, 9)) } else { Read::Spoilt });
        if is_through {
            assert!(place.next_epoch(0) > 1 << 40, "an epoch that nobody wrote is beyond all");
        }
    }
}

#[test]
fn a_seal_tells_each_flipped_bit_and_words_that_nobody_wrote() {
    for value in [0, 1, 2, 77, 1 << 40, MAX_VALUE] {
        assert_eq!(unseal(seal(value)), Some(value));
        for bit in 0..64 {
            assert_eq!(unseal(seal(value) ^ (1 << bit)), None, "{value}, bit {bit}");
        }
    }
    assert_eq!((unseal(0), unseal(u64::MAX)), (None, None), "zeroes and ones");
    assert_eq!(unseal(seal(MAX_VALUE + 1)), None, "more than is believed");
}

#[test]
fn the_epoch_goes_up_and_never_back_below_what_was_known() {
    let area = area();
    let place = Place::new(area);
    place.begin(&contents(5, 0));
    assert_eq!((place.next_epoch(0), place.epoch()), (6, Some(6)));
    assert_eq!(place.next_epoch(100), 101, "a word that lags behind");
    area[EPOCH_AT].fetch_xor(1, Relaxed);
    assert_eq!(place.epoch(), None, "spoilt");
    let next = place.next_epoch(101);
    assert!(next > 1 << 40, "beyond all that was counted: {next}");
    assert_eq!(place.epoch(), Some(next), "mended");
    area[EPOCH_AT].fetch_xor(1, Relaxed);
    assert!(place.next_epoch(next) > next, "and again");
}

#[test]
fn a_slot_says_whose_it_is() {
    let place = Place::new(area());
    place.begin(&contents(1, 9));
    let (old, now) = (contents(2, 9), contents(4, 9));
    place.write(2, &old);
    place.write(3, &contents(3, 9));
    place.write(4, &now);
    // A number that goes up by two without its contents: the slot is whole, and not its.
    place.number.store(seal(6), SeqCst);
    assert_eq!(place.read(place.word()), Read::Spoilt);
}

#[test]
fn what_cannot_be_is_not_believed() {
    let bad =
        [Contents { retired: 8, ..contents(7, 1) }, Contents { retired: 0, ..contents(MAX_VALUE + 1, 1) }];
    for bad in bad {
        let place = Place::new(area());
        place.begin(&bad);
        assert_eq!(place.read(place.word()), Read::Spoilt, "{bad:?}, with the right sum");
    }
}

#[test]
fn a_table_grows_with_the_store_between_two_bounds() {
    const MIB: usize = 1024 * 1024;
    let sizes = [0, 512 * 1024, MIB, 25 * MIB, 64 * MIB, 4096 * MIB].map(bytes_for);
    assert_eq!(sizes, [8192, 8192, 8192, 204_800, 524_288, 524_288]);
}

#[test]
fn the_document_says_where_what_lies() {
    let document = include_str!("../../../../../docs/shm-layout.md");
    for text in [
        format!("| {} | the number of the contents", NUMBER_AT * WORD_BYTES),
        format!("| {} | the epoch, sealed", EPOCH_AT * WORD_BYTES),
        format!("| {} | slot 0: the contents with an even number", SLOTS_AT * WORD_BYTES),
        format!("| {} | the bytes", SLOT_HEAD_WORDS * WORD_BYTES),
        format!("a value of {VALUE_BITS} bits, and above it a check of {}", 64 - VALUE_BITS),
    ] {
        assert!(document.contains(&text), "docs/shm-layout.md does not say `{text}`");
    }
}
