//! What the origin does in one step, as a function of what it is asked. The model and the stub of the gateway ask the same function.

use std::time::SystemTime;

use crate::message::{Answer, Fields, Moment, Tag, date};

/// A request as it reaches the origin.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Call {
    pub method: String,
    pub url: usize,
    pub if_none_match: Option<String>,
    pub if_modified_since: Option<String>,
    pub if_match: Option<String>,
    pub if_unmodified_since: Option<String>,
    pub range: Option<String>,
}

impl Call {
    /// Reads the fields that are conditions or name a part.
    pub fn read(&mut self, name: &str, value: &str) {
        let place = match name {
            "if-none-match" => &mut self.if_none_match,
            "if-modified-since" => &mut self.if_modified_since,
            "if-match" => &mut self.if_match,
            "if-unmodified-since" => &mut self.if_unmodified_since,
            "range" => &mut self.range,
            _ => return,
        };
        *place = Some(value.to_owned());
    }
}

/// A validator on a 304.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Echo {
    Nothing,
    /// What it was asked about.
    Same,
    /// What it was asked about, but weak.
    Weak,
    /// Something else: it speaks of another answer.
    Other,
}

/// What it says to a condition, where it does not send the whole.
#[derive(Debug, Clone, PartialEq)]
pub struct NotModified {
    pub tag: Echo,
    pub modified: Echo,
    /// Without validators.
    pub fields: Fields,
}

#[expect(clippy::large_enum_variant, reason = "few, and soon gone")]
#[derive(Debug, Clone, PartialEq)]
pub enum Origin {
    Dead,
    Alive { status: u16, fields: Fields, not_modified: Option<NotModified> },
}

/// A moment of `Last-Modified` that nothing else has.
const ANOTHER_TIME: Moment = -77_030;

impl Origin {
    /// Its answer. The body says which step and which call of it made it.
    pub fn answer(&self, call: &Call, step: usize, nth: usize, epoch: SystemTime) -> Option<Answer> {
        let Self::Alive { status, fields, not_modified } = self else { return None };
        let is_conditional = call.if_none_match.is_some() || call.if_modified_since.is_some();
        match not_modified
            .as_ref()
            .filter(|_| is_conditional && matches!(call.method.as_str(), "GET" | "HEAD"))
        {
            Some(says) => Some(Answer { status: 304, fields: says.fields(call, epoch), body: String::new() }),
            None => {
                let body =
                    if *status == 204 { String::new() } else { format!("step {step:02}, call {nth}.") };
                Some(Answer { status: *status, fields: fields.clone(), body })
            }
        }
    }
}

impl NotModified {
    fn fields(&self, call: &Call, epoch: SystemTime) -> Fields {
        let asked = call.if_none_match.as_deref().and_then(Tag::read);
        let tag = match self.tag {
            Echo::Nothing => None,
            Echo::Same => asked,
            Echo::Weak => asked.map(|tag| Tag { is_weak: true, ..tag }),
            Echo::Other => Some(Tag { is_weak: false, opaque: 9 }),
        };
        let since = call.if_modified_since.as_ref();
        let modified = match self.modified {
            Echo::Nothing => None,
            Echo::Same | Echo::Weak => {
                since.and_then(|since| TIMES.into_iter().find(|time| date(epoch, *time, 0) == *since))
            }
            Echo::Other => Some(ANOTHER_TIME),
        };
        Fields { tag, modified, ..self.fields.clone() }
    }
}

/// The moments that `Last-Modified` may name. A tenth of each ends in 3.
pub const TIMES: [Moment; 3] = [-330, -1030, -86_430];
