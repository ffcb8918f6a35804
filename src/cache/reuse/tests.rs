//! The rules of `reuse`, each named by the section it comes from.

use super::*;
use pingora::http::ResponseHeader;
use proptest::prelude::*;
use std::time::UNIX_EPOCH;

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// An answer that came at second 1000, fresh for `lifetime`, with these windows.
struct Kept {
    lifetime: u64,
    age: u64,
    windows: (u32, u32),
    terms: Terms,
    status: u16,
    cache_control: Option<&'static str>,
}

impl Default for Kept {
    fn default() -> Self {
        Self {
            lifetime: 60,
            age: 0,
            windows: (0, 0),
            terms: Terms::default(),
            status: 200,
            cache_control: None,
        }
    }
}

impl Kept {
    fn meta(&self) -> CacheMeta {
        let mut head = ResponseHeader::build(self.status, None).unwrap();
        if let Some(value) = self.cache_control {
            head.insert_header("cache-control", value).unwrap();
        }
        let epoch = at(0) - secs(self.age);
        let (swr, sie) = self.windows;
        let mut meta = CacheMeta::new(epoch + secs(self.lifetime), at(0), swr, sie, head);
        meta.set_epoch_override(epoch);
        self.terms.clone().stamp(&mut meta);
        meta
    }

    /// Asked `after` seconds.
    fn reuse(&self, asked: Asked, after: u64) -> Reuse {
        reuse(&self.meta(), &asked, at(after))
    }

    fn stands_in(&self, asked: Asked, after: u64) -> bool {
        may_stand_in(&self.meta(), &asked, at(after))
    }
}

fn at(second: u64) -> SystemTime {
    UNIX_EPOCH + secs(1_000_000 + second)
}

const NOTHING: Asked = Asked {
    no_cache: false,
    no_store: false,
    only_if_cached: false,
    max_age: None,
    min_fresh: None,
    max_stale: None,
    stale_if_error: None,
};

fn span() -> impl Strategy<Value = Option<Duration>> {
    proptest::option::of(prop_oneof![(0..200_u64).prop_map(secs), Just(Duration::MAX)])
}

proptest! {
    #[test]
    fn rfc9111_4_2_4_stale_is_given_only_by_somebody_who_may_say_so(
        (lifetime, age, after) in (0..100_u64, 0..100_u64, 0..300_u64),
        windows in (0..100_u32, 0..100_u32),
        (validates, never_stale, no_cache) in any::<(bool, bool, bool)>(),
        (max_age, min_fresh, max_stale, stale_if_error) in (span(), span(), span(), span()),
    ) {
        let terms = Terms { validates, never_stale, ..Terms::default() };
        let kept = Kept { lifetime, age, windows, terms, ..Kept::default() };
        let asked = Asked { no_cache, max_age, min_fresh, max_stale, stale_if_error, ..NOTHING };
        let (now_age, stale_for) = (age + after, (age + after).checked_sub(lifetime));
        match kept.reuse(asked, after) {
            Reuse::Validate => {}
            used => {
                prop_assert!(!validates && !no_cache, "nothing is used unasked that has to be asked about");
                prop_assert!(max_age.is_none_or(|oldest| secs(now_age) <= oldest), "no older than is wanted");
                match used {
                    Reuse::Fresh => prop_assert!(stale_for.is_none()),
                    Reuse::WhileRevalidate => prop_assert!(stale_for.is_some_and(|s| s < windows.0.into())),
                    _ => prop_assert!(!never_stale && max_stale.is_some()),
                }
            }
        }
        if kept.stands_in(asked, after) {
            let opened = stale_if_error.is_some() && !never_stale;
            prop_assert!(!validates, "nothing stands in that has to be asked about");
            prop_assert!(stale_for.is_none_or(|s| s < windows.1.into()) || opened, "a window that somebody opened");
        }
        let nothing = kept.reuse(NOTHING, after);
        if nothing == Reuse::Validate && (never_stale || validates) {
            prop_assert_eq!(kept.reuse(asked, after), Reuse::Validate, "no request opens what is closed");
        }
    }
}

#[test]
fn rfc9111_4_2_an_answer_is_fresh_while_its_lifetime_is_longer_than_its_age() {
    let kept = Kept { lifetime: 60, age: 20, ..Kept::default() };
    assert_eq!(kept.reuse(NOTHING, 39), Reuse::Fresh, "age 59");
    assert_eq!(kept.reuse(NOTHING, 40), Reuse::Validate, "age 60 is not less than 60");
}

#[test]
fn rfc9111_5_2_2_4_what_has_to_be_validated_is_never_used_without() {
    let terms = Terms { validates: true, ..Terms::default() };
    let kept = Kept { windows: (100, 100), terms, ..Kept::default() };
    let generous = Asked { max_stale: Some(Duration::MAX), stale_if_error: Some(Duration::MAX), ..NOTHING };
    for after in [0, 61] {
        assert_eq!(kept.reuse(generous, after), Reuse::Validate, "after {after}");
        assert!(!kept.stands_in(generous, after), "nor in place of an error, after {after}");
    }
}

#[test]
fn rfc5861_3_the_window_to_revalidate_begins_where_freshness_ends() {
    let kept = Kept { windows: (30, 0), ..Kept::default() };
    assert_eq!(kept.reuse(NOTHING, 59), Reuse::Fresh, "fresh");
    assert_eq!(kept.reuse(NOTHING, 60), Reuse::WhileRevalidate, "the first stale moment");
    assert_eq!(kept.reuse(NOTHING, 89), Reuse::WhileRevalidate, "the last");
    assert_eq!(kept.reuse(NOTHING, 90), Reuse::Validate, "over");
}

#[test]
fn rfc9111_5_2_1_1_max_age_wants_no_older_and_no_stale_answer() {
    let kept = Kept { windows: (30, 0), age: 10, ..Kept::default() };
    let max_age = |n| Asked { max_age: Some(secs(n)), ..NOTHING };
    assert_eq!(kept.reuse(max_age(15), 5), Reuse::Fresh, "as old as that");
    assert_eq!(kept.reuse(max_age(15), 6), Reuse::Validate, "older");
    assert_eq!(kept.reuse(max_age(0), 0), Reuse::Validate, "a reload");
    assert_eq!(kept.reuse(max_age(500), 55), Reuse::Validate, "young enough, but stale");
    let with_stale = Asked { max_stale: Some(secs(1)), ..max_age(500) };
    assert_eq!(kept.reuse(with_stale, 55), Reuse::WhileRevalidate, "stale is fine with it");
}

#[test]
fn rfc8246_2_1_an_immutable_answer_is_not_asked_for_again_by_a_reload_while_fresh() {
    let kept = Kept { cache_control: Some("max-age=60, immutable"), ..Kept::default() };
    let reload = Asked { max_age: Some(Duration::ZERO), ..NOTHING };
    assert_eq!(kept.reuse(reload, 30), Reuse::Fresh, "fresh");
    assert_eq!(kept.reuse(reload, 60), Reuse::Validate, "no longer");
    assert_eq!(kept.reuse(Asked { no_cache: true, ..NOTHING }, 30), Reuse::Validate, "the client insists");
}

#[test]
fn rfc9111_5_2_1_2_max_stale_takes_a_stale_answer_up_to_its_value() {
    let kept = Kept::default();
    let max_stale = |longest| Asked { max_stale: Some(longest), ..NOTHING };
    assert_eq!(kept.reuse(max_stale(secs(5)), 65), Reuse::Stale, "stale for five");
    assert_eq!(kept.reuse(max_stale(secs(5)), 66), Reuse::Validate, "for six");
    assert_eq!(kept.reuse(max_stale(Duration::MAX), 9999), Reuse::Stale, "without a value, any");
    assert_eq!(kept.reuse(max_stale(secs(5)), 10), Reuse::Fresh, "fresh");
}

#[test]
fn rfc9111_4_2_4_no_client_opens_what_the_upstream_forbids() {
    let terms = Terms { never_stale: true, ..Terms::default() };
    let any = Asked { max_stale: Some(Duration::MAX), stale_if_error: Some(Duration::MAX), ..NOTHING };
    let closed = Kept { terms: terms.clone(), ..Kept::default() };
    assert_eq!(closed.reuse(any, 59), Reuse::Fresh, "fresh");
    assert_eq!(closed.reuse(any, 60), Reuse::Validate, "stale");
    assert!(!closed.stands_in(any, 60), "nor in place of an error");
    let own = Kept { terms, windows: (10, 20), ..Kept::default() };
    assert_eq!(own.reuse(any, 69), Reuse::WhileRevalidate, "a window of its own");
    assert_eq!(own.reuse(any, 70), Reuse::Validate, "no further");
    assert!(own.stands_in(any, 79) && !own.stands_in(any, 80), "the same for errors");
}

#[test]
fn rfc9111_5_2_1_3_min_fresh_wants_freshness_to_come() {
    let kept = Kept { windows: (30, 0), ..Kept::default() };
    let min_fresh = |n| Asked { min_fresh: Some(secs(n)), ..NOTHING };
    assert_eq!(kept.reuse(min_fresh(20), 40), Reuse::Fresh, "twenty left");
    assert_eq!(kept.reuse(min_fresh(20), 41), Reuse::Validate, "nineteen");
    assert_eq!(kept.reuse(min_fresh(0), 61), Reuse::Validate, "a stale one is not what is wanted");
}

#[test]
fn rfc9111_5_2_1_4_no_cache_asks_the_upstream() {
    let kept = Kept { windows: (30, 30), ..Kept::default() };
    let no_cache = Asked { no_cache: true, ..NOTHING };
    assert_eq!(kept.reuse(no_cache, 0), Reuse::Validate, "fresh or not");
    assert!(!kept.stands_in(no_cache, 61), "not even while the upstream fails");
    let or_else = Asked { stale_if_error: Some(secs(10)), ..no_cache };
    assert!(kept.stands_in(or_else, 61), "unless it says so");
}

#[test]
fn rfc5861_4_the_window_for_errors_begins_where_freshness_ends() {
    let kept = Kept { windows: (0, 30), ..Kept::default() };
    assert!(kept.stands_in(NOTHING, 10), "fresh");
    assert!(kept.stands_in(NOTHING, 60) && kept.stands_in(NOTHING, 89), "in the window");
    assert!(!kept.stands_in(NOTHING, 90), "over");
    assert!(!Kept::default().stands_in(NOTHING, 60), "no window");
    assert_eq!(kept.reuse(NOTHING, 60), Reuse::Validate, "only where there is an error");
}

#[test]
fn rfc5861_4_the_requests_limit_to_staleness_counts_for_the_request() {
    let sie = |n| Asked { stale_if_error: Some(secs(n)), ..NOTHING };
    let kept = Kept { windows: (0, 30), ..Kept::default() };
    assert!(!kept.stands_in(sie(10), 70), "shorter");
    assert!(kept.stands_in(sie(100), 159) && !kept.stands_in(sie(100), 160), "longer");
    assert!(Kept::default().stands_in(sie(5), 64), "where nobody else says anything");
}

#[test]
fn a_stored_failure_does_not_stand_in_for_another() {
    let kept = Kept { windows: (0, 30), status: 503, ..Kept::default() };
    assert!(!kept.stands_in(NOTHING, 61), "503 for 503");
    assert!(Kept { status: 404, ..kept }.stands_in(NOTHING, 61), "404 is an answer");
}

#[test]
fn wishes_for_a_younger_answer_do_not_stand_against_a_dead_upstream() {
    let kept = Kept { windows: (0, 30), ..Kept::default() };
    let asked = Asked { max_age: Some(Duration::ZERO), min_fresh: Some(secs(5)), ..NOTHING };
    assert!(kept.stands_in(asked, 61), "a reload while the upstream is down");
}
