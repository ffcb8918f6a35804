//! What a hostile client or a careless vendor would try, found by review; each of these got through once.

use crate::harness::{Client, Gateway, HEAD, Origin, Received, Reply, Setup, response};

const KEY: &str = "SECRET-SECRET-77";

fn gateway(origin: &Origin) -> Gateway {
    Setup::new().env("KEY", KEY).start(&format!(
        "{HEAD}
secrets: {{ k: {{ env: KEY }} }}
upstreams:
  q:
    url: \"{url}/base\"
    allowPrivate: true
    credential: {{ apiKey: {{ in: query, name: api_key, secret: k }} }}
  h:
    url: \"{url}/base\"
    allowPrivate: true
    credential: {{ apiKey: {{ in: header, name: X-Api-Key, secret: k }} }}
  web: {{ kind: app, url: \"{url}\" }}
routes:
  - {{ name: q, match: {{ path: {{ prefix: /q }} }}, upstream: q, rewrite: {{ replacePrefixMatch: /v1 }}, cache: {{ ttl: 60s }} }}
  - {{ name: h, match: {{ path: {{ prefix: /h }} }}, upstream: h, rewrite: {{ replacePrefixMatch: /v1 }} }}
  - name: item
    match: {{ path: {{ regex: \"/item/(?P<id>[^/]+)/.*\" }} }}
    upstream: h
    rewrite: {{ replaceFullPath: \"/v1/items/{{id}}\" }}
  - {{ name: root, match: {{ hosts: [root.example], path: {{ prefix: / }} }}, upstream: h }}
  - {{ name: web, match: {{ path: {{ prefix: / }} }}, upstream: web, cache: {{ ttl: 60s }} }}
",
        url = origin.url()
    ))
}

#[test]
fn a_key_in_the_query_does_not_come_back_in_a_reference() {
    let origin = Origin::start(|request: &Received| {
        let query = request.target().split_once('?').map_or("", |(_, query)| query);
        let (there, link) =
            (format!("/base/v1/there/?{query}"), format!("</base/v1/p?{query}&page=2>; rel=next"));
        let own = format!("http://{}/base/v1/p?{query}", request.header("host").unwrap_or_default());
        let body = format!("{{\"next\":\"{own}\"}}");
        response(
            301,
            &[("Location", &there), ("Link", &link), ("Content-Type", "application/json")],
            body.as_bytes(),
        )
    });
    let gateway = gateway(&origin);
    let answer = gateway.get("/q/here?a=1");
    assert!(origin.last().target().contains(KEY), "the vendor got its key");
    assert_eq!(answer.header("location"), Some("/q/there/?a=1"));
    assert_eq!(answer.header("link"), Some("</q/p?a=1&page=2>; rel=next"));
    assert_eq!(answer.text(), "{\"next\":\"/q/p?a=1\"}");
    assert!(!answer.contains(KEY.as_bytes()));
}

#[test]
fn other_spellings_of_the_query_key_do_not_reach_the_vendor() {
    let origin = Origin::ok();
    let gateway = gateway(&origin);
    gateway.get("/q/x?a=1;api_key=mine&api_key[]=mine&%61pi_key%5B%5D=mine&API_KEY=mine");
    let asked = origin.last();
    assert!(!asked.target().contains("mine"), "{}", asked.target());
}

#[test]
fn names_that_pass_for_ours_are_dropped() {
    let origin = Origin::ok();
    let gateway = gateway(&origin);
    let forged = [
        ("X_Forwarded_For", "6.6.6.6"),
        ("X-Forwarded_For", "6.6.6.6"),
        ("X_Real_IP", "6.6.6.6"),
        ("X-Client-IP", "6.6.6.6"),
        ("True-Client-IP", "6.6.6.6"),
        ("X-Forwarded-Prefix", "/6.6.6.6"),
        ("X-Original-URL", "/6.6.6.6"),
        ("X-HTTP-Method-Override", "DELETE"),
        ("Content_Length", "66"),
    ];
    gateway.request("GET", "/page", &forged, b"");
    let asked = origin.last();
    assert_eq!(asked.all("x-forwarded-for"), ["127.0.0.1"]);
    for (name, value) in forged {
        assert!(asked.header(name).is_none_or(|seen| seen != value), "{name} got through: {asked:?}");
    }
    gateway.request("GET", "/h/x", &[("X_Api_Key", "mine"), ("x.api.key", "mine")], b"");
    assert_eq!(origin.last().all("x-api-key"), [KEY]);
    assert!(!origin.last().raw.windows(4).any(|part| part == b"mine"));
}

#[test]
fn an_answer_that_varies_by_what_we_say_of_the_client_is_not_stored() {
    let origin = Origin::start(|request: &Received| {
        let body = request.header("x-forwarded-for").unwrap_or_default().to_owned();
        response(
            200,
            &[("Cache-Control", "public, max-age=60"), ("Vary", "X-Forwarded-For")],
            body.as_bytes(),
        )
    });
    let gateway = gateway(&origin);
    gateway.get("/page");
    gateway.get("/page");
    assert_eq!(origin.count(), 2, "it would be somebody else's");
}

#[test]
fn json_in_disguise_is_searched_or_refused() {
    let types: [(&str, &str, u16); 5] = [
        ("", "", 200),
        ("Content-Type", "application/x-ndjson", 200),
        ("Content-Type", "text/plain\r\nContent-Type: application/json", 200),
        ("Content-Type", "application/json; charset=utf-16", 502),
        ("Content-Type", "application/vnd.api+json", 200),
    ];
    for (name, value, status) in types {
        let origin = Origin::start(move |request: &Received| {
            let body = format!("\"http://{}/base/v1/x\"", request.header("host").unwrap_or_default());
            let fields: Vec<(&str, &str)> = if name.is_empty() { vec![] } else { vec![(name, value)] };
            response(200, &fields, body.as_bytes())
        });
        let gateway = gateway(&origin);
        let answer = gateway.get("/h/x");
        assert_eq!(answer.status, status, "{value}: {answer:?}");
        assert!(!answer.contains(origin.address.to_string().as_bytes()), "{value}: {}", answer.text());
    }
}

#[test]
fn several_ranges_are_no_way_around_the_search() {
    let origin = Origin::start(|request: &Received| {
        assert!(request.header("range").is_none_or(|range| !range.contains(',')), "{request:?}");
        response(
            206,
            &[("Content-Type", "multipart/byteranges; boundary=X")],
            b"--X\r\n\r\n\"http://secret\"\r\n--X--",
        )
    });
    let gateway = gateway(&origin);
    let answer = gateway.request("GET", "/h/x", &[("Range", "bytes=0-1,3-99")], b"");
    assert_eq!(answer.status, 502, "{answer:?}");
    assert_eq!(origin.count(), 1);
}

#[test]
fn policies_and_relations_that_name_the_vendor_stay_behind() {
    let origin = Origin::start(|request: &Received| {
        let host = request.header("host").unwrap_or_default().to_owned();
        let (policy, link) = (
            format!("default-src *; report-uri http://{host}/csp"),
            format!("</base/v1/x>; rel=\"http://{host}/r\""),
        );
        response(200, &[("Content-Security-Policy-Report-Only", &policy), ("Link", &link)], b"x")
    });
    let gateway = gateway(&origin);
    let answer = gateway.get("/h/x");
    assert!(!answer.contains(origin.address.to_string().as_bytes()), "{answer:?}");
}

#[test]
fn options_of_everything_is_ours_to_answer() {
    let origin = Origin::ok();
    let gateway = gateway(&origin);
    let answer = gateway.request("OPTIONS", "*", &[("Host", "root.example")], b"");
    assert_eq!(answer.status, 204);
    assert_eq!(origin.count(), 0, "no path was asked for, so nothing goes out");
}

#[test]
fn what_a_regex_captures_is_put_in_and_cannot_leave_the_base() {
    let origin = Origin::ok();
    let gateway = gateway(&origin);
    gateway.get("/item/42/x");
    assert_eq!(origin.last().target(), "/base/v1/items/42");
    let asked = origin.count();
    for target in ["/item/..%2f..%2fadmin/x", "/item/%2e%2e/x"] {
        let answer = gateway.get(target);
        let went = origin.received().split_off(asked);
        assert!(
            went.iter().all(|r| r.target().starts_with("/base/v1/items/") || r.header("x-api-key").is_none()),
            "{target}: {answer:?} {went:?}"
        );
    }
}

#[test]
fn a_page_with_a_name_that_leads_to_the_admin_side_reads_nothing() {
    let origin = Origin::ok();
    let gateway = gateway(&origin);
    let admin = gateway.admin.expect("an admin side");
    for (host, status) in [("evil.example", 421), ("localhost:1", 200), ("127.0.0.1", 200), ("[::1]:9", 200)]
    {
        let answer = Client::connect(admin).request("GET", "/config", &[("Host", host)], b"");
        assert_eq!(answer.status, status, "{host}");
    }
}

#[test]
fn a_length_said_twice_by_the_vendor_is_said_once() {
    let origin = Origin::start(|_| {
        Reply::Raw(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello".to_vec())
    });
    let gateway = gateway(&origin);
    let answer = gateway.get("/h/x");
    assert_eq!((answer.all("content-length"), answer.text().as_str()), (vec!["5"], "hello"));
}

#[test]
fn only_a_trusted_proxy_says_that_the_client_came_by_tls() {
    let origin = Origin::ok();
    let yaml = |trusted: &str| {
        format!(
            "version: 1
listeners: [{{ name: public, address: \"127.0.0.1:0\"{trusted} }}]
routes: [{{ name: r, match: {{ path: {{ prefix: / }} }}, redirect: {{ path: /there }} }}]
"
        )
    };
    for (trusted, scheme) in [("", "http"), (", trustedProxies: [\"127.0.0.0/8\"]", "https")] {
        let gateway = Gateway::start(&yaml(trusted));
        let answer = gateway.request("GET", "/", &[("X-Forwarded-Proto", "https")], b"");
        assert_eq!(answer.header("location"), Some(format!("{scheme}://app.example/there").as_str()));
    }
    assert_eq!(origin.count(), 0);
}
