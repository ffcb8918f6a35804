//! The rules of the house that the compiler does not know: floors, `unsafe`, who sees a secret, the order of policies, lengths.
//!
//! Each rule is a function from a file's text to what is wrong in it, so that it can be shown to find something. `#[cfg(test)]`
//! modules at a file's end are left out where a rule is about what runs in production.

use std::path::{Path, PathBuf};

/// Who stands where; imports point down only. `lib.rs` draws the same table.
const FLOORS: &[&[&str]] = &[
    &["names"],
    &["secret", "exchange", "shm"],
    &["config", "telemetry", "expr", "body", "cluster"],
    &["upstream", "cache", "limit", "plugin"],
    &["policy"],
    &["plan"],
    &["proxy"],
    &["server"],
    &["cli"],
];

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// Tests included.
const MAX_LINES: usize = 600;

struct Source {
    /// From the package's root, with `/`.
    path: String,
    text: String,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        Self { path: path.into(), text: text.into() }
    }

    /// The folder or file below `src/` that this belongs to; `None` for `main.rs` and `lib.rs`.
    fn room(&self) -> Option<&str> {
        let inner = self.path.strip_prefix("src/")?;
        let room = inner.split('/').next()?.trim_end_matches(".rs");
        (!matches!(room, "main" | "lib")).then_some(room)
    }

    /// Numbered lines that run in production: no comments, nothing behind `#[cfg(test)]`.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let is_test_file = self.path.ends_with("tests.rs") || self.path.contains("/tests/");
        self.text
            .lines()
            .enumerate()
            .take_while(move |(_, line)| !is_test_file && line.trim() != "#[cfg(test)]")
            .map(|(index, line)| (index + 1, line.split("//").next().unwrap_or_default()))
    }

    /// Every production line with `needle` in it.
    fn find(&self, needle: &str) -> Vec<String> {
        let hits = self.lines().filter(|(_, line)| line.contains(needle));
        hits.map(|(number, _)| format!("{}:{number}: `{needle}`", self.path)).collect()
    }
}

fn sources(folder: &str) -> Vec<Source> {
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = vec![Path::new(ROOT).join(folder)];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).expect("a source");
                let path = path.strip_prefix(ROOT).expect("below the root");
                found.push(Source { path: path.to_string_lossy().replace('\\', "/"), text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&room))
}

/// Rooms named after `crate::`, also in `use crate::{a::B, c}`. Uses in tests count too: a test that needs an upper room belongs there.
fn imports(text: &str) -> Vec<String> {
    let text: String =
        text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n");
    let mut rooms = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        let after = &text[at + "crate::".len()..];
        let name = |text: &str| -> String {
            text.trim_start().chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
        };
        let Some(list) = after.strip_prefix('{') else {
            rooms.push(name(after));
            continue;
        };
        let mut depth = 0;
        let mut item = String::new();
        for c in list.chars() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => rooms.push(name(&std::mem::take(&mut item))),
                _ if depth == 0 => item.push(c),
                _ => {}
            }
        }
        rooms.push(name(&item));
    }
    rooms.retain(|room| !room.is_empty());
    rooms
}

fn floor_mistakes(source: &Source) -> Vec<String> {
    let Some(room) = source.room() else { return Vec::new() };
    let Some(own) = floor(room) else {
        return vec![format!("{}: the room `{room}` stands on no floor", source.path)];
    };
    let mut wrong = Vec::new();
    for other in imports(&source.text) {
        match floor(&other) {
            _ if other == room => {}
            Some(theirs) if theirs < own => {}
            Some(_) => {
                wrong.push(format!("{}: `{room}` imports `{other}`, which is not below it", source.path))
            }
            None => wrong.push(format!("{}: `crate::{other}` is no room", source.path)),
        }
    }
    wrong
}

#[test]
fn imports_point_down_only() {
    let wrong: Vec<String> = sources("src").iter().flat_map(floor_mistakes).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn an_import_that_points_up_or_aside_is_found() {
    let mistakes = |path: &str, text: &str| floor_mistakes(&Source::new(path, text)).len();
    assert_eq!(mistakes("src/policy/x.rs", "use crate::plan::Plan;"), 1, "up");
    assert_eq!(mistakes("src/cache/x.rs", "use crate::limit::Key;"), 1, "aside");
    assert_eq!(mistakes("src/cache/x.rs", "use crate::{names, limit::{Key, Table}, proxy};"), 2, "in a list");
    assert_eq!(mistakes("src/cache/x.rs", "fn f() { crate::server::run() }"), 1, "without `use`");
    assert_eq!(mistakes("src/shelf/x.rs", ""), 1, "a room that nobody placed");
    assert_eq!(mistakes("src/exchange.rs", "use crate::secret::Secret;"), 1, "a room of one file");
    assert_eq!(mistakes("src/proxy/x.rs", "use crate::plan::Plan; // crate::cli"), 0, "down, and a comment");
}

#[test]
fn the_map_in_lib_rs_has_every_room() {
    let lib = std::fs::read_to_string(Path::new(ROOT).join("src/lib.rs")).expect("lib.rs");
    let drawn: String = lib.lines().filter(|line| line.starts_with("//!")).collect();
    let declared: Vec<&str> =
        lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    assert!(declared.len() > 10, "the rooms are declared in lib.rs: {declared:?}");
    for room in declared {
        assert!(floor(room).is_some(), "`{room}` stands on no floor");
        assert!(drawn.contains(room), "`{room}` is missing in the map of lib.rs");
    }
}

/// What may be said only in these places (a file, or a folder that ends in `/`).
fn only_in(sources: &[Source], needle: &str, places: &[&str]) -> Vec<String> {
    let allowed = |path: &str| {
        places.iter().any(|place| path == *place || (place.ends_with('/') && path.starts_with(place)))
    };
    sources.iter().filter(|source| !allowed(&source.path)).flat_map(|source| source.find(needle)).collect()
}

const RESERVED: &[(&str, &[&str])] = &[
    ("unsafe ", &["src/shm/"]),
    (".expose()", &["src/policy/credential.rs", "src/secret/", "src/upstream/tls.rs", "src/cli/admin.rs"]),
    ("CacheKey::new", &["src/cache/key.rs"]),
    ("env::var", &["src/secret/"]),
];

#[test]
fn what_is_reserved_to_a_place_stays_there() {
    let sources = sources("src");
    for (needle, places) in RESERVED {
        let wrong = only_in(&sources, needle, places);
        assert!(wrong.is_empty(), "only {places:?} may:\n{}", wrong.join("\n"));
    }
}

#[test]
fn what_is_reserved_is_found_elsewhere() {
    for (needle, places) in RESERVED {
        let stray = [Source::new("src/proxy/x.rs", &format!("fn f() {{ {needle} }}"))];
        assert_eq!(only_in(&stray, needle, places).len(), 1, "`{needle}`");
        let quiet =
            [Source::new("src/proxy/x.rs", &format!("// {needle}\n#[cfg(test)]\nmod tests {{ {needle} }}"))];
        assert!(only_in(&quiet, needle, places).is_empty(), "`{needle}` in comments and tests");
    }
    let home = [Source::new("src/cache/key.rs", "CacheKey::new()")];
    assert!(only_in(&home, "CacheKey::new", &["src/cache/key.rs"]).is_empty(), "at home");
}

#[test]
fn policies_run_in_the_order_of_the_design() {
    let order: Vec<&str> = portcullis::policy::KINDS.iter().map(|kind| kind.key).collect();
    let expected = [
        "request.body",
        "rateLimit",
        "concurrency",
        "redirect",
        "respond",
        "cache",
        "upgrade",
        "rewrite",
        "request",
        "forwarding",
        "credential",
        "response.errors",
        "origin",
        "response.json",
        "response.headers",
    ];
    assert_eq!(order, expected, "a new kind is placed with care: its place is when it runs");
}

fn too_long(source: &Source) -> Option<String> {
    let lines = source.text.lines().count();
    (lines > MAX_LINES).then(|| format!("{}: {lines} lines", source.path))
}

#[test]
fn no_file_is_longer_than_600_lines() {
    let all = sources("src").into_iter().chain(sources("tests"));
    let wrong: Vec<String> = all.filter_map(|source| too_long(&source)).collect();
    assert!(wrong.is_empty(), "split them:\n{}", wrong.join("\n"));
    assert!(too_long(&Source::new("x.rs", &"\n".repeat(MAX_LINES + 1))).is_some(), "a long one is found");
    assert!(too_long(&Source::new("x.rs", &"\n".repeat(MAX_LINES))).is_none(), "the boundary");
}
