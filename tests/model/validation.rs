//! What a 304 says of what is stored (RFC 9111 §4.3.4, §3.2).

use crate::message::{Fields, Tag};

impl Tag {
    /// RFC 9110 §8.8.3.2.
    pub fn is_same_strongly(self, other: Self) -> bool {
        self == other && !self.is_weak
    }

    pub fn is_same_weakly(self, other: Self) -> bool {
        self.opaque == other.opaque
    }
}

/// §4.3.4: whether a 304 speaks of what is stored. There is only one answer that it was asked about, so one that names nothing is about
/// that.
pub fn is_about(stored: &Fields, update: &Fields) -> bool {
    // A date alone is a strong validator here: all are minutes older than the answers (RFC 9110 §8.8.2.2).
    let is_same_date = update.modified.is_some() && update.modified == stored.modified;
    match (update.tag, stored.tag) {
        (Some(new), Some(old)) if new.is_weak => new.is_same_weakly(old),
        (Some(new), Some(old)) => new.is_same_strongly(old),
        (Some(_), None) => is_same_date,
        (None, _) => update.modified.is_none() || is_same_date,
    }
}

/// §3.2: every field of the update takes the place of the stored one; but the stored tag names the stored bytes, and the age counts from the
/// update.
pub fn merged(stored: &Fields, update: &Fields) -> Fields {
    let (old, new) = (stored.clone(), update.clone());
    Fields {
        cache_control: new.cache_control.or(old.cache_control),
        targeted: new.targeted.or(old.targeted),
        expires: new.expires.or(old.expires),
        age: new.age,
        date: new.date,
        tag: old.tag.or(new.tag),
        modified: new.modified.or(old.modified),
        vary: new.vary.or(old.vary),
        location: new.location.or(old.location),
        content_location: new.content_location.or(old.content_location),
        cookie: new.cookie.or(old.cookie),
        mark: new.mark.or(old.mark),
        spelling: new.spelling,
    }
}
