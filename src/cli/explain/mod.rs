//! `portcullis explain METHOD URL`: what happens to a request, and why, without sending it.

mod render;

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use clap::ValueEnum;

use super::admin::{self, Admin, Question};
use super::{EXIT_FINDINGS, EXIT_OK, EXIT_USAGE, printed, runtime};
use crate::config::{codes, visible};
use crate::plan::Process;
use crate::proxy::explain::{Asked, Explanation, Verdict};
use crate::server::{self, Load};

/// What `explain` takes.
#[derive(clap::Args)]
pub struct Arguments {
    /// The method, such as `GET`; or a code of a diagnostic, such as `PC0304`
    #[arg(value_name = "METHOD")]
    method: String,
    /// The URL, such as `https://app.example/api/weather`; or its path, with `-H 'Host: app.example'`
    #[arg(value_name = "URL")]
    url: Option<String>,
    /// A header of the request; may be given several times
    #[arg(long = "header", short = 'H', value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// The address that the request comes from
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    from: IpAddr,
    /// The listener that it comes in by, where several would do
    #[arg(long, value_name = "NAME")]
    listener: Option<String>,
    /// The configuration file; secrets need not be there
    #[arg(long, short, value_name = "FILE", env = "PORTCULLIS_CONFIG")]
    config: Option<PathBuf>,
    /// How the answer is written
    #[arg(long, value_enum, default_value = "human")]
    format: Format,
    /// Ask the running gateway, by its admin side: what is left of limits, what is stored, how the endpoints are
    #[arg(long)]
    live: bool,
    /// Where the admin side is, `host:port` or `unix:PATH`; as the configuration file says if not given
    #[arg(long, value_name = "ADDRESS", requires = "live")]
    admin: Option<String>,
    /// The environment variable with the token of the admin side
    #[arg(long, value_name = "NAME", default_value = "PORTCULLIS_ADMIN_TOKEN", requires = "live")]
    token_env: String,
}

/// How an explanation is written.
#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Format {
    /// For people.
    Human,
    /// For programs; the shape is stable.
    Json,
}

/// Explains.
#[must_use]
pub fn explain(arguments: &Arguments) -> u8 {
    let Some(url) = &arguments.url else {
        if codes::is_code(&arguments.method) {
            return super::explain_code::explain(&arguments.method);
        }
        return usage(&without_a_url(&arguments.method));
    };
    let asked = match asked(arguments, url) {
        Ok(asked) => asked,
        Err(why) => return usage(&why),
    };
    let told = if arguments.live { live(arguments, &asked) } else { from_file(arguments, &asked) };
    let explanation = match told {
        Ok(explanation) => explanation,
        Err(code) => return code,
    };
    let text = match arguments.format {
        Format::Human => visible(&render::human(&explanation)).into_owned(),
        Format::Json => match serde_json::to_string_pretty(&explanation) {
            Ok(text) => text + "\n",
            Err(why) => return usage(&why.to_string()),
        },
    };
    let code = match explanation.outcome.verdict {
        Verdict::Forwarded | Verdict::Answered => EXIT_OK,
        Verdict::Refused | Verdict::NotFound | Verdict::MethodNotAllowed => EXIT_FINDINGS,
    };
    printed(&text, code)
}

/// What is missing where there is one argument only: it is a method, a URL without one, or a code with a slip of the pen.
fn without_a_url(only: &str) -> String {
    let is_like_a_code = only.get(..2).is_some_and(|letters| letters.eq_ignore_ascii_case("PC"))
        && only.bytes().any(|byte| byte.is_ascii_digit());
    if is_like_a_code {
        format!("there is no code `{only}`; `portcullis check --codes` lists all")
    } else if only.contains('/') {
        format!("a method goes before the URL, as in `portcullis explain GET {only}`")
    } else {
        "a URL follows the method, as in `portcullis explain GET https://app.example/api/weather`".to_owned()
    }
}

fn usage(why: &str) -> u8 {
    eprintln!("error: {}", visible(why));
    EXIT_USAGE
}

fn asked(arguments: &Arguments, url: &str) -> Result<Asked, String> {
    let pair = |text: &String| {
        let (name, value) =
            text.split_once(':').ok_or_else(|| format!("`{text}` is no header: write `-H 'Name: value'`"))?;
        Ok((name.to_owned(), value.trim().to_owned()))
    };
    Ok(Asked {
        method: arguments.method.clone(),
        url: url.to_owned(),
        headers: arguments.headers.iter().map(pair).collect::<Result<_, String>>()?,
        from: Some(arguments.from),
        listener: arguments.listener.clone(),
    })
}

fn configuration(arguments: &Arguments) -> Result<&Path, u8> {
    let Some(config) = &arguments.config else {
        let or = if arguments.live { ", or the admin side with `--admin ADDRESS`" } else { "" };
        return Err(usage(&format!("which configuration? give it with `--config FILE`{or}")));
    };
    if config.is_file() {
        return Ok(config);
    }
    Err(usage(&format!("`{}` is not a file that can be read", config.display())))
}

fn from_file(arguments: &Arguments, asked: &Asked) -> Result<Explanation, u8> {
    let config = configuration(arguments)?;
    let runtime = runtime().map_err(|why| usage(&why))?;
    let _inside = runtime.enter();
    let (plan, _) = Load::assumed(config, &Process::new()).map_err(|report| {
        eprint!("{}", report.human());
        usage("a configuration with mistakes cannot be explained; `portcullis check` says more")
    })?;
    server::explain(&plan, asked, None).map_err(|why| usage(&why.to_string()))
}

fn live(arguments: &Arguments, asked: &Asked) -> Result<Explanation, u8> {
    let admin = match &arguments.admin {
        Some(admin) => Admin::parse(admin).map_err(|why| usage(&why))?,
        None => Admin::of_config(configuration(arguments)?).map_err(|why| usage(&why))?,
    };
    let body = serde_json::to_vec(asked).map_err(|why| usage(&why.to_string()))?;
    let question = Question { method: "POST", target: "/explain", body: &body };
    let told = admin::ask(&admin, &arguments.token_env, &question).map_err(|why| usage(&why))?;
    serde_json::from_value(told)
        .map_err(|_| usage("the gateway that runs explains in another version's words"))
}
