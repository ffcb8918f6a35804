//! What a client could spoil for others, or read of theirs: unkeyed input, other spellings, other people's answers, half answers.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::cache_gate::{BOTH, cache_status, gateway, is_hit, is_stored, yaml};
use crate::harness::{
    Answer, Client, Gate, Gateway, Origin, Received, Reply, response, response_bytes, tls_exchange, tls_setup,
};

const FRESH: (&str, &str) = ("Cache-Control", "public, max-age=60");

/// An origin whose answers say all that it was sent, but for the request id.
fn echo() -> Origin {
    Origin::start(|request: &Received| {
        let mut body = format!("{}\n", request.line);
        for (name, value) in &request.headers {
            if !name.eq_ignore_ascii_case("x-request-id") {
                body.push_str(&format!("{}: {value}\n", name.to_ascii_lowercase()));
            }
        }
        body.push_str(&String::from_utf8_lossy(&request.body));
        response(200, &[FRESH], body.as_bytes())
    })
}

/// Sends bytes as they are.
fn raw(gateway: &Gateway, head: &str) -> Option<Answer> {
    let mut client = Client::connect(gateway.address());
    client.send(head.as_bytes());
    client.try_read("GET")
}

#[test]
fn fields_that_speak_of_another_request_reach_no_upstream() {
    let origin = echo();
    let gateway = gateway(&origin, &["cache: {}"]);
    let names = [
        "X-Forwarded-Host",
        "X-Forwarded-Scheme",
        "X-Forwarded-Proto",
        "X-Forwarded-Port",
        "X-Forwarded-Server",
        "X-Forwarded-Prefix",
        "X-Forwarded-Path",
        "X-Forwarded-Uri",
        "X-Forwarded-Ssl",
        "X-Forwarded-For",
        "Forwarded",
        "X-Original-URL",
        "X-Rewrite-URL",
        "X-Original-Host",
        "X-Original-URI",
        "X-Host",
        "X-Http-Host-Override",
        "X-HTTP-Method-Override",
        "X-HTTP-Method",
        "X-Method-Override",
        "X-Real-IP",
        "X-Client-IP",
        "True-Client-IP",
        "CF-Connecting-IP",
        "X-Cluster-Client-IP",
        "Front-End-Https",
        "X-Url-Scheme",
        "X-Scheme",
        "X-Forwarded_Host",
        "X_Forwarded_Host",
        "Proxy",
    ];
    for way in BOTH {
        for (n, name) in names.iter().enumerate() {
            let target = format!("{way}/{n}");
            let evil = gateway.request("GET", &target, &[(name, "canary-evil")], b"");
            assert_eq!(evil.status, 200, "{way} {name}: {evil:?}");
            assert!(!gateway.get(&target).contains(b"canary"), "{way} {name}: given to another");
        }
    }
}

#[test]
fn a_field_that_connection_names_chooses_nothing() {
    let origin = Origin::start(|request| {
        let body = format!("[{}]", request.all("accept-language").join("|"));
        response(200, &[FRESH, ("Vary", "Accept-Language")], body.as_bytes())
    });
    for line in ["cache: {}", "cache: { key: { headers: [accept-language] } }"] {
        let gateway = gateway(&origin, &[line]);
        for way in BOTH {
            let target = format!("{way}/x");
            let evil = [("Accept-Language", "de"), ("Connection", "Accept-Language")];
            assert_eq!(gateway.request("GET", &target, &evil, b"").text(), "[]", "{way}: it is taken away");
            let honest = gateway.request("GET", &target, &[("Accept-Language", "de")], b"");
            assert_eq!(honest.text(), "[de]", "{way} {line}: not what was made for nobody's language");
        }
    }
}

#[test]
fn a_query_that_is_empty_and_none_are_told_apart_or_alike_everywhere() {
    let origin = echo();
    let gateway = gateway(&origin, &["cache: {}"]);
    for way in BOTH {
        for (n, (first, second)) in [("?", ""), ("", "?")].iter().enumerate() {
            let (first, second) = (format!("{way}/{n}{first}"), format!("{way}/{n}{second}"));
            gateway.get(&first);
            let answer = gateway.get(&second);
            let seen = answer.text();
            let target = seen.split(' ').nth(1).unwrap_or_default().to_owned();
            let alone = {
                gateway.get(&format!("{way}/plain{}", &second[way.len() + 2..]));
                origin.last().target().to_owned()
            };
            assert_eq!(target.ends_with('?'), alone.ends_with('?'), "{second} after {first}: {seen}");
        }
    }
}

#[test]
fn spellings_that_share_an_entry_reach_the_upstream_as_one() {
    let origin = echo();
    let text = format!(
        "{}  - {{ name: bare, match: {{ path: {{ prefix: /bare }} }}, upstream: web, rewrite: {{ replacePrefixMatch: /app }} }}\n",
        yaml(&origin, &["cache: {}"])
    );
    let gateway = Gateway::start(&text);
    let spellings = [
        "/a/b",
        "//a/b",
        "/a//b",
        "/./a/b",
        "/a/./b",
        "/a/c/../b",
        "/a/%2e/b",
        "/a/c/%2e%2e/b",
        "/%61/b",
        "/a%2Fb",
        "/a%2fb",
        "/a/b;x=1",
        "/a;x/b",
        "/a/b%3Bx=1",
        "/a/b%3fq=1",
        "/a/b?q=1",
        "/a/b?q=1&",
        "/a/b?Q=1",
        "/a/b?q=%31",
        "/A/b",
        "/a/b/",
        "/a/b%20c",
        "/a/b+c",
        "/a/b%2520c",
        "/a/b#f",
        "/a/b%23f",
        "/a\\b",
        "/a/b%5cc",
        "/a/b%00",
        "/a/b%0a.css",
        "/a/b%C3%A9",
        "/a/b%c3%a9",
        "/a/b:c",
        "/a/b@c",
        "/a/b,c",
        "/a/b'c",
        "/a/b\"c",
        "/a/b|c",
    ];
    // In two orders, so that each is once the one that stores.
    for turn in 0..2 {
        for n in 0..spellings.len() {
            let spelling = spellings[if turn == 0 { n } else { spellings.len() - 1 - n }];
            let head =
                |prefix: &str| format!("GET {prefix}{spelling} HTTP/1.1\r\nHost: t{turn}.example\r\n\r\n");
            let (Some(cached), Some(bare)) = (raw(&gateway, &head("/app")), raw(&gateway, &head("/bare")))
            else {
                panic!("{spelling}: no answer")
            };
            assert_eq!(cached.status, bare.status, "{spelling}");
            if bare.status == 200 {
                let line = |answer: &Answer| answer.text().lines().next().unwrap_or_default().to_owned();
                assert_eq!(line(&cached), line(&bare), "{spelling}: what it would reach without a cache");
            }
        }
    }
}

#[test]
fn hosts_are_keyed_as_they_are_routed() {
    let origin = echo();
    let gateway = gateway(&origin, &["cache: {}"]);
    for (head, status) in [
        ("GET /app/x HTTP/1.1\r\nHost: app.example\r\nHost: evil.example\r\n\r\n", 400),
        ("GET http://evil.example/app/x HTTP/1.1\r\nHost: app.example\r\n\r\n", 400),
        ("GET http://user@app.example/app/x HTTP/1.1\r\nHost: app.example\r\n\r\n", 400),
        ("GET /app/x HTTP/1.1\r\nHost: app.example/evil\r\n\r\n", 400),
        ("GET /app/x HTTP/1.1\r\nHost: app.example:80:evil\r\n\r\n", 400),
        ("GET /app/x HTTP/1.1\r\n\r\n", 400),
    ] {
        assert_eq!(raw(&gateway, head).map(|answer| answer.status), Some(status), "{head}");
    }
    assert_eq!(origin.count(), 0, "none of them is asked for");
    gateway.get("/app/x");
    let absolute = raw(&gateway, "GET http://app.example/app/x HTTP/1.1\r\nHost: app.example\r\n\r\n")
        .expect("an answer");
    assert!(is_hit(&absolute), "one URL: {}", cache_status(&absolute));
    for host in ["app.example:8080", "app.example.", "evil.app.example"] {
        let other = gateway.request("GET", "/app/x", &[("Host", host)], b"");
        let same = other.text().contains("host: app.example\n");
        assert!(!is_hit(&other) || same, "{host}: {other:?}");
        assert!(!gateway.get("/app/x").text().contains(":8080"), "{host}");
    }
}

#[test]
fn a_scheme_that_a_proxy_in_front_tells_of_is_keyed() {
    let origin = echo();
    let (setup, head) = tls_setup();
    let head = head.replace("name: public, ", "name: public, trustedProxies: [\"127.0.0.0/8\"], ");
    let text = yaml(&origin, &["cache: {}"]);
    let (_, rest) = text.split_once("accessLog").expect("the head ends there");
    let gateway = setup.start(&format!("{head}accessLog{rest}"));
    let ask = |proto: &str| {
        let request = format!(
            "GET /app/x HTTP/1.1\r\nHost: app.example\r\nX-Forwarded-Proto: {proto}\r\nConnection: close\r\n\r\n"
        );
        tls_exchange(gateway.address(), "app.example", request.as_bytes())
    };
    for proto in ["http", "https", "http"] {
        assert!(ask(proto).contains(&format!("x-forwarded-proto: {proto}\n")), "{proto}: not the other's");
    }
}

#[test]
fn a_body_on_a_get_spoils_nothing() {
    let origin = echo();
    let gateway = gateway(&origin, &["cache: {}"]);
    for way in BOTH {
        let target = format!("{way}/x");
        let framed = [
            (vec![("Content-Length", "6")], "canary"),
            (vec![("Transfer-Encoding", "chunked")], "6\r\ncanary\r\n0\r\n\r\n"),
        ];
        for (fields, body) in framed {
            let fat = gateway.request("GET", &target, &fields, body.as_bytes());
            assert!(!is_hit(&fat) && !is_stored(&fat), "{way}: {}", cache_status(&fat));
            assert!(!gateway.get(&target).contains(b"canary"), "{way}");
        }
    }
}

#[test]
fn a_page_under_the_path_of_a_file_is_kept_for_nobody() {
    let origin = Origin::start(|_| response(200, &[FRESH, ("Content-Type", "text/html")], b"my account"));
    let gateway = gateway(&origin, &["cache: { ttl: 60s }"]);
    for way in BOTH {
        for path in [
            "x.css",
            ";x.css",
            "%3Bx.css",
            "x.css/",
            "%0a.css",
            "%0ax.css",
            "x.CSS",
            "x%2ecss",
            "x.css;y",
            "x.css%3fy",
            "x.css%23y",
            "..%2fx.css",
            "x.js",
            "x.png",
            "x.ico",
            "x.svg",
            "x.woff2",
            "x.pdf",
            "x.txt",
            "x.css%00",
            "%2f%2e%2e%2fx.css",
            "x.min.js",
            "x.css%20",
            "x.css.",
            "x.css%2f",
        ] {
            let target = format!("{way}/account/{path}");
            for _ in 0..2 {
                let answer = gateway.get(&target);
                assert!(!is_hit(&answer) && !is_stored(&answer), "{target}: {answer:?}");
            }
        }
    }
}

#[test]
fn an_error_that_a_client_provokes_is_not_everybodys_for_long() {
    let origin = Origin::start(|request| {
        let status = request.header("user-agent").and_then(|agent| agent.parse().ok());
        let kept = request.target().contains("kept");
        let fields = if kept { vec![("Cache-Control", "max-age=86400")] } else { vec![] };
        response(status.unwrap_or(200), &fields, b"x")
    });
    let gateway = gateway(&origin, &["cache: { ttl: 1h }"]);
    for way in BOTH {
        for status in ["400", "403", "405", "413", "414", "431", "500", "501", "502", "503"] {
            let silent = gateway.request("GET", &format!("{way}/{status}"), &[("User-Agent", status)], b"");
            assert!(!is_stored(&silent), "{way} {status}: nobody said that it may be: {silent:?}");
            assert_eq!(gateway.get(&format!("{way}/{status}")).status, 200, "{way} {status}");
            let told = gateway.request("GET", &format!("{way}/kept{status}"), &[("User-Agent", status)], b"");
            let status_line = cache_status(&told);
            let ttl = status_line
                .split("; ")
                .find_map(|m| m.strip_prefix("ttl="))
                .and_then(|n| n.parse::<i64>().ok());
            assert!(ttl.is_none_or(|ttl| ttl <= 300), "{way} {status}: at most `negativeTtl`: {status_line}");
            assert!(status != "431" || !is_stored(&told), "{way}: RFC 6585 §5");
        }
    }
}

#[test]
fn a_head_and_a_post_leave_nothing_that_a_get_would_be_given() {
    let origin = Origin::start(|request| match request.method() {
        "HEAD" => Reply::Raw(
            b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 999\r\nX-By: head\r\n\r\n"
                .to_vec(),
        ),
        method => response(200, &[FRESH, ("X-By", method)], method.as_bytes()),
    });
    let gateway = gateway(&origin, &["cache: { ttl: 60s }"]);
    for way in BOTH {
        for method in ["HEAD", "POST", "PUT", "OPTIONS", "PROPFIND", "FOO"] {
            let target = format!("{way}/{method}");
            let body: &[u8] = if method == "POST" { b"x" } else { b"" };
            gateway.request(method, &target, &[], body);
            let get = gateway.get(&target);
            assert_eq!((get.status, get.text().as_str()), (200, "GET"), "{target}: {get:?}");
        }
    }
}

#[test]
fn answers_to_what_was_not_asked_are_not_stored() {
    let heads: [&[u8]; 4] = [
        b"HTTP/1.1 304 Not Modified\r\nCache-Control: max-age=60\r\nETag: \"a\"\r\n\r\n",
        b"HTTP/1.1 206 Partial Content\r\nCache-Control: max-age=60\r\nContent-Range: bytes 0-2/9\r\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/1.1 412 Precondition Failed\r\nCache-Control: max-age=60\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 416 Range Not Satisfiable\r\nCache-Control: max-age=60\r\nContent-Length: 0\r\n\r\n",
    ];
    for head in heads {
        let origin = Origin::start(move |_| Reply::Raw(head.to_vec()));
        let gateway = gateway(&origin, &["cache: { ttl: 60s }"]);
        for way in BOTH {
            for _ in 0..2 {
                let answer = gateway.get(&format!("{way}/x"));
                assert!(!is_hit(&answer) && !is_stored(&answer), "{way}: {answer:?}");
            }
        }
    }
}

#[test]
fn conditions_and_ranges_of_the_first_client_are_not_the_next_ones() {
    for fields in [
        ("Range", "bytes=0-1"),
        ("Range", "bytes=99-"),
        ("If-None-Match", "*"),
        ("If-None-Match", "\"v\""),
        ("If-Match", "\"other\""),
        ("If-Modified-Since", "Fri, 31 Dec 2100 23:59:59 GMT"),
        ("If-Unmodified-Since", "Mon, 01 Jan 2001 00:00:00 GMT"),
        ("If-Range", "\"v\""),
    ] {
        let origin = Origin::start(|request| {
            let conditional = request.headers.iter().any(|(name, _)| {
                let name = name.to_ascii_lowercase();
                name.starts_with("if-") || name == "range"
            });
            match conditional {
                true => response(412, &[FRESH], b"spoilt"),
                false => response(
                    200,
                    &[FRESH, ("ETag", "\"v\""), ("Last-Modified", "Tue, 01 Jan 2002 00:00:00 GMT")],
                    b"0123",
                ),
            }
        });
        let gateway = gateway(&origin, &["cache: { ttl: 60s }"]);
        for way in BOTH {
            let target = format!("{way}/x");
            gateway.request("GET", &target, &[fields], b"");
            let next = gateway.get(&target);
            assert_eq!((next.status, next.text().as_str()), (200, "0123"), "{way} after {fields:?}");
        }
    }
}

#[test]
fn absurd_times_neither_crash_nor_last() {
    let absurd: [&[(&str, &str)]; 9] = [
        &[("Cache-Control", "max-age=60"), ("Age", "99999999999999999999999")],
        &[("Cache-Control", "max-age=60"), ("Age", "-1")],
        &[("Cache-Control", "max-age=60"), ("Date", "Fri, 31 Dec 9999 23:59:59 GMT")],
        &[("Cache-Control", "max-age=60"), ("Date", "Mon, 01 Jan 0001 00:00:00 GMT")],
        &[("Expires", "Fri, 31 Dec 9999 23:59:59 GMT"), ("Date", "Mon, 01 Jan 1601 00:00:00 GMT")],
        &[("Cache-Control", "max-age=99999999999999999999999999")],
        &[("Cache-Control", "s-maxage=18446744073709551616, stale-while-revalidate=18446744073709551616")],
        &[("Cache-Control", "max-age=-5"), ("Expires", "never")],
        &[("CDN-Cache-Control", "max-age=999999999999999"), ("Age", "4294967296")],
    ];
    for (n, fields) in absurd.into_iter().enumerate() {
        let origin = Origin::start(move |_| response(200, fields, b"x"));
        let gateway = gateway(&origin, &["cache: { staleWhileRevalidate: 1h, heuristic: 24h }"]);
        for way in BOTH {
            for _ in 0..3 {
                let answer = gateway.get(&format!("{way}/{n}"));
                assert_eq!(
                    (answer.status, answer.text().as_str()),
                    (200, "x"),
                    "{way} {fields:?}: {answer:?}"
                );
                cache_status(&answer);
                assert!(answer.all("age").len() <= 1, "{way} {fields:?}: {answer:?}");
            }
        }
        assert_eq!(gateway.admin("/livez").status, 200, "{fields:?}");
    }
}

#[test]
fn early_hints_and_reports_of_other_caches_are_not_kept() {
    let origin = Origin::start(|_| {
        let mut bytes = b"HTTP/1.1 103 Early Hints\r\nLink: </evil.css>; rel=preload\r\nCache-Control: max-age=99\r\n\r\n".to_vec();
        bytes.extend(response_bytes(
            200,
            &[FRESH, ("Cache-Status", "evil; hit"), ("Age", "5"), ("X-Cache", "HIT")],
            b"x",
        ));
        Reply::Raw(bytes)
    });
    let gateway = gateway(&origin, &["cache: {}"]);
    for way in BOTH {
        for n in 0..2 {
            let answer = gateway.get(&format!("{way}/x"));
            assert_eq!((answer.status, is_hit(&answer)), (200, n == 1), "{way}: {answer:?}");
            assert!(!answer.contains(b"evil; hit"), "{way}: one report, ours: {answer:?}");
            assert!(n == 0 || answer.interim.is_empty(), "{way}: a hit has no hints");
        }
    }
}

#[test]
fn only_a_change_of_the_same_origin_takes_a_url_away() {
    let origin = Origin::start(|request| match (request.method(), request.header("user-agent")) {
        ("GET", _) => response(200, &[FRESH], b"x"),
        (_, Some("fails")) => response(403, &[("Location", "/app/x")], b""),
        (_, Some("abroad")) => response(
            200,
            &[("Location", "http://other.example/app/x"), ("Content-Location", "//other.example/app/x")],
            b"",
        ),
        (_, Some("many")) => {
            let lines: Vec<String> = (0..50).map(|n| format!("/app/{n}")).collect();
            let fields: Vec<_> = lines.iter().map(|line| ("Content-Location", line.as_str())).collect();
            response(200, &fields, b"")
        }
        _ => response(200, &[("Content-Location", "/app/x")], b""),
    });
    let gateway = gateway(&origin, &["cache: {}"]);
    let stored = |target: &str| is_hit(&gateway.get(target));
    gateway.get("/app/x");
    for agent in ["fails", "abroad"] {
        gateway.request("POST", "/app/other", &[("User-Agent", agent)], b"1");
        assert!(stored("/app/x"), "{agent}: it stays");
    }
    (0..50).for_each(|n| drop(gateway.get(&format!("/app/{n}"))));
    gateway.request("POST", "/app/other", &[("User-Agent", "many")], b"1");
    let left = (0..50).filter(|n| stored(&format!("/app/{n}"))).count();
    assert!(left >= 46, "one answer takes away a few at most: {left} are left");
    gateway.request("POST", "/app/other", &[("User-Agent", "plain")], b"1");
    assert!(!stored("/app/x"), "and what it names");
}

#[test]
fn a_thousand_variants_crowd_out_nobody_else() {
    let origin = Origin::start(|request| {
        let value = request.header("accept-language").unwrap_or("none").to_owned();
        response(200, &[FRESH, ("Vary", "Accept-Language")], value.as_bytes())
    });
    let gateway = gateway(&origin, &["cache: {}"]);
    gateway.get("/api/other");
    let mut client = Client::connect(gateway.address());
    for n in 0..1000 {
        let value = format!("x-{n}");
        assert_eq!(client.request("GET", "/api/x", &[("Accept-Language", &value)], b"").text(), value);
    }
    let entries = gateway.metric("portcullis_cache_entries{tier=\"memory\"}");
    assert!(entries <= 33.0, "bounded: {entries}");
    assert!(is_hit(&gateway.get("/api/other")), "another URL is where it was");
}

#[test]
fn what_varies_by_what_we_say_of_the_client_is_not_stored() {
    for name in
        ["X-Forwarded-For", "X-Forwarded-Proto, Accept", "forwarded", "X-Real-IP", "x-http-method-override"]
    {
        let origin = Origin::start(move |_| response(200, &[FRESH, ("Vary", name)], b"x"));
        let gateway = gateway(&origin, &["cache: {}"]);
        for _ in 0..2 {
            let answer = gateway.get("/app/x");
            assert!(cache_status(&answer).contains("detail=vary"), "{name}: {}", cache_status(&answer));
        }
    }
}

/// Fifty clients at once, each with a cookie of its own among so many; how often the origin was asked.
fn collapsed(cache: &str, control: &'static str, identities: usize) -> usize {
    let gate = Gate::new();
    let door = gate.clone();
    let origin = Origin::start(move |request| {
        let who = request.header("cookie").unwrap_or("nobody").to_owned();
        Reply::Steps(vec![(door.clone(), response_bytes(200, &[("Cache-Control", control)], who.as_bytes()))])
    });
    let gateway = Gateway::start(&format!("{}    cache: {cache}\n", yaml(&origin, &[])));
    let mut clients: Vec<_> = (0..50)
        .map(|n| {
            let who = format!("id={}", n % identities);
            let mut client = Client::connect(gateway.address());
            client.send(
                format!("GET /app/x HTTP/1.1\r\nHost: app.example\r\nCookie: {who}\r\n\r\n").as_bytes(),
            );
            (client, who)
        })
        .collect();
    crate::cache_gate::wait_active(&gateway, 50);
    gate.open();
    for (client, who) in &mut clients {
        assert_eq!(client.read("GET").text(), *who, "its own");
    }
    origin.count()
}

#[test]
fn who_waits_is_given_nobody_elses_answer() {
    assert_eq!(collapsed("{}", "max-age=60", 50), 50, "not for sharing");
    assert_eq!(collapsed("{ share: perIdentity }", "max-age=60", 2), 2, "one call each");
}

#[test]
fn who_asks_with_a_cookie_takes_nothing_from_the_others() {
    let count = AtomicUsize::new(0);
    let origin = Origin::start(move |request| {
        let n = count.fetch_add(1, Ordering::SeqCst);
        if request.header("if-none-match").is_some() {
            return Reply::Raw(
                b"HTTP/1.1 304 Not Modified\r\nETag: \"v\"\r\nCache-Control: max-age=1\r\n\r\n".to_vec(),
            );
        }
        response(200, &[("Cache-Control", "max-age=1"), ("ETag", "\"v\"")], format!("{n}").as_bytes())
    });
    let gateway = gateway(&origin, &["cache: {}"]);
    gateway.get("/app/x");
    std::thread::sleep(Duration::from_millis(2100));
    let with_cookie = gateway.request("GET", "/app/x", &[("Cookie", "a=1")], b"");
    assert_eq!(with_cookie.text(), "0", "validated: {with_cookie:?}");
    assert_eq!(gateway.get("/app/x").text(), "0", "what is stored for everybody is still there");
    assert!(origin.received().iter().skip(1).all(|r| r.header("if-none-match").is_some()), "and asked about");
}
