//! Events of the process, on stderr: what happened, once, with fields.
//!
//! Records of the `log` crate, which the framework and some libraries use, come the same way. What is said about single
//! requests belongs into the access log.
//!
//! **Nothing of the framework is written.** When an upstream's head cannot be parsed, its error text carries up to 2 kB of
//! that head, and an upstream may echo the injected credential in it. So every target that begins with `pingora` is off,
//! whatever the filter says; rooms that see such an error write a line of their own with its type and source. The HTTP and TLS
//! libraries are held to warnings: below that they write whole heads.

use std::fmt;
use std::io;

use tracing::level_filters::LevelFilter;
use tracing::{Metadata, Subscriber};
use tracing_subscriber::filter::{EnvFilter, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::Registry;
use tracing_subscriber::util::SubscriberInitExt as _;

/// How an event is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// One line for people, without colour. The default.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Why events cannot be written. The operator's fault, or the embedder's.
#[derive(Debug)]
pub enum EventsError {
    /// The filter is not understood.
    Filter(tracing_subscriber::filter::ParseError),
    /// Somebody else already takes the events of this process.
    Taken,
}

impl fmt::Display for EventsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Filter(error) => write!(f, "the log filter is not understood: {error}"),
            Self::Taken => f.write_str("events of this process already go elsewhere"),
        }
    }
}

impl std::error::Error for EventsError {}

/// Begins to write events to stderr. `filter` is a level (`info`) or levels by module (`info,portcullis::server=debug`).
/// To be called once, early.
///
/// # Errors
/// [`EventsError`] when the filter is not understood or somebody else already takes the events.
pub fn init(format: Format, filter: &str) -> Result<(), EventsError> {
    let subscriber = subscriber(format, filter, io::stderr)?;
    subscriber.try_init().map_err(|_| EventsError::Taken)
}

fn subscriber<W>(
    format: Format,
    filter: &str,
    writer: W,
) -> Result<Box<dyn Subscriber + Send + Sync>, EventsError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = EnvFilter::builder().with_regex(false).parse(filter).map_err(EventsError::Filter)?;
    let layers = Registry::default().with(filter).with(filter_fn(may_be_written));
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(false);
    Ok(match format {
        Format::Text => Box::new(layers.with(lines)),
        Format::Json => Box::new(layers.with(lines.json().flatten_event(true))),
    })
}

/// Holds for every filter: see the module's head.
fn may_be_written(metadata: &Metadata<'_>) -> bool {
    *metadata.level() <= ceiling(metadata.target())
}

fn ceiling(target: &str) -> LevelFilter {
    let library = target.split("::").next().unwrap_or(target);
    if library.starts_with("pingora") {
        LevelFilter::OFF
    } else if WIRE_LIBRARIES.contains(&library) {
        LevelFilter::WARN
    } else {
        LevelFilter::TRACE
    }
}

/// Libraries that see heads and bodies.
const WIRE_LIBRARIES: [&str; 10] = [
    "h2",
    "hyper",
    "hyper_util",
    "rustls",
    "tokio_rustls",
    "tungstenite",
    "hickory_proto",
    "hickory_resolver",
    // Not the wire, but it tells of every line written to a file in a watched folder, its own among them.
    "notify",
    "mio",
];

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn said(format: Format, filter: &str, speak: impl FnOnce()) -> String {
        let memory = Memory::default();
        let writer = memory.clone();
        let subscriber = subscriber(format, filter, move || writer.clone()).expect("a filter");
        tracing::subscriber::with_default(subscriber, speak);
        let bytes = memory.0.lock().clone();
        String::from_utf8(bytes).expect("UTF-8")
    }

    #[test]
    fn the_framework_is_silent_whatever_the_filter_says() {
        let text = said(Format::Text, "trace,pingora_proxy=trace", || {
            tracing::error!(target: "pingora_proxy", "canary");
            tracing::error!(target: "pingora_core::protocols::http", "canary");
            tracing::error!(target: "pingora", "canary");
            tracing::debug!(target: "h2::codec", "canary");
            tracing::info!(target: "portcullis::server", "ready");
        });
        assert!(text.contains("ready") && !text.contains("canary"), "{text}");
    }

    #[test]
    fn warnings_of_the_wire_libraries_are_written() {
        let text = said(Format::Text, "info", || tracing::warn!(target: "h2::codec", "odd frame"));
        assert!(text.contains("odd frame"), "{text}");
        assert_eq!(ceiling("h2x"), LevelFilter::TRACE, "another library with such a beginning is free");
    }

    #[test]
    fn the_filter_holds_by_module() {
        let text = said(Format::Text, "warn,portcullis::server=debug", || {
            tracing::debug!(target: "portcullis::server", "seen");
            tracing::info!(target: "portcullis::plan", "unseen");
        });
        assert!(text.contains(" seen") && !text.contains("unseen"), "{text}");
    }

    #[test]
    fn json_has_one_object_per_line_with_fields_at_the_top() {
        let text = said(Format::Json, "info", || {
            tracing::info!(target: "portcullis", route = "a\nb", "two\nlines");
        });
        assert_eq!(text.lines().count(), 1, "{text}");
        let event: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(event["message"], "two\nlines");
        assert_eq!(event["route"], "a\nb");
        assert_eq!(event["level"], "INFO");
    }

    #[test]
    fn a_filter_that_is_not_understood_is_refused() {
        let error = init(Format::Text, "portcullis=loud").expect_err("no such level");
        assert!(error.to_string().contains("log filter"), "{error}");
    }
}
