//! End to end: the real binary as a second process, over real sockets, before an origin that records every byte.

#[macro_use]
mod harness;

mod smoke;
