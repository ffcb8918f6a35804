//! `portcullis cache`: what a running gateway has stored, and purges of it, by its admin side; or what its file holds, also when it is dead.

mod file;
mod overview;
mod render;
mod source;

use std::io::Write as _;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use self::source::Source;
use super::admin::{self, Admin, Question};
use super::{EXIT_FINDINGS, EXIT_OK, EXIT_USAGE, printed};
use crate::cache::storage::look::Narrowed;
use crate::config::visible;
use crate::server::MAX_PAGE;

/// What `cache` takes.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  portcullis cache stats --config portcullis.yaml
  portcullis cache ls --admin 127.0.0.1:9090 --route weather
  portcullis cache stats --file /dev/shm/portcullis.cache
  portcullis cache verify --config portcullis.yaml
  portcullis cache get https://app.example/api/weather?city=Oslo --admin 127.0.0.1:9090
  portcullis cache get https://app.example/logo.png --file /dev/shm/portcullis.cache --body > logo.png
  portcullis cache purge --tag news --dry-run --admin unix:/run/portcullis/admin.sock
  portcullis cache purge --prefix https://app.example/api/weather --hard --config portcullis.yaml";

#[derive(Subcommand)]
enum Command {
    /// Tell how full the cache is and what it has done
    Stats(Look),
    /// List what is stored, a page at a time
    Ls(List),
    /// Tell what is stored for one URL, in all its variants
    Get(Get),
    /// Read the whole file of the cache and compare everything with its checksums
    Verify(Verify),
    /// Make stale what is stored, or remove it
    Purge(Purge),
}

/// Which gateway is asked.
#[derive(Args)]
struct Where {
    /// The configuration file, which says where the admin side is
    #[arg(long, short, value_name = "FILE", env = "PORTCULLIS_CONFIG")]
    config: Option<PathBuf>,
    /// Where the admin side is, `host:port` or `unix:PATH`; as the configuration file says if not given
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<String>,
    /// The environment variable with the token of the admin side
    #[arg(long, value_name = "NAME", default_value = "PORTCULLIS_ADMIN_TOKEN")]
    token_env: String,
    /// How the answer is written
    #[arg(long, value_enum, default_value = "human")]
    format: Format,
}

/// Which gateway, or which file.
#[derive(Args)]
struct Look {
    #[command(flatten)]
    place: Where,
    /// Read the cache's file itself, of a running gateway or of a dead one; nothing of it is changed. Without this, the admin side is
    /// asked; where the configuration has none, or nobody answers there, the file that it names is read
    #[arg(long, value_name = "FILE", conflicts_with = "admin")]
    file: Option<PathBuf>,
}

#[derive(Args)]
struct Verify {
    /// The configuration file, which says where the cache's file is
    #[arg(long, short, value_name = "FILE", env = "PORTCULLIS_CONFIG")]
    config: Option<PathBuf>,
    /// The cache's file
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// How the answer is written
    #[arg(long, value_enum, default_value = "human")]
    format: Format,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Format {
    /// For people.
    Human,
    /// For programs; the shape is stable.
    Json,
}

#[derive(Args)]
struct List {
    #[command(flatten)]
    look: Look,
    /// Only what this route stored
    #[arg(long, value_name = "NAME")]
    route: Option<String>,
    /// Only this URL and those below it
    #[arg(long, value_name = "URL")]
    prefix: Option<String>,
    /// Only what has this tag
    #[arg(long, value_name = "TAG")]
    tag: Option<String>,
    /// The most keys that are listed, up to 1000
    #[arg(long, value_name = "NUMBER", default_value_t = 100)]
    limit: usize,
    /// Go on where the page before ended
    #[arg(long, value_name = "PLACE")]
    after: Option<String>,
}

#[derive(Args)]
struct Get {
    #[command(flatten)]
    look: Look,
    /// The URL, as clients ask for it
    #[arg(value_name = "URL")]
    url: String,
    /// Write the body to stdout, as it is stored. It is read from the cache's file
    #[arg(long, conflicts_with = "admin")]
    body: bool,
    /// Which of several answers, counted from 1 in the order in which they are told
    #[arg(long, value_name = "NUMBER", requires = "body")]
    variant: Option<usize>,
}

#[derive(Args)]
#[command(group = clap::ArgGroup::new("what").required(true))]
struct Purge {
    #[command(flatten)]
    place: Where,
    /// What is stored for this URL, in all its variants
    #[arg(long, value_name = "URL", group = "what")]
    url: Option<String>,
    /// What is stored for this URL and all below it
    #[arg(long, value_name = "URL", group = "what")]
    prefix: Option<String>,
    /// What has this tag
    #[arg(long, value_name = "TAG", group = "what")]
    tag: Option<String>,
    /// What this route stored
    #[arg(long, value_name = "NAME", group = "what")]
    route: Option<String>,
    /// Everything
    #[arg(long, group = "what")]
    all: bool,
    /// Of a tag: only of this origin, such as `https://app.example`
    #[arg(long, value_name = "URL", requires = "tag")]
    origin: Option<String>,
    /// Remove it; without this it becomes stale and may be given while the upstream fails
    #[arg(long)]
    hard: bool,
    /// Only count what would be purged
    #[arg(long)]
    dry_run: bool,
}

/// Asks a running gateway about its cache.
#[must_use]
pub fn cache(arguments: &Arguments) -> u8 {
    match run(&arguments.command) {
        Ok(code) => code,
        Err(why) => {
            eprintln!("error: {}", visible(&why));
            EXIT_USAGE
        }
    }
}

fn run(command: &Command) -> Result<u8, String> {
    let (format, told, human): (_, _, fn(&Value) -> String) = match command {
        Command::Stats(look) => match source::source(look)? {
            Source::File(file) => (look.place.format, file::stats(&file)?, overview::overview),
            Source::Admin(admin) => {
                (look.place.format, get(&admin, &look.place, "/cache/stats", &[])?, render::stats)
            }
        },
        Command::Ls(list) => (list.look.place.format, ls(list)?, render::list),
        Command::Get(Get { look, url, body: true, variant }) => {
            let file = source::file(look.file.as_deref(), look.place.config.as_deref())?;
            return body(&file::body(&file, url, *variant)?);
        }
        Command::Get(Get { look, url, .. }) => {
            let told = match source::source(look)? {
                Source::File(file) => file::of_url(&file, url)?,
                Source::Admin(admin) => get(&admin, &look.place, "/cache/entry", &[("url", url.clone())])?,
            };
            (look.place.format, told, render::list)
        }
        Command::Verify(verify) => {
            let file = source::file(verify.file.as_deref(), verify.config.as_deref())?;
            (verify.format, file::verify(&file)?, overview::verified)
        }
        Command::Purge(purge) => {
            let body = asked(purge).to_string();
            let question = Question { method: "POST", target: "/purge", body: body.as_bytes() };
            let admin = source::gateway(&purge.place)?;
            (purge.place.format, admin::ask(&admin, &purge.place.token_env, &question)?, render::purged)
        }
    };
    let text = match format {
        Format::Human => visible(&human(&told)).into_owned(),
        Format::Json => serde_json::to_string_pretty(&told).map_err(|why| why.to_string())? + "\n",
    };
    if let (Format::Human, Some(next)) = (format, told.get("next").and_then(Value::as_str)) {
        eprintln!("there may be more: `--after {next}`");
    }
    Ok(printed(&text, code(&told)))
}

fn ls(list: &List) -> Result<Value, String> {
    match source::source(&list.look)? {
        Source::Admin(admin) => get(&admin, &list.look.place, "/cache/entries", &narrowed(list)),
        Source::File(file) => {
            if !(1..=MAX_PAGE).contains(&list.limit) {
                return Err(format!("`--limit` is a number from 1 to {MAX_PAGE}, not {}", list.limit));
            }
            let (route, tag) = (list.route.clone(), list.tag.clone());
            let prefix = list.prefix.as_deref().map(file::prefix).transpose()?;
            let narrowed = Narrowed { route, prefix, tag, url: None };
            file::list(&file, &narrowed, list.after.as_deref(), list.limit)
        }
    }
}

/// Writes a body; a reader that has enough is no fault.
fn body(bytes: &[u8]) -> Result<u8, String> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(why) if why.kind() != std::io::ErrorKind::BrokenPipe => Err(format!("stdout: {why}")),
        _ => Ok(EXIT_OK),
    }
}

/// 1 where nothing was found, or something is wrong.
fn code(told: &Value) -> u8 {
    let found = told.get("entries").and_then(Value::as_array);
    let is_nothing = found.is_some_and(Vec::is_empty) && told.get("next").is_none_or(Value::is_null)
        || told.get("wrong").and_then(Value::as_array).is_some_and(|wrong| !wrong.is_empty())
        || told.get("matched").and_then(Value::as_u64) == Some(0);
    if is_nothing { EXIT_FINDINGS } else { EXIT_OK }
}

fn narrowed(list: &List) -> Vec<(&'static str, String)> {
    let optional = [
        ("route", list.route.clone()),
        ("prefix", list.prefix.clone()),
        ("tag", list.tag.clone()),
        ("limit", Some(list.limit.to_string())),
        ("after", list.after.clone()),
    ];
    optional.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

fn asked(purge: &Purge) -> Value {
    let mut asked = json!({ "mode": if purge.hard { "hard" } else { "soft" }, "dryRun": purge.dry_run });
    let named = [
        ("url", &purge.url),
        ("prefix", &purge.prefix),
        ("tag", &purge.tag),
        ("route", &purge.route),
        ("origin", &purge.origin),
    ];
    if let Some(members) = asked.as_object_mut() {
        let named = named.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
        members.extend(named.map(|(name, value)| (name.to_owned(), json!(value))));
        if purge.all {
            members.insert("all".to_owned(), json!(true));
        }
    }
    asked
}

fn get(admin: &Admin, place: &Where, path: &str, query: &[(&str, String)]) -> Result<Value, String> {
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
    let target = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
    admin::ask(admin, &place.token_env, &Question { method: "GET", target: &target, body: b"" })
}
