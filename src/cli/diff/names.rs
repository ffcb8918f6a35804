//! What is only called otherwise in the new configuration: a name that changed is no request that is answered otherwise.

use std::collections::HashMap;

use serde_json::Value;

use crate::plan::diff::{Diff, PartKind, What};
use crate::proxy::explain::Outcome;

/// From old names to new ones.
#[derive(Debug, Default)]
pub struct Names {
    /// Of listeners.
    pub listeners: HashMap<String, String>,
    routes: HashMap<String, String>,
    upstreams: HashMap<String, String>,
    secrets: HashMap<String, String>,
}

impl Names {
    /// Those that a comparison found.
    #[must_use]
    pub fn of(diff: &Diff) -> Self {
        let mut names = Self::default();
        for change in &diff.changes {
            let What::Renamed { from } = &change.what else { continue };
            let map = match change.part {
                PartKind::Listener => &mut names.listeners,
                PartKind::Route => &mut names.routes,
                PartKind::Upstream => &mut names.upstreams,
                PartKind::Secret => &mut names.secrets,
                _ => continue,
            };
            map.insert(from.clone(), change.name.clone());
        }
        names
    }

    /// An outcome of the old configuration with the new names.
    #[must_use]
    pub fn applied(&self, old: &Outcome) -> Outcome {
        let mut outcome = old.clone();
        let rename = |map: &HashMap<String, String>, name: &mut String| {
            if let Some(new) = map.get(name) {
                name.clone_from(new);
            }
        };
        if let Some(route) = &mut outcome.route {
            rename(&self.routes, route);
        }
        if let Some(upstream) = &mut outcome.upstream {
            rename(&self.upstreams, &mut upstream.name);
        }
        if let Some(Value::String(route)) =
            outcome.decisions.get_mut("cache").and_then(|c| c.pointer_mut("/key/route"))
        {
            rename(&self.routes, route);
        }
        if let Some(sent) = &mut outcome.sent {
            for (from, to) in &self.secrets {
                let (from, to) = (format!("<secret:{from}>"), format!("<secret:{to}>"));
                sent.target = sent.target.replace(&from, &to);
                sent.fields.iter_mut().for_each(|(_, value)| *value = value.replace(&from, &to));
            }
        }
        outcome
    }
}
