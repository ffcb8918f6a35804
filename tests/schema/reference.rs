//! `docs/configuration.md`, written from the schema: one section a block, one line a key. Its examples are cut out of the files in
//! `conf/`, which `check` judges in `tests/conf.rs`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use portcullis::config::units::TimespanOrZero;
use portcullis::plan::schema;
use serde_json::Value;

use crate::ROOT;
use crate::golden;
use crate::validator::flags;

#[test]
fn the_reference_is_in_step_with_the_schema() {
    let file = Path::new(ROOT).join("docs/configuration.md");
    assert!(
        golden::holds(&file, &markdown()),
        "docs/configuration.md is stale: BLESS=1 cargo test --test schema writes it"
    );
}

#[test]
fn every_key_that_may_be_left_out_says_what_holds_then() {
    let mut wrong = Vec::new();
    for section in sections() {
        let choice = section.schema.get("maxProperties").is_some_and(|most| most == 1);
        for (key, inner) in properties(section.schema) {
            let is_block = inner["properties"].is_object() || inner["items"]["properties"].is_object();
            let is_map = inner["type"] == "object";
            let row = Row::of(key, inner, section.schema);
            if row.default.is_empty()
                && !choice
                && !is_block
                && !is_map
                && !is_one_of_several(section.schema, key)
            {
                wrong.push(format!("{}.{key}: {}", section.name, row.meaning));
            }
        }
    }
    assert!(wrong.is_empty(), "no default is told:\n{}", wrong.join("\n"));
}

/// A block of the file: a mapping with keys of its own.
struct Section<'s> {
    /// As people would say it: `routes[].cache`.
    name: String,
    /// The keys that lead to it, without lists and names.
    steps: Vec<&'s str>,
    schema: &'s Value,
    /// What is said of it.
    says: &'s str,
}

/// Every block, in the order of a file, inner ones after their outer one.
fn sections() -> Vec<Section<'static>> {
    static FILES: std::sync::LazyLock<(Value, Value)> =
        std::sync::LazyLock::new(|| (schema::file(), schema::team_file()));
    let mut found = Vec::new();
    collect(&FILES.0, "", &[], text(&FILES.0, "description"), &mut found);
    let team = &FILES.1;
    let says = text(team, "description");
    found.push(Section { name: TEAM.into(), steps: Vec::new(), schema: team, says });
    found
}

const TEAM: &str = "A team's file";

fn collect<'s>(
    schema: &'s Value,
    name: &str,
    steps: &[&'s str],
    says: &'s str,
    found: &mut Vec<Section<'s>>,
) {
    found.push(Section { name: name.to_owned(), steps: steps.to_vec(), schema, says });
    for (key, inner) in properties(schema) {
        let at = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
        let steps: Vec<&str> = steps.iter().copied().chain([key.as_str()]).collect();
        if let Some((suffix, block)) = block(inner) {
            let own = text(block, "description");
            let says = if own.is_empty() { text(inner, "description") } else { own };
            collect(block, &(at + suffix), &steps, says, found);
        }
    }
}

/// The mapping with keys of its own that a value is, holds a list of, or holds by name.
fn block(schema: &Value) -> Option<(&'static str, &Value)> {
    let named = schema["patternProperties"].as_object().and_then(|all| all.values().next());
    let alternative =
        schema["anyOf"].as_array().and_then(|all| all.iter().find(|one| one["properties"].is_object()));
    [("", Some(schema)), ("[]", schema.get("items")), (".NAME", named), ("", alternative)]
        .into_iter()
        .filter_map(|(suffix, schema)| Some((suffix, schema?)))
        .find(|(_, schema)| schema["properties"].is_object())
}

fn properties(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    schema["properties"].as_object().into_iter().flatten()
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_default()
}

fn is_required(schema: &Value, key: &str) -> bool {
    schema["required"].as_array().is_some_and(|keys| keys.iter().any(|each| each == key))
}

/// Whether exactly one of this and other keys must stand in its block.
fn is_one_of_several(schema: &Value, key: &str) -> bool {
    let choices = schema["oneOf"].as_array().into_iter().chain(schema["anyOf"].as_array()).flatten();
    choices.into_iter().any(|choice| is_required(choice, key))
}

/// One line of a table.
struct Row {
    value: String,
    default: String,
    meaning: String,
}

impl Row {
    fn of(key: &str, schema: &Value, holder: &Value) -> Self {
        let says = text(schema, "description");
        let (meaning, default) = match says.rsplit_once("Default: ") {
            Some((meaning, default)) => (meaning.trim_end(), default.trim_end_matches('.').to_owned()),
            None => (says, String::new()),
        };
        let default = match default.as_str() {
            "" if is_required(holder, key) => "**required**".to_owned(),
            _ => default,
        };
        Self { value: value(schema), default, meaning: meaning.to_owned() }
    }
}

/// What may stand at a key, in words.
fn value(schema: &Value) -> String {
    if let Some(words) = schema["enum"].as_array() {
        let word =
            |word: &Value| format!("`{}`", word.as_str().map_or_else(|| word.to_string(), str::to_owned));
        return words.iter().map(word).collect::<Vec<_>>().join(", ");
    }
    if let Some(choices) =
        schema["anyOf"].as_array().filter(|choices| choices.iter().any(|c| c["type"].is_string()))
    {
        return choices.iter().map(value).collect::<Vec<_>>().join(", or ");
    }
    let kind = schema["type"].as_str().unwrap_or_default();
    match (kind, text(schema, "$comment")) {
        ("string", "") => "text".into(),
        ("string", comment) => comment.into(),
        ("boolean", _) => "`true`, `false`".into(),
        ("integer" | "number", _) => range(schema, "minimum", "maximum", "number"),
        ("array", _) => format!("list of {}", plural(&value(&schema["items"]))),
        ("object", _) if schema["properties"].is_object() => "a block".into(),
        ("object", _) => match schema["patternProperties"].as_object().and_then(|all| all.values().next()) {
            Some(inner) => format!("names, each with {}", article(&value(inner))),
            None => format!("names, each with {}", article(&value(&schema["additionalProperties"]))),
        },
        (_, comment) if !comment.is_empty() => comment.into(),
        _ if schema["type"].is_array() => "a block, or a list of them".into(),
        _ => "anything".into(),
    }
}

fn plural(what: &str) -> String {
    match what {
        "a block" => "blocks".into(),
        "text" => "texts".into(),
        what if what.starts_with('`') => what.into(),
        what => match what.split_once(", ") {
            Some((what, rest)) => format!("{what}s, {rest}"),
            None => format!("{what}s"),
        },
    }
}

fn article(what: &str) -> String {
    if what == "text" || what.starts_with("a ") { what.into() } else { format!("a {what}") }
}

fn range(schema: &Value, least: &str, most: &str, what: &str) -> String {
    match (schema[least].as_u64(), schema[most].as_u64()) {
        (Some(least), Some(most)) if most < u64::from(u32::MAX) => format!("{what}, {least} to {most}"),
        (Some(least), _) if least > 0 => format!("{what}, at least {least}"),
        _ => what.into(),
    }
}

/// The whole document.
fn markdown() -> String {
    let sections = sections();
    let mut out = INTRODUCTION.to_owned();
    index(&sections, &mut out);
    for section in &sections {
        let heading = if section.name.is_empty() { TOP.to_owned() } else { title(section) };
        _ = write!(out, "\n## {heading}\n\n{}\n\n", section.says);
        table(section, &mut out);
        if let Some(example) = example(section) {
            _ = write!(out, "\n```yml\n{example}```\n");
        }
    }
    out
}

const TOP: &str = "The file";

fn title(section: &Section<'_>) -> String {
    if section.name == TEAM { TEAM.to_owned() } else { format!("`{}`", section.name) }
}

/// The anchor that Markdown makes of a heading.
fn anchor(section: &Section<'_>) -> String {
    let heading = if section.name.is_empty() { TOP } else { &section.name };
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

fn table(section: &Section<'_>, out: &mut String) {
    out.push_str("| key | value | default | meaning |\n|---|---|---|---|\n");
    for (key, inner) in properties(section.schema) {
        let row = Row::of(key, inner, section.schema);
        let mut meaning = row.meaning;
        let mut value = row.value;
        if let Some((suffix, block)) = block(inner) {
            let path = if section.name.is_empty() {
                format!("{key}{suffix}")
            } else {
                format!("{}.{key}{suffix}", section.name)
            };
            let path = if section.name == TEAM { format!("{key}{suffix}") } else { path };
            let target = Section { name: path, steps: Vec::new(), schema: inner, says: "" };
            let word = if value.contains("blocks") { "blocks" } else { "block" };
            value = value.replacen(word, &format!("[{word}](#{})", anchor(&target)), 1);
            // The section has the rest; of a list or a map it speaks of one.
            if text(block, "description") == text(inner, "description") {
                let first = meaning.split_once(". ").map(|(first, _)| format!("{first}."));
                meaning = first.unwrap_or(meaning);
            }
        }
        let choice = inner["anyOf"].as_array().and_then(|all| all.iter().find(|one| one["enum"].is_array()));
        let choice = choice.unwrap_or(inner);
        let words = choice["enum"].as_array().zip(choice["enumDescriptions"].as_array());
        for (word, says) in words.into_iter().flat_map(|(words, says)| words.iter().zip(says)) {
            _ = write!(
                meaning,
                "<br>`{}`: {}",
                word.as_str().unwrap_or_default(),
                says.as_str().unwrap_or_default()
            );
        }
        let cell = |text: &str| text.replace('|', "\\|").replace("\n\n", "<br>");
        let default = if row.default.is_empty() { "–" } else { &row.default };
        _ = writeln!(out, "| `{key}` | {} | {} | {} |", cell(&value), cell(default), cell(&meaning));
    }
}

/// Every key with the blocks in which it stands, by its first letter.
fn index(sections: &[Section<'_>], out: &mut String) {
    let mut keys: BTreeMap<String, Vec<&Section<'_>>> = BTreeMap::new();
    for section in sections {
        for (key, _) in properties(section.schema) {
            keys.entry(key.clone()).or_default().push(section);
        }
    }
    out.push_str("\n## Every key\n\n");
    let mut letter = None;
    for (key, places) in &keys {
        let first = key.chars().next();
        if letter != first {
            let bullet = if letter.is_some() { "\n" } else { "" };
            _ = write!(out, "{bullet}- ");
            letter = first;
        } else {
            out.push_str(" · ");
        }
        let links: Vec<String> = places
            .iter()
            .map(|section| {
                let name = if section.name.is_empty() { TOP } else { &section.name };
                format!("[{name}](#{})", anchor(section))
            })
            .collect();
        _ = write!(out, "**`{key}`** {}", links.join(", "));
    }
    out.push('\n');
}

/// The block as it stands in the commented reference, without the comments. Blocks inside a block show in their outer one.
fn example(section: &Section<'_>) -> Option<String> {
    let (file, steps) = match section.steps.as_slice() {
        [] if section.name.is_empty() => ("conf/minimal.yaml", &[][..]),
        ["routes"] => ("conf/minimal.yaml", section.steps.as_slice()),
        [_] | ["routes" | "upstreams" | "listeners", _] => ("conf/portcullis.yaml", section.steps.as_slice()),
        _ => return None,
    };
    let whole = std::fs::read_to_string(Path::new(ROOT).join(file)).expect("a configuration");
    let lines: Vec<String> =
        whole.lines().map(without_comment).filter(|line| !line.trim().is_empty()).collect();
    let mut lines = lines.as_slice();
    for step in steps {
        lines = below(lines, step)?;
    }
    let indent = lines.first()?.find(|c| c != ' ').unwrap_or(0);
    let shown = lines.iter().map(|line| line.get(indent..).unwrap_or_default());
    Some(shown.fold(String::new(), |text, line| text + line + "\n"))
}

/// The first block that begins with `key`: its line and those that are deeper.
fn below<'l>(lines: &'l [String], key: &str) -> Option<&'l [String]> {
    let begins =
        |line: &String| line.trim_start().strip_prefix(key).is_some_and(|rest| rest.starts_with(':'));
    let start = lines.iter().position(begins)?;
    let depth = |line: &String| line.find(|c| c != ' ').unwrap_or(0);
    let rest = lines.get(start + 1..)?;
    let length = rest.iter().position(|line| depth(line) <= depth(&lines[start])).unwrap_or(rest.len());
    lines.get(start..=start + length)
}

fn without_comment(line: &str) -> String {
    let line = if line.starts_with('#') { "" } else { line.split(" # ").next().unwrap_or_default() };
    line.trim_end().to_owned()
}

#[test]
fn examples_of_the_reference_fit_their_block() {
    let mut seen = 0;
    for section in sections() {
        let (Some(example), Some(key)) = (example(&section), section.steps.last()) else { continue };
        seen += 1;
        let value: Value = serde_yaml::from_str(&example).expect("YAML");
        let above =
            sections().into_iter().find(|other| other.steps == section.steps[..section.steps.len() - 1]);
        let schema = &above.expect("an outer block").schema["properties"][key];
        let found = flags(schema, &value[key]);
        assert!(found.is_empty() && !value[key].is_null(), "{}:\n{example}\n{found:?}", section.name);
    }
    assert!(seen > 15, "only {seen} examples");
}

/// `conf/portcullis.yaml` tells defaults too, beside each key: they are the same.
#[test]
fn the_commented_file_tells_the_same_defaults() {
    let whole = std::fs::read_to_string(Path::new(ROOT).join("conf/portcullis.yaml")).expect("the reference");
    let lines: Vec<String> = whole.lines().map(str::to_owned).collect();
    let mut wrong = Vec::new();
    let mut seen = 0;
    for section in sections() {
        let block = section.steps.iter().try_fold(lines.as_slice(), |lines, step| below(lines, step));
        for (key, inner) in properties(section.schema) {
            let Some(default) = inner.get("default") else { continue };
            let line = block.and_then(|lines| below(lines, key)?.first());
            let Some((_, told)) = line.and_then(|line| line.split_once("default ")) else { continue };
            let told = told.split([';', ',']).next().unwrap_or_default().trim();
            seen += 1;
            if !is_same(told, default) {
                wrong.push(format!(
                    "{}.{key}: `{told}` beside the key, {default} in the schema",
                    section.name
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen > 15, "only {seen} defaults were compared");
}

/// The same value, in whatever spelling (`60s`, `1m`; `these` is what stands at the key).
fn is_same(told: &str, default: &Value) -> bool {
    let shown = default.to_string();
    let Some(text) = default.as_str() else { return told == shown || told == "these" };
    let span = |text: &str| text.parse::<TimespanOrZero>().ok();
    told == text || told.trim_matches('"') == text || (span(told).is_some() && span(told) == span(text))
}

const INTRODUCTION: &str = "\
# Configuration

Every key, written from the types that read the file (`tests/schema/reference.rs`); an editor shows the same texts. One section a block, in
the order of a file; `[]` is an item of a list, `NAME` a name that you choose. `conf/portcullis.yaml` is a whole file with every key,
`conf/minimal.yaml` the smallest useful one, `docs/kinds.md` tells what `kind: api` and `kind: app` change.

- A **duration** has its unit: `250ms`, `30s`, `5m`, `1h30m`. A **size** too: `64KiB` is 64 · 1024 bytes, `1MB` a million. A **percentage** has
  its sign: `20%`. A bare number is refused.
- A **name** is made of `a-z`, `0-9`, `-`, `_`, `.`, begins with a letter or digit, and has at most 63 characters.
- The path of a file is relative to the configuration file.
- A key that is not here is refused, and so is one with nothing after it.
- `–` as a default: the block or one of its alternatives is simply not there.
";
