//! `portcullis schema`: the JSON Schema of the configuration, for editors.

use super::{EXIT_OK, printed};
use crate::plan::schema;

/// What `schema` takes.
#[derive(clap::Args)]
pub struct Arguments {
    /// The schema of a team's file, as the main file includes them
    #[arg(long)]
    team_file: bool,
    /// The schema of a file with cases for `portcullis test`, `NAME.test.yaml`
    #[arg(long, conflicts_with = "team_file")]
    test_file: bool,
}

/// Writes the schema to stdout, as it is committed in `conf/`.
#[must_use]
pub fn schema(arguments: &Arguments) -> u8 {
    let schema = match (arguments.team_file, arguments.test_file) {
        (true, _) => schema::team_file(),
        (_, true) => schema::cases_file(),
        _ => schema::file(),
    };
    printed(&text(&schema), EXIT_OK)
}

/// A schema as people read it: indented, with a line break at its end.
#[must_use]
pub fn text(schema: &serde_json::Value) -> String {
    format!("{schema:#}\n")
}
