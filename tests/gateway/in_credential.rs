//! The credential: on every attempt, exactly once, never the client's, and nowhere but at the origin.

use base64::Engine as _;

use crate::harness::{Client, Gateway, H2Client, HEAD, Origin, Reply, Setup, contains, response, tls_setup};

const SECRET: &str = "canary+/=&s3cr3t-0123456789";
const ENCODED: &str = "canary%2B%2F%3D%26s3cr3t-0123456789";

fn yaml(head: &str, origin: &Origin) -> String {
    format!(
        "{head}
secrets: {{ key: {{ env: KEY }} }}
upstreams:
  bearer: {{ url: \"{0}\", allowPrivate: true, credential: {{ bearer: key }} }}
  header: {{ url: \"{0}\", allowPrivate: true, credential: {{ apiKey: {{ in: header, name: X-Api-Key, secret: key }} }} }}
  query: {{ url: \"{0}\", allowPrivate: true, credential: {{ apiKey: {{ in: query, name: api_key, secret: key }} }} }}
  basic: {{ url: \"{0}\", allowPrivate: true, credential: {{ basic: {{ username: gate, password: key }} }} }}
  guarded: {{ kind: app, url: \"{0}\", credential: {{ apiKey: {{ in: header, name: X-Api-Key, secret: key }} }} }}
routes:
  - {{ name: bearer, match: {{ path: {{ prefix: /bearer }} }}, upstream: bearer }}
  - {{ name: header, match: {{ path: {{ prefix: /header }} }}, upstream: header }}
  - {{ name: query, match: {{ path: {{ prefix: /query }} }}, upstream: query }}
  - {{ name: basic, match: {{ path: {{ prefix: /basic }} }}, upstream: basic }}
  - {{ name: app, match: {{ path: {{ prefix: /app }} }}, upstream: guarded }}
  - {{ name: open, match: {{ path: {{ prefix: /open }} }}, upstream: header, request: {{ headers: {{ forward: [\"*\"] }} }} }}
  - {{ name: openbearer, match: {{ path: {{ prefix: /openbearer }} }}, upstream: bearer, request: {{ headers: {{ forward: [\"*\"] }} }} }}
",
        origin.url()
    )
}

fn gateway(origin: &Origin) -> Gateway {
    Setup::new().env("KEY", SECRET).start(&yaml(HEAD, origin))
}

#[test]
fn each_kind_writes_its_secret_once() {
    let origin = Origin::ok();
    let gateway = gateway(&origin);
    let basic =
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("gate:{SECRET}")));
    for (path, field, value) in [
        ("/bearer", "authorization", format!("Bearer {SECRET}")),
        ("/header", "x-api-key", SECRET.to_owned()),
        ("/basic", "authorization", basic),
        ("/app", "x-api-key", SECRET.to_owned()),
    ] {
        assert_eq!(gateway.get(path).status, 200, "{path}");
        assert_eq!(origin.last().all(field), [value], "{path}");
    }
    for (asked, sent) in [
        ("/query", format!("/query?api_key={ENCODED}")),
        ("/query?", format!("/query?api_key={ENCODED}")),
        ("/query?a=1&b=%2F", format!("/query?a=1&b=%2F&api_key={ENCODED}")),
    ] {
        assert_eq!(gateway.get(asked).status, 200, "{asked}");
        assert_eq!(origin.last().target(), sent, "{asked}");
    }
}

#[test]
fn a_client_copy_of_the_key_is_removed_in_every_spelling() {
    let origin = Origin::ok();
    let gateway = gateway(&origin);
    for path in ["/header", "/app", "/open"] {
        for name in
            ["X-Api-Key", "x-api-key", "X-API-KEY", "X_Api_Key", "x_api_key", "X-Api_Key", "x_Api-key"]
        {
            let answer = gateway.request("GET", path, &[(name, "client-one"), (name, "client-two")], b"");
            assert_eq!(answer.status, 200, "{path}, {name}");
            let got = origin.last();
            assert_eq!(got.all("x-api-key"), [SECRET], "{path}, {name}");
            assert!(!contains(&got.raw, b"client-"), "{path}, {name}: {:?}", got.headers);
        }
    }
    for path in ["/bearer", "/basic", "/openbearer"] {
        for name in ["Authorization", "AUTHORIZATION", "authorization"] {
            gateway.request("GET", path, &[(name, "Bearer client-one"), (name, "Bearer client-two")], b"");
            let got = origin.last();
            assert_eq!(got.all("authorization").len(), 1, "{path}, {name}");
            assert!(!contains(&got.raw, b"client-"), "{path}, {name}: {:?}", got.headers);
        }
    }
}

#[test]
fn a_client_copy_in_the_query_is_removed_in_every_spelling() {
    let origin = Origin::ok();
    let gateway = gateway(&origin);
    for query in [
        "api_key=client",
        "API_KEY=client",
        "api%5Fkey=client",
        "%61pi_key=client",
        "%61%70%69%5f%6b%65%79=client",
        "api_key=client&api_key=client2",
        "a=1&api_key=client&b=2",
        "api_key",
        "api_key=",
        "&&api_key=client&",
    ] {
        let answer = gateway.get(&format!("/query?{query}"));
        assert_eq!(answer.status, 200, "{query}: {}", answer.text());
        let target = origin.last().target().to_owned();
        assert!(!target.contains("client"), "{query}: {target}");
        assert_eq!(target.to_ascii_lowercase().matches("key").count(), 1, "{query}: {target}");
        assert!(target.ends_with(&format!("api_key={ENCODED}")), "{query}: {target}");
    }
}

#[test]
fn a_nomination_cannot_strip_the_credential() {
    let origin = Origin::ok();
    let gateway = gateway(&origin);
    for (path, field) in [
        ("/header", "X-Api-Key"),
        ("/app", "X-Api-Key"),
        ("/open", "x-api-key"),
        ("/bearer", "Authorization"),
        ("/basic", "authorization"),
    ] {
        for nominations in [field.to_owned(), format!("close, {field}"), format!("{field}, {field}")] {
            let before = origin.count();
            let answer =
                gateway.request("GET", path, &[("Connection", &nominations), (field, "client")], b"");
            if answer.status == 200 {
                let got = origin.last();
                assert_eq!(got.all(field).len(), 1, "{path}, {nominations}");
                assert!(!contains(&got.raw, b": client"), "{path}, {nominations}");
            } else {
                assert_eq!((answer.status, origin.count()), (400, before), "{path}, {nominations}");
            }
        }
    }
}

#[test]
fn a_trailer_cannot_carry_a_key() {
    let origin = Origin::ok();
    let gateway = gateway(&origin);
    for path in ["/header", "/app", "/open"] {
        let body = b"5\r\nhello\r\n0\r\nX-Api-Key: client-trailer\r\nX-Other: client-other\r\n\r\n";
        let mut client = Client::connect(gateway.address());
        client.send(format!("POST {path} HTTP/1.1\r\nHost: app.example\r\nTransfer-Encoding: chunked\r\nTrailer: x-api-key\r\n\r\n").as_bytes());
        client.send(body);
        let before = origin.count();
        if let Some(answer) = client.try_read("POST")
            && answer.status == 200
        {
            assert_eq!(origin.last().body, b"hello", "{path}");
        } else {
            assert_eq!(origin.count(), before, "{path}: refused, but the origin was asked");
        }
        assert_eq!(gateway.get(path).status, 200, "{path}: the next one is its own");
        assert!(!contains(&origin.bytes(), b"client-trailer"), "{path}");
    }
}

#[test]
fn the_key_is_on_every_attempt() {
    let origin = Origin::start(|request| {
        if request.target().contains("down") { Reply::Close } else { response(503, &[], b"busy") }
    });
    let yaml = format!(
        "{HEAD}
secrets: {{ key: {{ env: KEY }} }}
upstreams:
  vendor:
    url: \"{0}\"
    allowPrivate: true
    retry: {{ attempts: 3, on: [connect-failure, 503], budget: 100% }}
    credential: {{ apiKey: {{ in: header, name: X-Api-Key, secret: key }} }}
routes: [{{ name: api, match: {{ path: {{ prefix: /api }} }}, upstream: vendor }}]
",
        origin.url()
    );
    let gateway = Setup::new().env("KEY", SECRET).start(&yaml);
    let answer = gateway.request("GET", "/api", &[("X_Api_Key", "client")], b"");
    assert!(answer.status >= 500, "{}", answer.status);
    assert!(origin.count() >= 2, "several attempts: {}", origin.count());
    for got in origin.received() {
        assert_eq!(got.all("x-api-key"), [SECRET], "attempt on connection {}", got.connection);
        assert!(!contains(&got.raw, b"client"), "{:?}", got.headers);
    }
}

#[test]
fn the_key_is_in_no_byte_that_the_client_or_the_log_sees() {
    let origin = Origin::start(|request| match request.target().split('?').next().unwrap_or_default() {
        path if path.ends_with("/broken") => Reply::RawThenClose(
            format!("HTTP/1.1 200 OK\r\nX: {SECRET}\r\nbroken {SECRET}\x01\r\n\r\n").into_bytes(),
        ),
        path if path.ends_with("/nonsense") => {
            Reply::RawThenClose(format!("{SECRET} nonsense\r\n\r\n").into_bytes())
        }
        path if path.ends_with("/cut") => Reply::RawThenClose(b"HTTP/1.1 200 OK\r\nContent-Le".to_vec()),
        path if path.ends_with("/error") => {
            response(500, &[("X-Key", SECRET)], format!("key {SECRET} failed").as_bytes())
        }
        path if path.ends_with("/refused") => {
            response(401, &[("WWW-Authenticate", SECRET)], SECRET.as_bytes())
        }
        path if path.ends_with("/redirect") => {
            response(302, &[("Location", &format!("https://elsewhere.example/?k={ENCODED}"))], b"")
        }
        path if path.ends_with("/reason") => {
            Reply::Raw(format!("HTTP/1.1 404 {SECRET}\r\nContent-Length: 0\r\n\r\n").into_bytes())
        }
        _ => response(
            200,
            &[("X-Echo", SECRET), ("Set-Cookie", &format!("k={SECRET}")), ("Content-Type", "text/plain")],
            b"ok",
        ),
    });
    let gateway = gateway(&origin);
    let base64 = base64::engine::general_purpose::STANDARD.encode(format!("gate:{SECRET}"));
    let needles = [SECRET, ENCODED, base64.as_str()];
    for upstream in ["/bearer", "/header", "/query", "/basic"] {
        for case in ["/ok", "/broken", "/nonsense", "/cut", "/error", "/refused", "/redirect", "/reason"] {
            let before = origin.count();
            let answer = gateway.get(&format!("{upstream}{case}"));
            assert!(origin.count() > before, "{upstream}{case}: a case counts only if the secret went out");
            for needle in needles {
                assert!(
                    !answer.contains(needle.as_bytes()),
                    "{upstream}{case}: {:?}",
                    String::from_utf8_lossy(&answer.raw)
                );
            }
        }
    }
    eventually!(gateway.log().len() >= 32, "one line each: {}", gateway.stdout());
    let command_line = std::fs::read(format!("/proc/{}/cmdline", gateway.pid())).expect("readable");
    for needle in needles {
        for (place, text) in [
            ("stdout", gateway.stdout()),
            ("stderr", gateway.stderr()),
            ("metrics", gateway.admin("/metrics").text()),
            ("config", gateway.admin("/config").text()),
            ("the command line", String::from_utf8_lossy(&command_line).into_owned()),
        ] {
            assert!(!text.contains(needle), "the secret is in {place}: {text}");
        }
    }
}

#[test]
fn a_client_key_of_http2_is_removed_too() {
    let origin = Origin::ok();
    let (setup, head) = tls_setup();
    let gateway = setup.env("KEY", SECRET).start(&yaml(&head, &origin));
    let client = H2Client::connect(gateway.address(), "app.example");
    for path in ["/header", "/app", "/open"] {
        let mine = [("x-api-key", "client"), ("x_api_key", "client")];
        let answer =
            client.request("GET", &format!("https://app.example{path}"), &mine, &[]).expect("an answer");
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(origin.last().all("x-api-key"), [SECRET], "{path}");
        assert!(!contains(&origin.last().raw, b"client"), "{path}: {:?}", origin.last().headers);
    }
}
