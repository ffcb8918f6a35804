//! `portcullis demo`: everything that one needs to see the gate at work, offline.
//!
//! Two small servers on loopback stand in for the world: [`vendor()`], an API that belongs to somebody else and leaks
//! wherever it can, and [`webapp()`], an app of one's own. The gateway itself is the real one and runs `conf/demo.yaml`, a
//! file like any other. What is here starts the two, writes the vendor's key where that file looks for it, and prints what to
//! try. It does not start the gateway: the command does, in the way that `run` does.

mod answer;
mod banner;
mod ledger;
mod vendor;
mod webapp;
mod websocket;

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use tokio::net::TcpListener;

pub use banner::print_banner;
pub use vendor::{Keys, vendor};
pub use webapp::webapp;

/// The file that the demo runs, relative to the root of the repository.
pub const CONFIG: &str = "conf/demo.yaml";

/// Where `conf/demo.yaml` expects the vendor.
pub const VENDOR: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9101);

/// Where `conf/demo.yaml` expects the web app.
pub const WEBAPP: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9102);

/// The key's file, seen from the directory of the configuration.
pub const KEY_FILE: &str = "../.demo/vendor-key";

/// The two servers, up and listening. They stop with the process.
pub struct Running {
    /// Where the vendor listens. No browser may ever see this.
    pub vendor: SocketAddr,
    /// Where the web app listens.
    pub webapp: SocketAddr,
    /// The key that the vendor takes: new at every start.
    pub key: String,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Running");
        shown.field("vendor", &self.vendor).field("webapp", &self.webapp).field("key", &"***").finish()
    }
}

/// Why the demo cannot start. The machine's fault or the operator's, never a client's.
#[derive(Debug)]
pub enum DemoError {
    /// A port that the demo's file names is taken. Holds what it is for, and where.
    Bind(&'static str, SocketAddr, io::Error),
    /// The key's file cannot be written.
    Key(PathBuf, io::Error),
    /// There is no thread or no runtime for the servers.
    Start(io::Error),
}

impl fmt::Display for DemoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind(what, address, _) => {
                write!(f, "the demo's {what} cannot listen on `{address}`; is another demo running?")
            }
            Self::Key(path, _) => write!(f, "the demo's key cannot be written to `{}`", path.display()),
            Self::Start(_) => f.write_str("the demo's servers cannot be started"),
        }
    }
}

impl std::error::Error for DemoError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Bind(_, _, cause) | Self::Key(_, cause) | Self::Start(cause) => Some(cause),
        }
    }
}

/// Starts both servers on a thread of their own and returns when they listen: the caller may then start the gateway, which
/// brings runtimes of its own. By then the key is written where the configuration at `config` looks for it (see [`KEY_FILE`]),
/// but not before both ports were had: a second demo must not take the key from the first. Port 0 takes any free one.
///
/// # Errors
/// [`DemoError`], with nothing left running.
pub fn start(config: &Path, vendor_at: SocketAddr, webapp_at: SocketAddr) -> Result<Running, DemoError> {
    let config = config.to_owned();
    in_background("demo", move |report| async move {
        let ready = async {
            let (vendor_listener, vendor) = bind("vendor", vendor_at).await?;
            let (webapp_listener, webapp) = bind("web app", webapp_at).await?;
            let (key, _) = write_key(&config)?;
            Ok((vendor_listener, webapp_listener, Running { vendor, webapp, key }))
        };
        match ready.await {
            Ok((vendor_listener, webapp_listener, running)) => {
                let key = running.key.clone();
                if report.send(Ok(running)).is_ok() {
                    tokio::join!(vendor(vendor_listener, key), webapp(webapp_listener));
                }
            }
            Err(error) => drop(report.send(Err(error))),
        }
    })
}

/// Serves only the vendor, in the calling thread, until the process ends: `portcullis demo-vendor`, for tests that rotate
/// keys under load. The address is printed to `out` as one line once it listens.
///
/// # Errors
/// [`DemoError::Bind`] or [`DemoError::Start`].
pub fn serve_vendor(address: SocketAddr, keys: Keys, out: impl Write) -> Result<(), DemoError> {
    alone("vendor", address, out, |listener| vendor(listener, keys))
}

/// Serves only the web app, as [`serve_vendor`] does the vendor.
///
/// # Errors
/// [`DemoError::Bind`] or [`DemoError::Start`].
pub fn serve_webapp(address: SocketAddr, out: impl Write) -> Result<(), DemoError> {
    alone("web app", address, out, webapp)
}

/// Makes a new key and writes it where the configuration at `config` looks for it, readable by its owner only. Returns the
/// key and the file. The old file is replaced in one step, so that a gateway that reads it never sees half a key.
///
/// # Errors
/// [`DemoError::Key`].
pub fn write_key(config: &Path) -> Result<(String, PathBuf), DemoError> {
    let path = config.parent().unwrap_or(Path::new("")).join(KEY_FILE);
    // One v7 identifier has 74 random bits, which two of them double.
    let key = format!("demo-{}{}", uuid::Uuid::now_v7().simple(), uuid::Uuid::now_v7().simple());
    let written = || {
        if let Some(directory) = path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        }
        let fresh = path.with_extension("new");
        match fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
        file.write_all(key.as_bytes())?;
        fs::rename(&fresh, &path)
    };
    match written() {
        Ok(()) => Ok((key, path)),
        Err(error) => Err(DemoError::Key(path, error)),
    }
}

async fn bind(what: &'static str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), DemoError> {
    let listening = async {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    listening.await.map_err(|error| DemoError::Bind(what, address, error))
}

/// Runs `work` on its own thread and waits for its first report.
fn in_background<T, W, F>(name: &str, work: W) -> Result<T, DemoError>
where
    T: Send + 'static,
    W: FnOnce(mpsc::SyncSender<Result<T, DemoError>>) -> F + Send + 'static,
    F: Future<Output = ()>,
{
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(DemoError::Start)?;
    let (report, reported) = mpsc::sync_channel(1);
    let thread =
        std::thread::Builder::new().name(name.to_owned()).spawn(move || runtime.block_on(work(report)));
    thread.map_err(DemoError::Start)?;
    reported.recv().unwrap_or_else(|_| Err(DemoError::Start(io::ErrorKind::BrokenPipe.into())))
}

fn alone<S, F>(
    what: &'static str,
    address: SocketAddr,
    mut out: impl Write,
    serve: S,
) -> Result<(), DemoError>
where
    S: FnOnce(TcpListener) -> F,
    F: Future<Output = ()>,
{
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(DemoError::Start)?;
    runtime.block_on(async {
        let (listener, address) = bind(what, address).await?;
        writeln!(out, "{address}").and_then(|()| out.flush()).map_err(DemoError::Start)?;
        serve(listener).await;
        Ok(())
    })
}

#[cfg(test)]
mod tests;
