//! Names as people write them in the YAML, checked once.
//!
//! A name becomes a metric label, a log field and part of a problem document, so its alphabet is small: it can never need
//! escaping and never carries request text. Everything above uses these types instead of bare strings, so a route's name
//! cannot be passed where an upstream's is meant.

use std::fmt;
use std::sync::Arc;

use schemars::{Schema, json_schema};

/// How a type that is written by hand looks in the schema: at each place where it stands, what the expression says.
macro_rules! inline_schema {
    ($name:ident, |$generator:pat_param| $schema:expr) => {
        impl schemars::JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema($generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                $schema
            }
        }
    };
}
pub(crate) use inline_schema;

/// The longest name, in bytes, `team/route` as a whole. Short enough for a metric label.
pub const MAX_NAME_BYTES: usize = 63;

/// Why a text is no name. The operator's fault; shown beside the place in the YAML.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameError {
    /// Nothing between the quotes.
    Empty,
    /// More than [`MAX_NAME_BYTES`] bytes.
    TooLong,
    /// More than [`MAX_NAME_BYTES`] bytes once the team's name and a slash stand before it.
    TooLongWithTeam,
    /// A character outside `a-z 0-9 - _ .`, or a first character that is not a letter or digit.
    BadCharacter(char),
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("a name cannot be empty"),
            Self::TooLong => write!(f, "a name has at most {MAX_NAME_BYTES} characters"),
            Self::TooLongWithTeam => {
                write!(
                    f,
                    "a name has at most {MAX_NAME_BYTES} characters, the team's name and the slash included"
                )
            }
            Self::BadCharacter(c) => {
                write!(
                    f,
                    "{c:?} cannot stand here: a name is made of `a-z`, `0-9`, `-`, `_`, `.` and begins with a letter or digit"
                )
            }
        }
    }
}

impl std::error::Error for NameError {}

fn check(text: &str) -> Result<(), NameError> {
    let mut characters = text.chars();
    let first = characters.next().ok_or(NameError::Empty)?;
    if text.len() > MAX_NAME_BYTES {
        return Err(NameError::TooLong);
    }
    if !(first.is_ascii_lowercase() || first.is_ascii_digit()) {
        return Err(NameError::BadCharacter(first));
    }
    match characters.find(|c| !(c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.')))
    {
        Some(c) => Err(NameError::BadCharacter(c)),
        None => Ok(()),
    }
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks `text` and keeps it.
            ///
            /// # Errors
            /// [`NameError`] when the text is empty, too long, or has a character that a name cannot have.
            pub fn parse(text: &str) -> Result<Self, NameError> {
                check(text)?;
                Ok(Self(Arc::from(text)))
            }

            /// The name as written.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }

        inline_schema!($name, |_| schema(stringify!($name)));
    };
}

/// A name for editors: the same alphabet and length as [`check`].
fn schema(of: &str) -> Schema {
    let kind = of.trim_end_matches("Name").to_lowercase() + " name";
    let rule = "a name is made of `a-z`, `0-9`, `-`, `_`, `.` and begins with a letter or digit";
    json_schema!({
        "$comment": kind,
        "type": "string",
        "pattern": format!("^[a-z0-9][a-z0-9._-]{{0,{}}}$", MAX_NAME_BYTES - 1),
        "patternErrorMessage": rule,
        "errorMessage": rule,
    })
}

name_type!(
    /// The name of a route: the `route` label of every metric and the `route` member of a problem document.
    RouteName
);
name_type!(
    /// The name of a team whose routes stand in files of their own: what stands before the slash in their names.
    TeamName
);
name_type!(
    /// The YAML name of an upstream. Never its host: this one may be seen by operators, not by clients.
    UpstreamName
);
name_type!(
    /// The name of a secret: what is shown wherever a value must not be.
    SecretName
);
name_type!(
    /// The name of a listener.
    ListenerName
);
name_type!(
    /// The name of a rate limit within its route: the policy name in `RateLimit-Policy`.
    LimitName
);

impl RouteName {
    /// The name of a team's route: `checkout/pay`. Only this has a slash in it, so no route of another file can be called so.
    ///
    /// # Errors
    /// [`NameError`] when `route` is no name by itself, or both together are too long.
    pub fn of_team(team: &TeamName, route: &str) -> Result<Self, NameError> {
        check(route)?;
        let whole = format!("{team}/{route}");
        if whole.len() > MAX_NAME_BYTES {
            return Err(NameError::TooLongWithTeam);
        }
        Ok(Self(Arc::from(whole)))
    }

    /// The team's part of the name; `None` for a route of the main file.
    #[must_use]
    pub fn team(&self) -> Option<&str> {
        self.0.split_once('/').map(|(team, _)| team)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_names_are_kept_as_written() {
        for text in ["weather", "a", "0", "v2.users", "team-a_b"] {
            assert_eq!(RouteName::parse(text).expect(text).as_str(), text);
        }
    }

    #[test]
    fn what_could_break_a_label_or_a_log_line_is_refused() {
        assert_eq!(RouteName::parse(""), Err(NameError::Empty));
        assert_eq!(RouteName::parse("Weather"), Err(NameError::BadCharacter('W')));
        assert_eq!(RouteName::parse("-a"), Err(NameError::BadCharacter('-')));
        assert_eq!(RouteName::parse("a\nb"), Err(NameError::BadCharacter('\n')));
        assert_eq!(RouteName::parse("a\"b"), Err(NameError::BadCharacter('"')));
        assert_eq!(RouteName::parse(&"a".repeat(64)), Err(NameError::TooLong));
        assert!(RouteName::parse(&"a".repeat(63)).is_ok(), "63 characters are the most");
    }
    #[test]
    fn the_name_of_a_teams_route_begins_with_the_team() {
        let team = TeamName::parse("checkout").expect("a name");
        let name = RouteName::of_team(&team, "pay").expect("a name");
        assert_eq!((name.as_str(), name.team()), ("checkout/pay", Some("checkout")));
        assert_eq!(RouteName::parse("pay").expect("a name").team(), None);
        assert_eq!(RouteName::parse("checkout/pay"), Err(NameError::BadCharacter('/')));
        assert_eq!(RouteName::of_team(&team, "a/b"), Err(NameError::BadCharacter('/')));
        assert!(RouteName::of_team(&team, &"a".repeat(54)).is_ok(), "63 characters in all");
        assert_eq!(RouteName::of_team(&team, &"a".repeat(55)), Err(NameError::TooLongWithTeam));
    }
}
