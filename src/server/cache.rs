//! The operators' side of the cache: what is stored, numbers, purges. Asked over the admin side, by `portcullis cache` and by others.
//!
//! Answers are JSON. URLs are told, header values never: they may be cookies or say who somebody is.

use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::State;
use crate::cache::purge::{Mode, Origin, Purge, Run, Scope, Tag, UrlPrefix};
use crate::cache::storage::listing::{Cursor, Filter, Listed, Variant};
use crate::exchange::{Exchange, Scheme, target};
use crate::plan::Routed;
use crate::proxy::purge;
use crate::telemetry::labels::PurgeScope;

/// Keys on one page of the list, where nobody says how many.
pub const DEFAULT_PAGE: usize = 100;
/// The most keys on one page of the list.
pub const MAX_PAGE: usize = 1000;

/// What was answered: a status and its JSON.
pub type Told = Result<Value, (StatusCode, String)>;

/// A purge as it is asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Asked {
    url: Option<String>,
    prefix: Option<String>,
    tag: Option<String>,
    origin: Option<String>,
    route: Option<String>,
    all: Option<bool>,
    mode: Option<AskedMode>,
    #[serde(default)]
    dry_run: bool,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum AskedMode {
    Soft,
    Hard,
}

/// A URL as routing reads it.
struct Located {
    scheme: Scheme,
    exchange: Exchange,
}

impl State {
    /// Purges what a JSON document asks for, or counts it.
    ///
    /// # Errors
    /// 400 where it asks for nothing that can be purged; in the operator's words.
    pub fn purge(&self, body: &[u8]) -> Told {
        let asked: Asked =
            serde_json::from_slice(body).map_err(|why| bad(format!("{why}; a purge is {PURGE}")))?;
        let (what, scope) = self.purge_of(&asked)?;
        let mode = asked.mode.map_or(Mode::Soft, |mode| match mode {
            AskedMode::Soft => Mode::Soft,
            AskedMode::Hard => Mode::Hard,
        });
        let run = if asked.dry_run { Run::Dry } else { Run::Real };
        let zone = self.shared.zone;
        let matched = match (&what, &asked.url) {
            // Before anything is done: a purge that can strike nothing is a mistake, and is told so.
            (Purge::Urls(_), Some(url)) if zone.purge(&what, mode, Run::Dry).matched == Some(0) => {
                self.check_caches(url)?;
                zone.purge(&what, mode, run).matched
            }
            _ => zone.purge(&what, mode, run).matched,
        };
        if run == Run::Real {
            self.shared.process.metrics.process().purged(scope, purge::label(mode));
            tracing::info!(scope = scope.as_str(), mode = mode.as_str(), matched, "purged");
        }
        Ok(json!({
            "scope": scope.as_str(),
            "mode": mode.as_str(),
            "dryRun": asked.dry_run,
            "matched": matched,
        }))
    }

    fn purge_of(&self, asked: &Asked) -> Result<(Purge, PurgeScope), (StatusCode, String)> {
        let named = [
            asked.url.is_some(),
            asked.prefix.is_some(),
            asked.tag.is_some(),
            asked.route.is_some(),
            asked.all.is_some(),
        ];
        if named.into_iter().filter(|is_named| *is_named).count() != 1 {
            return Err(bad(format!(
                "a purge names one of `url`, `prefix`, `tag`, `route` and `all`: {PURGE}"
            )));
        }
        if asked.origin.is_some() && asked.tag.is_none() {
            return Err(bad("`origin` belongs to a `tag`; a URL has its own"));
        }
        let scoped = |scope, label| Ok((Purge::Scope(scope), label));
        if let Some(url) = &asked.url {
            return Ok((Purge::Urls(self.urls(url)?), PurgeScope::Url));
        }
        if let Some(prefix) = &asked.prefix {
            return scoped(Scope::Prefix(self.prefix(prefix)?), PurgeScope::Prefix);
        }
        if let Some(tag) = &asked.tag {
            if tag.is_empty() {
                return Err(bad("a tag is not empty"));
            }
            let origin = asked.origin.as_deref().map(|origin| self.origin(origin)).transpose()?;
            return scoped(Scope::Tag(Tag { name: tag.as_str().into(), origin }), PurgeScope::Tag);
        }
        if let Some(route) = &asked.route {
            return scoped(self.route_scope(route)?, PurgeScope::Route);
        }
        if asked.all != Some(true) {
            return Err(bad("`all` is `true` or absent"));
        }
        scoped(Scope::All, PurgeScope::All)
    }

    /// A page of the list of what is stored; `query` as in `route=weather&prefix=https://app.example/api&limit=100&after=...`.
    ///
    /// # Errors
    /// 400 where the query asks for nothing that there is.
    pub fn entries(&self, query: &str) -> Told {
        let (mut filter, mut limit, mut after) = (Filter::default(), DEFAULT_PAGE, None);
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "route" => filter.scopes.push(self.route_scope(&value)?),
                "prefix" => filter.scopes.push(Scope::Prefix(self.prefix(&value)?)),
                "tag" => filter.scopes.push(Scope::Tag(Tag { name: (&*value).into(), origin: None })),
                "limit" => {
                    let number = value.parse().ok().filter(|n| (1..=MAX_PAGE).contains(n));
                    limit = number.ok_or_else(|| {
                        bad(format!("`limit` is a number from 1 to {MAX_PAGE}, not `{value}`"))
                    })?;
                }
                "after" => {
                    let cursor = Cursor::parse(&value);
                    let why =
                        || bad(format!("`{value}` is no place in the list: take `next` of the page before"));
                    after = Some(cursor.ok_or_else(why)?);
                }
                other => {
                    return Err(bad(format!(
                        "there is no `{other}` here: `route`, `prefix`, `tag`, `limit` and `after` narrow the list"
                    )));
                }
            }
        }
        let page = self.shared.zone.page(&filter, after, limit);
        Ok(json!({
            "entries": page.entries.iter().map(told).collect::<Vec<_>>(),
            "next": page.next.map(|next| next.to_string()),
        }))
    }

    /// Everything that is stored for one URL; `query` is `url=` and the URL.
    ///
    /// # Errors
    /// 400 where that is none, or its route does not cache.
    pub fn stored(&self, query: &str) -> Told {
        let mut named = form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == "url");
        let Some((_, url)) = named.next() else {
            return Err(bad("which URL? ask for `/cache/entry?url=https%3A%2F%2Fapp.example%2Fpath`"));
        };
        let entries = self.shared.zone.of_urls(&self.urls(&url)?);
        if entries.is_empty() {
            self.check_caches(&url)?;
        }
        Ok(json!({ "url": url, "entries": entries.iter().map(told_whole).collect::<Vec<_>>() }))
    }

    /// The numbers of the store.
    #[must_use]
    pub fn cache_stats(&self) -> Value {
        let stats = self.shared.zone.stats();
        json!({
            "writer": stats.is_writer,
            "entries": stats.entries,
            "maxEntries": stats.max_entries,
            "pinnedBytes": stats.pinned_bytes,
            "longestFreeBytes": stats.longest_free_bytes,
            "madeAnew": self.shared.zone.is_made_anew(),
            "survived": stats.survived,
            "corrupt": stats.corrupt,
            "usedBytes": stats.used_bytes,
            "capacityBytes": stats.capacity_bytes,
            "residentBytes": stats.resident_bytes,
            "fills": stats.fills,
            "stored": stats.stored,
            "evicted": { "size": stats.evictions_size, "purge": stats.evictions_purge, "replaced": stats.evictions_replaced },
            "rejected": {
                "tooLarge": stats.rejected_too_large,
                "noRoom": stats.rejected_no_room,
                "pinned": stats.rejected_pinned,
                "noLease": stats.rejected_no_lease,
                "purged": stats.rejected_purged,
                "failed": stats.fills_failed,
            },
            "purges": { "bans": stats.bans, "sweeps": stats.sweeps, "forced": stats.sweeps_forced, "swept": stats.swept },
        })
    }

    fn locate(&self, url: &str) -> Result<Located, (StatusCode, String)> {
        let is_url = || bad(format!("`{url}` is no URL: it begins with `http://` or `https://`"));
        let (scheme, rest) = url.split_once("://").ok_or_else(is_url)?;
        let scheme = match scheme {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return Err(is_url()),
        };
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let authority = target::authority(authority)
            .map_err(|why| bad(format!("the host of this URL is none: {why}")))?;
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let written = target::target(&path, target::Asterisk::Refuse)
            .map_err(|why| bad(format!("the path of this URL is none: {why}")))?;
        let plan = self.shared.plan.load();
        let listener = plan.listeners.first().ok_or_else(|| bad("no listener"))?;
        let mut exchange = Exchange::begin(listener.name.clone(), listener.address, scheme);
        exchange.host = authority.host;
        exchange.port = authority.port;
        exchange.path = written.path;
        exchange.query = written.query;
        Ok(Located { scheme, exchange })
    }

    fn urls(&self, url: &str) -> Result<Vec<crate::cache::key::UrlHash>, (StatusCode, String)> {
        let Located { scheme, exchange } = self.locate(url)?;
        let plan = self.shared.plan.load();
        let query = exchange.query.as_deref().unwrap_or_default();
        Ok(purge::urls(plan.routes.iter(), scheme, &exchange.authority(), &exchange.path, query))
    }

    /// Whether something could ever be stored for a URL.
    fn check_caches(&self, url: &str) -> Result<(), (StatusCode, String)> {
        let Located { mut exchange, .. } = self.locate(url)?;
        match self.shared.plan.load().route(&mut exchange, &http::HeaderMap::new()) {
            Routed::Route(route) if route.settings.cache.is_none() => {
                Err(bad(format!("the route `{}` does not cache", route.name)))
            }
            Routed::Route(_) => Ok(()),
            _ => Err(bad("no route takes a GET of this URL")),
        }
    }

    fn prefix(&self, url: &str) -> Result<UrlPrefix, (StatusCode, String)> {
        let Located { scheme, exchange } = self.locate(url)?;
        if exchange.query.is_some() {
            return Err(bad("a prefix has no query: it covers all of them"));
        }
        let origin = Origin { scheme: scheme.as_str().into(), host: exchange.authority().into() };
        Ok(UrlPrefix { origin, path: exchange.path.as_str().into() })
    }

    fn origin(&self, url: &str) -> Result<Origin, (StatusCode, String)> {
        let UrlPrefix { origin, path } = self.prefix(url)?;
        if &*path == "/" { Ok(origin) } else { Err(bad(format!("`{url}` is no origin: it has a path"))) }
    }

    fn route_scope(&self, name: &str) -> Result<Scope, (StatusCode, String)> {
        let scope = Scope::Route(name.into());
        let plan = self.shared.plan.load();
        // A route that the configuration has no more may still have left something.
        let is_known = || plan.routes.iter().any(|route| route.name.as_str() == name);
        if is_known() || self.shared.zone.store().count(&scope) > 0 {
            return Ok(scope);
        }
        Err(bad(format!("no route has the name `{name}`, and nothing of such a one is stored")))
    }
}

fn bad(why: impl Into<String>) -> (StatusCode, String) {
    (StatusCode::BAD_REQUEST, why.into())
}

/// What is stored under one key, as programs read it, with the fields of each answer.
#[must_use]
pub fn told_whole(listed: &Listed) -> Value {
    let mut told = told(listed);
    let variants = told.get_mut("variants").and_then(Value::as_array_mut);
    for (told, variant) in variants.into_iter().flatten().zip(&listed.variants) {
        let fields = variant.headers.iter().map(|(name, value)| json!({ "name": name, "value": value }));
        if let Some(members) = told.as_object_mut() {
            members.insert("headers".into(), fields.collect());
        }
    }
    told
}

/// What is stored under one key, as programs read it.
#[must_use]
pub fn told(listed: &Listed) -> Value {
    let headers = listed.headers.iter().map(|(name, hash)| json!({ "name": name, "hash": hash }));
    json!({
        "url": listed.url,
        "route": listed.route,
        "keyHeaders": headers.collect::<Vec<_>>(),
        "variants": listed.variants.iter().map(variant).collect::<Vec<_>>(),
    })
}

fn variant(variant: &Variant) -> Value {
    json!({
        "status": variant.status,
        "ageSeconds": variant.age_secs,
        "ttlSeconds": variant.ttl_secs,
        "bodyBytes": variant.body_bytes,
        "sizeBytes": variant.size_bytes,
        "tags": variant.tags,
        "vary": variant.vary,
        "variance": variant.variance,
    })
}

const PURGE: &str = r#"{"url": "https://app.example/path", "mode": "soft", "dryRun": false}, or `prefix`, `tag`, `route` or `"all": true` in place of `url`"#;
