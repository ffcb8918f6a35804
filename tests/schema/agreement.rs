//! The schema and `check` agree: what `check` accepts the schema accepts, and what `check` refuses for its shape the schema flags at the
//! same place.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use portcullis::config::{Entry, Severity};
use portcullis::plan::{Process, Secrets, schema};
use portcullis::server::Load;
use serde_json::Value;

use crate::validator::{Flag, fits, flags};
use crate::{ROOT, properties, yaml_files};

/// Codes of mistakes that a schema can see: unknown, missing, of another type, nothing at all.
pub const OF_SHAPE: [&str; 4] = ["PC0201", "PC0202", "PC0203", "PC0205"];

/// What `check` refuses for its shape and the schema cannot see: the example, the place in it, the reason. None so far.
const UNSEEN: &[(&str, &str, &str)] = &[];

/// A file as JSON, merge keys applied; `None` where it is no YAML.
fn read(file: &Path) -> Option<Value> {
    let text = std::fs::read_to_string(file).ok()?;
    let mut value: serde_yaml::Value = serde_yaml::from_str(&text).ok()?;
    value.apply_merge().ok()?;
    serde_json::to_value(value).ok()
}

/// The files of an example: itself, or the main file of a folder and all below it. Each with the schema for it.
fn parts(example: &Path) -> Vec<(PathBuf, Value)> {
    if example.is_file() {
        return vec![(example.to_owned(), schema::file())];
    }
    let main = example.join("portcullis.yaml");
    let kind = |file: &PathBuf| if *file == main { schema::file() } else { schema::team_file() };
    yaml_files(example).into_iter().map(|file| (file.clone(), kind(&file))).collect()
}

/// What `check` says, without asking for secrets. One process serves all: only mistakes are wanted.
pub fn check(example: &Path) -> Vec<Entry> {
    thread_local! {
        static RUNTIME: (tokio::runtime::Runtime, Process) = {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            let process = { let _inside = runtime.enter(); Process::new() };
            (runtime, process)
        };
    }
    let main = if example.is_dir() { example.join("portcullis.yaml") } else { example.to_owned() };
    RUNTIME.with(|(runtime, process)| {
        let _inside = runtime.enter();
        match Load::with(&main, process, Secrets::Assume) {
            Ok((_, report)) | Err(report) => report.summary(),
        }
    })
}

/// The very place; or the mapping in which a key is missing; or something inside a value of another type or of too many keys. A step of
/// `check`'s path that it blanked, because it could be a secret, is any step.
pub fn same_place(flag: &Flag, entry: &Entry) -> bool {
    let above = flag.at.rfind(['.', '[']).map_or("", |end| &flag.at[..end]);
    let inside = || entry.path.strip_prefix(&flag.at).is_some_and(|rest| rest.starts_with(['.', '[']));
    match flag.why.as_str() {
        _ if is_path(&entry.path, &flag.at) => true,
        "a missing key" => is_path(&entry.path, above),
        why => (why.starts_with("type") || why == "too many keys") && inside(),
    }
}

fn is_path(told: &str, path: &str) -> bool {
    match told.split_once("•••") {
        None => told == path,
        Some((before, after)) => path.strip_prefix(before).is_some_and(|rest| {
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            rest[end..] == *after
        }),
    }
}

fn examples() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(Path::new(ROOT).join("tests/check")).expect("the examples");
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    found.retain(|path| path.is_dir() || path.extension().is_some_and(|extension| extension == "yaml"));
    found.sort();
    found
}

pub fn shown(flags: &[Flag]) -> String {
    flags.iter().map(|flag| format!("  {}: {}\n", flag.at, flag.why)).collect()
}

#[test]
fn what_check_accepts_the_schema_accepts() {
    let mut seen = 0;
    let mut wrong = String::new();
    let mut judge = |file: &Path, schema: &Value| {
        let found = flags(schema, &read(file).expect("YAML"));
        seen += 1;
        if !found.is_empty() {
            wrong += &format!("{}:\n{}", file.display(), shown(&found));
        }
    };
    for file in yaml_files(&Path::new(ROOT).join("conf")) {
        judge(&file, &schema_of(&file));
    }
    for example in examples() {
        let refused = check(&example).iter().any(|entry| {
            entry.severity == Severity::Error && !matches!(entry.code, "PC0305" | "PC0602" | "PC0603")
        });
        if !refused {
            parts(&example).iter().for_each(|(file, schema)| judge(file, schema));
        }
    }
    assert!(wrong.is_empty(), "the schema flags what `check` accepts:\n{wrong}");
    assert!(seen > 10, "only {seen} files");
}

/// The schema that a file of `conf/` names in its first line; as it is generated, for the committed one may just be written.
fn schema_of(file: &Path) -> Value {
    let text = std::fs::read_to_string(file).expect("a file");
    let named = text.lines().next().and_then(|line| line.strip_prefix("# yaml-language-server: $schema="));
    let path = file.parent().expect("a folder").join(named.expect("the first line names a schema"));
    let path = path.canonicalize().expect("the schema is there");
    match path.strip_prefix(Path::new(ROOT).join("conf")).expect("in conf/").to_str() {
        Some("portcullis.schema.json") => schema::file(),
        Some("team.schema.json") => schema::team_file(),
        Some("test.schema.json") => schema::cases_file(),
        other => unreachable!("{}: there is no schema {other:?}", file.display()),
    }
}

#[test]
fn what_check_refuses_for_its_shape_the_schema_flags_at_the_same_place() {
    let mut wrong = String::new();
    let mut seen = 0;
    for example in examples() {
        let name = example.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
        let entries = check(&example);
        for (file, schema) in parts(&example) {
            let Some(value) = read(&file) else { continue };
            let found = flags(&schema, &value);
            let file_name = file.to_string_lossy();
            for entry in
                entries.iter().filter(|entry| file_name.ends_with(&entry.file) || entry.file == file_name)
            {
                let unit = entry.code == "PC0301" && speaks_of_a_unit(&entry.message);
                if !OF_SHAPE.contains(&entry.code) && !unit {
                    continue;
                }
                seen += 1;
                let flagged = found.iter().any(|flag| same_place(flag, entry));
                let excused = UNSEEN.iter().any(|(of, path, _)| *of == name && *path == entry.path);
                if flagged == excused {
                    wrong += &format!(
                        "{name}: {} {}: {} ({}); flagged:\n{}",
                        entry.code,
                        entry.path,
                        entry.message,
                        if excused { "seen after all" } else { "unseen" },
                        shown(&found)
                    );
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(seen > 50, "only {seen} mistakes of shape");
}

/// Whether a bad value is one that a pattern can tell: no number, no unit. How long is too long it cannot.
fn speaks_of_a_unit(message: &str) -> bool {
    ["needs a unit", "needs its sign", "is no duration", "is no size", "cannot be zero", "at most `100%`"]
        .iter()
        .any(|words| message.contains(words))
}

/// Every key with a pattern, and the pattern.
static PATTERNS: LazyLock<BTreeMap<String, String>> = LazyLock::new(|| {
    let file = schema::file();
    let mut found = Vec::new();
    properties(&file, "", &mut found);
    let pattern = |schema: &Value| schema["pattern"].as_str().map(str::to_owned);
    found.into_iter().filter_map(|(at, schema)| Some((at, pattern(schema)?))).collect()
});

/// Texts near to what a unit or a name may be.
fn nearly() -> impl proptest::strategy::Strategy<Value = String> {
    use proptest::prelude::*;
    let number = "[0-9]{1,3}(\\.[0-9]{1,2})?|-1|";
    let unit = "ns|us|µs|ms|s|secs?|m|min|h|hours|d|w|wk|M|y|parsecs|[kKmMgG]i?[bB]?|B|%|x|";
    let piece = (number, " ?", unit).prop_map(|(number, space, unit)| number + &space + &unit);
    prop_oneof![
        proptest::collection::vec(piece, 0..3).prop_map(|pieces| pieces.concat()),
        "[a-z0-9._-]{0,3}[A-Z/ é]?[a-z0-9._-]{0,70}",
    ]
}

proptest::proptest! {
    /// An editor must not underline what `check` takes. Where a pattern can tell all, it tells the same.
    #[test]
    fn no_pattern_refuses_what_is_accepted(text in nearly()) {
        use portcullis::config::{ByteSize, Percent, Timespan, units::TimespanOrZero};
        let cases = [
            ("shutdown.grace", text.parse::<Timespan>().is_ok()),
            ("shutdown.delay", text.parse::<TimespanOrZero>().is_ok()),
            ("cache.size", text.parse::<ByteSize>().is_ok()),
            ("upstreams.*.retry.budget", text.parse::<Percent>().is_ok()),
        ];
        for (key, accepted) in cases {
            let fits = fits(&PATTERNS[key], &text);
            proptest::prop_assert!(fits || !accepted, "`{}` is refused by the pattern of {}", text, key);
        }
        let named = fits(&PATTERNS["routes[].name"], &text);
        proptest::prop_assert_eq!(named, portcullis::names::RouteName::parse(&text).is_ok(), "`{}` as a name", text);
    }
}
