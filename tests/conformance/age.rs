//! How old an answer is (RFC 9111 §4.2.3, §5.1).

use crate::stage::{BOTH, Stage, age, date, fresh, ok, stale, status};

#[test]
fn rfc9111_4_2_3_what_was_old_when_it_came_is_stale_the_sooner() {
    let (old, older) = (date(-50), date(-100));
    Stage::new("{}").expect(&[
        (&[("Cache-Control", "max-age=60"), ("Age", "30")], true),
        (&[("Cache-Control", "max-age=60"), ("Age", "60")], false),
        (&[("Cache-Control", "max-age=60"), ("Age", "100")], false),
        (&[("Cache-Control", "max-age=60"), ("Date", &old)], true),
        (&[("Cache-Control", "max-age=60"), ("Date", &older)], false),
    ]);
}

#[test]
fn rfc9111_4_2_3_the_greater_of_age_and_the_time_since_date_counts() {
    let stage = Stage::new("{}");
    let (old, older) = (date(-50), date(-500));
    for way in BOTH {
        for (fields, least) in [
            ([("Age", "300"), ("Date", old.as_str())], 300),
            ([("Age", "300"), ("Date", older.as_str())], 500),
        ] {
            let given = ok(&[&[("Cache-Control", "max-age=1000")], fields.as_slice()].concat());
            let target = stage.target(way, &[given]);
            stage.get(&target);
            let found = age(&stage.get(&target)).expect("an age");
            assert!((least..least + 15).contains(&found), "{way}: {found} for {fields:?}");
        }
    }
}

#[test]
fn rfc9111_4_2_3_a_date_in_the_future_makes_nothing_younger_than_new() {
    let stage = Stage::new("{}");
    let ahead = date(500);
    for way in BOTH {
        let target =
            stage.target(way, &[ok(&[("Cache-Control", "max-age=60"), ("Date", &ahead), ("Age", "20")])]);
        stage.get(&target);
        let found = age(&stage.get(&target)).expect("an age");
        assert!((20..35).contains(&found), "{way}: {found}");
    }
}

#[test]
fn rfc9111_5_1_every_answer_from_the_store_says_its_age() {
    let stage = Stage::new("{}");
    for way in BOTH {
        let target = stage.target(way, &[fresh(60)]);
        stage.get(&target);
        let second = stage.get(&target);
        assert!(age(&second).is_some_and(|age| age < 15), "{way}: {:?}", second.headers);
        assert_eq!(second.all("age").len(), 1, "{way}: one");
    }
}

#[test]
fn rfc9111_5_1_what_came_from_the_origin_just_now_says_no_age() {
    let stage = Stage::new("{}");
    for way in BOTH {
        let target = stage.target(way, &[fresh(60)]);
        assert_eq!(stage.get(&target).header("age"), None, "{way}");
    }
}

#[test]
fn rfc9111_5_1_an_age_that_is_no_number_is_ignored() {
    Stage::new("{}").expect(&[
        (&[("Cache-Control", "max-age=60"), ("Age", "old")], true),
        (&[("Cache-Control", "max-age=60"), ("Age", "-100")], true),
        (&[("Cache-Control", "max-age=60"), ("Age", "100.0")], true),
        (&[("Cache-Control", "max-age=60"), ("Age", "100;a=b")], true),
    ]);
}

#[test]
fn rfc9111_5_1_of_several_ages_the_first_counts() {
    Stage::new("{}").expect(&[
        (&[("Cache-Control", "max-age=60"), ("Age", "0, 100")], true),
        (&[("Cache-Control", "max-age=60"), ("Age", "100, 0")], false),
        (&[("Cache-Control", "max-age=60"), ("Age", "0"), ("Age", "100")], true),
        (&[("Cache-Control", "max-age=60"), ("Age", "100"), ("Age", "0")], false),
    ]);
}

#[test]
fn rfc9111_1_2_2_an_age_too_great_is_very_old() {
    Stage::new("{}").expect(&[
        (&[("Cache-Control", "max-age=60"), ("Age", "2147483648")], false),
        (&[("Cache-Control", "max-age=60"), ("Age", "99999999999999999999")], false),
    ]);
}

#[test]
fn rfc9111_4_3_4_after_a_validation_the_age_is_counted_anew() {
    let stage = Stage::new("{}");
    for way in BOTH {
        let validated = status(304, &[("ETag", "\"a\""), ("Cache-Control", "max-age=60")]);
        let target = stage.target(way, &[stale("", &[("ETag", "\"a\"")]), validated]);
        stage.get(&target);
        stage.get(&target);
        let third = stage.get(&target);
        assert_eq!(stage.asked(&target).len(), 2, "{way}: the third is from the store");
        assert!(age(&third).is_some_and(|age| age < 10), "{way}: {:?}", third.headers);
    }
}

#[test]
fn rfc9111_4_2_3_the_age_after_a_validation_is_the_updates_though_nothing_is_kept() {
    let stage = Stage::new("{}");
    for way in BOTH {
        let validated = status(304, &[("ETag", "\"a\""), ("Cache-Control", "no-store")]);
        let target = stage.target(way, &[stale("", &[("ETag", "\"a\"")]), validated]);
        stage.get(&target);
        let second = stage.get(&target);
        assert_eq!(second.text(), "v0", "{way}: what was stored still holds");
        assert!(age(&second).is_none_or(|age| age < 10), "{way}: {:?}", second.headers);
    }
}
