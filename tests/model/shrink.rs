//! Makes a sequence that fails as short and as plain as it gets: what can be left out is left out.

use crate::message::{Ask, Fields};
use crate::origin::Origin;
use crate::settings::Settings;
use crate::{Sequence, Step};

/// `fails`: in which step a sequence fails, if it does.
pub fn shrink(sequence: &Sequence, fails: impl Fn(&Sequence) -> Option<usize>) -> Sequence {
    let mut best = sequence.clone();
    let mut is_better = true;
    while is_better {
        is_better = false;
        if let Some(last) = fails(&best) {
            best.steps.truncate(last + 1);
        }
        // From the end, so that what is left to try stays in its place.
        for at in (0..best.steps.len()).rev() {
            let mut less = best.clone();
            less.steps.remove(at);
            is_better |= take(&mut best, less, &fails);
        }
        for at in (0..best.steps.len()).rev() {
            let mut turn = 0;
            // Made anew each time: one success must not undo another.
            while let Some(plainer) = plainer_steps(&best.steps[at]).into_iter().nth(turn) {
                let mut less = best.clone();
                less.steps[at] = plainer;
                is_better |= take(&mut best, less, &fails);
                turn += 1;
            }
        }
        let mut turn = 0;
        while let Some(settings) = plainer_settings(&best.settings).into_iter().nth(turn) {
            let less = Sequence { settings, steps: best.steps.clone() };
            is_better |= take(&mut best, less, &fails);
            turn += 1;
        }
    }
    best
}

fn take(best: &mut Sequence, less: Sequence, fails: &impl Fn(&Sequence) -> Option<usize>) -> bool {
    let is_better = less != *best && fails(&less).is_some();
    if is_better {
        *best = less;
    }
    is_better
}

/// Each with one thing less.
fn plainer_steps(step: &Step) -> Vec<Step> {
    let mut all = vec![Step { pass: 0, ..step.clone() }];
    all.extend(plainer_asks(&step.ask).into_iter().map(|ask| Step { ask, ..step.clone() }));
    let Origin::Alive { status, fields, not_modified } = &step.origin else { return all };
    let mut origin = |status, fields, not_modified| {
        all.push(Step { origin: Origin::Alive { status, fields, not_modified }, ..step.clone() });
    };
    origin(200, fields.clone(), not_modified.clone());
    origin(*status, fields.clone(), None);
    for plainer in plainer_fields(fields) {
        origin(*status, plainer, not_modified.clone());
    }
    if let Some(says) = not_modified {
        for plainer in plainer_fields(&says.fields) {
            let mut says = says.clone();
            says.fields = plainer;
            origin(*status, fields.clone(), Some(says));
        }
    }
    all
}

fn plainer_asks(ask: &Ask) -> Vec<Ask> {
    let mut all = vec![
        Ask { method: "GET", ..ask.clone() },
        Ask { url: 0, ..ask.clone() },
        Ask { language: None, ..ask.clone() },
        Ask { encoding: None, ..ask.clone() },
        Ask { tenant: None, ..ask.clone() },
        Ask { authorization: None, ..ask.clone() },
        Ask { cookie: false, ..ask.clone() },
        Ask { if_match: None, ..ask.clone() },
        Ask { if_none_match: None, ..ask.clone() },
        Ask { if_modified_since: None, ..ask.clone() },
        Ask { if_unmodified_since: None, ..ask.clone() },
        Ask { part: None, ..ask.clone() },
        Ask { spelling: 0, ..ask.clone() },
    ];
    all.extend((0..ask.wishes.len()).map(|at| Ask { wishes: without(&ask.wishes, at), ..ask.clone() }));
    all
}

fn plainer_fields(fields: &Fields) -> Vec<Fields> {
    let mut all = vec![
        Fields { cache_control: None, ..fields.clone() },
        Fields { targeted: None, ..fields.clone() },
        Fields { expires: None, ..fields.clone() },
        Fields { age: None, ..fields.clone() },
        Fields { date: None, ..fields.clone() },
        Fields { tag: None, ..fields.clone() },
        Fields { modified: None, ..fields.clone() },
        Fields { vary: None, ..fields.clone() },
        Fields { location: None, ..fields.clone() },
        Fields { content_location: None, ..fields.clone() },
        Fields { cookie: None, ..fields.clone() },
        Fields { mark: None, ..fields.clone() },
        Fields { spelling: 0, ..fields.clone() },
    ];
    if let Some(directives) = &fields.cache_control {
        let less = (0..directives.len()).map(|at| without(directives, at));
        all.extend(less.map(|less| Fields { cache_control: Some(less), ..fields.clone() }));
    }
    all
}

fn plainer_settings(settings: &Settings) -> Vec<Settings> {
    vec![
        Settings { ttl: None, overrides: false, ..settings.clone() },
        Settings { overrides: false, ..settings.clone() },
        Settings { while_revalidate: None, ..settings.clone() },
        Settings { if_error: None, ..settings.clone() },
        Settings { heuristic: None, ..settings.clone() },
        Settings { honors: false, ..settings.clone() },
        Settings { stores_cookies: false, ..settings.clone() },
        Settings { masks: false, ..settings.clone() },
    ]
}

fn without<T: Clone>(all: &[T], at: usize) -> Vec<T> {
    let mut less = all.to_vec();
    less.remove(at);
    less
}
