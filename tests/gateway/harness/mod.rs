//! What every end-to-end test stands on: the real binary as a second process, an origin that records every byte it got, and a
//! client that sends and reads raw bytes. Ports are the kernel's choice; waiting is `eventually!`, never a bare sleep.
#![allow(dead_code, reason = "each test file uses its own part of the harness")]

mod client;
mod gateway;
mod http2;
mod origin;

use std::time::Duration;

pub use client::{Answer, Client};
pub use gateway::{Gateway, Setup};
pub use http2::{H2Client, certificate, chunked, h2_origin, served_certificate, tls_exchange, tls_setup};
pub use origin::{Gate, Origin, Received, Reply, response, response_bytes};

/// How long anything may take before a test gives up. Generous: it bounds a hang, it measures nothing.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `$condition` holds; fails with the message when it never does.
#[macro_export]
macro_rules! eventually {
    ($condition:expr, $($message:tt)+) => {{
        let until = std::time::Instant::now() + $crate::harness::PATIENCE;
        loop {
            if $condition {
                break;
            }
            assert!(std::time::Instant::now() < until, $($message)+);
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }};
}

pub fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

/// The head of every test configuration: one listener called `public`, an admin side, no access log noise.
pub const HEAD: &str = "version: 1\nlisteners: [{ name: public, address: \"127.0.0.1:0\" }]\nadmin: { address: \"127.0.0.1:0\" }\n";
