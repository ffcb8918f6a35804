//! `portcullis explain PC0304`: what a code of a configuration problem means, at length; `portcullis check --codes`: all of them.

use super::{EXIT_OK, EXIT_USAGE, printed};
use crate::config::codes;

/// Prints the help of one code. The text has the form that [`codes::is_code`] asks for.
#[must_use]
pub fn explain(text: &str) -> u8 {
    let Some(code) = codes::find(text) else {
        eprintln!("error: there is no code `{text}`; `portcullis check --codes` lists all");
        return EXIT_USAGE;
    };
    printed(&format!("{}: {}\n\n{}\n", code.code, code.meaning, code.help.trim_end()), EXIT_OK)
}

/// Prints every code with its meaning in one line.
#[must_use]
pub fn list() -> u8 {
    let lines: String = codes::ALL.iter().map(|code| format!("{}  {}\n", code.code, code.meaning)).collect();
    printed(&lines, EXIT_OK)
}
