//! Made-up secrets, and the two ways between a text with them and a text with their names.
//!
//! No secret is ever read: each gets a value that is made up for this run, which can be recognised in what an upstream got and looked
//! for in what a client got. People see `<secret:NAME>`.

use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::names::SecretName;
use crate::plan::Plan;
use crate::policy::UpstreamKind;

/// The value that stands for a secret in this run: 40 letters that nobody can guess, the same each time it is asked for.
pub fn invented(name: &SecretName) -> String {
    static KEY: OnceLock<RandomState> = OnceLock::new();
    let key = KEY.get_or_init(RandomState::new);
    let mut value = String::with_capacity(VALUE_LETTERS);
    for part in 0_u8..=u8::MAX {
        let mut bits = key.hash_one((part, name.as_str()));
        for _ in 0..LETTERS_OF_A_WORD {
            value.push(char::from(b'A' + u8::try_from(bits % 26).unwrap_or(0)));
            bits /= 26;
        }
        if value.len() >= VALUE_LETTERS {
            break;
        }
    }
    value.truncate(VALUE_LETTERS);
    value
}

const VALUE_LETTERS: usize = 40;
/// As many as 64 bits hold.
const LETTERS_OF_A_WORD: usize = 13;

/// What is hidden of one upstream.
pub struct Hidden {
    /// Its name.
    pub name: String,
    /// Whether no answer may name it, without anybody saying so.
    pub by_default: bool,
    /// Its hosts, in lower case; an address with its port, which alone says nothing.
    pub hosts: Vec<String>,
}

/// All that a plan hides.
pub struct Masks {
    secrets: Vec<(String, String)>,
    upstreams: Vec<Hidden>,
}

impl Masks {
    /// Of this plan, whose secrets are [`invented`].
    pub fn of(plan: &Plan) -> Self {
        let hidden =
            |(name, upstream): (&crate::names::UpstreamName, &std::sync::Arc<crate::plan::UpstreamPlan>)| {
                let mut hosts: Vec<String> = upstream
                    .upstream
                    .origins()
                    .map(|(_, host, port)| match host.parse::<std::net::IpAddr>() {
                        Ok(address) => std::net::SocketAddr::new(address, port).to_string(),
                        Err(_) => host.to_owned(),
                    })
                    .collect();
                hosts.dedup();
                Hidden { name: name.to_string(), by_default: upstream.kind == UpstreamKind::Api, hosts }
            };
        Self {
            secrets: plan.secrets.iter().map(|name| (name.to_string(), invented(name))).collect(),
            upstreams: plan.upstreams.iter().map(hidden).collect(),
        }
    }

    /// Names and values of all secrets.
    pub fn secrets(&self) -> impl Iterator<Item = (&str, &str)> {
        self.secrets.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// All upstreams.
    pub fn upstreams(&self) -> &[Hidden] {
        &self.upstreams
    }

    /// A text with names in place of secrets, in a `Basic` credential too.
    pub fn shown(&self, text: &str) -> String {
        let mut shown = text.to_owned();
        if let Some(encoded) = text.strip_prefix("Basic ")
            && let Some(decoded) =
                STANDARD.decode(encoded).ok().and_then(|bytes| String::from_utf8(bytes).ok())
            && self.secrets().any(|(_, value)| decoded.contains(value))
        {
            shown = format!("Basic {decoded}");
        }
        for (name, value) in self.secrets() {
            if shown.contains(value) {
                shown = shown.replace(value, &format!("<secret:{name}>"));
            }
        }
        shown
    }

    /// The opposite: a text of a stub with the values.
    pub fn filled(&self, text: &str) -> String {
        let mut filled = text.to_owned();
        for (name, value) in self.secrets() {
            filled = filled.replace(&format!("<secret:{name}>"), value);
        }
        for upstream in &self.upstreams {
            if let Some(host) = upstream.hosts.first() {
                filled = filled.replace(&format!("<upstream:{}>", upstream.name), host);
            }
        }
        filled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masks() -> Masks {
        let name = SecretName::parse("key").expect("a name");
        Masks { secrets: vec![("key".into(), invented(&name))], upstreams: Vec::new() }
    }

    #[test]
    fn values_are_letters_differ_by_name_and_stay() {
        let of = |name| invented(&SecretName::parse(name).expect("a name"));
        assert_eq!(of("a"), of("a"));
        assert_ne!(of("a"), of("b"));
        assert!(of("a").len() == VALUE_LETTERS && of("a").bytes().all(|b| b.is_ascii_uppercase()));
    }

    #[test]
    fn secrets_are_shown_by_name_and_filled_in_again() {
        let masks = masks();
        let filled = masks.filled("Bearer <secret:key>");
        assert!(!filled.contains('<'), "{filled}");
        assert_eq!(masks.shown(&filled), "Bearer <secret:key>");
        let basic = format!("Basic {}", STANDARD.encode(masks.filled("me:<secret:key>")));
        assert_eq!(masks.shown(&basic), "Basic me:<secret:key>");
    }
}
