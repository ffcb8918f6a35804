//! The certificates of a listener: chosen by the name the client asks for (SNI), replaced whole when their files change.
//!
//! Who watches the files is not decided here: the server calls [`Certificates::reload`]. The names of a certificate are its
//! subject alternative names (RFC 6125 §6.4.4: a common name is none). Key bytes appear in no error and no `Debug`.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ahash::RandomState;
use arc_swap::ArcSwap;
use pingora::listeners::tls::Acceptor;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

/// One certificate, as the operator names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// PEM: the certificate, then its intermediates.
    pub cert: PathBuf,
    /// PEM: its private key.
    pub key: PathBuf,
}

/// Certificates that cannot be served. The operator's fault. Names the file and the cause.
#[derive(Debug)]
pub struct CertificateError {
    /// The file at fault; empty where no certificate was named at all.
    pub file: PathBuf,
    /// What is wrong with it.
    pub cause: CertificateCause,
}

/// See [`CertificateError`].
#[derive(Debug)]
pub enum CertificateCause {
    /// The list of certificates is empty.
    NothingNamed,
    /// The file cannot be read.
    Unreadable(std::io::Error),
    /// The file is no PEM.
    NoPem,
    /// The file has no certificate in it.
    NoCertificate,
    /// The file has no private key in it.
    NoKey,
    /// The first certificate of the file cannot be parsed.
    BadCertificate,
    /// The key cannot be used: of an unknown kind, or damaged.
    BadKey,
    /// The key belongs to another certificate.
    KeyMismatch,
}

impl CertificateCause {
    /// Whether the file is only not there.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Unreadable(cause) if cause.kind() == std::io::ErrorKind::NotFound)
    }
}

impl fmt::Display for CertificateCause {
    /// To be read after the file's name. `upstream::FileCause` uses the same words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NothingNamed => f.write_str("a listener with TLS needs a certificate"),
            Self::Unreadable(_) if self.is_missing() => f.write_str("does not exist"),
            Self::Unreadable(cause) => write!(f, "cannot be read: {}", cause.kind()),
            Self::NoPem => f.write_str("is no PEM file"),
            Self::NoCertificate => f.write_str("has no certificate in it"),
            Self::NoKey => f.write_str("has no private key in it"),
            Self::BadCertificate => f.write_str("has a first certificate that cannot be used"),
            Self::BadKey => f.write_str("has a private key of a kind that cannot be used"),
            Self::KeyMismatch => f.write_str("is the key of another certificate"),
        }
    }
}

impl fmt::Display for CertificateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            CertificateCause::NothingNamed => self.cause.fmt(f),
            cause => write!(f, "`{}` {cause}", self.file.display()),
        }
    }
}

impl std::error::Error for CertificateError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.cause {
            CertificateCause::Unreadable(cause) => Some(cause),
            _ => None,
        }
    }
}

/// The certificates of a listener. Lifetime: process; the contents are swapped whole.
pub struct Certificates {
    files: Vec<CertificateFiles>,
    hasher: RandomState,
    current: ArcSwap<Set>,
}

impl Certificates {
    /// Reads every file. The first certificate is served to clients that ask for no name, or for one that none has.
    ///
    /// # Errors
    /// [`CertificateError`] for the first file that cannot be used.
    pub fn load(files: &[CertificateFiles]) -> Result<Self, CertificateError> {
        let hasher = RandomState::new();
        let set = Set::read(files, &hasher)?;
        Ok(Self { files: files.to_vec(), hasher, current: ArcSwap::from_pointee(set) })
    }

    /// Everything that is wrong with one certificate and its key.
    #[must_use]
    pub fn check(files: &CertificateFiles) -> Vec<CertificateError> {
        let chain = read_chain(&files.cert).err().map(|cause| (&files.cert, cause));
        let key =
            read_file(&files.key).and_then(|text| read_key(&text)).err().map(|cause| (&files.key, cause));
        let each =
            chain.into_iter().chain(key).map(|(file, cause)| CertificateError { file: file.clone(), cause });
        let mut wrong: Vec<_> = each.collect();
        if wrong.is_empty() {
            wrong.extend(Loaded::read(files, &RandomState::new()).err());
        }
        wrong
    }

    /// Reads every file again; all or nothing. Says whether anything changed. Handshakes from now on see the new ones,
    /// open connections keep theirs.
    ///
    /// # Errors
    /// [`CertificateError`] for the first file that cannot be used; what was served before is kept.
    pub fn reload(&self) -> Result<bool, CertificateError> {
        let set = Set::read(&self.files, &self.hasher)?;
        let changed = set.fingerprint != self.current.load().fingerprint;
        if changed {
            self.current.store(Arc::new(set));
        }
        Ok(changed)
    }

    /// For each certificate its first name (the file's where it has none) and the end of its validity, in seconds since
    /// 1970.
    #[must_use]
    pub fn expiries(&self) -> Vec<(String, i64)> {
        self.current.load().expiries.clone()
    }

    /// The directories to watch for changes. Directories, because files are replaced by renaming.
    #[must_use]
    pub fn directories(&self) -> Vec<PathBuf> {
        let mut directories = BTreeSet::new();
        for files in &self.files {
            crate::secret::folders_of(&files.cert, &mut directories);
            crate::secret::folders_of(&files.key, &mut directories);
        }
        directories.into_iter().collect()
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates").field("files", &self.files).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load().choose(hello.server_name()))
    }
}

/// What accepts TLS with these certificates: TLS 1.2 and 1.3, HTTP/2 by ALPN where it is wanted.
pub(super) fn acceptor(certificates: &Arc<Certificates>, http2: bool) -> Acceptor {
    let resolver: Arc<dyn ResolvesServerCert> = Arc::clone(certificates) as _;
    let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .expect("the provider has suites for both versions")
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    config.alpn_protocols =
        if http2 { vec![b"h2".to_vec(), b"http/1.1".to_vec()] } else { vec![b"http/1.1".to_vec()] };
    // Tickets instead of the small table of sessions: a returning client is spared a signature, and we keep nothing for it.
    // Without randomness the table stays.
    if let Ok(ticketer) = ring::Ticketer::new() {
        config.ticketer = ticketer;
    }
    Acceptor::from_server_config(Arc::new(config))
}

/// All certificates at one time.
struct Set {
    exact: HashMap<String, Arc<CertifiedKey>>,
    /// By what follows `*.`.
    wildcard: HashMap<String, Arc<CertifiedKey>>,
    default: Arc<CertifiedKey>,
    expiries: Vec<(String, i64)>,
    /// Of everything read, keys included, so that no copy of them need be kept to see a change.
    fingerprint: u64,
}

impl Set {
    fn read(files: &[CertificateFiles], hasher: &RandomState) -> Result<Self, CertificateError> {
        let (mut exact, mut wildcard) = (HashMap::new(), HashMap::new());
        let (mut default, mut expiries, mut prints) = (None, Vec::new(), Vec::new());
        for one in files {
            let loaded = Loaded::read(one, hasher)?;
            for name in &loaded.names {
                // The first certificate that has a name keeps it: the order of the file decides.
                let (map, key) = match name.strip_prefix("*.") {
                    Some(suffix) => (&mut wildcard, suffix),
                    None => (&mut exact, name.as_str()),
                };
                map.entry(key.to_owned()).or_insert_with(|| Arc::clone(&loaded.key));
            }
            let label = loaded.names.first().cloned().unwrap_or_else(|| one.cert.display().to_string());
            expiries.push((label, loaded.not_after));
            prints.push(loaded.fingerprint);
            default.get_or_insert(loaded.key);
        }
        let default = default
            .ok_or(CertificateError { file: PathBuf::new(), cause: CertificateCause::NothingNamed })?;
        Ok(Self { exact, wildcard, default, expiries, fingerprint: hasher.hash_one(prints) })
    }

    /// Exact name, then the wildcard over its first label, then the default.
    fn choose(&self, name: Option<&str>) -> Arc<CertifiedKey> {
        let found = name.and_then(|name| {
            let name = name.to_ascii_lowercase();
            let wild = || name.split_once('.').and_then(|(_, suffix)| self.wildcard.get(suffix));
            self.exact.get(&name).or_else(wild).cloned()
        });
        found.unwrap_or_else(|| Arc::clone(&self.default))
    }
}

/// One certificate with its key, parsed.
struct Loaded {
    key: Arc<CertifiedKey>,
    names: Vec<String>,
    not_after: i64,
    fingerprint: u64,
}

impl Loaded {
    fn read(files: &CertificateFiles, hasher: &RandomState) -> Result<Self, CertificateError> {
        let in_cert = |cause| CertificateError { file: files.cert.clone(), cause };
        let in_key = |cause| CertificateError { file: files.key.clone(), cause };
        let chain = read_chain(&files.cert).map_err(in_cert)?;
        let key_text = read_file(&files.key).map_err(in_key)?;
        let key = read_key(&key_text).map_err(in_key)?;
        let leaf = chain.first().ok_or_else(|| in_cert(CertificateCause::NoCertificate))?;
        let (names, not_after) =
            names_and_expiry(leaf).ok_or_else(|| in_cert(CertificateCause::BadCertificate))?;
        let fingerprint =
            hasher.hash_one((chain.iter().map(AsRef::as_ref).collect::<Vec<&[u8]>>(), key.secret_der()));
        let signing = ring::sign::any_supported_type(&key).map_err(|_| in_key(CertificateCause::BadKey))?;
        let key = CertifiedKey::new(chain, signing);
        match key.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
            Err(rustls::Error::InconsistentKeys(_)) => return Err(in_key(CertificateCause::KeyMismatch)),
            Err(_) => return Err(in_cert(CertificateCause::BadCertificate)),
        }
        Ok(Self { key: Arc::new(key), names, not_after, fingerprint })
    }
}

fn read_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, CertificateCause> {
    std::fs::read(path).map(Zeroizing::new).map_err(CertificateCause::Unreadable)
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateCause> {
    let text = read_file(path)?;
    let chain: Result<Vec<_>, _> = rustls_pemfile::certs(&mut text.as_slice()).collect();
    match chain {
        Ok(chain) if chain.is_empty() => Err(CertificateCause::NoCertificate),
        Ok(chain) => Ok(chain),
        Err(_) => Err(CertificateCause::NoPem),
    }
}

fn read_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, CertificateCause> {
    match rustls_pemfile::private_key(&mut &*text) {
        Ok(Some(key)) => Ok(key),
        Ok(None) => Err(CertificateCause::NoKey),
        // The error may quote the text: it is dropped.
        Err(_) => Err(CertificateCause::NoPem),
    }
}

fn names_and_expiry(leaf: &CertificateDer<'_>) -> Option<(Vec<String>, i64)> {
    let (_, parsed) = X509Certificate::from_der(leaf).ok()?;
    let names = match parsed.subject_alternative_name() {
        Ok(Some(extension)) => extension
            .value
            .general_names
            .iter()
            .filter_map(|name| match name {
                GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
                _ => None,
            })
            .collect(),
        Ok(None) => Vec::new(),
        Err(_) => return None,
    };
    Some((names, parsed.validity().not_after.timestamp()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(directory: &Path, name: &str, names: &[&str]) -> CertificateFiles {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
        let files = CertificateFiles {
            cert: directory.join(format!("{name}.crt")),
            key: directory.join(format!("{name}.key")),
        };
        std::fs::write(&files.cert, made.cert.pem()).expect("written");
        std::fs::write(&files.key, made.signing_key.serialize_pem()).expect("written");
        files
    }

    fn leaf(set: &Certificates, name: Option<&str>) -> Vec<u8> {
        set.current.load().choose(name).cert[0].to_vec()
    }

    #[test]
    fn names_choose_exact_then_wildcard_then_first() {
        let directory = tempfile::tempdir().expect("a directory");
        let a = write(directory.path(), "a", &["a.example"]);
        let b = write(directory.path(), "b", &["*.b.example", "b.example"]);
        let c = write(directory.path(), "c", &["x.b.example"]);
        let set = Certificates::load(&[a, b, c]).expect("loaded");
        let (first, wild, exact) =
            (leaf(&set, None), leaf(&set, Some("b.example")), leaf(&set, Some("X.B.Example")));
        assert!(first != wild && wild != exact && first != exact);
        assert_eq!(leaf(&set, Some("y.b.example")), wild);
        assert_eq!(leaf(&set, Some("z.y.b.example")), first, "a wildcard covers one label");
        assert_eq!(leaf(&set, Some("other.example")), first);
        assert_eq!(set.expiries().len(), 3);
        assert_eq!(set.expiries()[1].0, "*.b.example");
        assert_eq!(set.directories(), [directory.path().to_path_buf()]);
    }

    #[test]
    fn reload_is_all_or_nothing_and_says_what_changed() {
        let directory = tempfile::tempdir().expect("a directory");
        let files = write(directory.path(), "a", &["a.example"]);
        let set = Certificates::load(std::slice::from_ref(&files)).expect("loaded");
        let before = leaf(&set, None);
        assert!(!set.reload().expect("the same files"));
        write(directory.path(), "a", &["a.example"]);
        assert!(set.reload().expect("new files"));
        let after = leaf(&set, None);
        assert_ne!(before, after);
        std::fs::write(&files.key, "").expect("written");
        let error = set.reload().expect_err("no key");
        assert!(matches!(error.cause, CertificateCause::NoKey), "{error}");
        assert_eq!(leaf(&set, None), after, "the old one is kept");
    }

    #[test]
    fn each_fault_names_its_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let a = write(directory.path(), "a", &["a.example"]);
        let b = write(directory.path(), "b", &["b.example"]);
        let load = |cert: &Path, key: &Path| {
            let files = CertificateFiles { cert: cert.to_path_buf(), key: key.to_path_buf() };
            Certificates::load(&[files]).expect_err("refused")
        };
        let mixed = load(&a.cert, &b.key);
        assert!(matches!(mixed.cause, CertificateCause::KeyMismatch), "{mixed}");
        assert_eq!(mixed.file, b.key);
        let swapped = load(&a.key, &a.cert);
        assert!(matches!(swapped.cause, CertificateCause::NoCertificate), "{swapped}");
        let absent = load(&directory.path().join("none"), &a.key);
        assert!(absent.to_string().contains("none`"), "{absent}");
        let junk = directory.path().join("junk");
        std::fs::write(&junk, "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n")
            .expect("written");
        let bad = load(&a.cert, &junk);
        assert!(matches!(bad.cause, CertificateCause::BadKey), "{bad}");
        assert!(!format!("{bad} {bad:?}").contains("c2VjcmV0"), "no key bytes");
        assert!(Certificates::load(&[]).is_err());
    }
}
