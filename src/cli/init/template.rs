//! The text of the first configuration.

use std::fmt::Write as _;
use std::net::IpAddr;

use crate::upstream::is_private;

/// What a person may fill in. Unchecked: the whole is compiled before it is written.
pub struct Blanks<'a> {
    /// The API's URL.
    pub upstream: &'a str,
    /// The header with the key; `None`: `Authorization: Bearer`.
    pub header: Option<&'a str>,
    /// The variable that holds the key.
    pub env: &'a str,
    /// The public path.
    pub prefix: &'a str,
    /// The web app's URL.
    pub app: Option<&'a str>,
}

/// The configuration.
#[must_use]
pub fn config(blanks: &Blanks<'_>) -> String {
    let Blanks { upstream, header, env, prefix, app } = blanks;
    let credential = match header {
        Some(name) => format!("{{ apiKey: {{ in: header, name: {}, secret: vendor-key }} }}", scalar(name)),
        None => "{ bearer: vendor-key }".to_owned(),
    };
    let private = if is_private_url(upstream) {
        "    allowPrivate: true                   # this address is private; without this line it would be refused\n"
    } else {
        ""
    };
    let web = app.map(|app| format!("{WEB}    url: {}\n", scalar(app))).unwrap_or_default();
    let mut text = String::from(HEAD);
    let _ = write!(
        text,
        "\
secrets:                                 # names for secrets, and where their values are; never the value itself
  vendor-key: {{ env: {env} }}

upstreams:                               # what stands behind the gate; browsers never learn of it
  vendor:                                # kind: api, somebody else's: hidden, and nothing passes unless listed
    url: {upstream}
{private}    credential: {credential}    # added on the way out
{web}
routes:                                  # the most specific match wins, wherever it stands
  - name: {name}
    match:
      methods: [GET]                     # HEAD comes with it; every other method is refused
      path: {{ prefix: {prefix} }}
    upstream: vendor
    rewrite: {{ replacePrefixMatch: / }}   # {public}/x is asked for as /x
    rateLimit: {{ requests: 100, window: 1m, key: client.ip }}   # each visitor; more is answered 429
    cache: {{ ttl: 60s, staleWhileRevalidate: 5m }}   # where the API does not say for how long its answers are good
    # response:
    #   json: {{ remove: [\"$.internal_id\"] }}     # parts of the answer that no browser should see
    # request:
    #   headers: {{ forward: [x-locale] }}        # headers of the browser that the API should see
",
        env = scalar(env),
        upstream = scalar(upstream),
        name = route_name(prefix),
        prefix = scalar(prefix),
        public = one_line(prefix.trim_end_matches('/')),
    );
    text.push_str(if app.is_some() { SITE } else { NO_APP });
    text
}

/// A first case for `portcullis test`: the key arrives, the browser's cookie does not.
#[must_use]
pub fn cases(blanks: &Blanks<'_>) -> String {
    let Blanks { upstream, header, prefix, .. } = blanks;
    let (header, value) = match header {
        Some(name) => (name.to_ascii_lowercase(), "<secret:vendor-key>"),
        None => ("authorization".to_owned(), "Bearer <secret:vendor-key>"),
    };
    let rest = upstream.split_once("://").map_or("", |(_, rest)| rest);
    let base = rest.split_once('/').map_or("", |(_, path)| path).trim_end_matches('/');
    let base = if base.is_empty() { String::new() } else { format!("/{base}") };
    format!(
        "\
# What portcullis.yaml promises. `portcullis test portcullis.test.yaml` tries it: no network, no key, nobody waits.
config: portcullis.yaml
tests:
  - name: the API gets the key, and the browser's cookie stays here
    send: {{ path: {path}, headers: {{ cookie: sid=1 }} }}
    stub:                                # what the API would answer
      vendor: {{ headers: {{ server: vendor/1.2 }}, json: {{ hello: world }} }}
    expect:
      route: {name}
      upstreamRequest:                   # what the API is asked
        path: {asked}
        headers: {{ {header}: {value}, cookie: absent }}
      status: 200
      headers: {{ server: absent }}        # what the browser gets
      json: {{ hello: world }}
      cache: miss
",
        path = scalar(&format!("{}/hello", prefix.trim_end_matches('/'))),
        name = route_name(prefix),
        asked = scalar(&format!("{base}/hello")),
        header = scalar(&header),
        value = scalar(value),
    )
}

const HEAD: &str = "\
# yaml-language-server: $schema=./portcullis.schema.json
# $schema: ./portcullis.schema.json
# A gate with one API behind it. `portcullis check` says what is wrong, `portcullis explain` what happens to a request.
version: 1

listeners:                               # where browsers come in
  - name: public
    address: \"127.0.0.1:8080\"            # of this machine only; \"0.0.0.0:8080\" for everybody

admin: { address: \"127.0.0.1:9090\" }     # /metrics, /livez, /readyz; never public

# cache: { file: /dev/shm/portcullis.cache, size: 64MiB }   # what is stored outlives a restart; without it, memory of the process

";

const WEB: &str = "  web:                                   # kind: app, your own: works behind the gate as it works without
    kind: app
";

const SITE: &str = "
  - name: site                           # everything else is your own app
    match: { path: { prefix: / } }
    upstream: web
";

const NO_APP: &str = "
# Your own web app behind the same gate: under `upstreams:`
#
#   web: { kind: app, url: \"http://127.0.0.1:3000\" }
#
# and under `routes:`
#
#   - { name: site, match: { path: { prefix: / } }, upstream: web }
";

/// A text as YAML: as it is where nothing can be misread, else in quotes.
fn scalar(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | ':');
    let is_word = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"]
        .iter()
        .any(|word| text.eq_ignore_ascii_case(word));
    let begins_well = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/');
    if begins_well && !is_word && !text.ends_with(':') && text.chars().all(is_plain) {
        return text.to_owned();
    }
    // A string of JSON is one of YAML.
    serde_json::Value::from(text).to_string()
}

/// A text inside a comment: what would end the line is left out.
fn one_line(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

/// The last segment of the public path, as far as a name can be made of it.
fn route_name(prefix: &str) -> String {
    let segment = prefix.split('/').rfind(|segment| !segment.is_empty()).unwrap_or_default();
    let fold = |c: char| c.to_ascii_lowercase();
    let fits = |c: &char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
    let name: String = segment.chars().map(fold).filter(fits).take(40).collect();
    let name = name.trim_start_matches(['-', '_']);
    // A second route is called `site`, and a name of digits alone would be a number.
    if name.is_empty() || name == "site" || !name.starts_with(|c: char| c.is_ascii_lowercase()) {
        return format!("api-{name}").trim_end_matches('-').to_owned();
    }
    scalar(name).trim_matches('"').to_owned()
}

/// Whether a URL names a private address or this machine.
fn is_private_url(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(is_private)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_could_be_misread_is_quoted() {
        assert_eq!(scalar("https://api.vendor.example/v2"), "https://api.vendor.example/v2");
        for text in ["true", "No", "12", "a b", "a: b", "#x", "", "a\nb: c", "{x}", "x:", "*a"] {
            let read: serde_yaml::Value = serde_yaml::from_str(&scalar(text)).expect("YAML");
            assert_eq!(read.as_str(), Some(text));
            assert!(scalar(text).starts_with('"'), "{text}");
        }
    }

    #[test]
    fn a_route_is_called_after_its_path() {
        for (prefix, name) in [
            ("/api/weather", "weather"),
            ("/api/Weather%20Now/", "weather20now"),
            ("/", "api"),
            ("/v2/2024", "api-2024"),
            ("/site", "api-site"),
            ("/-", "api"),
        ] {
            assert_eq!(route_name(prefix), name, "{prefix}");
        }
    }

    #[test]
    fn an_address_of_ones_own_is_seen() {
        for url in ["http://127.0.0.1:9000/x", "http://[::1]:1", "https://10.1.2.3", "http://LocalHost"] {
            assert!(is_private_url(url), "{url}");
        }
        assert!(!is_private_url("https://api.vendor.example") && !is_private_url("https://8.8.8.8"));
    }
}
