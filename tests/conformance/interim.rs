//! Answers before the answer (RFC 9110 §15.2, RFC 8297): never stored, never in place of the final one.

use crate::stage::{APP, BOTH, Stage, fresh};

#[test]
fn rfc9111_3_only_the_final_answer_is_stored() {
    let stage = Stage::new("{}");
    for way in BOTH {
        let given = fresh(60).after_interim("102 Processing", &[]).after_interim(
            "103 Early Hints",
            &[("Link", "</a.css>; rel=preload"), ("Cache-Control", "no-store")],
        );
        let target = stage.target(way, &[given]);
        let first = stage.get(&target);
        assert_eq!((first.status, first.text().as_str()), (200, "v0"), "{way}");
        assert_eq!(first.header("link"), None, "{way}: what the interim answer said is not the final one's");
        let second = stage.get(&target);
        assert_eq!((second.status, second.text().as_str()), (200, "v0"), "{way}");
        assert_eq!(second.interim, [0u16; 0], "{way}: and only that is given from the store");
        assert_eq!(stage.asked(&target).len(), 1, "{way}");
    }
}

#[test]
fn rfc9110_15_2_an_app_s_interim_answers_reach_the_client() {
    let stage = Stage::new("{}");
    let given = fresh(60).after_interim("103 Early Hints", &[("Link", "</a.css>; rel=preload")]);
    let target = stage.target(APP, &[given]);
    let mut client = crate::harness::Client::connect(stage.gateway.address());
    client.send(format!("GET {target} HTTP/1.1\r\nHost: app.example\r\n\r\n").as_bytes());
    let (status, fields, _) = client.read_head().expect("an interim answer");
    assert_eq!(status, 103);
    assert!(
        fields.iter().any(|(n, v)| n.eq_ignore_ascii_case("link") && v == "</a.css>; rel=preload"),
        "{fields:?}"
    );
    let last = client.read("GET");
    assert_eq!((last.status, last.text().as_str()), (200, "v0"));
}

#[test]
fn rfc9110_15_2_1_a_100_before_a_change_is_no_answer_to_it() {
    let stage = Stage::new("{}");
    for way in BOTH {
        let target = stage.target(way, &[fresh(60).after_interim("100 Continue", &[])]);
        assert_eq!(stage.send("POST", &target).status, 200, "{way}");
    }
}
