use std::time::Duration;

use super::tag_list::TagNames;
use super::*;
use crate::cache::key::{KeyParts, MethodClass};

fn key(route: &str, scheme: &str, host: &str, path: &str) -> Vec<u8> {
    let parts = KeyParts {
        route,
        policy: 1,
        method_class: MethodClass::Read,
        scheme,
        host,
        path,
        query: "a=1",
        headers: &[("accept-language", b"de")],
    };
    parts.key().primary_key().to_vec()
}

fn tags(names: &[&str]) -> TagNames {
    names.iter().collect()
}

fn origin(scheme: &str, host: &str) -> Origin {
    Origin { scheme: scheme.into(), host: host.into() }
}

fn prefix(path: &str) -> Scope {
    Scope::Prefix(UrlPrefix { origin: origin("https", "app.example"), path: path.into() })
}

fn tag(name: &str, of: Option<Origin>) -> Scope {
    Scope::Tag(Tag { name: name.into(), origin: of })
}

fn ban(mode: Mode, epoch: u64, second: u64) -> Ban {
    Ban { mode, epoch, at: SystemTime::UNIX_EPOCH + Duration::from_secs(second) }
}

fn bans(all: &[(&Scope, Ban)]) -> Bans {
    let mut bans = Bans::default();
    all.iter().for_each(|(scope, ban)| bans.add(scope, *ban));
    bans
}

#[test]
fn a_scope_names_what_it_says_and_a_ban_of_it_strikes_the_same() {
    let here = key("weather", "https", "app.example", "/api/weather/oslo");
    let of_it = tags(&["city", "news"]);
    let cases = [
        (Scope::All, true),
        (Scope::Route("weather".into()), true),
        (Scope::Route("weathe".into()), false),
        (prefix("/"), true),
        (prefix("/api/weather"), true),
        (prefix("/api/weather/"), true),
        (prefix("/api/weather/oslo"), true),
        (prefix("/api/weather/oslo/"), false),
        (prefix("/api/weather/os"), false),
        (Scope::Prefix(UrlPrefix { origin: origin("http", "app.example"), path: "/".into() }), false),
        (Scope::Prefix(UrlPrefix { origin: origin("https", "other.example"), path: "/".into() }), false),
        (Scope::Url(UrlHash(7)), true),
        (Scope::Url(UrlHash(8)), false),
        (tag("city", None), true),
        (tag("City", None), false),
        (tag("news", Some(origin("https", "app.example"))), true),
        (tag("news", Some(origin("https", "other.example"))), false),
        (tag("news", Some(origin("http", "app.example"))), false),
    ];
    for (scope, expected) in cases {
        assert_eq!(scope.names(&here, of_it.list(), UrlHash(7)), expected, "{scope:?}");
        let bans = bans(&[(&scope, ban(Mode::Hard, 5, 1))]);
        let effect = bans.effect(&Object { key: &here, tags: of_it.list(), began: 4, url: UrlHash(7) });
        assert_eq!(effect == Effect::Gone, expected, "{scope:?}: {effect:?}");
        let later = bans.effect(&Object { key: &here, tags: of_it.list(), began: 5, url: UrlHash(7) });
        assert_eq!(later, Effect::Spared, "{scope:?}: fetched after it");
    }
}

#[test]
fn soft_bans_count_from_the_first_that_an_object_is_older_than() {
    let bans = bans(&[
        (&Scope::All, ban(Mode::Soft, 3, 100)),
        (&Scope::All, ban(Mode::Soft, 5, 200)),
        (&tag("x", None), ban(Mode::Soft, 7, 300)),
    ]);
    let effect = |began| bans.effect(&Object { key: &[], tags: tags(&["x"]).list(), began, url: UrlHash(7) });
    let at = |second| Effect::StaleFrom(SystemTime::UNIX_EPOCH + Duration::from_secs(second));
    assert_eq!(effect(2), at(100), "saying it again does not make it younger");
    assert_eq!(effect(4), at(200));
    assert_eq!(effect(6), at(300));
    assert_eq!(effect(7), Effect::Spared);
}

#[test]
fn a_hard_ban_takes_the_place_of_those_before_it() {
    let mut bans = bans(&[(&Scope::All, ban(Mode::Soft, 1, 1)), (&Scope::All, ban(Mode::Soft, 2, 2))]);
    bans.add(&Scope::All, ban(Mode::Hard, 3, 3));
    bans.add(&Scope::All, ban(Mode::Hard, 4, 4));
    assert_eq!(bans.len(), 1, "one is enough");
    assert_eq!(
        bans.effect(&Object { key: &[], tags: TagList::default(), began: 0, url: UrlHash(7) }),
        Effect::Gone
    );
}

#[test]
fn a_hard_ban_of_everything_takes_the_place_of_all() {
    let scopes = [tag("x", None), prefix("/"), Scope::Route("r".into()), Scope::Url(UrlHash(1)), Scope::All];
    let mut bans = Bans::default();
    for (at, scope) in (1..).zip(&scopes) {
        bans.add(scope, ban(Mode::Soft, at, at));
    }
    assert_eq!(bans.len(), scopes.len());
    bans.add(&Scope::All, ban(Mode::Hard, 9, 9));
    assert_eq!(bans.len(), 1, "whatever they named is gone");
}

#[test]
fn only_what_was_swept_and_is_old_enough_goes_off_the_table() {
    let when = |second| SystemTime::UNIX_EPOCH + Duration::from_secs(second);
    let all = [
        (&Scope::All, ban(Mode::Hard, 1, 10)),
        (&tag("x", None), ban(Mode::Hard, 2, 20)),
        (&prefix("/a"), ban(Mode::Hard, 3, 30)),
        (&Scope::Route("r".into()), ban(Mode::Soft, 4, 40)),
    ];
    let mut bans = bans(&all);
    bans.retire(3, when(25));
    assert_eq!(bans.len(), 2, "two are old enough");
    bans.retire(3, when(100));
    assert_eq!(bans.len(), 1, "one is not swept");
    bans.retire(4, when(100));
    assert!(bans.is_empty());
}

#[test]
fn what_is_no_key_has_no_route_and_no_url() {
    let all = [(&Scope::Route("".into()), ban(Mode::Hard, 1, 1)), (&prefix("/"), ban(Mode::Hard, 2, 1))];
    assert_eq!(
        bans(&all).effect(&Object { key: b"/a", tags: TagList::default(), began: 0, url: UrlHash(7) }),
        Effect::Spared
    );
}
