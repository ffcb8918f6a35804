//! What the JSON Schema says of values that are written as text.
//!
//! A pattern here is for editors: it catches what a person can mistype while the file is open. The room that reads the value
//! decides; `tests/schema.rs` holds that a pattern never refuses what `check` accepts.

use schemars::{Schema, json_schema};

use crate::names::inline_schema;

/// A text of a `kind` (`duration`, `header name`) with a pattern, what to say where it does not match, and examples.
pub(super) fn text(kind: &str, pattern: &str, message: &str, examples: &[&str]) -> Schema {
    // `errorMessage` and `patternErrorMessage` are what editors on the YAML language server show instead of the pattern.
    json_schema!({
        "$comment": kind,
        "type": "string",
        "pattern": pattern,
        "patternErrorMessage": message,
        "errorMessage": message,
        "examples": examples,
    })
}

/// The path of a file. Any text: whether it is there is seen when it is read.
pub enum File {}

inline_schema!(File, |_| json_schema!({ "$comment": "file", "type": "string" }));

macro_rules! texts {
    ($($(#[$doc:meta])* $name:ident: $kind:literal, $pattern:expr, $message:literal, $examples:expr;)*) => {
        $(
            $(#[$doc])*
            pub enum $name {}

            inline_schema!($name, |_| text($kind, $pattern, $message, &$examples));
        )*
    };
}

texts! {
    /// An address to listen on.
    SocketAddress: "address",
        r"^([0-9]{1,3}(\.[0-9]{1,3}){3}|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}$",
        "an IP address and a port, such as `0.0.0.0:8080` or `[::]:8443`",
        ["0.0.0.0:8080"];

    /// An address to listen on, or a socket file.
    AdminAddress: "address",
        r"^(unix:.+|([0-9]{1,3}(\.[0-9]{1,3}){3}|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5})$",
        "an IP address and a port, such as `127.0.0.1:9090`, or `unix:/run/portcullis/admin.sock`",
        ["127.0.0.1:9090"];

    /// A network, or one address.
    Network: "network",
        r"^[0-9A-Fa-f:.]+(/[0-9]{1,3})?$",
        "a network such as `10.0.0.0/8` or `fd00::/8`",
        ["10.0.0.0/8"];

    /// Where an upstream is served.
    UpstreamUrl: "URL",
        r"^https?://[^/?#@\s]+(/[^?#\s]*)?$",
        "a URL with `https://` or `http://`, a host and at most a path, such as `https://api.vendor.example/v2`",
        ["https://api.vendor.example"];

    /// A host to match.
    Host: "host",
        r"^(\*\.)?[^\s*/:@]+$|^\[[0-9A-Fa-f:.]+\]$",
        "a host such as `app.example` or `*.app.example`, without a port",
        ["app.example"];

    /// A path that begins with a slash.
    UrlPath: "path",
        r"^/[^?#\s]*$",
        "a path begins with `/`, such as `/api/weather`",
        ["/api/weather"];

    /// The name of a header field (RFC 9110 §5.1).
    HeaderField: "header name",
        r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$",
        "a header name is made of letters, digits and `-`, without `:` or spaces",
        ["x-request-cost"];

    /// A route as it is called everywhere but where it is declared: one of a team's file has the team before its name.
    RouteReference: "route",
        r"^([a-z0-9][a-z0-9._-]{0,62}/)?[a-z0-9][a-z0-9._-]{0,62}$",
        "a route's name such as `weather`, or `checkout/pay` for one of a team's file",
        ["weather"];

    /// A path into a JSON document, the part of RFC 9535 that names children.
    JsonPath: "JSON path",
        r"^\$.+$",
        "a path looks like `$.station.owner_email`, `$.items[*].id` or `$['odd name']`",
        ["$.internal_id"];
}
