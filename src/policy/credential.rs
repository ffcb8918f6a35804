//! `credential`: the secret that the upstream wants, set on the outgoing copy and nowhere else.
//!
//! It runs last on that copy. Every spelling of the field that the client may have sent is removed first (`x_api_key` for
//! `x-api-key`: many servers read them alike). Without a usable secret the request is not sent: 503.
//!
//! The rendered field is kept per version of the secret, so a request copies a reference and a rotation renders anew.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use base64::Engine as _;
use http::{HeaderName, HeaderValue, header};
use pingora::http::RequestHeader;
use schemars::JsonSchema;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::told::{self, Counters, Telling, Told};
use super::{Build, Fault, Hooks, Policy};
use crate::config::{Problems, Section, codes, shape};
use crate::exchange::Exchange;
use crate::names::SecretName;
use crate::secret::SecretSlot;

/// Our secret for this upstream, added on the way out: exactly one of `bearer`, `apiKey`, `basic`. It is set on the outgoing copy only, after
/// everything else: no log, cache key or other policy sees it. Without its value the request is not sent, and answered with 503. Default:
/// none.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub(super) struct Spec {
    /// Name of the secret that is sent as `Authorization: Bearer …` (RFC 6750).
    #[schemars(with = "Option<SecretName>", example = &"vendor-key")]
    bearer: Option<String>,
    api_key: Option<ApiKeySpec>,
    basic: Option<BasicSpec>,
}

/// A key in a header or a query parameter of its own.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ApiKeySpec {
    /// Where the key stands.
    #[serde(rename = "in")]
    place: PlaceSpec,
    /// The name of the header or parameter.
    #[schemars(with = "shape::HeaderField", example = &"X-Api-Key")]
    name: String,
    /// Name of the secret that is sent.
    #[schemars(with = "SecretName", example = &"partner-key")]
    secret: String,
}

#[derive(Deserialize, Clone, Copy, PartialEq, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum PlaceSpec {
    /// In a header.
    Header,
    /// In the query. A header is safer: upstreams log their URLs.
    Query,
}

/// A user and a password (RFC 7617).
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct BasicSpec {
    /// The user, as it is: it is no secret. Without `:`.
    #[schemars(regex(pattern = "^[^:]*$"), example = &"shop")]
    username: String,
    /// Name of the secret that holds the password.
    #[schemars(with = "SecretName", example = &"partner-key")]
    password: String,
}

/// How the secret is written into the request.
enum Form {
    Bearer,
    Header,
    Basic { username: String },
    Query { parameter: String },
}

struct Rendered {
    version: u64,
    value: HeaderValue,
}

struct Credential {
    form: Form,
    name: HeaderName,
    /// The secret's name.
    secret: String,
    /// `None` in a plan for which no secret was read: then nothing can be sent.
    slot: Option<Arc<SecretSlot>>,
    rendered: ArcSwapOption<Rendered>,
}

/// What a credential puts into a request, known before any route is compiled.
#[derive(Debug, Clone, Default)]
pub struct Injection {
    /// The header, in lower case with `-`; none for a key in the query.
    pub header: Option<String>,
    /// The query parameter, where the key goes there.
    pub parameter: Option<String>,
    /// The secret's name and where it is written.
    pub secret: Option<(String, Section)>,
}

const PLANNED: [&str; 4] = [
    "oauth2ClientCredentials\nlet another program fetch the token into a file, and use it as `bearer`: a secret's file is read again when it changes",
    "hmac",
    "awsSigV4",
    "when",
];

/// Reads which header and which secret a `credential` uses, recording its mistakes. Called once per upstream.
pub fn inspect(section: &Section, problems: &mut Problems) -> Option<Injection> {
    section.check_keys::<Spec>(&PLANNED, problems);
    let spec = section.decode::<Spec>(problems)?;
    let count =
        [spec.bearer.is_some(), spec.api_key.is_some(), spec.basic.is_some()].iter().filter(|b| **b).count();
    if count != 1 {
        problems
            .error(
                codes::BAD_VALUE,
                section.path(),
                "a credential is exactly one of `bearer`, `apiKey`, `basic`",
            )
            .help("for example `credential: { bearer: vendor-key }`");
        return None;
    }
    let at = |keys: &[&str]| keys.iter().try_fold(section.clone(), |s, key| s.get(key));
    if let Some(secret) = spec.bearer {
        return Some(Injection {
            header: Some("authorization".into()),
            secret: Some((secret, at(&["bearer"])?)),
            ..Injection::default()
        });
    }
    if let Some(basic) = spec.basic {
        if basic.username.contains(':') || basic.username.bytes().any(|b| b.is_ascii_control()) {
            problems
            .error(
                codes::BAD_VALUE,
                at(&["basic", "username"])?.path(),
                "a user name cannot have a `:`",
            )
            .help("`basic` joins user and password with a `:` (RFC 7617 §2), so the first one would end the name");
            return None;
        }
        return Some(Injection {
            header: Some("authorization".into()),
            secret: Some((basic.password, at(&["basic", "password"])?)),
            ..Injection::default()
        });
    }
    let key = spec.api_key?;
    let secret = Some((key.secret, at(&["apiKey", "secret"])?));
    if key.place == PlaceSpec::Query {
        if key.name.is_empty() || !key.name.bytes().all(is_unreserved) {
            problems.error(
                codes::BAD_VALUE,
                at(&["apiKey", "name"])?.path(),
                "a query parameter is made of `A-Z a-z 0-9 - . _ ~`",
            );
            return None;
        }
        return Some(Injection { header: None, parameter: Some(key.name), secret });
    }
    match HeaderName::try_from(key.name.as_str()) {
        Ok(name)
            if !matches!(name.as_str(), "host" | "connection" | "content-length" | "transfer-encoding") =>
        {
            Some(Injection { header: Some(spelling(name.as_str())), secret, ..Injection::default() })
        }
        _ => {
            problems
                .error(
                    codes::BAD_VALUE,
                    at(&["apiKey", "name"])?.path(),
                    format!("`{}` cannot carry a credential", key.name),
                )
                .help("the vendor's documentation names the header, such as `x-api-key` or `authorization`");
            None
        }
    }
}

/// Compiles the credential of the upstream for one route. Mistakes were recorded by [`inspect`].
pub fn compile(section: Option<&Section>, build: &mut Build<'_>) -> Option<Arc<dyn Policy>> {
    let mut seen_before = Problems::new();
    let spec = section?.decode::<Spec>(&mut seen_before)?;
    let (form, name, secret) = if let Some(secret) = spec.bearer {
        (Form::Bearer, header::AUTHORIZATION, secret)
    } else if let Some(basic) = spec.basic {
        (Form::Basic { username: basic.username }, header::AUTHORIZATION, basic.password)
    } else {
        let key = spec.api_key?;
        match key.place {
            PlaceSpec::Header => (Form::Header, HeaderName::try_from(key.name.as_str()).ok()?, key.secret),
            PlaceSpec::Query => (Form::Query { parameter: key.name }, header::AUTHORIZATION, key.secret),
        }
    };
    let slot = (build.secret)(&secret);
    Some(Arc::new(Credential { form, name, secret, slot, rendered: ArcSwapOption::empty() }))
}

impl Credential {
    /// The field's value for the secret as it is now.
    fn value(&self) -> Result<HeaderValue, Fault> {
        let current = self.slot.as_ref().and_then(|slot| slot.current()).ok_or(Fault::SecretMissing)?;
        if let Some(rendered) = self.rendered.load().as_ref()
            && rendered.version == current.version
        {
            return Ok(rendered.value.clone());
        }
        let mut value = self.form.render(current.secret.expose())?;
        value.set_sensitive(true);
        self.rendered.store(Some(Arc::new(Rendered { version: current.version, value: value.clone() })));
        Ok(value)
    }

    /// Puts the rendered field where it belongs, in place of whatever the client sent there.
    fn write(&self, head: &mut RequestHeader, value: HeaderValue) -> Result<(), Fault> {
        if let Form::Query { parameter } = &self.form {
            let pair = value.to_str().map_err(|_| Fault::SecretMissing)?;
            let path = head.uri.path();
            let rest =
                head.uri.query().map(|query| without_parameter(query, parameter)).filter(|q| !q.is_empty());
            let target = Zeroizing::new(match rest {
                Some(query) => format!("{path}?{query}&{pair}"),
                None => format!("{path}?{pair}"),
            });
            let uri = http::Uri::try_from(target.as_str()).map_err(|_| Fault::BadTarget)?;
            head.set_uri(uri);
            return Ok(());
        }
        remove_every_spelling(head, self.name.as_str());
        head.insert_header(self.name.clone(), value).map_err(|_| Fault::Internal)
    }
}

impl Form {
    /// The field's value, or the parameter, for this secret.
    fn render(&self, secret: &[u8]) -> Result<HeaderValue, Fault> {
        let bytes: Zeroizing<Vec<u8>> = Zeroizing::new(match self {
            Self::Bearer => [b"Bearer ".as_slice(), secret].concat(),
            Self::Header => secret.to_vec(),
            Self::Basic { username } => {
                let pair = Zeroizing::new([username.as_bytes(), b":", secret].concat());
                let mut value = String::from("Basic ");
                base64::engine::general_purpose::STANDARD.encode_string(pair.as_slice(), &mut value);
                value.into_bytes()
            }
            Self::Query { parameter } => {
                let mut pair = format!("{parameter}=").into_bytes();
                percent_encode(secret, &mut pair);
                pair
            }
        });
        HeaderValue::from_bytes(&bytes).map_err(|_| Fault::SecretMissing)
    }

    /// How it is told where the secret goes, and the name of this form.
    fn words(&self, header: &HeaderName, secret: &str) -> (&'static str, String) {
        match self {
            Self::Bearer => {
                ("bearer", format!("sends the secret `{secret}` as a bearer token in `{header}`"))
            }
            Self::Header => ("apiKey", format!("sends the secret `{secret}` in `{header}`")),
            Self::Basic { username } => {
                ("basic", format!("signs in as `{username}` with the secret `{secret}` in `{header}`"))
            }
            Self::Query { parameter } => {
                ("apiKey", format!("sends the secret `{secret}` in the query parameter `{parameter}`"))
            }
        }
    }
}

impl Policy for Credential {
    fn hooks(&self) -> Hooks {
        Hooks { upstream_request: true, ..Hooks::default() }
    }

    fn upstream_request_filter(
        &self,
        head: &mut RequestHeader,
        _exchange: &mut Exchange,
    ) -> Result<(), Fault> {
        let value = self.value()?;
        self.write(head, value)
    }

    fn upstream_request_shown(
        &self,
        head: &mut RequestHeader,
        _exchange: &mut Exchange,
    ) -> Result<(), Fault> {
        let name = told::secret(&self.secret);
        let value = match &self.form {
            // What base64 would hide from who reads it.
            Form::Basic { .. } => {
                HeaderValue::try_from(format!("Basic {name}")).map_err(|_| Fault::Internal)?
            }
            form => form.render(name.as_bytes())?,
        };
        self.write(head, value)
    }

    fn explain(&self, telling: &Telling<'_>) -> Option<Told> {
        let (form, words) = self.form.words(&self.name, &self.secret);
        let replaced = telling.heads.is_some_and(|(before, _)| {
            let client = before.headers.keys().any(|name| is_spelling(name, &spelling(self.name.as_str())));
            client && !matches!(self.form, Form::Query { .. })
        });
        let drops = replaced.then(|| format!("drops what the client sent in `{}`", self.name));
        let mut told = Told::new(
            std::iter::once(words).chain(drops),
            serde_json::json!({ "form": form, "secret": self.secret, "username": match &self.form {
                Form::Basic { username } => Some(username),
                _ => None,
            } }),
        );
        if telling.counters == Counters::Live {
            let loaded = self.slot.as_ref().is_some_and(|slot| slot.stats().available);
            told.words.push(if loaded {
                "now: the secret is loaded".to_owned()
            } else {
                "now: the secret is missing, so requests are answered 503".to_owned()
            });
            told.now = serde_json::json!({ "secretLoaded": loaded });
        }
        Some(told)
    }
}

/// Removes each field whose name is `name` once everything but letters and digits is read as `-`, as CGI and its heirs do.
fn remove_every_spelling(head: &mut RequestHeader, name: &str) {
    let wanted = spelling(name);
    let twins: Vec<HeaderName> =
        head.headers.keys().filter(|key| is_spelling(key, &wanted)).cloned().collect();
    for twin in &twins {
        head.remove_header(twin);
    }
}

fn is_spelling(name: &HeaderName, wanted: &str) -> bool {
    name.as_str().len() == wanted.len() && name.as_str().bytes().map(fold).eq(wanted.bytes().map(fold))
}

fn fold(byte: u8) -> u8 {
    if byte.is_ascii_alphanumeric() { byte } else { b'-' }
}

fn spelling(name: &str) -> String {
    name.to_ascii_lowercase().replace('_', "-")
}

/// The query without the parameter, however its name is spelled: encoded, in another case, after `;` as some servers split, as an
/// array, cut short by a NUL.
#[must_use]
pub fn without_parameter(query: &str, parameter: &str) -> String {
    let is_it = |pair: &str| {
        let name = decoded(pair.split_once('=').map_or(pair, |(name, _)| name));
        name.split(['[', '\0']).next().unwrap_or_default().trim().eq_ignore_ascii_case(parameter)
    };
    let kept: Vec<String> = query
        .split('&')
        .filter_map(|pair| {
            if !pair.split(';').any(is_it) {
                return Some(pair.to_owned());
            }
            let rest: Vec<&str> = pair.split(';').filter(|part| !is_it(part)).collect();
            (!rest.is_empty()).then(|| rest.join(";"))
        })
        .collect();
    kept.join("&")
}

/// Percent-decoding of a parameter's name; what is no escape stays.
pub fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&byte, tail)) = rest.split_first() {
        let hex =
            (byte == b'%').then(|| tail.get(..2)).flatten().and_then(|pair| std::str::from_utf8(pair).ok());
        match hex.and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
            Some(value) => {
                out.push(value);
                rest = tail.get(2..).unwrap_or_default();
            }
            None => {
                out.push(if byte == b'+' { b' ' } else { byte });
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Percent-encodes everything that is not unreserved (RFC 3986 §2.3).
pub fn percent_encode(bytes: &[u8], out: &mut Vec<u8>) {
    const HEX: [u8; 16] = *b"0123456789ABCDEF";
    for &byte in bytes {
        if is_unreserved(byte) {
            out.push(byte);
        } else {
            let digit = |nibble: u8| HEX.get(usize::from(nibble)).copied().unwrap_or(b'0');
            out.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_the_clients_copy_goes() {
        let mut head = RequestHeader::build("GET", b"/", None).expect("a request");
        for name in ["x-api-key", "X_Api_Key", "x_api-key", "x.api!key", "x-api-keys", "x-other"] {
            head.append_header(name.to_owned(), "client").expect(name);
        }
        remove_every_spelling(&mut head, "X-Api-Key");
        let mut left: Vec<_> = head.headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["x-api-keys", "x-other"]);
    }

    #[test]
    fn the_clients_query_key_goes_in_any_encoding() {
        assert_eq!(without_parameter("a=1&%6b%65y=mine&KEY=x&b", "key"), "a=1&b");
        assert_eq!(without_parameter("key", "key"), "");
        assert_eq!(without_parameter("a=1;key=x&key[]=y&ke%79%00=z&b=2;c", "key"), "a=1&b=2;c");
    }

    #[test]
    fn a_secret_in_a_query_is_percent_encoded() {
        let mut out = Vec::new();
        percent_encode(b"a&b=c d%", &mut out);
        assert_eq!(out, b"a%26b%3Dc%20d%25");
    }

    #[test]
    fn decoding_leaves_what_is_no_escape() {
        assert_eq!(decoded("a%2"), "a%2");
        assert_eq!(decoded("%zz%41+"), "%zzA ");
    }
}
