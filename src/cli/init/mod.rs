//! `portcullis init`: a commented configuration to begin with, and the schema for the editor beside it.
//!
//! Nothing is asked and nothing is ever overwritten. The text is compiled before it is written, so that what a person puts into an
//! option is refused in the words in which the file would be.

mod template;

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::{EXIT_FINDINGS, EXIT_OK, EXIT_USAGE, printed, runtime, schema};
use crate::config;
use crate::plan::Process;
use crate::server::Load;
use template::Blanks;

/// What `init` takes.
#[derive(clap::Args)]
pub struct Arguments {
    /// The folder to write into; made if it is not there
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// Where the API is, such as `https://api.vendor.example/v2`
    #[arg(long, value_name = "URL", default_value = "https://api.vendor.example")]
    upstream: String,
    /// The header that carries the API's key, such as `X-Api-Key`; without it: `Authorization: Bearer`
    #[arg(long, value_name = "NAME")]
    header: Option<String>,
    /// The environment variable that holds the key
    #[arg(long, value_name = "VARIABLE", default_value = "VENDOR_KEY")]
    env: String,
    /// The public path under which browsers find the API
    #[arg(long, value_name = "PATH", default_value = "/api/vendor")]
    prefix: String,
    /// Where your own web app is, such as `http://127.0.0.1:3000`; it gets every other path
    #[arg(long, value_name = "URL")]
    app: Option<String>,
}

/// The configuration.
pub const CONFIG: &str = "portcullis.yaml";
/// A first case for `portcullis test`.
const CASES: &str = "portcullis.test.yaml";
/// The schema that the first lines of the configuration name.
const SCHEMA: &str = "portcullis.schema.json";

/// Writes the files, or says why not.
#[must_use]
pub fn init(arguments: &Arguments) -> u8 {
    if !is_variable(&arguments.env) {
        eprintln!(
            "error: `--env` takes the name of an environment variable, such as `VENDOR_KEY`; the key itself is never written"
        );
        return EXIT_USAGE;
    }
    let blanks = Blanks {
        upstream: &arguments.upstream,
        header: arguments.header.as_deref(),
        env: &arguments.env,
        prefix: &arguments.prefix,
        app: arguments.app.as_deref(),
    };
    let text = template::config(&blanks);
    if let Err(report) = compiles(&text) {
        eprint!("{report}");
        eprintln!("error: with these options `{CONFIG}` would not be right, and nothing was written");
        return EXIT_USAGE;
    }
    let cases = template::cases(&blanks);
    let files = [(CONFIG, text), (CASES, cases), (SCHEMA, schema::text(&crate::plan::schema::file()))];
    if let Some((name, _)) =
        files.iter().find(|(name, _)| arguments.dir.join(name).symlink_metadata().is_ok())
    {
        eprintln!("error: `{}` is there already, and nothing was written", shown(&arguments.dir, name));
        eprintln!("help: move it away, or write into another folder with `--dir`");
        return EXIT_USAGE;
    }
    if let Err((file, why)) = write(&arguments.dir, &files) {
        eprintln!("error: `{}` cannot be written: {why}", file.display());
        return EXIT_FINDINGS;
    }
    printed(&format!("{}\n", told(&arguments.dir, &blanks)), EXIT_OK)
}

/// Whether a gateway would take the text, in the words that it would use.
fn compiles(text: &str) -> Result<(), String> {
    let runtime = runtime().map_err(|why| format!("error: {why}\n"))?;
    let _inside = runtime.enter();
    let document = config::parse(CONFIG, text.to_owned()).map_err(|report| report.human())?;
    let (_, warnings) =
        Load::assumed_of(&document, Path::new("."), &Process::new()).map_err(|report| report.human())?;
    if warnings.is_empty() { Ok(()) } else { Err(warnings.human()) }
}

/// Writes all files, or none of them.
fn write(folder: &Path, files: &[(&str, String)]) -> Result<(), (PathBuf, io::Error)> {
    std::fs::create_dir_all(folder).map_err(|why| (folder.to_owned(), why))?;
    let mut written: Vec<PathBuf> = Vec::with_capacity(files.len());
    for (name, text) in files {
        let path = folder.join(name);
        // A file that came in between is not overwritten either.
        let file = OpenOptions::new().write(true).create_new(true).open(&path);
        let outcome = file.and_then(|mut file| {
            written.push(path.clone());
            file.write_all(text.as_bytes())
        });
        if let Err(why) = outcome {
            for path in written {
                // What is said is why the writing failed.
                let _ = std::fs::remove_file(path);
            }
            return Err((path, why));
        }
    }
    Ok(())
}

/// What was written, and what to do next.
fn told(folder: &Path, blanks: &Blanks<'_>) -> String {
    let (config, cases, schema) = (shown(folder, CONFIG), shown(folder, CASES), shown(folder, SCHEMA));
    let (argument, tested) = (quoted(&config), quoted(&cases));
    let Blanks { env, .. } = blanks;
    format!(
        "wrote `{config}`: read it, every line has its comment\n\
         wrote `{cases}`: a first case of what it promises\n\
         wrote `{schema}`: what your editor needs to know every key\n\n\
         next:\n\n  \
         portcullis check --no-secrets {argument}\n  \
         portcullis test {tested}\n  \
         {env}=the-key-of-the-api portcullis run --config {argument}"
    )
}

fn shown(folder: &Path, name: &str) -> String {
    let path = if folder == Path::new(".") { PathBuf::from(name) } else { folder.join(name) };
    path.display().to_string()
}

/// As one word of a shell.
fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | ':');
    if text.chars().all(is_plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

/// Whether a shell can set a variable of this name.
fn is_variable(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// What to do first, for who starts the program without a configuration.
#[must_use]
pub fn first_steps() -> String {
    if Path::new(CONFIG).is_file() {
        return format!(
            "there is a `{CONFIG}` here:\n\n  \
             portcullis check --no-secrets {CONFIG}\n  \
             portcullis run --config {CONFIG}\n\n\
             `portcullis --help` lists every command"
        );
    }
    format!(
        "three commands to begin:\n\n  \
         portcullis init                                  # writes `{CONFIG}`, with comments\n  \
         portcullis check --no-secrets {CONFIG}    # everything that is wrong, with line and column\n  \
         VENDOR_KEY=the-key portcullis run --config {CONFIG}\n\n\
         `portcullis --help` lists every command"
    )
}
