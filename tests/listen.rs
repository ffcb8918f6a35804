//! The connection guard over real sockets, in front of the framework's own proxy.

#[path = "listen/house.rs"]
mod house;
#[path = "listen/http1.rs"]
mod http1;
#[path = "listen/http2.rs"]
mod http2;
#[path = "listen/life.rs"]
mod life;
#[path = "listen/tls.rs"]
mod tls;
