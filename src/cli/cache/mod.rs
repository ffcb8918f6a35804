//! `portcullis cache`: what a running gateway has stored, and purges of it, by its admin side; or what its file holds, also when it is dead.

mod file;
mod render;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::admin::{self, Admin, Question};
use super::{EXIT_FINDINGS, EXIT_OK, EXIT_USAGE, printed};
use crate::cache::storage::look::Narrowed;
use crate::config::visible;
use crate::plan::Process;
use crate::server::{Load, MAX_PAGE};

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
    /// Look at the cache's file itself, of a running gateway or of a dead one; nothing of it is changed. Without this and without an
    /// admin side, the file that the configuration names
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
        Command::Stats(look) => match file_of(look)? {
            Some(file) => (look.place.format, file::stats(&file)?, render::overview),
            None => (look.place.format, get(&look.place, "/cache/stats", &[])?, render::stats),
        },
        Command::Ls(list) => {
            let place = &list.look.place;
            let told = match file_of(&list.look)? {
                Some(file) => {
                    let (route, prefix, tag) = (list.route.clone(), list.prefix.clone(), list.tag.clone());
                    let narrowed = Narrowed { route, prefix, tag, url: None };
                    file::list(&file, &narrowed, list.after.as_deref(), list.limit.clamp(1, MAX_PAGE))?
                }
                None => get(place, "/cache/entries", &narrowed(list))?,
            };
            (place.format, told, render::list)
        }
        Command::Get(wanted) => {
            let place = &wanted.look.place;
            let told = match file_of(&wanted.look)? {
                Some(file) => {
                    let narrowed = Narrowed { url: Some(wanted.url.clone()), ..Narrowed::default() };
                    file::list(&file, &narrowed, None, MAX_PAGE)?
                }
                None => get(place, "/cache/entry", &[("url", wanted.url.clone())])?,
            };
            (place.format, told, render::list)
        }
        Command::Verify(verify) => {
            let file = verify.file.clone().map_or_else(|| named_file(verify.config.as_deref()), Ok)?;
            (verify.format, file::verify(&file)?, render::verified)
        }
        Command::Purge(purge) => {
            let body = asked(purge).to_string();
            let question = Question { method: "POST", target: "/purge", body: body.as_bytes() };
            (purge.place.format, ask(&purge.place, &question)?, render::purged)
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

/// The file to look at: the one that is named; where no admin side is, the one that the configuration names.
fn file_of(look: &Look) -> Result<Option<PathBuf>, String> {
    match (&look.file, &look.place.admin, &look.place.config) {
        (Some(file), ..) => Ok(Some(file.clone())),
        (None, None, Some(config)) if config.is_file() && Admin::of_config(config).is_err() => {
            named_file(Some(config)).map(Some)
        }
        _ => Ok(None),
    }
}

/// The cache's file as a configuration names it.
fn named_file(config: Option<&Path>) -> Result<PathBuf, String> {
    let config =
        config.ok_or("which file? name it with `--file FILE`, or the configuration with `--config FILE`")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|why| why.to_string())?;
    let _entered = runtime.enter();
    let (plan, _) = Load::assumed(config, &Process::new()).map_err(|report| report.human())?;
    let config = config.display();
    plan.cache.file.ok_or_else(|| {
        format!("`{config}` names neither an admin side nor a `cache.file`: without a file, the cache goes with its process")
    })
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

fn get(place: &Where, path: &str, query: &[(&str, String)]) -> Result<Value, String> {
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
    let target = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
    ask(place, &Question { method: "GET", target: &target, body: b"" })
}

fn ask(place: &Where, question: &Question<'_>) -> Result<Value, String> {
    let admin = match (&place.admin, &place.config) {
        (Some(admin), _) => Admin::parse(admin)?,
        (None, Some(config)) if config.is_file() => Admin::of_config(config)?,
        (None, Some(config)) => return Err(format!("`{}` is not a file that can be read", config.display())),
        (None, None) => {
            return Err("which gateway? give its configuration with `--config FILE`, or the admin side with `--admin ADDRESS`".to_owned());
        }
    };
    admin::ask(&admin, &place.token_env, question)
}
