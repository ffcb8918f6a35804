//! `CDN-Cache-Control` (RFC 9213): a structured field that speaks to caches like this one, in place of `Cache-Control` and `Expires`.
//!
//! It is passed on and stored like any other field: the RFC asks nobody to remove it, and a cache in front of this one is spoken to as
//! much. Its directives mean what they mean in `Cache-Control`; only the syntax is another, and stricter (§2.1).

use http::{HeaderMap, HeaderName};
use sfv::{BareItem, ListEntry, Parser};

use super::{Directives, Seconds};

pub(super) const CDN_CACHE_CONTROL: HeaderName = HeaderName::from_static("cdn-cache-control");

/// What the targeted field says. `None` where it does not count: not there, empty, no dictionary (§2.1 "MUST be ignored"), or one in which
/// a directive that we know has a value of a type that it cannot have. That one value should not be consumed (§2.1); the others of
/// the same field are not believed either, because a field of which a part is dropped says what nobody wrote.
pub(super) fn read(headers: &HeaderMap) -> Option<Directives> {
    if !headers.contains_key(CDN_CACHE_CONTROL) {
        return None;
    }
    let mut text = String::new();
    for line in headers.get_all(CDN_CACHE_CONTROL) {
        if !text.is_empty() {
            text.push_str(", ");
        }
        text.push_str(line.to_str().ok()?);
    }
    let dictionary = Parser::parse_dictionary(text.as_bytes()).ok()?;
    if dictionary.is_empty() {
        return None;
    }
    let mut directives = Directives { targeted: true, ..Directives::default() };
    for (name, value) in &dictionary {
        add(&mut directives, name, value)?;
    }
    Some(directives)
}

/// Parameters are ignored (§2.1), and so are directives that nobody here knows.
fn add(said: &mut Directives, name: &str, value: &ListEntry) -> Option<()> {
    let item = match value {
        ListEntry::Item(item) => Some(&item.bare_item),
        ListEntry::InnerList(_) => None,
    };
    match name {
        "max-age" => said.max_age = seconds(item)?,
        "s-maxage" => said.s_maxage = seconds(item)?,
        "stale-while-revalidate" => said.stale_while_revalidate = seconds(item)?,
        "stale-if-error" => said.stale_if_error = seconds(item)?,
        "no-store" => said.no_store = flag(item)?,
        "must-revalidate" => said.must_revalidate = flag(item)?,
        "proxy-revalidate" => said.proxy_revalidate = flag(item)?,
        "public" => said.public = flag(item)?,
        "must-understand" => said.must_understand = flag(item)?,
        "immutable" => said.immutable = flag(item)?,
        "private" => said.private = !said.withhold(fields(item)?),
        "no-cache" => said.no_cache = !said.withhold(fields(item)?),
        _ => {}
    }
    Some(())
}

fn seconds(item: Option<&BareItem>) -> Option<Seconds> {
    // The same cap as everywhere (RFC 9111 §1.2.2).
    super::delta_seconds(&item?.as_int()?.to_string()).map(Seconds::Is)
}

/// Always true where it is there.
fn flag(item: Option<&BareItem>) -> Option<bool> {
    item?.as_bool().filter(|is_set| *is_set)
}

/// True, or a string with the names of fields.
fn fields(item: Option<&BareItem>) -> Option<Option<&str>> {
    match item? {
        BareItem::Boolean(true) => Some(None),
        BareItem::String(list) => Some(Some(list)),
        _ => None,
    }
}
