//! A sequence as people read it: one line for each request, one for what the origin would say.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use crate::Sequence;
use crate::message::Fields;
use crate::origin::Origin;
use crate::settings::PREFIX;

pub fn sequence(sequence: &Sequence) -> String {
    let settings = &sequence.settings;
    let errors = if settings.masks { "mask" } else { "pass" };
    let mut text = format!("{:?}, errors: {errors}, cache: {}\n", settings.kind, settings.cache());
    for (number, step) in sequence.steps.iter().enumerate() {
        let _ = write!(text, "{number:>3}. +{} s  {} /{}", step.pass, step.ask.method, step.ask.url);
        for (name, value) in step.ask.lines(midnight()) {
            let _ = write!(text, "  {name}: {value}");
        }
        text.push('\n');
        match &step.origin {
            Origin::Dead => text.push_str("       the origin is dead\n"),
            Origin::Alive { status, fields, not_modified } => {
                let _ = writeln!(text, "       {status}{}", told(fields));
                if let Some(says) = not_modified {
                    let _ = writeln!(
                        text,
                        "       304 where asked, tag {:?}, date {:?}{}",
                        says.tag,
                        says.modified,
                        told(&says.fields)
                    );
                }
            }
        }
    }
    text
}

fn told(fields: &Fields) -> String {
    fields.lines(midnight(), PREFIX).iter().map(|(name, value)| format!("  {name}: {value}")).collect()
}

/// Where the sequence began, for reading: the midnight in which the year 2000 did.
fn midnight() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(946_684_800)
}

impl std::fmt::Debug for Sequence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&sequence(self))
    }
}
