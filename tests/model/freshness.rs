//! Whether the model stores an answer, and until when that is fresh (RFC 9111 §3, §4.2; RFC 5861; RFC 9213).

use crate::message::{Ask, Directive, Expires, Fields, Moment, Seconds, Targeted, Vary};
use crate::settings::Settings;

/// What is known of a stored answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judged {
    /// When it was made.
    pub born: Moment,
    pub lifetime: i64,
    pub while_revalidate: i64,
    pub if_error: i64,
    /// `no-cache`: never without asking.
    pub validates: bool,
    /// Not by a client's wish either.
    pub never_stale: bool,
}

/// What an answer says to this cache.
pub struct Said<'a> {
    directives: &'a [Directive],
    /// In the field that is for such caches only.
    is_targeted: bool,
}

impl<'a> Said<'a> {
    /// RFC 9213 §2.2: the targeted field alone, where it is sound.
    pub fn of(fields: &'a Fields) -> Self {
        match &fields.targeted {
            Some(Targeted::Says(directives)) => Self { directives, is_targeted: true },
            _ => Self { directives: fields.cache_control.as_deref().unwrap_or_default(), is_targeted: false },
        }
    }

    pub fn has(&self, directive: Directive) -> bool {
        self.directives.contains(&directive)
    }

    /// Whether a field is named by `no-cache` or `private`: it is not kept, the rest may be.
    pub fn withholds(&self, name: &'static str) -> bool {
        self.has(Directive::NoCacheOf(name)) || self.has(Directive::PrivateOf(name))
    }

    /// §4.2.1: a value that is said twice and not the same, or is no number, is stale.
    fn seconds(&self, pick: fn(Directive) -> Option<Seconds>) -> Option<Seconds> {
        let mut values = self.directives.iter().filter_map(|directive| pick(*directive));
        let first = values.next()?;
        Some(if values.all(|value| value == first) { first } else { Seconds::Nonsense })
    }

    fn max_age(&self) -> Option<Seconds> {
        self.seconds(|directive| if let Directive::MaxAge(value) = directive { Some(value) } else { None })
    }

    fn shared_max_age(&self) -> Option<Seconds> {
        self.seconds(
            |directive| if let Directive::SharedMaxAge(value) = directive { Some(value) } else { None },
        )
    }

    /// §5.2.2.2, §5.2.2.8.
    fn revalidates(&self) -> bool {
        self.has(Directive::MustRevalidate) || self.has(Directive::ProxyRevalidate)
    }

    fn gives_a_shared_age(&self) -> bool {
        matches!(self.shared_max_age(), Some(Seconds::Are(_)))
    }
}

impl Seconds {
    fn or_none(self) -> i64 {
        match self {
            Self::Are(seconds) => seconds,
            Self::Nonsense => 0,
        }
    }
}

/// §3: whether the answer to a GET is stored, and on which terms.
pub fn judge(settings: &Settings, ask: &Ask, status: u16, fields: &Fields, now: Moment) -> Option<Judged> {
    let said = Said::of(fields);
    let ttl = settings.ttl.filter(|_| is_plain(status));
    let forced = ttl.filter(|_| settings.overrides_upstream());
    if !may_be_stored(settings, ask, status, fields, forced.is_some()) {
        return None;
    }
    // §4.2.3. The answer takes no time here.
    let age = fields.age.unwrap_or(0).max(-fields.date.unwrap_or(0)).max(0);
    let born = now - age;
    let has_validator = fields.tag.is_some() || fields.modified.is_some();
    if said.has(Directive::NoCache) && forced.is_none() {
        let judged = Judged {
            born,
            lifetime: 0,
            while_revalidate: 0,
            if_error: 0,
            validates: true,
            never_stale: true,
        };
        // §5.2.2.4: there must be something to ask by, or it is never of use.
        return has_validator.then_some(judged);
    }
    let mut lifetime = match forced {
        Some(ttl) => age + ttl,
        None => explicit(&said, fields).or_else(|| guessed(settings, &said, status, fields)).or(ttl)?,
    };
    let (mut while_revalidate, mut if_error) = windows(settings, &said, forced.is_some());
    if status >= 400 {
        lifetime = lifetime.min(age + settings.negative);
        while_revalidate = while_revalidate.min(settings.negative);
        if_error = if_error.min(settings.negative);
    }
    let is_of_use = age < lifetime + while_revalidate.max(if_error) || (has_validator && status < 400);
    let never_stale = said.revalidates() || (said.shared_max_age().is_some() && forced.is_none());
    is_of_use.then_some(Judged { born, lifetime, while_revalidate, if_error, validates: false, never_stale })
}

/// Whether an answer is not for others because of who asked, and for no other reason that forbids it.
pub fn is_for_who_asks(settings: &Settings, ask: &Ask, status: u16, fields: &Fields) -> bool {
    let anybody = Ask { authorization: None, cookie: false, ..ask.clone() };
    // Where it would be stored is another matter.
    let anywhere = Fields { vary: None, ..fields.clone() };
    let is_forced = settings.overrides_upstream() && is_plain(status);
    let may = |ask: &Ask| may_be_stored(settings, ask, status, &anywhere, is_forced);
    !may(ask) && may(&anybody)
}

fn may_be_stored(settings: &Settings, ask: &Ask, status: u16, fields: &Fields, is_forced: bool) -> bool {
    let said = Said::of(fields);
    let must_understand = said.has(Directive::MustUnderstand);
    // §5.2.2.3: `no-store` beside it is for caches that do not know it.
    let no_store = said.has(Directive::OpenQuote) || (said.has(Directive::NoStore) && !must_understand);
    let gives_leave = said.has(Directive::Public) || said.gives_a_shared_age();
    // §3.5.
    let authorized = ask.authorization.is_some() && settings.passes_authorization();
    let may_share = (gives_leave || said.has(Directive::MustRevalidate)) && !is_forced;
    let may_share_cookie = gives_leave && !is_forced;
    // §7.3: a cookie is kept where the route says so, and the answer for how long.
    let is_explicit = !is_forced && explicit(&said, fields).is_some();
    let cookie_is_kept = said.withholds("set-cookie") || (settings.keeps_cookies() && is_explicit);
    !(status == 304
        || status == 206
        || (must_understand && status == 599)
        || no_store
        || said.has(Directive::Private)
        || (fields.cookie.is_some() && !cookie_is_kept)
        || (authorized && !may_share)
        || (ask.cookie && settings.passes_authorization() && !may_share_cookie)
        || fields.vary == Some(Vary::Star))
}

/// §4.2.1.
fn explicit(said: &Said, fields: &Fields) -> Option<i64> {
    if let Some(seconds) = said.shared_max_age().or(said.max_age()) {
        return Some(seconds.or_none());
    }
    match fields.expires.filter(|_| !said.is_targeted)? {
        Expires::At(moment) => Some((moment - fields.date.unwrap_or(0)).max(0)),
        Expires::Nonsense => Some(0),
    }
}

/// §4.2.2.
fn guessed(settings: &Settings, said: &Said, status: u16, fields: &Fields) -> Option<i64> {
    let longest = settings.heuristic.filter(|_| is_plain(status) || said.has(Directive::Public))?;
    let since = fields.date.unwrap_or(0) - fields.modified?;
    (since >= 0).then_some((since / 10).min(longest))
}

/// Of the statuses of a sequence, those that may be kept without an explicit word (RFC 9110 §15.1).
fn is_plain(status: u16) -> bool {
    matches!(status, 200 | 203 | 204 | 301 | 404 | 410)
}

/// How long after its lifetime an answer is still given, while a new one is fetched, and while the upstream fails.
fn windows(settings: &Settings, said: &Said, is_forced: bool) -> (i64, i64) {
    if said.revalidates() {
        return (0, 0);
    }
    // §5.2.2.10: `s-maxage` closes what the route would open, not what the answer itself opens.
    let is_closed = said.shared_max_age().is_some() && !is_forced;
    let choose = |theirs: Option<Seconds>, ours: Option<i64>| match theirs {
        _ if is_forced => ours.or(theirs.map(Seconds::or_none)).unwrap_or(0),
        Some(seconds) => seconds.or_none(),
        None => ours.filter(|_| !is_closed).unwrap_or(0),
    };
    let while_revalidate =
        said.seconds(
            |directive| if let Directive::WhileRevalidate(value) = directive { Some(value) } else { None },
        );
    let if_error =
        said.seconds(|directive| if let Directive::IfError(value) = directive { Some(value) } else { None });
    (choose(while_revalidate, settings.while_revalidate), choose(if_error, settings.if_error))
}
