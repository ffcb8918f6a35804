//! Requests and answers as values: what they mean is in them, how they are written is chosen when they are sent. So the model reads no
//! text, and cannot misread one in the way the gateway does.

use std::time::{Duration, SystemTime};

/// Seconds, counted from the moment when the sequence began.
pub type Moment = i64;

/// A number of seconds in a directive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seconds {
    Are(i64),
    /// Something that is no number of seconds.
    Nonsense,
}

/// What an answer says to caches (RFC 9111 §5.2.2, RFC 5861, RFC 8246).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Directive {
    MaxAge(Seconds),
    SharedMaxAge(Seconds),
    NoStore,
    NoCache,
    NoCacheOf(&'static str),
    Private,
    PrivateOf(&'static str),
    Public,
    MustRevalidate,
    ProxyRevalidate,
    MustUnderstand,
    Immutable,
    WhileRevalidate(Seconds),
    IfError(Seconds),
    Unknown,
    /// A quote that is not closed: who knows what is in it.
    OpenQuote,
}

/// `CDN-Cache-Control` (RFC 9213).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Targeted {
    Says(Vec<Directive>),
    /// It is no structured field.
    Broken,
}

/// An entity tag: `"t1"`, or `W/"t1"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tag {
    pub is_weak: bool,
    pub opaque: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expires {
    At(Moment),
    Nonsense,
}

/// A field of the request by which answers differ. What it says is a number; what differs in writing only has the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selecting {
    Language,
    Encoding,
    Tenant,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Vary {
    Star,
    Names(Vec<Selecting>),
}

/// A reference to one of the URLs of the sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reference {
    Path(usize),
    Absolute(usize),
    /// The same path on a host that is not ours.
    Elsewhere(usize),
}

/// The fields of an answer that matter to a cache.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Fields {
    pub cache_control: Option<Vec<Directive>>,
    pub targeted: Option<Targeted>,
    pub expires: Option<Expires>,
    pub age: Option<i64>,
    pub date: Option<Moment>,
    pub tag: Option<Tag>,
    pub modified: Option<Moment>,
    pub vary: Option<Vary>,
    pub location: Option<Reference>,
    pub content_location: Option<Reference>,
    pub cookie: Option<u8>,
    /// `X-Mark`: a field that means nothing, to see whether it is kept and updated.
    pub mark: Option<u8>,
    /// How it is written.
    pub spelling: u8,
}

/// A final answer of the origin, as it is sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub status: u16,
    pub fields: Fields,
    pub body: String,
}

/// What a request asks of caches (RFC 9111 §5.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    NoCache,
    NoStore,
    OnlyIfCached,
    MaxAge(i64),
    MinFresh(i64),
    MaxStale(Option<i64>),
    IfError(i64),
    Pragma,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tags {
    Any,
    Of(Vec<Tag>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// `first-last`, both included.
    Closed(usize, usize),
    From(usize),
    Last(usize),
    /// Another unit: to be ignored.
    OtherUnit,
}

/// A request of a client.
#[derive(Debug, Clone, PartialEq)]
pub struct Ask {
    pub method: &'static str,
    pub url: usize,
    pub wishes: Vec<Wish>,
    pub language: Option<u8>,
    pub encoding: Option<u8>,
    pub tenant: Option<u8>,
    pub authorization: Option<u8>,
    pub cookie: bool,
    pub if_match: Option<Tags>,
    pub if_none_match: Option<Tags>,
    pub if_modified_since: Option<Moment>,
    pub if_unmodified_since: Option<Moment>,
    pub part: Option<Part>,
    /// How it is written.
    pub spelling: u8,
}

impl Ask {
    /// The fields as they are sent.
    pub fn lines(&self, epoch: SystemTime) -> Vec<(&'static str, String)> {
        let mut lines = Vec::new();
        let mut line = |name, value: Option<String>| lines.extend(value.map(|value| (name, value)));
        let wishes: Vec<String> =
            self.wishes.iter().filter(|wish| **wish != Wish::Pragma).map(wish_text).collect();
        line("cache-control", (!wishes.is_empty()).then(|| wishes.join(", ")));
        line("pragma", self.wishes.contains(&Wish::Pragma).then(|| "no-cache".to_owned()));
        let spelt = |known: [[&str; 2]; 2], value: Option<u8>| {
            value.map(|value| known[usize::from(value)][usize::from(self.spelling % 2)].to_owned())
        };
        line("accept-language", spelt([["en, de", "EN,de;q=1.0"], ["de", "De"]], self.language));
        line(
            "accept-encoding",
            spelt([["gzip, br", "br,x-gzip"], ["identity", "identity;q=1"]], self.encoding),
        );
        line("x-tenant", spelt([["a, b", "a,b"], ["", ""]], self.tenant));
        line("authorization", self.authorization.map(|who| format!("Basic {who}")));
        line("cookie", self.cookie.then(|| "sid=1".to_owned()));
        line("if-match", self.if_match.as_ref().map(tags_text));
        line("if-none-match", self.if_none_match.as_ref().map(tags_text));
        line("if-modified-since", self.if_modified_since.map(|moment| date(epoch, moment, 0)));
        line("if-unmodified-since", self.if_unmodified_since.map(|moment| date(epoch, moment, 0)));
        line("range", self.part.map(part_text));
        lines
    }
}

fn wish_text(wish: &Wish) -> String {
    match wish {
        Wish::NoCache => "no-cache".to_owned(),
        Wish::NoStore => "no-store".to_owned(),
        Wish::OnlyIfCached => "only-if-cached".to_owned(),
        Wish::MaxAge(seconds) => format!("max-age={seconds}"),
        Wish::MinFresh(seconds) => format!("min-fresh={seconds}"),
        Wish::MaxStale(Some(seconds)) => format!("max-stale={seconds}"),
        Wish::MaxStale(None) => "max-stale".to_owned(),
        Wish::IfError(seconds) => format!("stale-if-error={seconds}"),
        Wish::Pragma => String::new(),
    }
}

fn tags_text(tags: &Tags) -> String {
    match tags {
        Tags::Any => "*".to_owned(),
        Tags::Of(tags) => tags.iter().map(|tag| tag.text()).collect::<Vec<_>>().join(", "),
    }
}

fn part_text(part: Part) -> String {
    match part {
        Part::Closed(first, last) => format!("bytes={first}-{last}"),
        Part::From(first) => format!("bytes={first}-"),
        Part::Last(count) => format!("bytes=-{count}"),
        Part::OtherUnit => "lines=0-1".to_owned(),
    }
}

impl Tag {
    pub fn text(self) -> String {
        format!("{}\"t{}\"", if self.is_weak { "W/" } else { "" }, self.opaque)
    }

    /// The tag that is written so; none for a list of several, and for `*`.
    pub fn read(text: &str) -> Option<Self> {
        let (is_weak, rest) = text.strip_prefix("W/").map_or((false, text), |rest| (true, rest));
        let opaque = rest.strip_prefix("\"t")?.strip_suffix('"')?.parse().ok()?;
        Some(Self { is_weak, opaque })
    }
}

impl Fields {
    /// The fields as they are sent. `prefix`: what stands before the name of a URL.
    pub fn lines(&self, epoch: SystemTime, prefix: &str) -> Vec<(&'static str, String)> {
        let mut lines = Vec::new();
        let form = self.spelling;
        if let Some(directives) = &self.cache_control {
            let texts = directives.iter().map(|directive| directive_text(*directive, form));
            let texts: Vec<String> = texts.collect();
            match form {
                // Each on its own line.
                2 => lines.extend(texts.into_iter().map(|text| ("cache-control", text))),
                3 => lines.push(("cache-control", format!(",\t{} ,,", texts.join(" ,  ")))),
                _ => lines.push(("cache-control", texts.join(", "))),
            }
        }
        let mut line = |name, value: Option<String>| lines.extend(value.map(|value| (name, value)));
        line("cdn-cache-control", self.targeted.as_ref().map(targeted_text));
        line(
            "expires",
            self.expires.map(|expires| match expires {
                Expires::At(moment) => date(epoch, moment, form),
                Expires::Nonsense => "0".to_owned(),
            }),
        );
        line("age", self.age.map(|age| age.to_string()));
        line("date", self.date.map(|moment| date(epoch, moment, 0)));
        line("etag", self.tag.map(Tag::text));
        line("last-modified", self.modified.map(|moment| date(epoch, moment, 0)));
        line("vary", self.vary.as_ref().map(vary_text));
        line("location", self.location.map(|reference| reference.text(prefix)));
        line("content-location", self.content_location.map(|reference| reference.text(prefix)));
        line("set-cookie", self.cookie.map(|number| format!("c={number}")));
        line("x-mark", self.mark.map(|number| number.to_string()));
        lines
    }
}

impl Reference {
    fn text(self, prefix: &str) -> String {
        match self {
            Self::Path(url) => format!("{prefix}/{url}"),
            Self::Absolute(url) => format!("http://{HOST}{prefix}/{url}"),
            Self::Elsewhere(url) => format!("http://elsewhere.example{prefix}/{url}"),
        }
    }
}

fn vary_text(vary: &Vary) -> String {
    let name = |selecting: &Selecting| match selecting {
        Selecting::Language => "Accept-Language",
        Selecting::Encoding => "Accept-Encoding",
        Selecting::Tenant => "X-Tenant",
    };
    match vary {
        Vary::Star => "*".to_owned(),
        Vary::Names(names) => names.iter().map(name).collect::<Vec<_>>().join(", "),
    }
}

fn targeted_text(targeted: &Targeted) -> String {
    match targeted {
        Targeted::Says(directives) => {
            directives.iter().map(|directive| directive_text(*directive, 0)).collect::<Vec<_>>().join(", ")
        }
        Targeted::Broken => "max-age=33, Public; ".to_owned(),
    }
}

fn directive_text(directive: Directive, form: u8) -> String {
    let seconds = |name: &str, value: Seconds| match (value, form) {
        (Seconds::Are(number), 4) => format!("{name}=\"{number}\""),
        (Seconds::Are(number), _) => format!("{name}={number}"),
        (Seconds::Nonsense, _) => format!("{name}=1.5"),
    };
    let text = match directive {
        Directive::MaxAge(value) => seconds("max-age", value),
        Directive::SharedMaxAge(value) => seconds("s-maxage", value),
        Directive::NoStore => "no-store".to_owned(),
        Directive::NoCache => "no-cache".to_owned(),
        Directive::NoCacheOf(name) => format!("no-cache=\"{name}\""),
        Directive::Private => "private".to_owned(),
        Directive::PrivateOf(name) => format!("private=\"{name}\""),
        Directive::Public => "public".to_owned(),
        Directive::MustRevalidate => "must-revalidate".to_owned(),
        Directive::ProxyRevalidate => "proxy-revalidate".to_owned(),
        Directive::MustUnderstand => "must-understand".to_owned(),
        Directive::Immutable => "immutable".to_owned(),
        Directive::WhileRevalidate(value) => seconds("stale-while-revalidate", value),
        Directive::IfError(value) => seconds("stale-if-error", value),
        Directive::Unknown => "colour=\"no-store, blue\"".to_owned(),
        Directive::OpenQuote => "colour=\"blue".to_owned(),
    };
    if form == 1 { text.to_uppercase() } else { text }
}

/// A date in one of its forms (RFC 9110 §5.6.7).
pub fn date(epoch: SystemTime, moment: Moment, form: u8) -> String {
    let by = Duration::from_secs(moment.unsigned_abs());
    let text = httpdate::fmt_http_date(if moment < 0 { epoch - by } else { epoch + by });
    let parts: Vec<&str> = text.split([' ', ',']).filter(|part| !part.is_empty()).collect();
    match (form, parts.as_slice()) {
        (3, [weekday, day, month, year, time, _]) => {
            let day = day.trim_start_matches('0');
            format!("{weekday} {month} {day:>2} {time} {year}")
        }
        _ => text,
    }
}

/// Ours.
pub const HOST: &str = "gate.example";
