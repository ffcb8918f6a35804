//! Random configurations and requests, the same for the same seed.

use std::fmt::Write as _;

/// SplitMix64: small, and the same everywhere.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).expect("small")
    }

    /// In so many of a hundred cases.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub fn pick<'a, T: ?Sized>(&mut self, list: &[&'a T]) -> &'a T {
        list[self.below(list.len())]
    }

    /// Each with the chance of one in `of`.
    pub fn some<'a>(&mut self, list: &[&'a str], of: usize) -> Vec<&'a str> {
        list.iter().filter(|_| self.below(of) == 0).copied().collect()
    }
}

/// What a route's path may be, with a rewrite that fits it; `{{` is a brace of the format.
const PATHS: [(&str, &[&str]); 11] = [
    ("prefix: /", &["", "replacePrefixMatch: /inner"]),
    ("prefix: /api", &["", "replacePrefixMatch: /", "replacePrefixMatch: /v2", "replaceFullPath: /fixed"]),
    ("prefix: /api/v1", &["", "replacePrefixMatch: /v2"]),
    ("exact: /api", &["", "replaceFullPath: /one"]),
    ("exact: /api/v1/items", &["", "replaceFullPath: /two"]),
    ("template: \"/api/{version}/items\"", &["", "replaceFullPath: \"/of/{version}\""]),
    ("template: \"/users/{id}\"", &["replaceFullPath: \"/people/{id}/about\"", ""]),
    ("template: \"/users/{id}/posts/{post}\"", &["", "replaceFullPath: \"/{post}/{id}\""]),
    ("regex: \"/r/(?P<name>[a-z.]+)\"", &["", "replaceFullPath: \"/regex/{name}\""]),
    ("regex: \"/api/[a-z0-9]+/.*\"", &[""]),
    ("prefix: /users", &[""]),
];

/// A configuration of a listener, an `api`, an `app` and some routes. It may have mistakes, as random ones do.
pub fn configuration(random: &mut Random, head: &str, api: &str, app: &str) -> String {
    let mut yaml = head.to_owned();
    if random.chance(40) {
        yaml = yaml.replace(
            "address: \"127.0.0.1:0\" }]",
            "address: \"127.0.0.1:0\", trustedProxies: [\"127.0.0.0/8\", \"10.0.0.0/8\"] }]",
        );
    }
    yaml.push_str("secrets: { vendor-key: { env: VENDOR_KEY } }\nupstreams:\n");
    let credential = random.pick(&[
        "",
        ", credential: { bearer: vendor-key }",
        ", credential: { apiKey: { in: header, name: X-Api-Key, secret: vendor-key } }",
        ", credential: { apiKey: { in: query, name: key, secret: vendor-key } }",
        ", credential: { basic: { username: shop, password: vendor-key } }",
    ]);
    let base = random.pick(&["", "/base"]);
    let _ = writeln!(yaml, "  vendor: {{ url: \"{api}{base}\", allowPrivate: true{credential} }}");
    let credential = if random.chance(20) { ", credential: { bearer: vendor-key }" } else { "" };
    let _ = writeln!(yaml, "  web: {{ kind: app, url: \"{app}\"{credential} }}");
    yaml.push_str("routes:\n");
    for number in 0..4 + random.below(6) {
        route(random, number, &mut yaml);
    }
    yaml
}

fn route(random: &mut Random, number: usize, yaml: &mut String) {
    let at = if number == 0 && random.chance(60) { 0 } else { random.below(PATHS.len()) };
    let (path, rewrites) = PATHS[at];
    let mut matched = vec![format!("path: {{ {path} }}")];
    let hosts = random.some(&["app.example", "\"*.example\"", "\"*.app.example\"", "other.test"], 10);
    if !hosts.is_empty() {
        matched.push(format!("hosts: [{}]", hosts.join(", ")));
    }
    let methods = random.some(&["GET", "HEAD", "POST", "DELETE"], 8);
    if !methods.is_empty() {
        matched.push(format!("methods: [{}]", methods.join(", ")));
    }
    if random.chance(15) {
        let value = random.pick(&["", ", exact: gold", ", regex: \"g.*\""]);
        matched.push(format!("headers: [{{ name: X-Tier{value} }}]"));
    }
    if random.chance(15) {
        let value = random.pick(&["", ", exact: \"a b\"", ", regex: \"[0-9]+\""]);
        matched.push(format!("query: [{{ name: q{value} }}]"));
    }
    let _ = writeln!(yaml, "  - name: r{number}\n    match: {{ {} }}", matched.join(", "));
    if random.chance(25) {
        let mut limit = |name: &str| {
            let (requests, key) = (1 + random.below(6), random.pick(&["client.ip", "route"]));
            format!("{{ name: {name}, requests: {requests}, window: 10h, key: {key} }}")
        };
        let (first, second) = (limit("first"), limit("second"));
        let limits = if random.chance(40) { format!("[{first}, {second}]") } else { first };
        let _ = writeln!(yaml, "    rateLimit: {limits}");
    }
    if random.chance(10) {
        yaml.push_str("    concurrency: { max: 9 }\n");
    }
    match random.below(10) {
        0 => yaml.push_str("    redirect: { path: /elsewhere, status: 308 }\n"),
        1 => yaml.push_str("    redirect: { scheme: https, host: new.example }\n"),
        2 => yaml
            .push_str("    respond: { status: 203, json: { hello: world }, headers: { x-ours: \"1\" } }\n"),
        3..=6 => upstream(random, "vendor", rewrites, yaml),
        _ => upstream(random, "web", rewrites, yaml),
    }
}

fn upstream(random: &mut Random, name: &str, rewrites: &[&str], yaml: &mut String) {
    let _ = writeln!(yaml, "    upstream: {name}");
    let mut rewrite: Vec<&str> = vec![random.pick(rewrites)];
    rewrite.push(random.pick(&[
        "",
        "",
        "query: { keep: [q, a] }",
        "query: { set: { units: \"x y\" } }",
        "query: { keep: [], set: { q: z } }",
    ]));
    rewrite.retain(|part| !part.is_empty());
    if !rewrite.is_empty() {
        let _ = writeln!(yaml, "    rewrite: {{ {} }}", rewrite.join(", "));
    }
    let mut headers = random.some(
        &[
            "set: { x-set: \"1\", accept: text/plain }",
            "add: { x-add: \"2\", x-tier: ours }",
            "remove: [user-agent, x-b]",
        ],
        4,
    );
    headers.push(random.pick(&["", "forward: [x-a, x_under]", "forward: [\"*\"]", "forward: [cookie]"]));
    headers.retain(|part| !part.is_empty());
    let mut request = Vec::new();
    if !headers.is_empty() {
        request.push(format!("headers: {{ {} }}", headers.join(", ")));
    }
    if random.chance(20) {
        request.push("cookies: { forward: [lang] }".to_owned());
    }
    if random.chance(20) {
        request.push("body: { max: 4B }".to_owned());
    }
    if !request.is_empty() {
        let _ = writeln!(yaml, "    request: {{ {} }}", request.join(", "));
    }
    if random.chance(50) {
        // What brings a client's identity to an `api` has to say who may share the answer; where nothing does, nobody may say it.
        let credential = yaml.contains("bearer") || yaml.contains("basic");
        let identity =
            request.iter().any(|part| part.starts_with("cookies") || (part.contains("\"*\"") && !credential));
        let share = match (name, identity) {
            ("vendor", false) => "",
            ("vendor", true) => random.pick(&["share: public, ", "share: perIdentity, "]),
            _ => random.pick(&["", "", "share: perIdentity, "]),
        };
        let _ = writeln!(
            yaml,
            "    cache: {{ {share}{} }}",
            random.pick(&[
                "ttl: 1h",
                "ttl: 1h, key: { query: { ignore: [\"utm_*\"] } }",
                "ttl: 1h, key: { headers: [accept-language, x-a] }",
                "ttl: 1h, mode: override",
            ])
        );
    }
    if random.chance(20) {
        yaml.push_str("    response: { json: { remove: [\"$.internal\"] } }\n");
    }
    if random.chance(15) {
        yaml.push_str("    upgrade: [websocket]\n");
    }
}

/// One request.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub target: String,
    pub headers: Vec<(&'static str, &'static str)>,
    /// As it goes over the wire.
    pub body: Vec<u8>,
    /// As it is meant.
    pub content: usize,
}

const TARGETS: [&str; 26] = [
    "/",
    "/api",
    "/api/",
    "/api/v1",
    "/api/v1/items",
    "/api/v2/items",
    "/api/v1/items/7",
    "/apix",
    "/users/7",
    "/users/..",
    "/users/%2e",
    "/users/a%20b/posts/1",
    "/users/7/posts/..",
    "/r/abc",
    "/r/a.c",
    "/r/..",
    "/r/ABC",
    "/api/../api/v1",
    "//api///v1",
    "/api/%76%31/items",
    "/%C3%A9%c3%a9",
    "/api/a%2fb",
    "/api/./x;y=1/z",
    "/../x",
    "/none/at/all",
    "/api/%",
];

const QUERIES: [&str; 9] =
    ["", "", "", "?", "?q=1", "?q=a+b&a=2", "?a=1&utm_x=2&b", "?key=mine&q=%31", "?KEY=mine;a=1&&x=y"];

const FIELDS: [(&str, &str); 24] = [
    ("Accept", "application/json"),
    ("Accept", "text/html"),
    ("Accept-Language", "de"),
    ("Accept-Encoding", "gzip, br"),
    ("User-Agent", "tests/1"),
    ("Cookie", "lang=de; sid=1"),
    ("Cookie", "more=2"),
    ("Authorization", "Bearer client-token"),
    ("X-Api-Key", "mine"),
    ("x_api_key", "mine"),
    ("X-A", "1"),
    ("X-B", "2"),
    ("x_under", "3"),
    ("X-Tier", "gold"),
    ("X-Forwarded-For", "198.51.100.7, 10.1.2.3"),
    ("X-Forwarded-Proto", "https"),
    ("Forwarded", "for=198.51.100.9;proto=https"),
    ("X-Real-IP", "198.51.100.8"),
    ("X-Request-Id", "from-the-proxy-1"),
    ("Range", "bytes=0-1"),
    ("Range", "bytes=0-1,3-4"),
    ("If-None-Match", "\"x\""),
    ("TE", "trailers"),
    ("X-HTTP-Method-Override", "DELETE"),
];

const CONNECTIONS: [(&str, &str); 7] = [
    ("Connection", "keep-alive"),
    ("Connection", "x-a, keep-alive"),
    ("Connection", "close, X-B"),
    ("Connection", "x-forwarded-port"),
    ("Connection", "host"),
    ("Keep-Alive", "timeout=5"),
    ("Proxy-Authorization", "Basic eA=="),
];

const HOSTS: [&str; 12] = [
    "app.example",
    "app.example",
    "app.example",
    "app.example",
    "app.example",
    "app.example",
    "app.example:8080",
    "app.example:80",
    "APP.example.",
    "a.app.example",
    "other.test",
    "a@b",
];

pub fn request(random: &mut Random) -> Request {
    let method = random.pick(&[
        "GET", "GET", "GET", "GET", "GET", "GET", "HEAD", "HEAD", "POST", "DELETE", "OPTIONS", "PUT",
    ]);
    let method = if random.chance(3) { random.pick(&["TRACE", "get", "PROPFIND"]) } else { method };
    let mut headers = vec![("Host", HOSTS[random.below(HOSTS.len())])];
    headers.extend(FIELDS.iter().filter(|_| random.below(6) == 0));
    if random.chance(20) {
        headers.push(CONNECTIONS[random.below(CONNECTIONS.len())]);
    }
    let mut target =
        format!("{}{}", TARGETS[random.below(TARGETS.len())], QUERIES[random.below(QUERIES.len())]);
    if method == "OPTIONS" && random.chance(20) {
        target = "*".to_owned();
    }
    let mut body = Vec::new();
    let mut content = 0;
    if random.chance(4) {
        headers.extend([("Connection", "Upgrade"), ("Upgrade", random.pick(&["websocket", "h2c"]))]);
    } else if matches!(method, "POST" | "PUT") || random.chance(3) {
        match random.below(4) {
            0 => {
                headers.push(("Transfer-Encoding", "chunked"));
                body = b"3\r\nabc\r\n0\r\n\r\n".to_vec();
                content = 3;
            }
            1 => headers.push(("Content-Length", "0")),
            2 => {
                headers.extend([("Content-Length", "3"), ("Content-Type", "text/plain")]);
                body = b"abc".to_vec();
                content = 3;
            }
            _ => {
                headers.push(("Content-Length", "6"));
                body = b"abcdef".to_vec();
                content = 6;
            }
        }
    }
    Request { method: method.to_owned(), target, headers, body, content }
}
