//! What of a client's head reaches the upstream, by kind; whose word about addresses is believed.

use crate::harness::{Client, Gateway, HEAD, Origin, Received};

fn gateway(head: &str, origin: &Origin) -> Gateway {
    Gateway::start(&format!(
        "{head}
upstreams:
  vendor: {{ url: \"{0}\", allowPrivate: true }}
  web: {{ kind: app, url: \"{0}\" }}
routes:
  - {{ name: api, match: {{ path: {{ prefix: /api }} }}, upstream: vendor }}
  - name: listed
    match: {{ path: {{ prefix: /listed }} }}
    upstream: vendor
    request: {{ headers: {{ forward: [x-locale], set: {{ accept-language: en }}, add: {{ x-channel: web }}, remove: [range] }}, cookies: {{ forward: [lang] }} }}
  - {{ name: all, match: {{ path: {{ prefix: /all }} }}, upstream: vendor, request: {{ headers: {{ forward: [\"*\"] }} }} }}
  - {{ name: few, match: {{ path: {{ prefix: /few }} }}, upstream: web, request: {{ cookies: {{ forward: [sid] }} }} }}
  - {{ name: site, upstream: web }}
",
        origin.url()
    ))
}

fn ask(gateway: &Gateway, origin: &Origin, path: &str, headers: &[(&str, &str)]) -> Received {
    let before = origin.count();
    let answer = gateway.request("GET", path, headers, b"");
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    assert_eq!(origin.count(), before + 1, "{path}: asked once");
    origin.last()
}

const CLIENTS: [(&str, &str); 14] = [
    ("Accept", "application/json"),
    ("Accept-Language", "no"),
    ("User-Agent", "test/1"),
    ("If-None-Match", "\"a\""),
    ("Range", "bytes=0-1"),
    ("Cache-Control", "no-cache"),
    ("Cookie", "sid=1; lang=no"),
    ("Authorization", "Bearer client"),
    ("X-Custom", "1"),
    ("X-Locale", "no"),
    ("Origin", "https://app.example"),
    ("Referer", "https://app.example/private"),
    ("X-Original-URL", "/admin"),
    ("X-HTTP-Method-Override", "DELETE"),
];

#[test]
fn an_api_gets_the_short_list_and_nothing_else() {
    let origin = Origin::ok();
    let gateway = gateway(HEAD, &origin);
    let got = ask(&gateway, &origin, "/api", &CLIENTS);
    let mut names: Vec<String> = got.headers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
    names.sort();
    assert_eq!(
        names,
        [
            "accept",
            "accept-encoding",
            "accept-language",
            "cache-control",
            "host",
            "if-none-match",
            "range",
            "user-agent",
            "x-request-id"
        ],
        "cookies, credentials and custom fields stay here"
    );
}

#[test]
fn an_api_gets_what_its_route_lists() {
    let origin = Origin::ok();
    let gateway = gateway(HEAD, &origin);
    let got = ask(&gateway, &origin, "/listed", &CLIENTS);
    assert_eq!(got.all("x-locale"), ["no"], "forward");
    assert_eq!(got.all("accept-language"), ["en"], "set takes the client's place");
    assert_eq!(got.all("x-channel"), ["web"], "add");
    assert_eq!(got.header("range"), None, "remove");
    assert_eq!(got.all("cookie"), ["lang=no"], "the listed cookie alone");
    for name in ["authorization", "x-custom", "origin", "referer"] {
        assert_eq!(got.header(name), None, "{name}");
    }
    let crumbs = [("Cookie", "a=1; lang=x"), ("Cookie", "lang=y; langx=z; b=2")];
    assert_eq!(
        ask(&gateway, &origin, "/listed", &crumbs).all("cookie"),
        ["lang=x; lang=y"],
        "from every line"
    );
    assert_eq!(ask(&gateway, &origin, "/listed", &[("Cookie", "a=1")]).header("cookie"), None, "none left");
    let all = ask(&gateway, &origin, "/all", &CLIENTS);
    for name in ["x-custom", "x-locale", "origin", "referer", "authorization"] {
        assert_eq!(all.all(name).len(), 1, "forward all: {name}");
    }
    assert_eq!(all.header("x-original-url"), None, "it could change the route of another");
}

#[test]
fn an_app_gets_every_end_to_end_field() {
    let origin = Origin::ok();
    let gateway = gateway(HEAD, &origin);
    let got = ask(&gateway, &origin, "/", &CLIENTS);
    for (name, value) in CLIENTS {
        if ["X-Original-URL", "X-HTTP-Method-Override"].contains(&name) {
            assert_eq!(
                got.header(name),
                None,
                "{name} speaks of another request than the one that was routed"
            );
        } else {
            assert_eq!(got.all(name), [value], "{name}");
        }
    }
    assert_eq!(got.all("host"), ["app.example"], "the client's host");
    let two = [("Cookie", "a=1"), ("Cookie", "b=2"), ("X-Many", "1"), ("X-Many", "2")];
    let got = ask(&gateway, &origin, "/", &two);
    assert_eq!(got.all("cookie"), ["a=1; b=2"], "crumbs are joined");
    assert_eq!(got.all("x-many"), ["1", "2"], "others stay as they are");
    assert_eq!(
        ask(&gateway, &origin, "/few", &CLIENTS).all("cookie"),
        ["sid=1"],
        "an app's cookies can be listed too"
    );
}

#[test]
fn rfc9110_7_6_1_fields_of_one_hop_are_gone() {
    let origin = Origin::ok();
    let gateway = gateway(HEAD, &origin);
    let hop = [
        ("Connection", "keep-alive, X-Nominated , x-second"),
        ("Connection", "x-third"),
        ("X-Nominated", "1"),
        ("X-Second", "1"),
        ("X-Third", "1"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Connection", "keep-alive"),
        ("Proxy-Authorization", "Basic Y2xpZW50"),
        ("Proxy-Authenticate", "Basic"),
        ("TE", "trailers, deflate"),
        ("Trailer", "x-end"),
        ("Upgrade", "h2c"),
        ("HTTP2-Settings", "AAMAAABkAAQAoAAAAAIAAAAA"),
        ("X-Stays", "1"),
    ];
    for path in ["/api", "/all", "/"] {
        let got = ask(&gateway, &origin, path, &hop);
        for (name, _) in hop.iter().filter(|(name, _)| *name != "X-Stays") {
            let left = got.all(name);
            assert!(
                left.is_empty() || (*name == "Connection" && left == ["keep-alive"]),
                "{path}: {name}: {left:?}"
            );
        }
        assert_eq!(got.header("x-stays").is_some(), path != "/api", "{path}");
    }
}

#[test]
fn a_client_cannot_nominate_host_framing_or_its_address_away() {
    let origin = Origin::ok();
    let gateway = gateway(HEAD, &origin);
    for path in ["/api", "/"] {
        for token in [
            "host",
            "x-forwarded-for",
            "x-forwarded-proto",
            "content-length",
            "forwarded",
            "x-request-id",
            "cookie",
        ] {
            let mut client = Client::connect(gateway.address());
            let before = origin.count();
            let answer = client.request("POST", path, &[("Connection", token)], b"hello");
            if answer.status != 200 {
                assert_eq!(answer.status, 400, "{path}, {token}: {}", answer.text());
                assert_eq!(origin.count(), before, "{path}, {token}: refused, but the origin was asked");
                continue;
            }
            let got = origin.last();
            assert_eq!(got.body, b"hello", "{path}, {token}: the body keeps its framing");
            assert_eq!(got.all("host").len(), 1, "{path}, {token}");
            assert_eq!(got.all("x-request-id").len(), 1, "{path}, {token}");
            if path == "/" {
                assert_eq!(got.all("x-forwarded-for"), ["127.0.0.1"], "{token}");
                assert_eq!(got.all("forwarded").len(), 1, "{token}");
            }
        }
    }
}

const FORGED: [(&str, &str); 6] = [
    ("X-Forwarded-For", "192.0.2.9"),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Host", "evil.example"),
    ("X-Real-IP", "192.0.2.9"),
    ("Forwarded", "for=192.0.2.9;proto=https"),
    ("X-Rewrite-URL", "/admin"),
];

#[test]
fn an_app_learns_the_clients_address_from_us_alone() {
    let origin = Origin::ok();
    let gateway = gateway(HEAD, &origin);
    let got = ask(&gateway, &origin, "/", &FORGED);
    assert_eq!(got.all("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(got.all("x-forwarded-proto"), ["http"]);
    assert_eq!(got.all("x-forwarded-host"), ["app.example"]);
    assert_eq!(got.all("forwarded"), ["for=127.0.0.1;host=\"app.example\";proto=http"]);
    assert!(
        !String::from_utf8_lossy(&got.raw).contains("192.0.2.9"),
        "nothing of the forged one: {:?}",
        got.headers
    );
    assert_eq!(got.header("x-rewrite-url"), None);
}

#[test]
fn an_api_learns_nothing_of_the_clients_address() {
    let origin = Origin::ok();
    let gateway = gateway(HEAD, &origin);
    for path in ["/api", "/all"] {
        let got = ask(&gateway, &origin, path, &FORGED);
        for (name, _) in FORGED {
            assert_eq!(got.header(name), None, "{path}: {name}");
        }
    }
}

#[test]
fn no_spelling_of_an_address_field_passes_as_ours() {
    let origin = Origin::ok();
    let gateway = gateway(HEAD, &origin);
    // Servers of the CGI family read `_` as `-`: the app would see two values and may take the client's.
    for path in ["/", "/all"] {
        let got =
            ask(&gateway, &origin, path, &[("X_Forwarded_For", "192.0.2.9"), ("X-Forwarded_Proto", "https")]);
        assert!(!String::from_utf8_lossy(&got.raw).contains("192.0.2.9"), "{path}: {:?}", got.headers);
        assert_eq!(got.header("x-forwarded_proto"), None, "{path}");
    }
}

#[test]
fn the_chain_of_a_trusted_proxy_is_extended() {
    let head = "version: 1\nlisteners: [{ name: public, address: \"127.0.0.1:0\", trustedProxies: [\"127.0.0.0/8\", \"10.0.0.0/8\"] }]\n";
    let origin = Origin::ok();
    let gateway = gateway(head, &origin);
    let got = ask(
        &gateway,
        &origin,
        "/",
        &[("X-Forwarded-For", "192.0.2.1, 198.51.100.7, 10.1.1.1"), ("Forwarded", "for=198.51.100.7")],
    );
    assert_eq!(got.all("x-forwarded-for"), ["192.0.2.1, 198.51.100.7, 10.1.1.1, 127.0.0.1"]);
    assert!(
        got.header("forwarded").is_some_and(|f| f.starts_with("for=198.51.100.7, for=127.0.0.1;")),
        "{got:?}"
    );
    eventually!(gateway.log().len() == 1, "logged: {}", gateway.stdout());
    let log = gateway.log();
    assert!(
        log[0].to_string().contains("198.51.100.7"),
        "the rightmost that is not trusted is the client: {}",
        log[0]
    );
    assert!(!log[0].to_string().contains("192.0.2.1\""), "what a client wrote is not believed: {}", log[0]);
    let api = ask(&gateway, &origin, "/api", &[("X-Forwarded-For", "198.51.100.7")]);
    assert_eq!(api.header("x-forwarded-for"), None, "an api gets none, whoever sends it");
}

#[test]
fn a_trusted_proxys_scheme_is_what_the_client_spoke() {
    let head = "version: 1\nlisteners: [{ name: public, address: \"127.0.0.1:0\", trustedProxies: [\"127.0.0.0/8\"] }]\n";
    let origin = Origin::ok();
    let gateway = gateway(head, &origin);
    let got =
        ask(&gateway, &origin, "/", &[("X-Forwarded-For", "198.51.100.7"), ("X-Forwarded-Proto", "https")]);
    assert_eq!(got.all("x-forwarded-proto"), ["https"], "an app behind two gates builds its links with it");
}

#[test]
fn a_request_id_is_ours_and_one() {
    let origin = Origin::ok();
    let gateway = gateway(HEAD, &origin);
    for path in ["/api", "/"] {
        let answer = gateway.request("GET", path, &[("X-Request-Id", "mine"), ("X_Request_Id", "mine")], b"");
        let got = origin.last();
        assert_eq!(got.all("x-request-id").len(), 1, "{path}");
        assert_eq!(got.header("x_request_id"), None, "{path}");
        assert_ne!(got.all("x-request-id"), ["mine"], "{path}");
        assert_eq!(
            answer.header("x-request-id"),
            got.header("x-request-id"),
            "{path}: the same to both sides"
        );
    }
}
