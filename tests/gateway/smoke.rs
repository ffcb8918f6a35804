//! The sentence on the box: public path, hidden upstream, secret added, answer shaped and cached, client limited, all counted.

use crate::harness::{Gateway, HEAD, Origin, Setup, response};

const SECRET: &str = "s3cr3t-0123456789";

fn gateway(origin: &Origin) -> Gateway {
    let yaml = format!(
        "{HEAD}
secrets: {{ vendor-key: {{ env: VENDOR_KEY }} }}
upstreams:
  vendor: {{ url: \"{}/base\", allowPrivate: true, credential: {{ bearer: vendor-key }} }}
routes:
  - name: weather
    match: {{ methods: [GET], path: {{ prefix: /api/weather }} }}
    upstream: vendor
    rewrite: {{ replacePrefixMatch: /v2 }}
    cache: {{ ttl: 60s }}
    rateLimit: {{ requests: 3, window: 1m, key: client.ip }}
    response: {{ json: {{ remove: [\"$.internal_id\"] }} }}
",
        origin.url()
    );
    Setup::new().env("VENDOR_KEY", SECRET).start(&yaml)
}

#[test]
fn the_whole_way() {
    let origin = Origin::start(|_| {
        response(
            200,
            &[("Content-Type", "application/json"), ("Server", "vendor/1.0")],
            br#"{"t":21,"internal_id":7}"#,
        )
    });
    let gateway = gateway(&origin);

    let first = gateway.get("/api/weather/today?city=Oslo");
    assert_eq!(first.status, 200, "{}", first.text());
    assert_eq!(first.text(), r#"{"t":21}"#);
    assert_eq!(first.header("server"), None, "the vendor's product is nobody's business");
    assert!(!first.contains(SECRET.as_bytes()));

    let asked = origin.last();
    assert_eq!(asked.line, "GET /base/v2/today?city=Oslo HTTP/1.1");
    assert_eq!(asked.all("authorization"), [format!("Bearer {SECRET}")]);
    assert_eq!(asked.header("host"), Some(origin.address.to_string().as_str()));

    let second = gateway.get("/api/weather/today?city=Oslo");
    assert_eq!(second.text(), first.text());
    assert_eq!(origin.count(), 1, "the second answer comes from the cache");
    assert!(second.header("cache-status").is_some_and(|v| v.contains("hit")), "{second:?}");

    assert_eq!(gateway.get("/api/weather/x").status, 200);
    let limited = gateway.get("/api/weather/y");
    assert_eq!(limited.status, 429);
    assert_eq!(limited.code(), "rate_limited");
    assert!(limited.header("retry-after").is_some());

    // A request is counted when it is over, which is a moment after its answer.
    eventually!(gateway.log().len() == 4, "one line per request: {}", gateway.stdout());
    let metrics = gateway.admin("/metrics").text();
    for line in [
        "portcullis_requests_total{route=\"weather\",method=\"GET\",code=\"200\"} 3",
        "portcullis_requests_total{route=\"weather\",method=\"GET\",code=\"429\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} is missing in\n{metrics}");
    }
    assert!(!metrics.contains(SECRET));
    assert!(!gateway.stdout().contains(SECRET) && !gateway.stderr().contains(SECRET));
}
