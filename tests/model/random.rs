//! Sequences at random.
//!
//! Times never meet: what passes and ages end in 0, lifetimes and windows in 3, and what clients ask for in 4, 5 and 7. So a second more
//! or less, from dates that have no fractions, decides nothing. What happens at the very moment is for the tests beside the rules.

use proptest::collection::vec;
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use crate::message::{
    Ask, Directive, Expires, Fields, Part, Reference, Seconds, Selecting, Tag, Tags, Targeted, Vary, Wish,
};
use crate::origin::{Echo, NotModified, Origin, TIMES};
use crate::settings::{Kind, Settings, Span};
use crate::{Sequence, Step};

/// URLs of a sequence.
const URLS: usize = 2;

pub fn sequence() -> impl Strategy<Value = Sequence> {
    (settings(), vec(vary(), URLS)).prop_flat_map(|(settings, vary)| {
        let steps = vec(step(vary), 30..=60);
        (Just(settings), steps).prop_map(|(settings, mut steps)| {
            if settings.kind != Kind::App {
                steps.iter_mut().for_each(|step| at_home(&mut step.origin));
            }
            Sequence { settings, steps }
        })
    })
}

/// An `api` that names another place than its own is a fault, or the field is gone: that is no matter of the cache.
fn at_home(origin: &mut Origin) {
    let Origin::Alive { fields, .. } = origin else { return };
    for reference in [&mut fields.location, &mut fields.content_location].into_iter().flatten() {
        let (Reference::Path(url) | Reference::Absolute(url) | Reference::Elsewhere(url)) = *reference;
        *reference = Reference::Path(url);
    }
}

fn span(of: &'static [i64]) -> impl Strategy<Value = Span> {
    weighted(0.5, select(of))
}

fn settings() -> impl Strategy<Value = Settings> {
    let kind = prop_oneof![
        4 => Just(Kind::App),
        3 => Just(Kind::Api),
        1 => Just(Kind::ApiPerIdentity),
    ];
    let spans = (span(&[13, 43]), span(&[33, 63]), span(&[33, 103]), span(&[23, 86_403]));
    let negative = select(&[13, 53, 303]);
    let flags = (prop::bool::weighted(0.25), any::<bool>(), any::<bool>(), prop::bool::weighted(0.3));
    (kind, spans, negative, flags).prop_map(
        |(kind, (ttl, while_revalidate, if_error, heuristic), negative, flags)| {
            let (overrides, honors, stores_cookies, masks) = flags;
            Settings {
                kind,
                ttl,
                overrides,
                while_revalidate,
                if_error,
                heuristic,
                negative,
                honors,
                stores_cookies,
                masks,
            }
        },
    )
}

/// By what the answers of a URL vary, mostly.
fn vary() -> BoxedStrategy<Option<Vary>> {
    let all = vec![Selecting::Language, Selecting::Encoding, Selecting::Tenant];
    weighted(0.5, subsequence(all, 1..=2).prop_map(Vary::Names)).boxed()
}

fn step(vary: Vec<Option<Vary>>) -> impl Strategy<Value = Step> {
    let pass = prop_oneof![5 => Just(0), 4 => select(vec![10, 20, 30]), 1 => select(vec![50, 100])];
    (pass, ask()).prop_flat_map(move |(pass, ask)| {
        let usual = vary[ask.url].clone();
        (Just(pass), Just(ask), origin(usual)).prop_map(|(pass, ask, origin)| Step { pass, ask, origin })
    })
}

fn ask() -> impl Strategy<Value = Ask> {
    let method = prop_oneof![
        16 => Just("GET"),
        3 => Just("HEAD"),
        2 => select(vec!["POST", "PUT", "DELETE", "BREW", "OPTIONS"]),
    ];
    let selecting = (weighted(0.4, 0..2_u8), weighted(0.3, 0..2_u8), weighted(0.2, 0..2_u8));
    let who = (weighted(0.15, 0..2_u8), prop::bool::weighted(0.05));
    let conditions = (
        weighted(0.05, tags()),
        weighted(0.15, tags()),
        weighted(0.1, moment()),
        weighted(0.05, moment()),
        weighted(0.1, part()),
    );
    let wishes = prop_oneof![2 => Just(Vec::new()), 1 => vec(wish(), 1..=2)];
    (method, 0..URLS, wishes, selecting, who, conditions, any::<u8>()).prop_map(
        |(
            method,
            url,
            mut wishes,
            (language, encoding, tenant),
            (authorization, cookie),
            conditions,
            spelling,
        )| {
            wishes.dedup_by_key(|wish| std::mem::discriminant(wish));
            let (if_match, if_none_match, if_modified_since, if_unmodified_since, part) = conditions;
            let ask = Ask {
                method,
                url,
                wishes,
                language,
                encoding,
                tenant,
                authorization,
                cookie,
                if_match,
                if_none_match,
                if_modified_since,
                if_unmodified_since,
                part,
                spelling,
            };
            if matches!(method, "GET" | "HEAD") { ask } else { ask.plain() }
        },
    )
}

impl Ask {
    /// Without conditions: of those only the origin of an unsafe request can judge.
    fn plain(self) -> Self {
        Self {
            if_match: None,
            if_none_match: None,
            if_modified_since: None,
            if_unmodified_since: None,
            part: None,
            ..self
        }
    }
}

fn wish() -> impl Strategy<Value = Wish> {
    prop_oneof![
        2 => Just(Wish::NoCache),
        1 => Just(Wish::NoStore),
        2 => Just(Wish::OnlyIfCached),
        2 => select(vec![0, 5, 35]).prop_map(Wish::MaxAge),
        2 => select(vec![7, 27]).prop_map(Wish::MinFresh),
        3 => weighted(0.7, select(vec![4, 14, 44])).prop_map(Wish::MaxStale),
        2 => select(vec![4, 14, 44]).prop_map(Wish::IfError),
        1 => Just(Wish::Pragma),
    ]
}

fn tag() -> impl Strategy<Value = Tag> {
    (prop::bool::weighted(0.3), 0..3_u8).prop_map(|(is_weak, opaque)| Tag { is_weak, opaque })
}

fn tags() -> impl Strategy<Value = Tags> {
    prop_oneof![1 => Just(Tags::Any), 5 => vec(tag(), 1..=2).prop_map(Tags::Of)]
}

/// One that `Last-Modified` may name, or one before or behind all of them.
fn moment() -> impl Strategy<Value = i64> {
    prop_oneof![3 => select(&TIMES[..]), 1 => select(vec![-200_000, 200_000])]
}

fn part() -> impl Strategy<Value = Part> {
    prop_oneof![
        Just(Part::Closed(0, 3)),
        Just(Part::Closed(5, 900)),
        Just(Part::From(6)),
        Just(Part::From(900)),
        Just(Part::Last(4)),
        Just(Part::OtherUnit),
    ]
}

fn origin(usual: Option<Vary>) -> impl Strategy<Value = Origin> {
    let status = prop_oneof![
        12 => Just(200),
        3 => select(vec![203, 204, 301]),
        2 => select(vec![404, 410]),
        3 => select(vec![500, 503, 599]),
    ];
    let echo = || prop_oneof![3 => Just(Echo::Same), 2 => Just(Echo::Nothing), 1 => Just(Echo::Weak), 1 => Just(Echo::Other)];
    let not_modified =
        (echo(), echo(), fields(usual.clone()), any::<u8>()).prop_map(|(tag, modified, fields, keeps)| {
            // A 304 says less, as a rule.
            let cache_control = fields.cache_control.filter(|_| keeps % 2 == 0);
            let vary = fields.vary.filter(|_| keeps % 4 == 0);
            let fields = Fields { cache_control, vary, location: None, content_location: None, ..fields };
            NotModified { tag, modified, fields: Fields { tag: None, modified: None, ..fields } }
        });
    prop_oneof![
        1 => Just(Origin::Dead),
        8 => (status, fields(usual), weighted(0.6, not_modified))
            .prop_map(|(status, fields, not_modified)| Origin::Alive { status, fields, not_modified }),
    ]
}

fn fields(usual: Option<Vary>) -> impl Strategy<Value = Fields> {
    let vary = prop_oneof![
        40 => Just(usual),
        2 => vary(),
        1 => Just(Some(Vary::Star)),
    ];
    let says = (weighted(0.85, directives()), weighted(0.12, targeted()), weighted(0.2, expires()));
    let made = (weighted(0.15, select(vec![0, 10, 20, 50])), weighted(0.3, select(vec![0, -100, 100])));
    let validators = (weighted(0.5, tag()), weighted(0.4, select(&TIMES[..])));
    let references = (weighted(0.2, reference()), weighted(0.1, reference()));
    let others = (weighted(0.08, 0..3_u8), weighted(0.5, any::<u8>()), 0..5_u8);
    (says, made, validators, vary, references, others).prop_map(
        |(says, made, validators, vary, references, others)| {
            let (cache_control, targeted, expires) = says;
            Fields {
                cache_control,
                targeted,
                expires,
                age: made.0,
                date: made.1,
                tag: validators.0,
                modified: validators.1,
                vary,
                location: references.0,
                content_location: references.1,
                cookie: others.0,
                mark: others.1,
                spelling: others.2,
            }
        },
    )
}

fn reference() -> impl Strategy<Value = Reference> {
    prop_oneof![
        4 => (0..URLS).prop_map(Reference::Path),
        2 => (0..URLS).prop_map(Reference::Absolute),
        1 => (0..URLS).prop_map(Reference::Elsewhere),
    ]
}

fn expires() -> impl Strategy<Value = Expires> {
    prop_oneof![4 => select(vec![-100, 33, 63, 103]).prop_map(Expires::At), 1 => Just(Expires::Nonsense)]
}

fn seconds(of: &'static [i64]) -> impl Strategy<Value = Seconds> {
    prop_oneof![15 => select(of).prop_map(Seconds::Are), 1 => Just(Seconds::Nonsense)]
}

fn directives() -> impl Strategy<Value = Vec<Directive>> {
    vec(directive(), 1..=4).prop_map(|mut directives| {
        // Two quotes that are open would close each other.
        let mut is_open = false;
        directives
            .retain(|directive| *directive != Directive::OpenQuote || !std::mem::replace(&mut is_open, true));
        directives
    })
}

fn directive() -> impl Strategy<Value = Directive> {
    prop_oneof![
        10 => seconds(&[0, 13, 33, 63]).prop_map(Directive::MaxAge),
        3 => seconds(&[0, 13, 33]).prop_map(Directive::SharedMaxAge),
        4 => seconds(&[0, 33, 63]).prop_map(Directive::WhileRevalidate),
        4 => seconds(&[0, 33, 103]).prop_map(Directive::IfError),
        2 => Just(Directive::NoCache),
        2 => Just(Directive::Public),
        2 => Just(Directive::Immutable),
        5 => select(vec![
            Directive::NoStore,
            Directive::Private,
            Directive::MustRevalidate,
            Directive::ProxyRevalidate,
            Directive::MustUnderstand,
        ]),
        2 => select(vec![
            Directive::NoCacheOf("x-mark"),
            Directive::PrivateOf("x-mark"),
            Directive::PrivateOf("set-cookie"),
            Directive::Unknown,
            Directive::OpenQuote,
        ]),
    ]
}

fn targeted() -> impl Strategy<Value = Targeted> {
    let age = Directive::MaxAge(Seconds::Are(33));
    let says = |directives: &[Directive]| Just(Targeted::Says(directives.to_vec()));
    prop_oneof![
        says(&[age]),
        says(&[Directive::MaxAge(Seconds::Are(0)), Directive::WhileRevalidate(Seconds::Are(33))]),
        says(&[age, Directive::NoStore]),
        says(&[Directive::Private]),
        says(&[Directive::NoCache, Directive::MaxAge(Seconds::Are(63))]),
        says(&[Directive::SharedMaxAge(Seconds::Are(13)), Directive::IfError(Seconds::Are(103))]),
        says(&[age, Directive::PrivateOf("x-mark"), Directive::Unknown]),
        says(&[Directive::MustRevalidate, Directive::Public]),
        Just(Targeted::Broken),
    ]
}
