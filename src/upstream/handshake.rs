//! What a compiled upstream does with a real server, through Pingora's own connector: whom it trusts, and what a refusal is
//! called. Tests only.

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use pingora::connectors::TransportConnector;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use super::{EndpointSettings, Reason, Resolver, Scheme, Settings, Tls, Tried, Upstream, classify};

struct Identity {
    made: rcgen::CertifiedKey<rcgen::KeyPair>,
}

impl Identity {
    fn of(name: &str) -> Self {
        Self { made: rcgen::generate_simple_self_signed([name.to_owned()]).unwrap() }
    }

    fn key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.made.signing_key.serialize_der()).into()
    }
}

/// Serves one TLS connection; asks for the client's certificate if `client` is given. The thread says whether it got one that
/// it trusts: under TLS 1.3 the client is done before the server has looked.
fn serve(identity: &Identity, client: Option<&Identity>) -> (SocketAddr, JoinHandle<bool>) {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
    let builder = match client {
        Some(client) => {
            let mut roots = RootCertStore::empty();
            roots.add(client.made.cert.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.unwrap().with_client_cert_verifier(verifier.build().unwrap())
        }
        None => builder.unwrap().with_no_client_auth(),
    };
    let config = builder.with_single_cert(vec![identity.made.cert.der().clone()], identity.key()).unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let served = std::thread::spawn(move || {
        let (socket, _) = listener.accept().unwrap();
        let mut stream = StreamOwned::new(ServerConnection::new(Arc::new(config)).unwrap(), socket);
        // Whatever the client does ends this: a refusal, or the end of the connection.
        let _ = stream.read(&mut [0]);
        stream.conn.peer_certificates().is_some()
    });
    (address, served)
}

fn settings(address: SocketAddr, tls: Tls) -> Settings {
    let mut settings = Settings::for_test(&[]);
    settings.endpoints = vec![EndpointSettings {
        scheme: Scheme::Https,
        host: address.ip().to_string(),
        port: address.port(),
        weight: 1,
    }];
    settings.allow_private = true;
    settings.tls = tls;
    settings
}

async fn connect(settings: Settings) -> Result<(), Reason> {
    let upstream = Upstream::compile(settings, &Resolver::new()).unwrap();
    let picked = upstream.pick(&mut Tried::default(), Duration::from_secs(20)).unwrap();
    let connected = TransportConnector::new(None).new_stream(&*picked.peer).await;
    connected.map(drop).map_err(|error| classify(&error))
}

fn write(folder: &Path, name: &str, pem: &str) -> std::path::PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, pem).unwrap();
    path
}

#[tokio::test]
async fn only_the_given_authority_and_name_are_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let server = Identity::of("vendor.example");
    let own = write(folder.path(), "own.pem", &server.made.cert.pem());
    let other = write(folder.path(), "other.pem", &Identity::of("vendor.example").made.cert.pem());
    let tls = |ca: Option<&Path>, sni: &str| Tls {
        ca: ca.map(Path::to_owned),
        sni: Some(sni.to_owned()),
        client_cert: None,
    };
    for (ca, sni, expected) in [
        (Some(&*own), "vendor.example", Ok(())),
        (Some(&*own), "foreign.example", Err(Reason::Tls)),
        (Some(&*other), "vendor.example", Err(Reason::Tls)),
        (None, "vendor.example", Err(Reason::Tls)),
    ] {
        let (address, _) = serve(&server, None);
        assert_eq!(connect(settings(address, tls(ca, sni))).await, expected, "{ca:?} {sni}");
    }
}

#[tokio::test]
async fn our_certificate_is_shown_to_a_server_that_asks() {
    let folder = tempfile::tempdir().unwrap();
    let (server, client) = (Identity::of("vendor.example"), Identity::of("gateway.example"));
    let chain = write(folder.path(), "client.pem", &client.made.cert.pem());
    let key = write(folder.path(), "client.key", &client.made.signing_key.serialize_pem());
    let tls = Tls {
        ca: Some(write(folder.path(), "ca.pem", &server.made.cert.pem())),
        sni: Some("vendor.example".to_owned()),
        client_cert: Some((chain, key)),
    };
    let (address, served) = serve(&server, Some(&client));
    assert_eq!(connect(settings(address, tls)).await, Ok(()));
    assert!(served.join().unwrap(), "the server has seen and accepted it");
}

#[tokio::test]
async fn a_closed_port_is_a_refused_connection() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    assert_eq!(connect(settings(address, Tls::default())).await, Err(Reason::ConnectRefused));
}
