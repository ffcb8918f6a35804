//! `portcullis cache`: what a running gateway has stored, and purges of it, by its admin side.

mod render;

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::admin::{self, Admin, Question};
use super::{EXIT_FINDINGS, EXIT_OK, EXIT_USAGE, printed};
use crate::config::visible;

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
  portcullis cache get https://app.example/api/weather?city=Oslo --admin 127.0.0.1:9090
  portcullis cache purge --tag news --dry-run --admin unix:/run/portcullis/admin.sock
  portcullis cache purge --prefix https://app.example/api/weather --hard --config portcullis.yaml";

#[derive(Subcommand)]
enum Command {
    /// Tell how full the cache is and what it has done
    Stats(Where),
    /// List what is stored, a page at a time
    Ls(List),
    /// Tell what is stored for one URL, in all its variants
    Get(Get),
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
    place: Where,
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
    place: Where,
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
    let (place, told, human): (_, _, fn(&Value) -> String) = match command {
        Command::Stats(place) => (place, get(place, "/cache/stats", &[])?, render::stats),
        Command::Ls(list) => {
            (&list.place, get(&list.place, "/cache/entries", &narrowed(list))?, render::list)
        }
        Command::Get(wanted) => {
            let query = [("url", wanted.url.clone())];
            (&wanted.place, get(&wanted.place, "/cache/entry", &query)?, render::list)
        }
        Command::Purge(purge) => {
            let body = asked(purge).to_string();
            let question = Question { method: "POST", target: "/purge", body: body.as_bytes() };
            (&purge.place, ask(&purge.place, &question)?, render::purged)
        }
    };
    let text = match place.format {
        Format::Human => visible(&human(&told)).into_owned(),
        Format::Json => serde_json::to_string_pretty(&told).map_err(|why| why.to_string())? + "\n",
    };
    if let (Format::Human, Some(next)) = (place.format, told.get("next").and_then(Value::as_str)) {
        eprintln!("there may be more: `--after {next}`");
    }
    Ok(printed(&text, code(&told)))
}

/// 1 where nothing was found.
fn code(told: &Value) -> u8 {
    let found = told.get("entries").and_then(Value::as_array);
    let is_nothing = found.is_some_and(Vec::is_empty) && told.get("next").is_none_or(Value::is_null)
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
