//! The hidden upstream of the demo: somebody else's weather API, as careless as real ones are.
//!
//! It refuses requests without its key, answers with fields nobody outside should see, names its own machines in headers,
//! links and errors, sets a tracking cookie, fails on demand and counts what it is asked. Everything that it leaks is on
//! purpose: the gateway in front must let none of it through. It is no example of how to write a server.
//!
//! | path | answer |
//! |---|---|
//! | `/v2/weather?city=Paris` | JSON with internal fields; may be kept for 30 s |
//! | `/v2/redirect` | 302 to its own absolute URL; `?to=elsewhere` to a host that no route maps |
//! | `/v2/links` | itself in the body and in `Link` |
//! | `/v2/echo` | the request as it arrived, credential and host hidden; `?raw=1` shows both (a leak guard's test) |
//! | `/v2/fail?status=503` | an error page that names its database |
//! | `/v2/slow?ms=3000` | the same as `/v2/echo`, late; at most a minute |
//! | `/v2/bytes?size=1024` | so many bytes of JSON text, for load |
//! | `/v2/quota` | 429 with `Retry-After` |
//! | `/v2/count` | how often each path was asked |
//! | `/v2/credentials` | which credentials were seen, as fingerprints; needs none and is not counted |

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde_json::json;
use tokio::net::TcpListener;

use super::answer::{self, Answer, fingerprint, parameter};
use super::ledger::{Ledger, Seen, presented};

/// Which credentials the vendor takes.
#[derive(Clone)]
pub enum Keys {
    /// This one, as long as the vendor runs.
    Fixed(String),
    /// Those in the file, one per line, read again for every request: the old and the new one while a key is rotated. A file
    /// that cannot be read holds none.
    File(PathBuf),
}

impl From<String> for Keys {
    fn from(key: String) -> Self {
        Self::Fixed(key)
    }
}

/// Serves the vendor until the future is dropped.
pub async fn vendor(listener: TcpListener, keys: impl Into<Keys>) {
    // Only a socket that is gone has no address; accepting from it will fail as well.
    let address = listener.local_addr().unwrap_or_else(|_| SocketAddr::from(([127, 0, 0, 1], 0)));
    let vendor = Arc::new(Vendor {
        keys: keys.into(),
        origin: format!("http://{address}"),
        ledger: Ledger::default(),
    });
    answer::serve(listener, move |request| {
        let vendor = Arc::clone(&vendor);
        async move { vendor.answer(request).await }
    })
    .await;
}

/// What a body may have; more is refused with 413.
const MAX_BODY_BYTES: usize = 16 << 20;

/// The longest time that `/v2/slow` waits, in milliseconds.
const MAX_SLOW_MS: u64 = 60_000;

/// The most that `/v2/bytes` sends.
const MAX_BYTES: usize = 64 << 20;

/// The machine name that must never be seen outside.
const NODE: &str = "wx-7.internal.vendor.example";

struct Vendor {
    keys: Keys,
    origin: String,
    ledger: Ledger,
}

impl Vendor {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let path = request.uri().path().to_owned();
        if path == "/v2/credentials" {
            return answer::json(StatusCode::OK, &self.ledger.credentials());
        }
        let seen = self.check(&request).await;
        self.ledger.record(&path, &seen);
        let mut answer = if let Seen::Valid(key) = seen {
            self.route(&path, request, &key).await
        } else {
            let text = json!({ "error": "api key missing or wrong", "realm": NODE });
            let mut refused = answer::json(StatusCode::UNAUTHORIZED, &text);
            answer::set(
                &mut refused,
                header::WWW_AUTHENTICATE,
                "ApiKey realm=\"wx-7.internal.vendor.example\"",
            );
            refused
        };
        brand(&mut answer);
        answer
    }

    /// Exactly one credential, and one that is taken today.
    async fn check(&self, request: &Request<Incoming>) -> Seen {
        let key = match presented(request.headers()) {
            Ok(key) => key,
            Err(refusal) => return refusal,
        };
        let is_taken = match &self.keys {
            Keys::Fixed(taken) => *taken == key,
            Keys::File(path) => match tokio::fs::read_to_string(path).await {
                Ok(text) => text.lines().any(|line| line.trim() == key),
                Err(_) => false,
            },
        };
        if is_taken { Seen::Valid(key) } else { Seen::Wrong }
    }

    async fn route(&self, path: &str, request: Request<Incoming>, key: &str) -> Answer {
        let query = request.uri().query().unwrap_or_default().to_owned();
        let number = |name: &str| parameter(&query, name).and_then(|text| text.parse::<u64>().ok());
        match path {
            "/v2/weather" => self.weather(&parameter(&query, "city").unwrap_or_else(|| "Paris".to_owned())),
            "/v2/redirect" => match parameter(&query, "to") {
                Some(_) => answer::redirect(StatusCode::FOUND, "https://elsewhere.vendor.example/login"),
                None => {
                    answer::redirect(StatusCode::FOUND, &format!("{}/v2/weather?city=Paris", self.origin))
                }
            },
            "/v2/links" => self.links(),
            "/v2/echo" => echo(request, key, parameter(&query, "raw").is_some()).await,
            "/v2/slow" => {
                tokio::time::sleep(Duration::from_millis(number("ms").unwrap_or(3_000).min(MAX_SLOW_MS)))
                    .await;
                echo(request, key, false).await
            }
            "/v2/fail" => fail(number("status").unwrap_or(503)),
            "/v2/bytes" => bytes_of(number("size").unwrap_or(1_024)),
            "/v2/quota" => quota(),
            "/v2/count" => answer::json(StatusCode::OK, &self.ledger.counts()),
            _ => answer::json(StatusCode::NOT_FOUND, &json!({ "error": "no such endpoint", "node": NODE })),
        }
    }

    fn weather(&self, city: &str) -> Answer {
        // Made from the name, so that the same city has the same weather in every run.
        let seed = city.bytes().fold(7_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)));
        let sky = ["sunny", "light rain", "fog", "snow", "overcast"];
        let condition =
            usize::try_from(seed).ok().and_then(|seed| sky.get(seed % sky.len())).unwrap_or(&"sunny");
        let mut answer = answer::json(
            StatusCode::OK,
            &json!({
                "city": city,
                "temperature_c": f64::from(seed % 350) / 10.0 - 5.0,
                "condition": condition,
                "wind_kmh": seed % 40,
                "asked": self.ledger.times("/v2/weather"),
                "internal_id": format!("wx-{seed:08x}"),
                "station": { "name": format!("{city} Observatory"), "owner_email": "ops@stations.vendor.example" },
                "debug": { "trace": format!("node={NODE};db=pg-3.internal.vendor.example"), "took_us": 412 },
            }),
        );
        let tag = format!("\"{}\"", fingerprint(city.as_bytes()));
        answer::set(&mut answer, header::ETAG, &tag);
        answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=30"));
        answer
    }

    fn links(&self) -> Answer {
        let origin = &self.origin;
        let mut answer = answer::json(
            StatusCode::OK,
            &json!({
                "self": format!("{origin}/v2/links"),
                "next": format!("{origin}/v2/links?page=2"),
                "stations": [{ "name": "Montsouris", "href": format!("{origin}/v2/weather?city=Paris") }],
            }),
        );
        answer::set(&mut answer, header::LINK, &format!("<{origin}/v2/links?page=2>; rel=\"next\""));
        answer
    }
}

/// What every answer of this vendor carries and no browser may see.
fn brand(answer: &mut Answer) {
    let headers = answer.headers_mut();
    headers.insert(HeaderName::from_static("x-internal-node"), HeaderValue::from_static(NODE));
    headers.insert(header::SERVER, HeaderValue::from_static("vendor-weather/4.2 (internal)"));
    headers.insert(
        header::SET_COOKIE,
        HeaderValue::from_static("vendor_track=9f31c0de; Domain=vendor.example; Path=/; Max-Age=31536000"),
    );
}

async fn echo(request: Request<Incoming>, key: &str, is_raw: bool) -> Answer {
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, MAX_BODY_BYTES).collect().await else {
        return answer::json(StatusCode::PAYLOAD_TOO_LARGE, &json!({ "error": "body too large" }));
    };
    let body = body.to_bytes();
    let headers = answer::header_pairs(&head.headers, |name, value| match *name {
        _ if is_raw => value.to_owned(),
        header::HOST => "(the vendor's host)".to_owned(),
        _ => value.replace(key, "(the vendor's key)"),
    });
    answer::json(
        StatusCode::OK,
        &json!({
            "method": head.method.as_str(),
            "path": head.uri.path(),
            "query": head.uri.query(),
            "headers": headers,
            "body": { "bytes": body.len(), "fnv1a": fingerprint(&body) },
        }),
    )
}

fn fail(status: u64) -> Answer {
    let status = u16::try_from(status).ok().and_then(|code| StatusCode::from_u16(code).ok());
    // Below 200 is no final answer, and 204/304 have no body to leak anything with.
    let status = status.filter(|code| code.as_u16() >= 200).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    let text = json!({
        "error": "upstream database pg-3.internal.vendor.example:5432 refused the connection",
        "trace": format!("at {NODE} weather.py line 214"),
    });
    answer::json(status, &text)
}

fn quota() -> Answer {
    let text = json!({ "error": "quota of account acme-4711 is used up", "node": NODE });
    let mut answer = answer::json(StatusCode::TOO_MANY_REQUESTS, &text);
    answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("30"));
    answer
}

fn bytes_of(size: u64) -> Answer {
    let size = usize::try_from(size).unwrap_or(MAX_BYTES).clamp(2, MAX_BYTES);
    let text = format!("\"{}\"", "x".repeat(size - 2));
    answer::with_type(StatusCode::OK, "application/json", Bytes::from(text))
}
