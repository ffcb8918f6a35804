//! Instructions that a decision of the cache costs, for each answer that is stored and for each hit.
//!
//! ```text
//! cargo bench --bench decisions          every case, counted by valgrind
//! .../decisions CASE TIMES               what is counted: a case, so often
//! ```
//!
//! Instructions and not time: a decision is a microsecond or less, and a machine that does something else moves that by a fifth, while
//! the count of one binary is the same each time but for the seeds of its hash tables. Each case runs twice as two processes, once
//! with more repetitions; the difference of both counts is what the additional ones cost, and everything before the first drops out.
//! What it does not tell: waiting, caches of the processor, locks that another core holds.

use std::hint::black_box;
use std::process::{Command, ExitCode};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use pingora::http::ResponseHeader;
use pingora_cache::trace::{Span, SpanHandle};
use pingora_cache::{CacheMeta, Storage as _};
use portcullis::cache::directives::Asked;
use portcullis::cache::freshness::{Policy, RequestFacts, Verdict, judge};
use portcullis::cache::key::{KeyParts, MethodClass, canonical_query};
use portcullis::cache::reuse::{Reuse, reuse};
use portcullis::cache::storage::head::Head;
use portcullis::cache::storage::{Settings, Store};
use portcullis::cache::vary::variance;

/// As the program has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let done = match arguments.as_slice() {
        [] => table(),
        [case, times] => times.parse().map_err(Into::into).and_then(|times| run(case, times)),
        _ => Err("decisions [CASE TIMES]".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("decisions: {error}");
            ExitCode::FAILURE
        }
    }
}

const CASES: [&str; 7] = ["judge", "store", "reuse", "reuse asked", "hit", "head encode", "head read"];

fn table() -> Outcome<()> {
    println!("| case | instructions each |\n|---|---|");
    for case in CASES {
        let (few, many) = (counted(case, FEW)?, counted(case, MANY)?);
        println!("| {case} | {} |", many.saturating_sub(few) / (MANY - FEW));
    }
    Ok(())
}

/// Instructions of a process that runs `case` so often.
fn counted(case: &str, times: u64) -> Outcome<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args([case, &times.to_string()])
        .output()
        .map_err(|error| format!("valgrind: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("`{case}`: {said}").into());
    }
    let count = said.lines().find_map(|line| line.split_once("Collected : ")).map(|(_, count)| count.trim());
    Ok(count.ok_or("valgrind told no count")?.parse()?)
}

fn run(case: &str, times: u64) -> Outcome<()> {
    let bench = Bench::new()?;
    match case {
        "judge" => (0..times).try_for_each(|_| bench.judge().map(|meta| drop(black_box(meta)))),
        "store" => (0..times).try_for_each(|_| bench.judge().and_then(|meta| bench.put(&meta))),
        "reuse" => (0..times).try_for_each(|_| bench.reuse(&bench.stored, &Asked::default())),
        "reuse asked" => {
            (0..times).try_for_each(|_| bench.reuse(&bench.stored, &Asked::read(black_box(&bench.request))))
        }
        "hit" => (0..times).try_for_each(|_| bench.hit()),
        "head encode" => (0..times).try_for_each(|_| bench.head().map(|head| drop(black_box(head)))),
        "head read" => {
            let bytes = Bytes::copy_from_slice(bench.head()?.as_bytes());
            (0..times).try_for_each(|_| read(&bytes))
        }
        _ => Err(format!("no case `{case}`; there are {CASES:?}").into()),
    }
}

/// What all cases work on.
struct Bench {
    answer: ResponseHeader,
    request: HeaderMap,
    policy: Policy,
    now: SystemTime,
    stored: CacheMeta,
    store: &'static Store,
    span: SpanHandle,
}

impl Bench {
    fn new() -> Outcome<Self> {
        let now = SystemTime::now();
        let mut answer = ResponseHeader::build_no_case(200, Some(ANSWER.len() + 1))?;
        answer.append_header("date", httpdate::fmt_http_date(now))?;
        for (name, value) in ANSWER {
            answer.append_header(name, value)?;
        }
        let request =
            REQUEST.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let (store, _) = Store::open(&Settings::private(64 << 20, 8 << 20))?;
        store.try_take()?;
        let mut bench = Self {
            stored: CacheMeta::new(now, now, 0, 0, answer.clone()),
            answer,
            request: request.into_iter().collect(),
            policy: Policy { ttl: Some(Duration::from_secs(60)), ..Policy::default() },
            now,
            store,
            span: Span::inactive().handle(),
        };
        bench.stored = bench.judge()?;
        let chosen = variance(bench.stored.headers(), &bench.request).hash().ok_or("the answer varies")?;
        bench.stored.set_variance(chosen);
        bench.put(&bench.stored)?;
        Ok(bench)
    }

    /// May it be stored, and for how long? The head that is kept is a copy.
    fn judge(&self) -> Outcome<CacheMeta> {
        let facts = RequestFacts {
            path: black_box(PATH),
            response_delay: Duration::from_millis(30),
            ..RequestFacts::default()
        };
        match judge(black_box(&self.answer), &facts, &self.policy, self.now) {
            Verdict::Store(meta) => Ok(meta),
            Verdict::Refuse(reason) => Err(format!("refused: {}", reason.as_str()).into()),
        }
    }

    /// What follows on the verdict: a place in the store, a body of 1 KiB, and visible.
    fn put(&self, meta: &CacheMeta) -> Outcome<()> {
        let key = self.key();
        let mut writer = ready(self.store.get_miss_handler(&key, meta, &self.span))??;
        ready(writer.write_body(Bytes::from_static(&BODY), true))??;
        ready(writer.finish())??;
        Ok(())
    }

    fn reuse(&self, stored: &CacheMeta, asked: &Asked) -> Outcome<()> {
        match reuse(black_box(stored), asked, self.now) {
            Reuse::Fresh => Ok(()),
            other => Err(format!("{other:?}").into()),
        }
    }

    /// From the request to the verdict: the key, the lookup, the variant, the reuse.
    fn hit(&self) -> Outcome<()> {
        let (meta, _body) = ready(self.store.lookup(&self.key(), &self.span))??.ok_or("not found")?;
        if variance(meta.headers(), black_box(&self.request)).hash() != meta.variance() {
            return Err("another variant".into());
        }
        self.reuse(&meta, &Asked::default())
    }

    /// The bytes of a head, as they lie in the store.
    fn head(&self) -> Outcome<Head> {
        Head::encode(black_box(PATH.as_bytes()), black_box(&self.stored)).map_err(|_| "too large".into())
    }

    fn key(&self) -> pingora_cache::CacheKey {
        let query = canonical_query(black_box("city=Oslo&units=metric"), &[]);
        KeyParts {
            route: "weather",
            policy: 7,
            method_class: MethodClass::Read,
            scheme: "https",
            host: "app.example",
            path: black_box(PATH),
            query: &query,
            headers: &[],
        }
        .key()
    }
}

/// What a hit does with the bytes of a head: checked, and a map of fields made of them.
fn read(bytes: &Bytes) -> Outcome<()> {
    drop(black_box(Head::read(black_box(bytes.clone()))?.to_meta(None)));
    Ok(())
}

/// The store waits for nothing: its futures are done when they are first asked.
fn ready<F: Future>(future: F) -> Outcome<F::Output> {
    match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Ok(output),
        Poll::Pending => Err("the store waits".into()),
    }
}

const FEW: u64 = 2_000;
const MANY: u64 = 12_000;
const PATH: &str = "/api/weather/forecast";
static BODY: [u8; 1024] = [b'x'; 1024];

/// A usual answer of an API behind a network of caches: with `Date` fourteen fields.
const ANSWER: [(&str, &str); 13] = [
    ("content-type", "application/json; charset=utf-8"),
    ("content-length", "1024"),
    ("cache-control", "public, max-age=300, stale-while-revalidate=600"),
    ("etag", "\"5f3b-1a2b3c4d5e6f\""),
    ("last-modified", "Wed, 25 Nov 2026 10:00:00 GMT"),
    ("expires", "Wed, 25 Nov 2026 10:05:00 GMT"),
    ("age", "12"),
    ("vary", "accept-encoding"),
    ("content-language", "en"),
    ("accept-ranges", "bytes"),
    ("x-content-type-options", "nosniff"),
    ("strict-transport-security", "max-age=31536000; includeSubDomains"),
    ("link", "</api/weather/today>; rel=\"alternate\""),
];

/// What a browser sends on a reload.
const REQUEST: [(&str, &str); 7] = [
    ("host", "app.example"),
    ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    ("accept", "application/json"),
    ("accept-language", "en-GB,en;q=0.7"),
    ("accept-encoding", "gzip, deflate, br"),
    ("cache-control", "max-age=60"),
    ("sec-fetch-mode", "cors"),
];
