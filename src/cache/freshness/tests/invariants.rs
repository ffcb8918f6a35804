//! What holds of every judgement, whatever the upstream and the route say.

use proptest::prelude::*;

use super::*;

/// Fields that decide, with values right and wrong.
fn fields() -> impl Strategy<Value = Vec<(&'static str, String)>> {
    let date = prop_oneof![
        "(Mon|Sun), (0[1-9]|1[0-9]) Nov (1994|1993|2040) 08:(49|50):[0-5][0-9] GMT",
        "Sunday, 06-Nov-[0-9]{2} 08:50:37 GMT",
        "[ -~]{0,12}",
    ];
    let directive = prop_oneof![
        "(max-age|s-maxage|stale-while-revalidate|stale-if-error)=[0-9]{1,12}",
        "no-store|no-cache|private|public|must-revalidate|proxy-revalidate|must-understand|immutable",
        "(private|no-cache)=\"[a-z-]{1,9}\"",
        "[ -~]{0,9}",
    ];
    let list = proptest::collection::vec(directive, 0..4).prop_map(|all| all.join(", "));
    let field = prop_oneof![
        3 => list.clone().prop_map(|value| ("cache-control", value)),
        1 => list.prop_map(|value| ("cdn-cache-control", value)),
        1 => date.clone().prop_map(|value| ("date", value)),
        1 => date.clone().prop_map(|value| ("expires", value)),
        1 => date.prop_map(|value| ("last-modified", value)),
        1 => "[0-9]{0,22}|[ -~]{0,9}".prop_map(|value| ("age", value)),
        1 => "[a-z,* -]{0,12}".prop_map(|value| ("vary", value)),
        1 => Just(("set-cookie", "a=b".to_owned())),
        1 => Just(("etag", "\"a\"".to_owned())),
        1 => "[ -~]{0,12}".prop_map(|value| ("connection", value)),
    ];
    proptest::collection::vec(field, 0..8)
}

fn policy() -> impl Strategy<Value = Policy> {
    let span = || proptest::option::of(prop_oneof![0..400_u64, Just(u64::MAX)].prop_map(secs));
    (span(), any::<bool>(), span(), span(), span(), any::<bool>(), 0..400_u64).prop_map(
        |(ttl, override_upstream, swr, sie, heuristic_max, store_set_cookie, negative)| Policy {
            ttl,
            override_upstream,
            stale_while_revalidate: swr,
            stale_if_error: sie,
            heuristic_max,
            store_set_cookie,
            negative_max: secs(negative),
        },
    )
}

proptest! {
    #[test]
    fn nothing_is_stored_that_may_never_be(
        status in 100_u16..1000,
        fields in fields(),
        policy in policy(),
        delay in 0..100_u64,
        who in 0..4_u8,
    ) {
        let mut head = ResponseHeader::build(status, None).unwrap();
        for (name, value) in &fields {
            // Some of the texts are no field value.
            let _ = head.append_header(*name, value.as_str());
        }
        let facts = RequestFacts {
            response_delay: secs(delay),
            authorization_forwarded: who & 1 == 1,
            cookie_forwarded: who & 2 == 2,
            ..RequestFacts::default()
        };
        let said = Directives::read(&head.headers);
        let Verdict::Store(meta) = judge(&head, &facts, &policy, now()) else { return Ok(()) };
        let (terms, kept) = (Terms::of(&meta), meta.headers());
        let windows = (meta.stale_while_revalidate_sec(), meta.stale_if_error_sec());
        prop_assert!(may_be_stored(status), "a status that may not be stored");
        prop_assert!(!said.private && !said.unreadable && (!said.no_store || said.must_understand));
        prop_assert!(!kept.contains_key("set-cookie") || policy.store_set_cookie, "a cookie");
        prop_assert!(!kept.contains_key("connection") && !kept.contains_key("age"), "of one connection or moment");
        prop_assert!(said.withheld.iter().all(|name| !kept.contains_key(name)), "a field that is withheld");
        prop_assert!(meta.epoch() <= now() && meta.fresh_until() >= meta.epoch(), "a clock that runs backwards");
        if who & 2 == 2 {
            prop_assert!(said.public || said.s_maxage != Seconds::Absent, "what cookies brought");
        }
        if said.forbids_stale() || terms.validates {
            prop_assert_eq!(windows, (0, 0), "closed");
        }
        if terms.validates {
            prop_assert_eq!(meta.fresh_until(), meta.epoch(), "never fresh");
        }
        if status >= 400 {
            prop_assert!(meta.fresh_until() <= now() + policy.negative_max, "errors are bounded");
        }
    }
}
