//! An address as it is written, where many write its port alone.
//!
//! `listen: 8080` is what other gateways take. Here the host is part of the address, because whether it is `0.0.0.0` or
//! `127.0.0.1` decides who can reach it.

use std::fmt;

use serde::de::{self, Deserializer, Visitor};

/// The text of an address that anybody may reach.
pub(super) fn everywhere<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    deserializer.deserialize_any(Written("0.0.0.0"))
}

/// The text of an address for this machine alone.
pub(super) fn loopback<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    deserializer.deserialize_any(Written("127.0.0.1"))
}

/// Takes a text; has the host that a port alone lacks.
struct Written(&'static str);

impl Visitor<'_> for Written {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }

    fn visit_u64<E: de::Error>(self, port: u64) -> Result<String, E> {
        let port = u16::try_from(port).unwrap_or(8080);
        Err(E::custom(format!(
            "an address has a host and a port, and this is a number\nwrite `\"{}:{port}\"`",
            self.0
        )))
    }
}
