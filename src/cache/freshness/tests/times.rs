//! Age and lifetime, each rule named by the section it comes from.

use super::*;

#[test]
fn rfc9111_4_2_1_s_maxage_wins_over_max_age_and_that_over_expires() {
    let expires = ("expires", "Sun, 06 Nov 1994 08:50:37 GMT");
    let date = ("date", NOW_DATE);
    assert_eq!(fresh(200, &[expires, date], &NO_POLICY), Ok(60), "expires");
    assert_eq!(fresh(200, &[expires, date, ("cache-control", "max-age=5")], &NO_POLICY), Ok(5), "max-age");
    assert_eq!(
        fresh(200, &[expires, ("cache-control", "max-age=5, s-maxage=9")], &NO_POLICY),
        Ok(9),
        "s-maxage"
    );
}

#[test]
fn rfc9111_4_2_1_upstream_freshness_wins_over_ttl() {
    assert_eq!(fresh(200, &[("cache-control", "max-age=5")], &ttl(60)), Ok(5), "respect");
    assert_eq!(fresh(200, &[], &ttl(60)), Ok(60), "nothing said");
    assert_eq!(fresh(200, &[("cache-control", "public")], &ttl(60)), Ok(60), "no time said");
    assert_eq!(fresh(200, &[], &NO_POLICY), Err(Reason::NoFreshness), "nobody says");
}

#[test]
fn rfc9111_4_2_1_unreadable_freshness_is_stale() {
    for value in ["max-age=abc", "max-age=", "s-maxage=-1, max-age=60", "max-age=1, max-age=2"] {
        assert_eq!(fresh(200, &[("cache-control", value)], &ttl(60)), Err(Reason::Stale), "{value}");
    }
}

#[test]
fn rfc9111_5_3_expires_that_is_no_date_is_in_the_past() {
    for value in ["0", "-1", "tomorrow", "Sat, 05 Nov 1994 08:49:37 GMT"] {
        assert_eq!(fresh(200, &[("expires", value)], &ttl(60)), Err(Reason::Stale), "{value}");
    }
    let two = [("expires", "Sun, 06 Nov 1994 08:50:37 GMT"), ("expires", "Sun, 06 Nov 1994 09:50:37 GMT")];
    assert_eq!(fresh(200, &two, &ttl(60)), Err(Reason::Stale), "two dates");
}

#[test]
fn rfc9110_5_6_7_dates_are_read_in_their_three_forms() {
    for value in
        ["Sun, 06 Nov 1994 08:50:37 GMT", "Sunday, 06-Nov-94 08:50:37 GMT", "Sun Nov  6 08:50:37 1994"]
    {
        assert_eq!(fresh(200, &[("expires", value)], &NO_POLICY), Ok(60), "{value}");
    }
    for value in [
        "Sun, 06 Nov 1994 08:50:37 CET",
        "Sun, 06 Nov 1994 8:50:37 GMT",
        "Sun, 06 Nov 94 08:50:37 GMT",
        "Sun, 06 Nov 1994 08:50:37 GMT, Sun, 06 Nov 1994 08:50:37 GMT",
    ] {
        assert_eq!(fresh(200, &[("expires", value)], &NO_POLICY), Err(Reason::Stale), "{value}");
    }
    // Read in 1994: the year 60 is more than fifty years ahead, the year 30 is not.
    let expires = |value| fresh(200, &[("expires", value)], &NO_POLICY);
    assert_eq!(expires("Saturday, 06-Nov-60 08:50:37 GMT"), Err(Reason::Stale), "1960");
    assert!(expires("Wednesday, 06-Nov-30 08:50:37 GMT").is_ok(), "2030");
}

#[test]
fn rfc9111_4_2_1_expires_counts_from_the_date_of_the_answer() {
    let at = |date, expires| fresh(200, &[("date", date), ("expires", expires)], &NO_POLICY);
    let (early, late) = ("Sun, 06 Nov 1994 08:49:17 GMT", "Sun, 06 Nov 1994 08:49:57 GMT");
    assert_eq!(at(early, "Sun, 06 Nov 1994 08:49:47 GMT"), Ok(10), "thirty seconds, twenty of them over");
    assert_eq!(at(late, "Sun, 06 Nov 1994 08:50:07 GMT"), Ok(10), "a clock that is ahead");
    assert_eq!(at(late, late), Err(Reason::Stale), "no time at all");
    assert_eq!(at(late, "Sun, 06 Nov 1994 08:49:47 GMT"), Err(Reason::Stale), "less than none");
    assert_eq!(at("foo", "Sun, 06 Nov 1994 08:49:47 GMT"), Ok(10), "no date: from now");
}

#[test]
fn rfc9111_4_2_2_a_tenth_of_the_time_since_the_last_change_is_a_guess() {
    let policy = Policy { heuristic_max: Some(secs(100)), ..NO_POLICY };
    let hour_ago = ("last-modified", "Sun, 06 Nov 1994 07:49:37 GMT");
    let minute_ago = ("last-modified", "Sun, 06 Nov 1994 08:48:37 GMT");
    assert_eq!(fresh(200, &[minute_ago], &policy), Ok(6), "a tenth");
    assert_eq!(fresh(200, &[hour_ago], &policy), Ok(100), "at most");
    let just_now = ("last-modified", "Sun, 06 Nov 1994 08:49:30 GMT");
    assert_eq!(fresh(201, &[just_now], &policy), Err(Reason::NoFreshness), "no status for guesses");
    assert_eq!(fresh(200, &[just_now], &policy), Ok(0), "less than a second: kept to be asked about");
    let dated = [minute_ago, ("date", "Sun, 06 Nov 1994 08:49:36 GMT")];
    assert_eq!(fresh(200, &dated, &policy), Ok(4), "from its date, and a second of it is over");
    assert_eq!(
        fresh(200, &[minute_ago, ("cache-control", "max-age=9")], &policy),
        Ok(9),
        "said is not guessed"
    );
    assert_eq!(fresh(200, &[minute_ago], &Policy { ttl: Some(secs(60)), ..policy }), Ok(6), "before `ttl`");
    assert_eq!(
        fresh(200, &[], &Policy { ttl: Some(secs(60)), ..policy }),
        Ok(60),
        "`ttl` where nothing is said"
    );
    let ahead = [("last-modified", "Sun, 06 Nov 1994 09:49:37 GMT")];
    assert_eq!(fresh(200, &ahead, &policy), Err(Reason::NoFreshness), "a change that has not come");
    assert_eq!(
        fresh(200, &[minute_ago], &NO_POLICY),
        Err(Reason::NoFreshness),
        "where the route does not guess"
    );
}

#[test]
fn rfc9110_15_1_only_some_statuses_may_be_guessed_about() {
    let policy = Policy { heuristic_max: Some(secs(100)), ..NO_POLICY };
    let changed = ("last-modified", "Sun, 06 Nov 1994 07:49:37 GMT");
    for status in [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501] {
        assert_eq!(fresh(status, &[changed], &policy), Ok(100), "{status}");
    }
    for status in [201, 202, 302, 403, 502, 503, 504, 599] {
        assert!(fresh(status, &[changed], &policy).is_err(), "{status}");
        let public = [changed, ("cache-control", "public")];
        assert_eq!(fresh(status, &public, &policy), Ok(100), "RFC 9111 §4.2.2: {status} with `public`");
    }
}

#[test]
fn rfc9111_4_2_3_age_is_subtracted_with_the_delay_of_the_answer() {
    assert_eq!(fresh(200, &[("cache-control", "max-age=60"), ("age", "20")], &NO_POLICY), Ok(40), "age");
    assert_eq!(
        fresh(200, &[("cache-control", "max-age=60"), ("age", "20, 50")], &NO_POLICY),
        Ok(40),
        "first of a list"
    );
    assert_eq!(
        fresh(200, &[("cache-control", "max-age=60"), ("age", "x")], &NO_POLICY),
        Ok(60),
        "unreadable age"
    );
    assert_eq!(
        fresh(200, &[("cache-control", "max-age=60"), ("age", "60")], &NO_POLICY),
        Err(Reason::Stale),
        "old"
    );
    let huge = [("cache-control", "max-age=3000000000"), ("age", "99999999999999999999")];
    assert_eq!(fresh(200, &huge, &NO_POLICY), Err(Reason::Stale), "both are capped alike");
    for value in ["-7200", "7200.0", "7200;x=1", "", "+5", "0x10"] {
        let fields = [("cache-control", "max-age=60"), ("age", value)];
        assert_eq!(fresh(200, &fields, &NO_POLICY), Ok(60), "no seconds: `{value}`");
    }
    let lines = [("cache-control", "max-age=60"), ("age", "20"), ("age", "0")];
    assert_eq!(fresh(200, &lines, &NO_POLICY), Ok(40), "first of several lines");
    let slow = RequestFacts { response_delay: secs(5), ..RequestFacts::default() };
    let meta = judged(200, &[("cache-control", "max-age=60"), ("age", "20")], &NO_POLICY, &slow).unwrap();
    assert_eq!(meta.fresh_until(), now() + secs(35), "age and delay");
    assert_eq!(meta.epoch(), now() - secs(25), "hits count their age from there");
    assert_eq!(meta.fresh_sec(), 60, "the lifetime itself is whole");
    let meta = judged(200, &[("cache-control", "max-age=60")], &NO_POLICY, &slow).unwrap();
    assert_eq!(meta.epoch(), now() - secs(5), "no `Age` is an age of 0 when it was asked for");
    let quick = RequestFacts { response_delay: Duration::from_millis(999), ..slow };
    let meta = judged(200, &[("cache-control", "max-age=1")], &NO_POLICY, &quick).unwrap();
    assert_eq!(meta.epoch(), now(), "a second that is not over does not count");
}

#[test]
fn rfc9111_4_2_3_apparent_age_counts_if_larger() {
    let fields = [("cache-control", "max-age=60"), ("date", "Sun, 06 Nov 1994 08:49:07 GMT"), ("age", "10")];
    assert_eq!(fresh(200, &fields, &NO_POLICY), Ok(30), "dated thirty seconds ago");
    let ahead = [("cache-control", "max-age=60"), ("date", "Sun, 06 Nov 1994 08:59:37 GMT")];
    assert_eq!(fresh(200, &ahead, &NO_POLICY), Ok(60), "a clock ahead of ours gives no negative age");
    let late = RequestFacts { response_delay: secs(25), ..RequestFacts::default() };
    let meta = judged(200, &fields, &NO_POLICY, &late).unwrap();
    assert_eq!(meta.epoch(), now() - secs(35), "the reported age with its delay is the larger now");
    for dates in [&["yesterday"][..], &["Sun, 06 Nov 1994 08:00:00 GMT", NOW_DATE]] {
        let mut fields = vec![("cache-control", "max-age=60")];
        fields.extend(dates.iter().map(|date| ("date", *date)));
        assert_eq!(fresh(200, &fields, &NO_POLICY), Ok(60), "no date is no age: {dates:?}");
    }
}

#[test]
fn rfc9110_15_1_ttl_applies_to_heuristically_cacheable_statuses_only() {
    for status in [200, 203, 204, 300, 301, 308, 404, 410] {
        assert_eq!(fresh(status, &[], &ttl(60)), Ok(60), "{status}");
    }
    for status in [201, 302, 303, 307, 400, 403, 500, 502, 503, 504] {
        let reason = if status < 500 { Reason::NoFreshness } else { Reason::ServerError };
        assert_eq!(fresh(status, &[], &ttl(60)), Err(reason), "{status}");
        assert_eq!(fresh(status, &[], &overriding(60)), Err(reason), "{status} under override");
        assert_eq!(
            fresh(status, &[("cache-control", "max-age=5")], &ttl(60)),
            Ok(5),
            "{status} by its own word"
        );
    }
}
