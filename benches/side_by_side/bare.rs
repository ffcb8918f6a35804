//! The peer: the shortest proxy that Pingora makes. It knows one upstream and does nothing else.

use std::net::SocketAddr;

use async_trait::async_trait;
use pingora::prelude::{HttpPeer, ProxyHttp, Result, Session, http_proxy_service};
use pingora::server::Server;
use pingora::server::configuration::ServerConf;

use super::Outcome;

struct Bare {
    origin: SocketAddr,
}

#[async_trait]
impl ProxyHttp for Bare {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _session: &mut Session, _ctx: &mut ()) -> Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.origin, false, String::new())))
    }
}

/// `bare LISTEN ORIGIN`: one worker thread, every other setting Pingora's.
pub fn run(mut arguments: impl Iterator<Item = String>) -> Outcome<()> {
    let listen = arguments.next().ok_or("bare LISTEN ORIGIN")?;
    let origin = arguments.next().ok_or("bare LISTEN ORIGIN")?.parse()?;
    let mut server = Server::new_with_opt_and_conf(None, ServerConf { threads: 1, ..ServerConf::default() });
    server.bootstrap();
    let mut service = http_proxy_service(&server.configuration, Bare { origin });
    service.add_tcp(&listen);
    server.add_service(service);
    server.run_forever()
}
