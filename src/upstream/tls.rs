//! The TLS half of an upstream's settings: authorities and our own certificate, read and checked when the configuration is
//! loaded. Pingora panics or fails at the first connection where these are wrong, so nothing wrong leaves this file.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pingora::protocols::tls::CaType;
use pingora::utils::tls::{CertKey, WrappedX509, parse_x509};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, RootCertStore};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::Tls;
use crate::secret::{SecretProblem, read_pem};

/// What a TLS file is wrong with. The operator's fault; names the file, never shows what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileProblem {
    /// Which file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub cause: FileCause,
}

/// See [`FileProblem`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileCause {
    /// It cannot be read.
    Unreadable(io::ErrorKind),
    /// It is larger than 1 MiB.
    TooLarge,
    /// There is no PEM block `CERTIFICATE` in it.
    NoCertificate,
    /// One of its certificates cannot be decoded, or used as an authority; counted from 1.
    BadCertificate(usize),
    /// The key file cannot be read.
    Key(SecretProblem),
    /// There is no PEM block with a private key in it.
    NoKey,
    /// The key is of a kind that cannot be used.
    UnsupportedKey,
    /// The key is not that of the certificate.
    KeyMismatch,
}

impl FileCause {
    /// Whether the file is only not there.
    #[must_use]
    pub fn is_missing(self) -> bool {
        matches!(self, Self::Unreadable(io::ErrorKind::NotFound) | Self::Key(SecretProblem::Missing))
    }
}

impl fmt::Display for FileCause {
    /// To be read after the file's name. `server::listen::CertificateCause` uses the same words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            _ if self.is_missing() => f.write_str("does not exist"),
            Self::Unreadable(kind) | Self::Key(SecretProblem::Unreadable { kind }) => {
                write!(f, "cannot be read: {kind}")
            }
            Self::TooLarge => f.write_str("is larger than 1 MiB"),
            Self::NoCertificate => f.write_str("has no certificate in it"),
            Self::BadCertificate(at) => write!(f, "has a certificate, number {at}, that cannot be used"),
            Self::Key(problem) => write!(f, "cannot be used as a key: {problem}"),
            Self::NoKey => f.write_str("has no private key in it"),
            Self::UnsupportedKey => f.write_str("has a private key of a kind that cannot be used"),
            Self::KeyMismatch => f.write_str("is the key of another certificate"),
        }
    }
}

impl fmt::Display for FileProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` {}", self.path.display(), self.cause)
    }
}

impl std::error::Error for FileProblem {}

/// What every connection to an upstream is made with. Configuration lifetime.
#[derive(Default)]
pub(super) struct TlsPolicy {
    pub(super) ca: Option<Arc<CaType>>,
    pub(super) client: Option<Arc<CertKey>>,
    /// What tells one policy from another, for the pool key: the certificates themselves, so that a file with new content
    /// makes new connections.
    pub(super) identity: Vec<Vec<u8>>,
}

impl TlsPolicy {
    pub(super) fn load(tls: &Tls) -> Result<Self, FileProblem> {
        let mut policy = Self::default();
        if let Some(path) = &tls.ca {
            let certificates = authorities(path)?;
            policy.identity.push(b"ca".to_vec());
            policy.identity.extend(certificates.iter().cloned());
            let wrapped: Vec<_> =
                certificates.into_iter().map(|der| WrappedX509::new(der, parse_x509)).collect();
            policy.ca = Some(Arc::from(wrapped));
        }
        if let Some((chain, key)) = &tls.client_cert {
            let (certificates, key) = client_certificate(chain, key)?;
            policy.identity.push(b"client".to_vec());
            policy.identity.extend(certificates.iter().cloned());
            policy.client = Some(Arc::new(CertKey::new(certificates, key)));
        }
        Ok(policy)
    }
}

/// Everything that is wrong with the files of an upstream's TLS settings.
#[must_use]
pub fn check_files(tls: &Tls) -> Vec<FileProblem> {
    let ca = tls.ca.as_deref().and_then(|path| authorities(path).err());
    let mut wrong: Vec<FileProblem> = ca.into_iter().collect();
    if let Some((chain, key)) = &tls.client_cert {
        let chain_problem = certificates(chain).err();
        // Read by itself: a mistake in one of the two must not hide one in the other.
        let alone = chain_problem.is_some();
        wrong.extend(chain_problem);
        wrong.extend(if alone { key_of(key).err() } else { client_certificate(chain, key).err() });
    }
    wrong
}

fn authorities(path: &Path) -> Result<Vec<Vec<u8>>, FileProblem> {
    let certificates = certificates(path)?;
    let mut store = RootCertStore::empty();
    for (at, der) in certificates.iter().enumerate() {
        let added = store.add(CertificateDer::from(der.as_slice()));
        added.map_err(|_| problem(path, FileCause::BadCertificate(at + 1)))?;
    }
    Ok(certificates)
}

/// Every certificate of a PEM file as DER that decodes, at least one.
fn certificates(path: &Path) -> Result<Vec<Vec<u8>>, FileProblem> {
    let pem = read_public(path)?;
    let mut certificates = Vec::new();
    for (at, certificate) in rustls_pemfile::certs(&mut pem.as_slice()).enumerate() {
        let der = certificate.map_err(|_| problem(path, FileCause::BadCertificate(at + 1)))?.to_vec();
        if X509Certificate::from_der(&der).is_err() {
            return Err(problem(path, FileCause::BadCertificate(at + 1)));
        }
        certificates.push(der);
    }
    if certificates.is_empty() {
        return Err(problem(path, FileCause::NoCertificate));
    }
    Ok(certificates)
}

fn client_certificate(chain: &Path, key: &Path) -> Result<(Vec<Vec<u8>>, Vec<u8>), FileProblem> {
    let certificates = certificates(chain)?;
    // Pingora finds the kind of key from its bytes and unwraps the outcome, so that way must work as well.
    let plain = key_of(key)?.secret_der().to_vec();
    let unsupported = || problem(key, FileCause::UnsupportedKey);
    let guessed = PrivateKeyDer::try_from(plain.as_slice()).map_err(|_| unsupported())?;
    let signer = rustls::crypto::ring::sign::any_supported_type(&guessed).map_err(|_| unsupported())?;
    let leaf = certificates.iter().map(|der| CertificateDer::from(der.clone())).collect();
    match CertifiedKey::new(leaf, signer).keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok((certificates, plain)),
        Err(_) => Err(problem(key, FileCause::KeyMismatch)),
    }
}

fn key_of(path: &Path) -> Result<PrivateKeyDer<'static>, FileProblem> {
    let pem = read_pem(path).map_err(|cause| problem(path, FileCause::Key(cause)))?;
    let no_key = || problem(path, FileCause::NoKey);
    rustls_pemfile::private_key(&mut pem.expose()).map_err(|_| no_key())?.ok_or_else(no_key)
}

/// A file that is no secret.
fn read_public(path: &Path) -> Result<Vec<u8>, FileProblem> {
    let unreadable = |error: io::Error| problem(path, FileCause::Unreadable(error.kind()));
    // A pipe would block for ever in `open`.
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(problem(path, FileCause::Unreadable(io::ErrorKind::InvalidInput)));
    }
    let mut content = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut content))
        .map_err(unreadable)?;
    if content.len() as u64 > MAX_FILE_BYTES {
        return Err(problem(path, FileCause::TooLarge));
    }
    Ok(content)
}

fn problem(path: &Path, cause: FileCause) -> FileProblem {
    FileProblem { path: path.to_owned(), cause }
}

/// The system's own bundle of authorities has a quarter of this.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    struct Files {
        folder: tempfile::TempDir,
    }

    impl Files {
        fn new() -> Self {
            Self { folder: tempfile::tempdir().unwrap() }
        }

        fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
            let path = self.folder.path().join(name);
            fs::write(&path, content).unwrap();
            path
        }
    }

    fn self_signed() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(["vendor.example".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    fn cause(tls: Tls) -> Option<FileCause> {
        TlsPolicy::load(&tls).err().map(|problem| problem.cause)
    }

    fn ca(path: PathBuf) -> Tls {
        Tls { ca: Some(path), ..Tls::default() }
    }

    #[test]
    fn a_bad_ca_file_is_named_with_its_cause() {
        let files = Files::new();
        let missing = files.folder.path().join("none.pem");
        let problem = TlsPolicy::load(&ca(missing.clone())).err().unwrap();
        assert_eq!(problem.path, missing);
        assert_eq!(problem.cause, FileCause::Unreadable(io::ErrorKind::NotFound));
        assert!(problem.to_string().contains("none.pem"), "{problem}");

        assert_eq!(cause(ca(files.write("empty", ""))), Some(FileCause::NoCertificate));
        assert_eq!(cause(ca(files.write("text", "not a certificate"))), Some(FileCause::NoCertificate));
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert_eq!(cause(ca(files.write("broken", broken))), Some(FileCause::BadCertificate(1)));
        let (good, _) = self_signed();
        assert_eq!(cause(ca(files.write("second", good + broken))), Some(FileCause::BadCertificate(2)));
        assert_eq!(cause(ca(files.write("large", vec![b'a'; 1_048_577]))), Some(FileCause::TooLarge));
    }

    #[test]
    fn a_client_certificate_needs_its_own_key() {
        let files = Files::new();
        let (cert, key) = self_signed();
        let (_, other_key) = self_signed();
        let cert = files.write("cert.pem", cert);
        let with = |key: PathBuf| Tls { client_cert: Some((cert.clone(), key)), ..Tls::default() };
        assert_eq!(cause(with(files.write("key.pem", key))), None);
        assert_eq!(cause(with(files.write("other.pem", other_key))), Some(FileCause::KeyMismatch));
        assert_eq!(cause(with(cert.clone())), Some(FileCause::NoKey), "the two paths mixed up");
        let missing = with(files.folder.path().join("none"));
        assert_eq!(cause(missing), Some(FileCause::Key(SecretProblem::Missing)));
    }

    #[test]
    fn new_content_of_a_file_is_another_policy() {
        let files = Files::new();
        let identity = |pem: String| TlsPolicy::load(&ca(files.write("ca.pem", pem))).unwrap().identity;
        let (first, second) = (self_signed().0, self_signed().0);
        assert_ne!(identity(first.clone()), identity(second));
        assert_eq!(identity(first.clone()), identity(first));
    }
}
