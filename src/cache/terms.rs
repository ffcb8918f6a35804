//! What of a stored answer decides whether it may be used again, beside its times.
//!
//! It rides in the extensions of a [`CacheMeta`], and the store keeps it with the head. Made by [`super::freshness::judge`].

use pingora_cache::CacheMeta;

use super::parts::Part;
use super::purge::tag_list::TagNames;

/// The terms of a stored answer. The default is an answer that said nothing of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Terms {
    /// `no-cache` (RFC 9111 §5.2.2.4): never used again without asking the upstream.
    pub validates: bool,
    /// `must-revalidate`, `proxy-revalidate`, `s-maxage` (§5.2.2.2, §5.2.2.8, §5.2.2.10): never given when stale, but for the windows
    /// that are stored with it, which an answer with `s-maxage` may open itself and nobody else may. Ask [`super::reuse`].
    pub never_stale: bool,
    /// Names by which it can be purged together with others.
    pub tags: TagNames,
    /// Which part of a whole it is, if it is only one (§3.3). Its head is that of the whole, with the length of the part.
    pub part: Option<Part>,
}

impl Terms {
    /// The terms of a stored answer.
    #[must_use]
    pub fn of(meta: &CacheMeta) -> Self {
        meta.extensions().get::<Self>().cloned().unwrap_or_default()
    }

    /// `validates` and `never_stale`, without a copy of the rest.
    pub(super) fn bounds(meta: &CacheMeta) -> (bool, bool) {
        meta.extensions().get::<Self>().map_or((false, false), |terms| (terms.validates, terms.never_stale))
    }

    /// Attaches the terms to what will be handed to the store.
    pub fn stamp(self, meta: &mut CacheMeta) {
        meta.extensions_mut().insert(self);
    }
}
