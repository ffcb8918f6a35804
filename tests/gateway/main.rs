//! End to end: the real binary as a second process, over real sockets, before an origin that records every byte.

#[macro_use]
mod harness;

mod life_admin;
mod life_log;
mod life_notify;
mod life_reload;
mod life_stop;
mod smoke;
