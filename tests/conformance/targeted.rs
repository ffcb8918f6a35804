//! `CDN-Cache-Control`, meant for caches such as this one (RFC 9213).

use crate::stage::{BOTH, Stage, date, ok, status};

#[test]
fn rfc9213_2_2_the_targeted_field_counts_instead_of_cache_control_and_expires() {
    let (past, future) = (date(-100), date(100));
    Stage::new("{}").expect(&[
        (&[("CDN-Cache-Control", "max-age=60")], true),
        (&[("CDN-Cache-Control", "max-age=60"), ("Cache-Control", "max-age=0")], true),
        (&[("CDN-Cache-Control", "max-age=60"), ("Cache-Control", "no-store")], true),
        (&[("CDN-Cache-Control", "max-age=60"), ("Cache-Control", "private")], true),
        (&[("CDN-Cache-Control", "max-age=60"), ("Expires", &past)], true),
        (&[("CDN-Cache-Control", "max-age=0"), ("Cache-Control", "max-age=60")], false),
        (&[("CDN-Cache-Control", "max-age=0"), ("Cache-Control", "s-maxage=60")], false),
        (&[("CDN-Cache-Control", "no-store"), ("Cache-Control", "max-age=60")], false),
        (&[("CDN-Cache-Control", "private"), ("Cache-Control", "max-age=60")], false),
        (&[("CDN-Cache-Control", "no-cache"), ("Cache-Control", "max-age=60")], false),
        (&[("CDN-Cache-Control", "no-store"), ("Expires", &future)], false),
        (&[("CDN-Cache-Control", "must-revalidate"), ("Cache-Control", "max-age=60")], false),
    ]);
}

#[test]
fn rfc9213_2_1_what_is_no_sound_dictionary_is_ignored_as_a_whole() {
    Stage::new("{}").expect(&[
        (&[("CDN-Cache-Control", "max-age=60, &&&"), ("Cache-Control", "no-store")], false),
        (&[("CDN-Cache-Control", "no-store, &&&"), ("Cache-Control", "max-age=60")], true),
        (&[("CDN-Cache-Control", "no-store,"), ("Cache-Control", "max-age=60")], true),
        (&[("CDN-Cache-Control", "max-age =0"), ("Cache-Control", "max-age=60")], true),
        (&[("CDN-Cache-Control", "max-age= 0"), ("Cache-Control", "max-age=60")], true),
        (&[("CDN-Cache-Control", "MAX-AGE=0"), ("Cache-Control", "max-age=60")], true),
    ]);
}

#[test]
fn rfc9213_2_1_an_empty_one_is_as_none() {
    Stage::new("{}").expect(&[
        (&[("CDN-Cache-Control", ""), ("Cache-Control", "max-age=60")], true),
        (&[("CDN-Cache-Control", "  "), ("Cache-Control", "no-store, max-age=60")], false),
    ]);
}

#[test]
fn rfc9213_2_1_parameters_and_what_nobody_knows_are_ignored() {
    Stage::new("{}").expect(&[
        (&[("CDN-Cache-Control", "max-age=60;x=1, future, other=(1 2)")], true),
        (&[("CDN-Cache-Control", "max-age=60;no-store"), ("Cache-Control", "no-store")], true),
    ]);
}

#[test]
fn rfc9213_2_1_a_value_of_the_wrong_type_is_no_lifetime() {
    Stage::new("{}").expect(&[
        (&[("CDN-Cache-Control", "max-age=\"60\""), ("Cache-Control", "no-store")], false),
        (&[("CDN-Cache-Control", "max-age=60.5"), ("Cache-Control", "no-store")], false),
        (&[("CDN-Cache-Control", "max-age"), ("Cache-Control", "no-store")], false),
    ]);
}

#[test]
fn rfc9213_2_1_several_lines_are_one_dictionary_whose_last_member_counts() {
    Stage::new("{}").expect(&[
        (&[("CDN-Cache-Control", "max-age=0"), ("CDN-Cache-Control", "max-age=60")], true),
        (&[("CDN-Cache-Control", "max-age=60, max-age=0")], false),
    ]);
}

#[test]
fn rfc9213_2_2_age_is_counted_all_the_same() {
    Stage::new("{}").expect(&[(&[("CDN-Cache-Control", "max-age=60"), ("Age", "60")], false)]);
}

#[test]
fn rfc9213_2_2_cache_control_goes_on_to_those_behind_us_untouched() {
    let stage = Stage::new("{}");
    for way in BOTH {
        let target =
            stage.target(way, &[ok(&[("CDN-Cache-Control", "max-age=60"), ("Cache-Control", "no-cache")])]);
        for _ in 0..2 {
            assert_eq!(stage.get(&target).header("cache-control"), Some("no-cache"), "{way}");
        }
    }
}

#[test]
fn rfc9213_2_2_it_counts_for_an_error_whose_body_is_ours() {
    let stage = Stage::new("{ ttl: 60s }");
    for way in BOTH {
        for directives in ["no-store", "private", "no-cache", "max-age=0"] {
            let fields = [("CDN-Cache-Control", directives), ("Cache-Control", "max-age=60")];
            assert!(!stage.reuses(way, status(404, &fields)), "{way}: {directives}");
        }
        let fields = [("CDN-Cache-Control", "max-age=60"), ("Cache-Control", "no-store")];
        assert!(stage.reuses(way, status(404, &fields)), "{way}: the other way round");
    }
}

#[test]
fn rfc9110_5_3_every_line_of_cache_control_counts_for_an_error_whose_body_is_ours() {
    let stage = Stage::new("{}");
    for way in BOTH {
        let lines = [("Cache-Control", "max-age=60"), ("Cache-Control", "no-store")];
        assert!(!stage.reuses(way, status(404, &lines)), "{way}");
    }
}
