//! The model: a shared cache of RFC 9111 as a list of what is stored, with whole seconds, written from the text of the RFCs.
//!
//! It knows nothing of the gateway's code. Where the RFCs leave a choice it takes the one that `docs/caching.md` and the configuration
//! promise. Two things it leaves open, because they are nobody's promise ([`Doubts`]).
//!
//! Time: the clock of the sequence moves what is stored; what a date says stays where it is, because the wall stands still meanwhile.

use std::collections::BTreeSet;
use std::time::SystemTime;

use crate::freshness::{self, Judged};
use crate::message::{Ask, Directive, Fields, Moment, Selecting, Tag, Vary, Wish, date};
use crate::origin::{Call, Origin};
use crate::settings::Settings;
use crate::validation::{is_about, merged};
use crate::view::view;

/// A stored answer.
#[derive(Clone)]
pub struct Stored {
    url: usize,
    identity: Option<u8>,
    /// What the request said that brought it (§4.1).
    selected_by: Vec<(Selecting, Option<u8>)>,
    status: u16,
    fields: Fields,
    body: Option<String>,
    terms: Judged,
}

/// What a cache may or may not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Doubts {
    /// How many of those that could be used it no longer has, or does not find, the last ones first. Any cache may forget; this one only
    /// where the answers of one URL do not agree by which fields they vary.
    pub forgets: usize,
    /// It passes the request on as it is, although its answer might be stored: for some seconds after one that was not for sharing.
    pub goes_alone: bool,
}

/// How old the answer says that it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Age {
    /// As the upstream said, if it did.
    Said(Option<i64>),
    /// Counted here.
    Counted(i64),
}

/// What a client is to see.
#[derive(Clone)]
pub struct Shown {
    pub status: u16,
    /// None: the gateway's own words.
    pub body: Option<String>,
    /// None: those do not matter.
    pub fields: Option<Fields>,
    pub age: Age,
    /// By `Cache-Status`; None: it says nothing of it.
    pub is_hit: Option<bool>,
    pub is_stored: Option<bool>,
    /// Seconds of freshness left, of a hit.
    pub left: Option<i64>,
}

/// What the origin and the client are to see in one step.
#[derive(Clone)]
pub struct Expected {
    pub calls: Vec<Call>,
    pub shown: Shown,
}

#[derive(Clone)]
pub struct Cache {
    settings: Settings,
    stored: Vec<Stored>,
    now: Moment,
    epoch: SystemTime,
    /// URLs whose last answers were not for sharing, since time last passed.
    unshared: BTreeSet<usize>,
    /// URLs whose answers do not agree by what they vary.
    unsettled: BTreeSet<usize>,
    calls: Vec<Call>,
    step: usize,
}

enum Reuse {
    Fresh,
    WhileRevalidate,
    Stale,
    Validate,
}

/// What a request asks, where the route listens.
#[derive(Clone, Copy, Default)]
struct Wishes {
    no_cache: bool,
    no_store: bool,
    only_if_cached: bool,
    max_age: Option<i64>,
    min_fresh: Option<i64>,
    /// `i64::MAX`: however stale.
    max_stale: Option<i64>,
    if_error: Option<i64>,
}

impl Wishes {
    fn of(ask: &Ask, settings: &Settings) -> Self {
        let mut wishes = Self::default();
        if !settings.honors {
            return wishes;
        }
        // §5.4: `Pragma` counts where there is no `Cache-Control`.
        let has_cache_control = ask.wishes.iter().any(|wish| *wish != Wish::Pragma);
        for wish in &ask.wishes {
            match *wish {
                Wish::NoCache => wishes.no_cache = true,
                Wish::Pragma => wishes.no_cache |= !has_cache_control,
                Wish::NoStore => wishes.no_store = true,
                Wish::OnlyIfCached => wishes.only_if_cached = true,
                Wish::MaxAge(seconds) => wishes.max_age = Some(seconds),
                Wish::MinFresh(seconds) => wishes.min_fresh = Some(seconds),
                Wish::MaxStale(seconds) => wishes.max_stale = Some(seconds.unwrap_or(i64::MAX)),
                Wish::IfError(seconds) => wishes.if_error = Some(seconds),
            }
        }
        wishes
    }
}

impl Stored {
    fn answers(&self, settings: &Settings, ask: &Ask) -> bool {
        self.url == ask.url
            && self.identity == settings.identity(ask)
            && self.selected_by.iter().all(|(by, said)| settings.selects(ask, *by) == *said)
    }
}

impl Cache {
    pub fn new(settings: &Settings, epoch: SystemTime) -> Self {
        Self {
            settings: settings.clone(),
            stored: Vec::new(),
            now: 0,
            epoch,
            unshared: BTreeSet::new(),
            unsettled: BTreeSet::new(),
            calls: Vec::new(),
            step: 0,
        }
    }

    pub fn pass(&mut self, seconds: i64) {
        self.now += seconds;
        if seconds > 0 {
            self.unshared.clear();
        }
    }

    /// The most that the cache may do otherwise.
    pub fn doubts(&self, ask: &Ask) -> Doubts {
        let is_unsettled = self.unsettled.contains(&ask.url);
        let found = self.stored.iter().filter(|stored| stored.answers(&self.settings, ask)).count();
        Doubts { forgets: if is_unsettled { found } else { 0 }, goes_alone: self.unshared.contains(&ask.url) }
    }

    /// One request.
    pub fn step(&mut self, ask: &Ask, origin: &Origin, step: usize, doubts: Doubts) -> Expected {
        self.calls.clear();
        self.step = step;
        let shown = if matches!(ask.method, "GET" | "HEAD") {
            self.look_up(ask, origin, doubts)
        } else {
            self.pass_on(ask, origin)
        };
        Expected { calls: std::mem::take(&mut self.calls), shown }
    }

    /// §4.
    fn look_up(&mut self, ask: &Ask, origin: &Origin, doubts: Doubts) -> Shown {
        let wishes = Wishes::of(ask, &self.settings);
        if wishes.no_store {
            // §5.2.1.5: nothing of this exchange is kept; what is kept is not given either.
            return match wishes.only_if_cached {
                true => ours(504),
                false => self.fetch(ask, wishes, origin, None, Way::Alone { stores: false }),
            };
        }
        let found = self.select(ask, doubts.forgets);
        if let Some(found) = &found {
            match self.reuse(found, wishes) {
                Reuse::Fresh | Reuse::Stale => return self.serve(found, ask, Source::Hit),
                Reuse::WhileRevalidate => {
                    let shown = self.serve(found, ask, Source::Hit);
                    // RFC 5861 §3: behind the answer, with what was found; not for who could not be stored.
                    if !freshness::is_for_who_asks(&self.settings, ask, found.status, &found.fields) {
                        let _ = self.fetch(ask, wishes, origin, Some(found.clone()), Way::Whole);
                    }
                    return shown;
                }
                Reuse::Validate => {}
            }
        }
        if wishes.only_if_cached {
            return ours(504);
        }
        let is_alone = doubts.goes_alone && found.is_none();
        let way = if is_alone { Way::Alone { stores: true } } else { Way::Whole };
        self.fetch(ask, wishes, origin, found, way)
    }

    /// §4.1: the last one whose selecting fields are the request's.
    fn select(&self, ask: &Ask, forgotten: usize) -> Option<Stored> {
        self.stored.iter().rev().filter(|stored| stored.answers(&self.settings, ask)).nth(forgotten).cloned()
    }

    /// Forgets what this request selects.
    fn forget(&mut self, ask: &Ask) {
        self.stored.retain(|stored| !stored.answers(&self.settings, ask));
    }

    /// §4.2, §4.2.4, §5.2.1. Of two times that are equal, a moment has passed since the first.
    fn reuse(&self, stored: &Stored, wishes: Wishes) -> Reuse {
        let age = self.now - stored.terms.born;
        let left = stored.terms.lifetime - age;
        let is_fresh = left > 0;
        if wishes.no_cache || stored.terms.validates {
            return Reuse::Validate;
        }
        if wishes.min_fresh.is_some_and(|wanted| left < wanted) {
            return Reuse::Validate;
        }
        // RFC 8246 §2: what is fresh and immutable does not change.
        let is_immutable = is_fresh && freshness::Said::of(&stored.fields).has(Directive::Immutable);
        if wishes.max_age.is_some_and(|oldest| age >= oldest && !is_immutable) {
            return Reuse::Validate;
        }
        if is_fresh {
            return Reuse::Fresh;
        }
        // §5.2.1.1: who gives a largest age wants nothing stale, unless it says so.
        if wishes.max_age.is_some() && wishes.max_stale.is_none() {
            return Reuse::Validate;
        }
        let staleness = -left;
        if staleness < stored.terms.while_revalidate {
            return Reuse::WhileRevalidate;
        }
        if !stored.terms.never_stale && wishes.max_stale.is_some_and(|longest| staleness <= longest) {
            return Reuse::Stale;
        }
        Reuse::Validate
    }

    /// RFC 5861 §4.
    fn stands_in(&self, stored: &Stored, wishes: Wishes) -> bool {
        let staleness = self.now - stored.terms.born - stored.terms.lifetime;
        let own = stored.terms.if_error;
        let window = match wishes.if_error {
            Some(wanted) if stored.terms.never_stale => wanted.min(own),
            Some(wanted) => wanted,
            None => own,
        };
        let is_forbidden = stored.terms.validates || (wishes.no_cache && wishes.if_error.is_none());
        // One failure is no better than another.
        !is_forbidden && stored.status < 500 && staleness < window
    }

    /// Asks the origin, and keeps what may be kept (§3, §4.3).
    fn fetch(
        &mut self,
        ask: &Ask,
        wishes: Wishes,
        origin: &Origin,
        mut found: Option<Stored>,
        way: Way,
    ) -> Shown {
        loop {
            let call = match way {
                Way::Whole => self.whole(ask, found.as_ref()),
                Way::Alone { .. } => self.as_asked(ask),
            };
            self.calls.push(call.clone());
            let answer = origin.answer(&call, self.step, self.calls.len() - 1, self.epoch);
            let failed = answer.as_ref().is_none_or(|answer| matches!(answer.status, 500 | 502 | 503 | 504));
            if let Some(found) = found.as_ref().filter(|found| failed && self.stands_in(found, wishes)) {
                return self.serve(found, ask, Source::Asked { is_stored: false });
            }
            let Some(answer) = answer else { return ours(502) };
            let (status, fields, body) = self.settings.cleaned(answer);
            if status == 304 && way == Way::Whole {
                match found.take().filter(|found| is_about(&found.fields, &fields)) {
                    Some(found) => return self.validated(ask, found, &fields),
                    None => continue,
                }
            }
            let stores = way != Way::Alone { stores: false } && call.method != "HEAD";
            let is_stored = stores && self.keep(ask, status, &fields, body.as_ref());
            let shown = Shown {
                status,
                body: body.map(|body| if ask.method == "HEAD" { String::new() } else { body }),
                age: Age::Said(fields.age),
                fields: Some(fields),
                is_hit: Some(false),
                is_stored: Some(is_stored),
                left: None,
            };
            return if way == Way::Whole { view(shown, ask) } else { shown };
        }
    }

    /// §4.3.4: the stored answer with the new fields, judged anew, is what the client gets.
    fn validated(&mut self, ask: &Ask, mut found: Stored, update: &Fields) -> Shown {
        let vary = found.fields.vary.clone();
        found.fields = merged(&found.fields, update);
        let date = found.fields.date.unwrap_or(0);
        if freshness::is_for_who_asks(&self.settings, ask, found.status, &found.fields) {
            // It is about this client, and says nothing of what others are given.
            found.terms.born = self.now - (-date).max(found.fields.age.unwrap_or(0)).max(0);
            return self.serve(&found, ask, Source::Asked { is_stored: false });
        }
        if found.fields.vary != vary {
            self.unsettled.insert(ask.url);
        }
        self.forget(ask);
        let before = self.stored.len();
        let is_kept = self.keep(ask, found.status, &found.fields, found.body.as_ref());
        let now = match self.stored.get(before).cloned() {
            Some(kept) => kept,
            None => {
                // Good for this client, and then forgotten, maybe with its variants.
                self.unsettled.insert(ask.url);
                found.terms.born = self.now - (-date).max(found.fields.age.unwrap_or(0)).max(0);
                found
            }
        };
        self.serve(&now, ask, Source::Asked { is_stored: is_kept })
    }

    /// Stores an answer in the place of what it replaces, if it may be stored.
    fn keep(&mut self, ask: &Ask, status: u16, fields: &Fields, body: Option<&String>) -> bool {
        let judged = freshness::judge(&self.settings, ask, status, fields, self.now);
        if judged.as_ref().is_none_or(|judged| judged.validates) {
            self.unshared.insert(ask.url);
        }
        let Some(terms) = judged else { return false };
        // What belongs to the exchange, or is withheld, is not part of what is kept (§3.1, §5.2.2.4, §5.2.2.7).
        let said = freshness::Said::of(fields);
        let keeps_cookies = self.settings.keeps_cookies();
        let fields = Fields {
            cookie: fields.cookie.filter(|_| keeps_cookies && !said.withholds("set-cookie")),
            mark: fields.mark.filter(|_| !said.withholds("x-mark")),
            age: None,
            ..fields.clone()
        };
        let names = match &fields.vary {
            Some(Vary::Names(names)) => names.clone(),
            _ => Vec::new(),
        };
        let others = self.stored.iter().filter(|stored| stored.url == ask.url);
        let agree = others
            .map(|stored| &stored.selected_by)
            .all(|by| by.len() == names.len() && by.iter().all(|(by, _)| names.contains(by)));
        if !agree {
            self.unsettled.insert(ask.url);
        }
        self.forget(ask);
        self.stored.push(Stored {
            url: ask.url,
            identity: self.settings.identity(ask),
            selected_by: names.into_iter().map(|by| (by, self.settings.selects(ask, by))).collect(),
            status,
            fields,
            body: body.cloned(),
            terms,
        });
        true
    }

    fn serve(&self, stored: &Stored, ask: &Ask, source: Source) -> Shown {
        let is_hit = source == Source::Hit;
        let age = self.now - stored.terms.born;
        let shown = Shown {
            status: stored.status,
            body: stored.body.clone().map(|body| if ask.method == "HEAD" { String::new() } else { body }),
            fields: Some(stored.fields.clone()),
            age: Age::Counted(age),
            is_hit: Some(is_hit),
            is_stored: Some(source == Source::Asked { is_stored: true }),
            left: is_hit.then_some(stored.terms.lifetime - age),
        };
        view(shown, ask)
    }

    /// §4.4 and §9.2.1 of RFC 9110: what is not known to be safe takes away what it may have changed.
    fn pass_on(&mut self, ask: &Ask, origin: &Origin) -> Shown {
        let call = self.as_asked(ask);
        self.calls.push(call.clone());
        let Some(answer) = origin.answer(&call, self.step, 0, self.epoch) else { return ours(502) };
        let (status, fields, body) = self.settings.cleaned(answer);
        if ask.method != "OPTIONS" && status < 400 {
            use crate::message::Reference::{Absolute, Path};
            let named = |reference| match reference {
                Some(Path(url) | Absolute(url)) => Some(url),
                _ => None,
            };
            let gone = [Some(ask.url), named(fields.location), named(fields.content_location)];
            self.stored.retain(|stored| !gone.contains(&Some(stored.url)));
        }
        Shown {
            status,
            body,
            age: Age::Said(fields.age),
            fields: Some(fields),
            is_hit: Some(false),
            is_stored: Some(false),
            left: None,
        }
    }

    /// The request for the whole answer, with the validators of what was found (§4.3.1). A HEAD can be answered from a GET (§4).
    fn whole(&self, ask: &Ask, found: Option<&Stored>) -> Call {
        let fields = found.map(|found| &found.fields);
        Call {
            method: "GET".to_owned(),
            url: ask.url,
            if_none_match: fields.and_then(|fields| fields.tag).map(Tag::text),
            if_modified_since: fields.and_then(|fields| fields.modified).map(|at| date(self.epoch, at, 0)),
            ..Call::default()
        }
    }

    fn as_asked(&self, ask: &Ask) -> Call {
        let mut call = Call { method: ask.method.to_owned(), url: ask.url, ..Call::default() };
        ask.lines(self.epoch).iter().for_each(|(name, value)| call.read(name, value));
        call
    }
}

/// How the origin is asked.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// For all who ask: the whole, and about what was found.
    Whole,
    /// For this client, with its own words.
    Alone { stores: bool },
}

/// Whether what is stored was given without asking.
#[derive(Clone, Copy, PartialEq)]
enum Source {
    Hit,
    Asked { is_stored: bool },
}

/// An answer of the gateway's own.
pub fn ours(status: u16) -> Shown {
    Shown {
        status,
        body: None,
        fields: None,
        age: Age::Said(None),
        is_hit: None,
        is_stored: None,
        left: None,
    }
}
