//! What of an answer a client is given, by its conditions and its range (RFC 9110 §13, §14).

use crate::cache::{Age, Shown, ours};
use crate::message::{Ask, Fields, Part, Tag, Tags};

/// Which part of an answer a client gets, by its conditions (RFC 9110 §13.2.2) and its range (§14.2).
pub fn view(shown: Shown, ask: &Ask) -> Shown {
    if !(200..300).contains(&shown.status) {
        return shown;
    }
    let fields = shown.fields.clone().unwrap_or_default();
    if let Some(tags) = &ask.if_match {
        if !names(tags, fields.tag, Tag::is_same_strongly) {
            return ours(412);
        }
    } else if let Some(since) = ask.if_unmodified_since
        && fields.modified.is_some_and(|modified| modified > since)
    {
        return ours(412);
    }
    let is_unchanged = match (&ask.if_none_match, ask.if_modified_since) {
        (Some(tags), _) => names(tags, fields.tag, Tag::is_same_weakly),
        // RFC 9111 §4.3.2: `Date` stands in for `Last-Modified`.
        (None, Some(since)) => fields.modified.or(fields.date).is_some_and(|changed| changed <= since),
        (None, None) => false,
    };
    if is_unchanged {
        let modified = fields.modified.filter(|_| fields.tag.is_none());
        let fields = Some(Fields { modified, ..fields });
        return Shown { status: 304, body: Some(String::new()), fields, ..shown };
    }
    let Some(body) = shown.body.clone().filter(|_| ask.method == "GET" && shown.status == 200) else {
        return shown;
    };
    let range = match ask.part {
        None | Some(Part::OtherUnit) => return shown,
        Some(Part::Closed(first, last)) => first..(last + 1).min(body.len()),
        Some(Part::From(first)) => first..body.len(),
        Some(Part::Last(count)) => body.len().saturating_sub(count)..body.len(),
    };
    match body.get(range).filter(|part| !part.is_empty()) {
        Some(part) => Shown { status: 206, body: Some(part.to_owned()), ..shown },
        None => {
            let (fields, age) = (None, Age::Said(None));
            Shown { status: 416, body: Some(String::new()), fields, age, ..shown }
        }
    }
}

fn names(tags: &Tags, stored: Option<Tag>, is_same: fn(Tag, Tag) -> bool) -> bool {
    match tags {
        Tags::Any => true,
        Tags::Of(tags) => tags.iter().any(|tag| stored.is_some_and(|stored| is_same(*tag, stored))),
    }
}
