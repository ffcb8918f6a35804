//! One endpoint, compiled: its host in the spellings that are needed, and the peer that each attempt starts from.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pingora::protocols::l4::socket::SocketAddr as PeerAddress;
use pingora::upstreams::peer::HttpPeer;
use rustls::pki_types::ServerName;

use super::ledger::{Account, InFlight};
use super::target::Target;
use super::tls::TlsPolicy;
use super::{EndpointSettings, Resolver, Scheme, Settings};

/// What is wrong with an endpoint as written. The operator's fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndpointProblem {
    /// No host name and no address. International names are written in their ASCII form (RFC 5890 §2.3.2.1).
    BadHost(String),
    /// Port 0.
    BadPort,
    /// The name to verify (`tls.sni`, or else the host) cannot stand in a certificate. Without a name Pingora would verify
    /// nothing at all.
    BadServerName(String),
}

impl fmt::Display for EndpointProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadHost(host) => write!(f, "`{host}` is neither a host name nor an address"),
            Self::BadPort => f.write_str("port 0 cannot be connected to"),
            Self::BadServerName(name) => write!(f, "`{name}` cannot be verified: it is no name of a server"),
        }
    }
}

impl std::error::Error for EndpointProblem {}

/// One endpoint. Configuration lifetime, over the process-lifetime [`Target`] and [`InFlight`].
pub(super) struct Endpoint {
    pub(super) scheme: Scheme,
    /// Lower case, without brackets and without the dot of an absolute name.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) authority: String,
    pub(super) weight: u32,
    pub(super) target: Arc<Target>,
    pub(super) in_flight: Arc<InFlight>,
    template: HttpPeer,
    connect: Duration,
}

impl Endpoint {
    pub(super) fn compile(
        written: &EndpointSettings,
        settings: &Settings,
        tls: &TlsPolicy,
        resolver: &Resolver,
        account: &Arc<Account>,
    ) -> Result<Self, EndpointProblem> {
        let host = Host::parse(&written.host)?;
        if written.port == 0 {
            return Err(EndpointProblem::BadPort);
        }
        let origin = (written.scheme, host.name.clone(), written.port);
        Ok(Self {
            scheme: written.scheme,
            authority: host.authority(written.scheme, written.port),
            port: written.port,
            weight: written.weight,
            target: resolver.target(&host.asked),
            in_flight: account.endpoint(origin),
            template: template(written, settings, tls, &host.name)?,
            host: host.name,
            connect: settings.timeouts.connect,
        })
    }

    /// A peer for one attempt that may take as long as `remaining`.
    pub(super) fn peer(&self, address: IpAddr, remaining: Duration) -> Box<HttpPeer> {
        let mut peer = Box::new(self.template.clone());
        peer._address = PeerAddress::Inet(SocketAddr::new(address, self.port));
        self.bound(peer, remaining)
    }

    /// A peer for one attempt that is played by `socket`: HTTP/1.1 in the clear, whatever the endpoint would speak.
    pub(super) fn staged_peer(&self, socket: &Path, remaining: Duration) -> Option<Box<HttpPeer>> {
        let peer = HttpPeer::new_uds(socket.to_str()?, false, String::new()).ok()?;
        Some(self.bound(Box::new(peer), remaining))
    }

    fn bound(&self, mut peer: Box<HttpPeer>, remaining: Duration) -> Box<HttpPeer> {
        let options = &mut peer.options;
        options.connection_timeout = Some(self.connect.min(remaining));
        options.total_connection_timeout = Some(self.connect.saturating_mul(2).min(remaining));
        // Per read and write, and all there is for the first byte; the whole exchange is the proxy's to bound.
        options.read_timeout = Some(remaining);
        options.write_timeout = Some(remaining);
        peer
    }
}

/// What is the same for every attempt. The address is filled in later.
fn template(
    written: &EndpointSettings,
    settings: &Settings,
    tls: &TlsPolicy,
    host: &str,
) -> Result<HttpPeer, EndpointProblem> {
    let is_tls = written.scheme == Scheme::Https;
    let sni = settings.tls.sni.as_deref().filter(|_| is_tls).unwrap_or(host);
    if is_tls && ServerName::try_from(sni).is_err() {
        return Err(EndpointProblem::BadServerName(sni.to_owned()));
    }
    // A socket address is not looked up: Pingora takes it as it is.
    let nowhere = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), written.port);
    let mut peer = HttpPeer::new(nowhere, is_tls, if is_tls { sni.to_owned() } else { String::new() });
    // Pingora's pool does not look at the authorities or at ALPN, and at nothing but the serial number of our certificate.
    let mut key = DefaultHasher::new();
    (settings.name.as_str(), written.scheme, sni, settings.http2).hash(&mut key);
    if is_tls {
        tls.identity.hash(&mut key);
        peer.client_cert_key = tls.client.clone();
        peer.options.ca = tls.ca.clone();
    }
    peer.group_key = key.finish();
    peer.options.idle_timeout = Some(settings.timeouts.idle);
    if settings.http2 {
        peer.options.set_http_version(2, if is_tls { 1 } else { 2 });
        peer.options.max_h2_streams = MAX_H2_STREAMS;
        peer.options.h2_ping_interval = Some(H2_PING_INTERVAL);
    }
    Ok(peer)
}

struct Host {
    /// As it is asked for: an absolute name keeps its dot, which keeps search domains out of it.
    asked: String,
    name: String,
    is_v6: bool,
}

impl Host {
    fn parse(written: &str) -> Result<Self, EndpointProblem> {
        let bare = written.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(written);
        if let Ok(address) = bare.parse::<IpAddr>() {
            let name = address.to_string();
            return Ok(Self { asked: name.clone(), name, is_v6: address.is_ipv6() });
        }
        let asked = written.to_ascii_lowercase();
        let name = asked.strip_suffix('.').unwrap_or(&asked).to_owned();
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        };
        // A last label of digits would be taken for an address by some (RFC 1123 §2.1).
        let is_number =
            name.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
        if name.len() > 253 || is_number || !name.split('.').all(is_label) {
            return Err(EndpointProblem::BadHost(written.to_owned()));
        }
        Ok(Self { asked, name, is_v6: false })
    }

    /// As in a `Host` header (RFC 9110 §7.2): with the port unless it is the scheme's own.
    fn authority(&self, scheme: Scheme, port: u16) -> String {
        let host = if self.is_v6 { format!("[{}]", self.name) } else { self.name.clone() };
        if port == scheme.default_port() { host } else { format!("{host}:{port}") }
    }
}

/// How many exchanges share one HTTP/2 connection; servers commonly allow 100 (RFC 9113 §6.5.2 recommends no less).
const MAX_H2_STREAMS: usize = 100;

/// How often an HTTP/2 connection is asked whether it still lives; a dead one would fail a hundred exchanges at once.
const H2_PING_INTERVAL: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    fn host(written: &str) -> Option<(String, String)> {
        let host = Host::parse(written).ok()?;
        Some((host.authority(Scheme::Https, 8443), host.asked))
    }

    #[test]
    fn hosts_are_brought_into_one_spelling() {
        let both = |authority: &str, asked: &str| Some((authority.to_owned(), asked.to_owned()));
        assert_eq!(host("API.Vendor.Example"), both("api.vendor.example:8443", "api.vendor.example"));
        assert_eq!(host("vendor.example."), both("vendor.example:8443", "vendor.example."));
        assert_eq!(host("[2001:DB8::1]"), both("[2001:db8::1]:8443", "2001:db8::1"));
        assert_eq!(host("::1"), both("[::1]:8443", "::1"));
        assert_eq!(host("10.0.0.1"), both("10.0.0.1:8443", "10.0.0.1"));
        assert_eq!(host("my_service"), both("my_service:8443", "my_service"));
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for written in [
            "",
            ".",
            "a..b",
            "a b",
            "a/b",
            "user@host",
            "host:80",
            "bücher.example",
            "[vendor]",
            "127.1",
            "1.2.3.256",
        ] {
            assert_eq!(host(written), None, "{written}");
        }
    }

    #[test]
    fn the_default_port_is_left_out() {
        let host = Host::parse("a.example").unwrap();
        assert_eq!(host.authority(Scheme::Https, 443), "a.example");
        assert_eq!(host.authority(Scheme::Http, 443), "a.example:443");
        assert_eq!(host.authority(Scheme::Http, 80), "a.example");
    }
}
