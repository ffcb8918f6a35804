//! `listeners` and `admin`: where clients and operators come in.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Options, Secrets};
use crate::config::units::{ByteSize, Timespan};
use crate::config::{Problems, Section, codes, shape};
use crate::exchange::client::TrustedProxies;
use crate::names::{ListenerName, SecretName};

/// A certificate chain and its key, as PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The chain, the server's own first.
    pub cert: PathBuf,
    /// The key.
    pub key: PathBuf,
}

/// What is wrong with a file of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileMistake {
    /// The key that names the file: `cert` or `key`.
    pub key: &'static str,
    /// What is wrong, to be read after the file's name: `has no certificate in it`.
    pub why: String,
    /// Whether it is only not there, as on a machine that has no keys.
    pub is_missing: bool,
}

/// Deadlines of a client's connection; each is a total.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientTimeouts {
    /// From the first byte of a head to its last. Default 10 s.
    pub header: Duration,
    /// From the head's end to the last byte of the body. Default 30 s.
    pub body: Duration,
    /// Between two requests. Default 60 s.
    pub idle: Duration,
    /// How long a client may take nothing of its answer. Default 30 s.
    pub write: Duration,
}

impl Default for ClientTimeouts {
    fn default() -> Self {
        Self {
            header: Duration::from_secs(10),
            body: Duration::from_secs(30),
            idle: Duration::from_secs(60),
            write: Duration::from_secs(30),
        }
    }
}

/// One listener.
#[derive(Debug, Clone)]
pub struct Listener {
    /// Its name.
    pub name: ListenerName,
    /// Where it listens; port 0 takes a free one.
    pub address: SocketAddr,
    /// Certificates; none: clear text.
    pub tls: Vec<TlsFiles>,
    /// Whether HTTP/2 is offered. Default: yes with TLS.
    pub http2: bool,
    /// Whose forwarding fields are believed.
    pub trusted: TrustedProxies,
    /// Deadlines.
    pub timeouts: ClientTimeouts,
    /// Connections in all. Default 20 000.
    pub max_connections: usize,
    /// Connections of one address. Default 1024.
    pub max_connections_per_address: usize,
    /// Bytes of a request head. Default 32 KiB.
    pub max_header_bytes: usize,
    /// Fields of a request head. Default 100.
    pub max_headers: usize,
}

/// Where the admin side listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdminAddress {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A socket in the file system, mode 0600.
    Unix(PathBuf),
}

/// The admin side.
#[derive(Debug, Clone)]
pub struct Admin {
    /// Where it listens.
    pub address: AdminAddress,
    /// The secret that callers show as a bearer token, and where it is written.
    pub token: Option<(String, crate::config::Path)>,
}

/// Where clients come in: an address, what is spoken there, and what one client may take.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct ListenerSpec {
    /// The listener's name: the `listener` label of its metrics and the field of the access log.
    #[schemars(with = "ListenerName")]
    name: String,
    /// The IP address and port to listen on. `0.0.0.0` and `[::]` mean every address of the machine. Write it in quotes.
    #[serde(rename = "address", deserialize_with = "super::address_or_port::everywhere")]
    #[schemars(with = "shape::SocketAddress")]
    _address: String,
    /// Serve HTTPS with these certificates. Without it the listener speaks plain HTTP.
    tls: Option<TlsSpec>,
    /// Whether clients may use HTTP/2; over TLS it is offered by ALPN. Default: `true` with `tls`, `false` without.
    http2: Option<bool>,
    /// The proxies in front of this listener. Only what comes from these networks is believed in `X-Forwarded-For`,
    /// `X-Forwarded-Proto` and `Forwarded`; it decides whom limits count. Default: nobody.
    #[serde(default)]
    #[schemars(with = "Vec<shape::Network>", example = ["10.0.0.0/8"])]
    trusted_proxies: Vec<String>,
    /// How long a client may take for each step of a request.
    #[serde(default)]
    timeouts: TimeoutsSpec,
    /// Connections at once, over all clients. One more is closed at the door.
    #[schemars(extend("default" = DEFAULT_MAX_CONNECTIONS))]
    max_connections: Option<NonZeroUsize>,
    /// Connections at once of one address; of IPv6 one /64 counts as one address.
    #[schemars(extend("default" = DEFAULT_MAX_CONNECTIONS_PER_ADDRESS))]
    max_connections_per_address: Option<NonZeroUsize>,
    /// The largest head of a request: its first line and all header lines. More is answered with 431.
    #[schemars(extend("default" = ByteSize(DEFAULT_MAX_HEADER_BYTES)))]
    max_header_bytes: Option<ByteSize>,
    /// The most header lines of a request. More is answered with 431.
    #[schemars(extend("default" = DEFAULT_MAX_HEADERS))]
    max_headers: Option<NonZeroUsize>,
}

/// Serve HTTPS with these certificates. Without it the listener speaks plain HTTP.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct TlsSpec {
    /// The certificates. The one that fits the name that the client asks for (SNI) is used, and the first one where none fits.
    /// The files are read again when they change.
    #[schemars(length(min = 1))]
    certificates: Vec<CertificateSpec>,
}

/// A certificate with its key.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CertificateSpec {
    /// PEM file with the certificate chain, the server's own certificate first. Relative paths start at the configuration file.
    #[schemars(with = "shape::File", example = &"tls/site.crt")]
    cert: PathBuf,
    /// PEM file with the private key of the certificate.
    #[schemars(with = "shape::File", example = &"tls/site.key")]
    key: PathBuf,
}

/// How long a client may take for each step of a request.
#[derive(Deserialize, Default, JsonSchema)]
#[serde(deny_unknown_fields)]
struct TimeoutsSpec {
    /// The whole head of a request, from its first byte to its last; the TLS and HTTP/2 handshakes too. A client that is slower is
    /// answered with 408.
    #[schemars(extend("default" = Timespan(ClientTimeouts::default().header)))]
    header: Option<Timespan>,
    /// The whole body of a request, from the end of its head. A client that is slower is answered with 408.
    #[schemars(extend("default" = Timespan(ClientTimeouts::default().body)))]
    body: Option<Timespan>,
    /// How long a connection is kept open between two requests.
    #[schemars(extend("default" = Timespan(ClientTimeouts::default().idle)))]
    idle: Option<Timespan>,
    /// How long a client may take nothing of its answer. Then the connection is cut.
    #[schemars(extend("default" = Timespan(ClientTimeouts::default().write)))]
    write: Option<Timespan>,
}

/// Default of connections at once, over all clients.
pub const DEFAULT_MAX_CONNECTIONS: usize = 20_000;
/// Default of connections at once of one address.
pub const DEFAULT_MAX_CONNECTIONS_PER_ADDRESS: usize = 1024;
/// Default of the largest request head.
pub const DEFAULT_MAX_HEADER_BYTES: u64 = 32 << 10;
/// Default of the fields of a request head.
pub const DEFAULT_MAX_HEADERS: usize = 100;

/// Reads every listener; a file without one is refused.
pub(super) fn listeners(root: &Section, options: &Options<'_>, problems: &mut Problems) -> Vec<Listener> {
    let Some(section) = root.require("listeners", problems) else { return Vec::new() };
    let items = section.items(problems);
    if items.is_empty() && section.value().is_sequence() {
        problems
            .error(codes::MISSING_KEY, section.path(), "no listener, so no request could come in")
            .help("such as `listeners: [{ name: public, address: \"0.0.0.0:8080\" }]`");
    }
    let mut list: Vec<(Listener, &Section)> = Vec::with_capacity(items.len());
    for item in &items {
        let Some(listener) = listener(item, options, problems) else { continue };
        let twin = list.iter().find(|(other, _)| {
            other.name == listener.name || (other.address == listener.address && listener.address.port() != 0)
        });
        if let Some((twin, first)) = twin {
            let (key, what) = if twin.name == listener.name {
                ("name", format!("two listeners are called `{}`", listener.name))
            } else {
                ("address", format!("`{}` and `{}` listen on the same address", twin.name, listener.name))
            };
            let at = |section: &Section| section.get(key).unwrap_or_else(|| section.clone());
            problems
                .error(codes::DUPLICATE_NAME, at(item).path(), what)
                .related(at(first).path(), format!("the same {key}"));
            continue;
        }
        list.push((listener, item));
    }
    list.into_iter().map(|(listener, _)| listener).collect()
}

const PLANNED: [&str; 2] = [
    "proxyProtocol\nlet the proxy in front send `X-Forwarded-For`, and name its network in `trustedProxies`",
    "clientCa",
];
const PLANNED_TLS: [&str; 3] = [
    "clientCa",
    "minVersion\nTLS 1.2 and 1.3 are spoken, nothing older",
    "acme\nlet another program, such as certbot, write the files: they are read again when they change",
];
const PLANNED_ADMIN: [&str; 2] = [
    "tls\nlisten on a loopback address or a socket file, behind whatever does TLS",
    "clientCa\nask for a `token`",
];

fn listener(section: &Section, options: &Options<'_>, problems: &mut Problems) -> Option<Listener> {
    section.check_keys::<ListenerSpec>(&PLANNED, problems);
    if let Some(tls) = section.get("tls") {
        tls.check_keys::<TlsSpec>(&PLANNED_TLS, problems);
    }
    // Checked by itself, so that a mistake elsewhere in the listener does not hide it.
    let written = section.get("address").and_then(|at| at.value().as_str().map(str::to_owned));
    let bound = written.and_then(|written| address(section, &written, problems));
    let spec = section.decode::<ListenerSpec>(problems)?;
    let name = match ListenerName::parse(&spec.name) {
        Ok(name) => name,
        Err(why) => {
            let at = section.get("name")?;
            problems.error(codes::BAD_NAME, at.path(), format!("`{}` is no name: {why}", spec.name));
            return None;
        }
    };
    let address = bound?;
    let tls: Vec<TlsFiles> = spec
        .tls
        .map(|tls| tls.certificates)
        .unwrap_or_default()
        .into_iter()
        .map(|files| TlsFiles {
            cert: options.directory.join(files.cert),
            key: options.directory.join(files.key),
        })
        .collect();
    if let Some(at) = section.get("tls") {
        certificates(&at, &tls, options, problems);
    }
    let defaults = ClientTimeouts::default();
    let times = spec.timeouts;
    Some(Listener {
        name,
        address,
        http2: spec.http2.unwrap_or(!tls.is_empty()),
        tls,
        trusted: trusted(section, &spec.trusted_proxies, problems),
        timeouts: ClientTimeouts {
            header: times.header.map_or(defaults.header, |t| t.0),
            body: times.body.map_or(defaults.body, |t| t.0),
            idle: times.idle.map_or(defaults.idle, |t| t.0),
            write: times.write.map_or(defaults.write, |t| t.0),
        },
        max_connections: spec.max_connections.map_or(DEFAULT_MAX_CONNECTIONS, NonZeroUsize::get),
        max_connections_per_address: spec
            .max_connections_per_address
            .map_or(DEFAULT_MAX_CONNECTIONS_PER_ADDRESS, NonZeroUsize::get),
        max_header_bytes: usize::try_from(
            spec.max_header_bytes.map_or(DEFAULT_MAX_HEADER_BYTES, |size| size.0),
        )
        .unwrap_or(usize::MAX),
        max_headers: spec.max_headers.map_or(DEFAULT_MAX_HEADERS, NonZeroUsize::get),
    })
}

/// Says what is wrong with each file of a listener's certificates, at the file's name.
fn certificates(tls: &Section, list: &[TlsFiles], options: &Options<'_>, problems: &mut Problems) {
    let Some(section) = tls.get("certificates") else { return };
    if list.is_empty() {
        problems
            .error(codes::BAD_CERTIFICATE, section.path(), "`tls` without a certificate")
            .help("`certificates: [{ cert: tls/site.crt, key: tls/site.key }]`, or no `tls` for plain HTTP");
    }
    for (files, at) in list.iter().zip(section.items(problems)) {
        for mistake in (options.check_certificates)(files) {
            if let Some(at) = at.get(mistake.key) {
                file_mistake(&at, &mistake.why, mistake.is_missing, options, problems);
            }
        }
    }
}

/// A TLS file that cannot be used, in the one wording that there is. Where secrets are only assumed, files that are not there are too.
pub(super) fn file_mistake(
    at: &Section,
    why: &str,
    is_missing: bool,
    options: &Options<'_>,
    problems: &mut Problems,
) {
    if is_missing && !matches!(options.secrets, Secrets::Read) {
        return;
    }
    let file = at.value().as_str().unwrap_or_default();
    let problem = problems.error(codes::BAD_CERTIFICATE, at.path(), format!("`{file}` {why}"));
    if is_missing {
        problem.help("paths start at the configuration file's folder; `check --no-secrets` does not ask for missing files");
    }
}

fn address(section: &Section, written: &str, problems: &mut Problems) -> Option<SocketAddr> {
    if let Ok(address) = written.parse() {
        return Some(address);
    }
    let at = section.get("address")?;
    let mut problem = format!("`{written}` is no address");
    let port = written.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
    problem.push_str(match port {
        _ if written.starts_with(':') => ": the host is missing",
        _ if written.parse::<std::net::IpAddr>().is_ok() => ": the port is missing",
        Some(Err(_)) => ": a port is a number from 0 to 65535",
        Some(Ok(_)) if written.starts_with(|c: char| c.is_ascii_alphabetic()) => ": it has a name for a host",
        _ => "",
    });
    problems
        .error(codes::BAD_ADDRESS, at.path(), problem)
        .help("an IP address and a port, such as `0.0.0.0:8080`, `127.0.0.1:9090` or `[::]:8443`");
    None
}

fn trusted(section: &Section, written: &[String], problems: &mut Problems) -> TrustedProxies {
    let places = section.get("trustedProxies").map(|list| list.items(problems)).unwrap_or_default();
    let mut networks = Vec::with_capacity(written.len());
    for (text, at) in written.iter().zip(places) {
        match text.parse::<IpNet>().ok().or_else(|| text.parse::<std::net::IpAddr>().ok().map(IpNet::from)) {
            Some(network) => networks.push(network),
            None => {
                problems
                    .error(codes::BAD_ADDRESS, at.path(), format!("`{text}` is no network"))
                    .help("such as `10.0.0.0/8`, `fd00::/8`, or one address");
            }
        }
    }
    TrustedProxies(networks)
}

/// Where operators come in: metrics, health, the configuration as it runs, purge. Never public. Without it there is no admin side.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AdminSpec {
    /// An IP address and port, or `unix:` and the path of a socket file. Anything but loopback or a socket file needs a `token`.
    #[schemars(with = "shape::AdminAddress")]
    #[serde(deserialize_with = "super::address_or_port::loopback")]
    address: String,
    /// Name of the secret that callers show as `Authorization: Bearer …`. Required where `address` can be reached from other
    /// machines. Default: none.
    #[schemars(with = "Option<SecretName>", example = &"admin-token")]
    token: Option<String>,
}

/// Reads the admin side: loopback or a socket file, or a token.
pub(super) fn admin(root: &Section, options: &Options<'_>, problems: &mut Problems) -> Option<Admin> {
    let section = root.get("admin")?;
    section.check_keys::<AdminSpec>(&PLANNED_ADMIN, problems);
    let spec = section.decode::<AdminSpec>(problems)?;
    let token = spec.token.zip(section.get("token")).map(|(name, at)| (name, at.path().clone()));
    if let Some(path) = spec.address.strip_prefix("unix:") {
        return Some(Admin { address: AdminAddress::Unix(options.directory.join(path)), token });
    }
    let address = address(&section, &spec.address, problems)?;
    if !address.ip().is_loopback() && token.is_none() {
        problems
            .error(
                codes::ADMIN_EXPOSED,
                section.get("address")?.path(),
                format!("`{address}` can be reached from elsewhere, and anybody could purge and read"),
            )
            .help("use a loopback address, `unix:/run/portcullis/admin.sock`, or set `token:` to a secret's name");
        return None;
    }
    Some(Admin { address: AdminAddress::Tcp(address), token })
}
