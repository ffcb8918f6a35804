//! `Date` and `Age`: whose they are, on both versions of HTTP and from both kinds of upstream.
//!
//! RFC 9110 §6.6.1 (a `Date` is the origin's), RFC 9111 §4.2.3 (the age that is counted from it), §5.1 (what an `Age` says).

use std::time::{Duration, SystemTime};

use crate::cache_gate::is_hit;
use crate::harness::{
    Answer, Client, Gateway, H2Client, Origin, Received, Reply, chunked, response, tls_exchange, tls_setup,
};
use crate::out_support::Scripted;

/// Long ago, and no second of this test's own.
const OLD: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
/// The routes of [`gateway`]: through our own exchange and through the framework's; with `/kept` before it, by way of the cache.
const WAYS: [&str; 4] = ["/api", "/app", "/kept/api", "/kept/app"];

/// One listener in the clear (`public`), one with TLS and HTTP/2 (`secure`).
fn gateway(origin: &Origin) -> Gateway {
    let (setup, _) = tls_setup();
    let url = origin.url();
    let mut yaml = format!(
        "version: 1
listeners:
  - {{ name: public, address: \"127.0.0.1:0\" }}
  - {{ name: secure, address: \"127.0.0.1:0\", tls: {{ certificates: [{{ cert: tls/a.crt, key: tls/a.key }}] }} }}
admin: {{ address: \"127.0.0.1:0\" }}
upstreams:
  vendor: {{ url: \"{url}\", allowPrivate: true }}
  web: {{ kind: app, url: \"{url}\" }}
routes:
"
    );
    for (name, upstream) in [("api", "vendor"), ("app", "web")] {
        for (path, name, cache) in [
            (format!("/{name}"), name.to_owned(), ""),
            (format!("/kept/{name}"), format!("{name}-kept"), ", cache: {}"),
        ] {
            yaml.push_str(&format!(
                "  - {{ name: {name}, match: {{ path: {{ prefix: {path} }} }}, upstream: {upstream}{cache} }}\n"
            ));
        }
    }
    setup.start(&yaml)
}

fn date(moment: SystemTime) -> String {
    httpdate::fmt_http_date(moment)
}

/// The moment that an answer's `Date` and `Age` name together.
fn made(date: &str, age: Option<&str>) -> SystemTime {
    let age = age.map_or(0, |age| age.parse().expect("seconds"));
    httpdate::parse_http_date(date).expect("a date") - Duration::from_secs(age)
}

/// Whether a date is that of this moment, give or take what a busy machine needs.
fn is_now(date: &str) -> bool {
    let date = httpdate::parse_http_date(date).expect("a date");
    date + Duration::from_secs(20) > SystemTime::now() && date <= SystemTime::now()
}

fn only_date<'a>(answer: &'a Answer, what: &str) -> &'a str {
    let all = answer.all("date");
    assert_eq!(all.len(), 1, "{what}: one Date: {:?}", answer.headers);
    all[0]
}

#[test]
fn rfc9110_6_6_1_the_origins_date_is_kept_on_every_request_of_a_connection() {
    let told = |target: &str| {
        let number = target.bytes().last().unwrap_or_default();
        date(SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777 + 86_400 * u64::from(number)))
    };
    let origin = Origin::start(move |request| {
        response(200, &[("Date", &told(request.target()))], request.target().as_bytes())
    });
    let gateway = gateway(&origin);
    let mut client = Client::connect(gateway.address());
    for way in ["/api", "/app"] {
        for number in 0..6 {
            let answer = client.request("GET", &format!("{way}/{number}"), &[], b"");
            assert_eq!(only_date(&answer, way), told(&number.to_string()), "{answer:?}");
            assert_eq!(answer.header("age"), None, "{way}: a Date that is kept needs no Age");
            assert!(answer.text().ends_with(&number.to_string()), "{answer:?}");
        }
    }
}

#[test]
fn rfc9110_6_6_1_our_own_answers_between_them_have_the_time_of_sending() {
    let origin = Origin::start(|_| response(200, &[("Date", OLD)], b"x"));
    let gateway = gateway(&origin);
    let mut client = Client::connect(gateway.address());
    for way in ["/api", "/app"] {
        assert_eq!(only_date(&client.request("GET", way, &[], b""), way), OLD);
        let missing = client.request("GET", "/nowhere", &[], b"");
        assert_eq!(missing.status, 404);
        assert!(is_now(only_date(&missing, way)), "{missing:?}");
    }
}

#[test]
fn a_failure_in_place_of_a_dated_answer_has_the_time_of_sending() {
    let scripted = Scripted::start();
    let gateway = gateway(&scripted.origin);
    // Refused by us after its head was read: a credential that the vendor does not take.
    scripted.says_fields(401, &[("Date", OLD)]);
    let answer = gateway.get("/api");
    assert_eq!(answer.status, 502);
    assert!(is_now(only_date(&answer, "refused")), "{answer:?}");
    // An unasked switch of protocols.
    scripted.says_and_closes(format!("HTTP/1.1 101 Switching Protocols\r\nDate: {OLD}\r\n\r\n"));
    for way in ["/api", "/app"] {
        let answer = gateway.get(way);
        assert_eq!(answer.status, 502, "{way}");
        assert!(is_now(only_date(&answer, way)), "{answer:?}");
    }
}

#[test]
fn the_date_is_kept_over_tls() {
    let origin = Origin::start(|_| response(200, &[("Date", OLD)], b"x"));
    let gateway = gateway(&origin);
    for way in WAYS {
        let raw = format!(
            "GET {way} HTTP/1.1\r\nHost: app.example\r\n\r\nGET {way} HTTP/1.1\r\nHost: app.example\r\nConnection: close\r\n\r\n"
        );
        // The second may be read with the first, and then costs the connection: what came is dated.
        let text =
            tls_exchange(gateway.listeners["secure"], "app.example", raw.as_bytes()).to_ascii_lowercase();
        let dated = format!("\r\ndate: {}\r\n", OLD.to_ascii_lowercase());
        let heads = text.matches("http/1.1 200").count();
        assert!(heads > 0 && text.matches(&dated).count() == heads, "{way}: {text}");
    }
}

#[test]
fn rfc9111_4_2_3_a_hit_has_the_date_of_the_answer_that_was_stored() {
    let stored = SystemTime::now() - Duration::from_secs(30);
    let first_date = date(stored);
    let told = first_date.clone();
    let origin = Origin::start(move |_| {
        response(200, &[("Date", &told), ("Cache-Control", "max-age=300"), ("ETag", "\"1\"")], b"x")
    });
    let gateway = gateway(&origin);
    for way in ["/kept/api", "/kept/app"] {
        assert_eq!(only_date(&gateway.get(way), way), first_date, "the first");
        for (method, fields, status) in
            [("GET", &[][..], 200), ("HEAD", &[], 200), ("GET", &[("If-None-Match", "\"1\"")], 304)]
        {
            let hit = gateway.request(method, way, fields, b"");
            assert_eq!(hit.status, status, "{way} {method}");
            assert!(is_hit(&hit), "{way} {method}: {hit:?}");
            assert_eq!(only_date(&hit, way), first_date, "{way} {method} {status}");
            let age: u64 = hit.header("age").and_then(|age| age.parse().ok()).expect("an age");
            assert!((30..60).contains(&age), "{way}: Age {age} counts from the origin's Date");
        }
    }
}

#[test]
fn rfc9110_6_6_1_a_hit_of_an_answer_without_a_date_has_the_moment_of_its_receipt() {
    let origin = Origin::start(|_| response(200, &[("Cache-Control", "max-age=300")], b"x"));
    let gateway = gateway(&origin);
    for way in ["/kept/api", "/kept/app"] {
        let first = gateway.get(way);
        let received = only_date(&first, way).to_owned();
        assert!(is_now(&received), "{first:?}");
        eventually!(date(SystemTime::now()) != received, "the clock stands still");
        let hit = gateway.get(way);
        assert!(is_hit(&hit), "{hit:?}");
        assert_eq!(only_date(&hit, way), received, "{way}");
    }
}

#[test]
fn the_date_is_kept_whatever_the_form_of_the_answer() {
    let scripted = Scripted::start();
    let gateway = gateway(&scripted.origin);
    let in_body = format!(
        "HTTP/1.1 200 OK\r\ndate: {OLD}\r\n\r\nHTTP/1.1 200 OK\r\ndate: Mon, 07 Nov 1994 08:49:37 GMT\r\n\r\n"
    );
    let body = in_body.as_bytes();
    let kinds: [(&str, &str, Vec<u8>, &[u8]); 6] = [
        ("GET", "length", crate::harness::response_bytes(200, &[("Date", OLD)], body), body),
        (
            "GET",
            "chunks",
            [
                format!("HTTP/1.1 200 OK\r\nDate: {OLD}\r\nTransfer-Encoding: chunked\r\n\r\n").into_bytes(),
                chunked(&[&body[..7], &body[7..]]),
            ]
            .concat(),
            body,
        ),
        ("HEAD", "HEAD", format!("HTTP/1.1 200 OK\r\nDate: {OLD}\r\nContent-Length: 9\r\n\r\n").into_bytes(), b""),
        ("GET", "304", format!("HTTP/1.1 304 Not Modified\r\nDate: {OLD}\r\nETag: \"1\"\r\n\r\n").into_bytes(), b""),
        ("GET", "204", format!("HTTP/1.1 204 No Content\r\nDate: {OLD}\r\n\r\n").into_bytes(), b""),
        (
            "GET",
            "after hints",
            format!(
                "HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\nDate: Mon, 07 Nov 1994 08:49:37 GMT\r\n\r\n\
                 HTTP/1.1 200 OK\r\nDate: {OLD}\r\nContent-Length: 2\r\n\r\nok"
            )
            .into_bytes(),
            b"ok",
        ),
    ];
    for way in ["/api", "/app"] {
        let mut client = Client::connect(gateway.address());
        for (method, name, bytes, body) in &kinds {
            scripted.says(bytes);
            let answer = client.request(method, way, &[("If-None-Match", "\"1\"")], b"");
            assert_eq!(only_date(&answer, name), OLD, "{way} {name}");
            assert!(answer.body == *body, "{way} {name}: the body is the origin's: {}", answer.text());
        }
        scripted.says_and_closes(format!("HTTP/1.1 200 OK\r\nDate: {OLD}\r\n\r\n{in_body}"));
        let answer = client.request("GET", way, &[], b"");
        assert_eq!((only_date(&answer, way), answer.text()), (OLD, in_body.clone()), "{way}: until the end");
    }
}

#[test]
fn the_date_is_kept_in_a_head_that_no_single_write_takes() {
    // Below the framework's limits of what it reads of an upstream, above every buffer on our way out.
    let fields: Vec<(String, String)> =
        (0..100).map(|number| (format!("X-Filler-{number}"), "v".repeat(1000))).collect();
    let origin = Origin::start(move |_| {
        let mut all: Vec<(&str, &str)> =
            fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        all.push(("Date", OLD));
        response(200, &all, b"x")
    });
    let gateway = gateway(&origin);
    let mut client = Client::connect(gateway.address());
    for _ in 0..3 {
        let answer = client.request("GET", "/app", &[], b"");
        assert_eq!((answer.status, only_date(&answer, "large")), (200, OLD));
        assert_eq!(
            answer
                .headers
                .iter()
                .filter(|(name, _)| name.to_ascii_lowercase().starts_with("x-filler-"))
                .count(),
            100
        );
    }
    let raw = b"GET /app HTTP/1.1\r\nHost: app.example\r\nConnection: close\r\n\r\n";
    let text = tls_exchange(gateway.listeners["secure"], "app.example", raw).to_ascii_lowercase();
    assert!(text.contains(&format!("\r\ndate: {}\r\n", OLD.to_ascii_lowercase())), "over TLS");
}

#[test]
fn a_request_body_that_was_waited_for_does_not_move_the_date() {
    let origin = Origin::start(|_| response(200, &[("Date", OLD)], b"x"));
    let gateway = gateway(&origin);
    for way in ["/api", "/app"] {
        let mut client = Client::connect(gateway.address());
        client.send(
            format!("POST {way} HTTP/1.1\r\nHost: app.example\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
                .as_bytes(),
        );
        let (status, ..) = client.read_head().expect("an interim head");
        assert_eq!(status, 100, "{way}");
        client.send(b"body");
        assert_eq!(only_date(&client.read("POST"), way), OLD, "{way}");
    }
}

#[test]
fn what_is_no_date_gives_way_to_the_moment_of_receipt() {
    let scripted = Scripted::start();
    let gateway = gateway(&scripted.origin);
    let client = H2Client::connect(gateway.listeners["secure"], "app.example");
    for fields in [
        &[][..],
        &[("Date", "0")],
        &[("Date", "soon")],
        &[("Date", "")],
        &[("Date", OLD), ("Date", OLD)],
        &[("Date", "Sun, 06 Nov 1994 08:49:37 CET")],
    ] {
        scripted.says_fields(200, fields);
        for way in ["/api", "/app"] {
            let answer = gateway.get(way);
            assert!(is_now(only_date(&answer, way)), "{way}: {fields:?}: {answer:?}");
            assert_eq!(answer.header("age"), None, "{way}: {fields:?}");
            let answer =
                client.request("GET", &format!("https://app.example{way}"), &[], &[]).expect("an answer");
            assert_eq!(answer.headers.get_all("date").iter().count(), 1, "{way}: {fields:?}");
            assert!(is_now(answer.header("date").expect("a date")), "{way}: {fields:?}");
            assert_eq!(answer.header("age"), None, "HTTP/2, {way}: {fields:?}");
        }
    }
    scripted.says_fields(200, &[("Date", "Sunday, 06-Nov-94 08:49:37 GMT")]);
    for way in ["/api", "/app"] {
        assert_eq!(
            only_date(&gateway.get(way), way),
            OLD,
            "an old form is the same moment (RFC 9110 §5.6.7)"
        );
    }
}

#[test]
fn rfc9111_4_2_3_over_http2_the_age_names_the_origins_moment() {
    let ago = |seconds| date(SystemTime::now() - Duration::from_secs(seconds));
    let scripted = Scripted::start();
    let gateway = gateway(&scripted.origin);
    let client = H2Client::connect(gateway.listeners["secure"], "app.example");
    let old = ago(500);
    for (fields, expected) in [
        (vec![("Date", old.as_str())], old.as_str()),
        (vec![("Date", old.as_str()), ("Age", "3")], old.as_str()),
        (vec![("Date", OLD)], OLD),
    ] {
        scripted.says_fields(200, &fields);
        for way in ["/api", "/app"] {
            let answer =
                client.request("GET", &format!("https://app.example{way}"), &[], &[]).expect("an answer");
            let sent = answer.header("date").expect("a date");
            assert_eq!(answer.headers.get_all("age").iter().count(), 1, "{way}: {fields:?}");
            let error =
                made(sent, answer.header("age")).duration_since(made(expected, None)).expect("not before");
            // Date and Age are made out a moment apart: a second may end between them.
            assert!(error <= Duration::from_secs(1), "{way}: {fields:?}: {answer:?}");
        }
    }
    scripted.says_fields(200, &[("Date", &ago(500)), ("Age", "9000")]);
    let answer = client.request("GET", "https://app.example/api", &[], &[]).expect("an answer");
    assert_eq!(answer.header("age"), Some("9000"), "what a cache before us knows is not lowered");
}

#[test]
fn rfc9111_5_1_an_answer_made_for_the_request_has_no_age_over_http2() {
    let origin = Origin::start(|_| response(200, &[("Date", &date(SystemTime::now()))], b"x"));
    let gateway = gateway(&origin);
    let client = H2Client::connect(gateway.listeners["secure"], "app.example");
    let ahead = Origin::start(|_| {
        response(200, &[("Date", &date(SystemTime::now() + Duration::from_secs(90)))], b"x")
    });
    let gateway_ahead = self::gateway(&ahead);
    let client_ahead = H2Client::connect(gateway_ahead.listeners["secure"], "app.example");
    for way in WAYS {
        for client in [&client, &client_ahead] {
            let answer =
                client.request("GET", &format!("https://app.example{way}"), &[], &[]).expect("an answer");
            assert_eq!(answer.header("age"), None, "{way}: {answer:?}");
        }
    }
}

#[test]
fn rfc9111_4_2_3_over_http2_a_hit_names_the_moment_of_the_answer_that_was_stored() {
    let stored = date(SystemTime::now() - Duration::from_secs(40));
    let told = stored.clone();
    let origin =
        Origin::start(move |_| response(200, &[("Date", &told), ("Cache-Control", "max-age=300")], b"x"));
    let gateway = gateway(&origin);
    let client = H2Client::connect(gateway.listeners["secure"], "app.example");
    for way in ["/kept/api", "/kept/app"] {
        for _ in 0..3 {
            let answer =
                client.request("GET", &format!("https://app.example{way}"), &[], &[]).expect("an answer");
            let moment = made(answer.header("date").expect("a date"), answer.header("age"));
            let error = moment.duration_since(made(&stored, None)).expect("not before");
            assert!(error <= Duration::from_secs(1), "{way}: {answer:?}");
        }
    }
}

#[test]
fn a_tunnel_is_not_looked_into() {
    let text = format!("HTTP/1.1 200 OK\r\ndate: {OLD}\r\n\r\n");
    let said = text.clone();
    let origin = Origin::start(move |request: &Received| {
        if request.header("upgrade").is_none() {
            return response(200, &[("Date", "Mon, 07 Nov 1994 08:49:37 GMT")], b"x");
        }
        let said = said.clone();
        Reply::Upgrade(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nDate: Mon, 07 Nov 1994 08:49:37 GMT\r\n\
              Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
                .to_vec(),
            Box::new(move |mut socket| {
                let _ = std::io::Read::read(&mut socket, &mut [0]);
                let _ = std::io::Write::write_all(&mut socket, said.as_bytes());
                // Until the client leaves.
                let _ = std::io::Read::read(&mut socket, &mut [0]);
            }),
        )
    });
    let gateway = gateway(&origin);
    let mut client = Client::connect(gateway.address());
    assert_eq!(client.request("GET", "/app", &[], b"").status, 200);
    let upgrade = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let answer = client.request("GET", "/app", &upgrade, b"");
    assert_eq!(answer.status, 101, "{answer:?}");
    client.send(b"?");
    assert_eq!(client.read_exact(text.len()), text.as_bytes());
}
