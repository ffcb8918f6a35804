//! Asking a running gateway, by its admin side: one request over TCP or a socket file.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use zeroize::Zeroizing;

use super::runtime;
use crate::plan::{AdminAddress, Process};
use crate::secret::{Secret, SecretProblem};
use crate::server::Load;

/// Connecting, and each read and write.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The longest answer that is read.
const MAX_ANSWER_BYTES: u64 = 16 << 20;

/// Where an admin side is.
pub(super) enum Admin {
    /// Host and port.
    Tcp(String),
    /// A socket file.
    Unix(PathBuf),
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

impl Admin {
    /// `host:port`, `http://host:port` or `unix:PATH`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Self::Unix(path.into()));
        }
        let address = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
        let has_port = address.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        if !has_port || address.contains('/') {
            return Err(format!(
                "`{text}` is no admin address: write `127.0.0.1:9090` or `unix:/run/portcullis/admin.sock`"
            ));
        }
        Ok(Self::Tcp(address.to_owned()))
    }

    /// As the configuration file says.
    pub(super) fn of_config(config: &Path) -> Result<Self, String> {
        let runtime = runtime()?;
        let _inside = runtime.enter();
        let loaded = Load::assumed(config, &Process::new());
        let (plan, _) = loaded.map_err(|_| {
            format!(
                "`{}` has mistakes, so it does not tell where the admin side is; give `--admin`",
                config.display()
            )
        })?;
        match plan.admin.map(|admin| admin.address) {
            Some(AdminAddress::Tcp(address)) if address.port() == 0 => {
                Err("the admin side takes a free port; give `--admin ADDRESS`".to_owned())
            }
            Some(AdminAddress::Tcp(address)) => Ok(Self::Tcp(address.to_string())),
            Some(AdminAddress::Unix(path)) => Ok(Self::Unix(path)),
            None => Err(format!("`{}` has no `admin`, so nobody can be asked", config.display())),
        }
    }

    fn connect(&self) -> std::io::Result<Box<dyn Stream>> {
        match self {
            Self::Tcp(address) => {
                let all = address.to_socket_addrs()?;
                let mut why = std::io::Error::from(std::io::ErrorKind::AddrNotAvailable);
                for address in all {
                    match TcpStream::connect_timeout(&address, TIMEOUT) {
                        Ok(stream) => {
                            stream.set_read_timeout(Some(TIMEOUT))?;
                            stream.set_write_timeout(Some(TIMEOUT))?;
                            return Ok(Box::new(stream));
                        }
                        Err(error) => why = error,
                    }
                }
                Err(why)
            }
            Self::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(TIMEOUT))?;
                stream.set_write_timeout(Some(TIMEOUT))?;
                Ok(Box::new(stream))
            }
        }
    }

    /// Whether somebody listens there.
    pub(super) fn is_there(&self) -> bool {
        self.connect().is_ok()
    }

    /// As people write it.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Tcp(address) => address.clone(),
            Self::Unix(path) => format!("unix:{}", path.display()),
        }
    }

    /// What `Host` says: a name that a page could have made to lead here is refused there.
    fn host(&self) -> &str {
        match self {
            Self::Tcp(address) => address,
            Self::Unix(_) => "localhost",
        }
    }
}

/// One question to an admin side.
pub(super) struct Question<'a> {
    /// The method, upper case.
    pub(super) method: &'a str,
    /// Path and query, encoded.
    pub(super) target: &'a str,
    /// JSON, or nothing.
    pub(super) body: &'a [u8],
}

/// Asks, and gives the JSON that was answered. The token comes from the environment only, never from the command line, which others
/// can read.
///
/// # Errors
/// In the operator's words: nobody answers, a token is missing, or what the gateway said is wrong with the question.
pub(super) fn ask(
    admin: &Admin,
    token_env: &str,
    question: &Question<'_>,
) -> Result<serde_json::Value, String> {
    let token = match crate::secret::from_environment(token_env) {
        Ok(token) => Some(token),
        Err(SecretProblem::Missing) => None,
        Err(why) => return Err(format!("the token in `{token_env}` is {why}")),
    };
    let (status, answer) = exchange(admin, token.as_ref(), question)
        .map_err(|why| format!("the admin side at `{}` does not answer: {why}", admin.shown()))?;
    if status == 401 {
        return Err(format!(
            "the admin side wants a token: put it into the environment variable `{token_env}`"
        ));
    }
    if status == 404 || status == 405 {
        return Err("the gateway that runs is of a version that does not know this question".to_owned());
    }
    let value: serde_json::Value = serde_json::from_slice(&answer)
        .map_err(|_| format!("`{}` answered {status}, and not what was asked", admin.shown()))?;
    match value.get("error").and_then(|why| why.as_str()) {
        Some(why) => Err(why.to_owned()),
        None => Ok(value),
    }
}

fn exchange(
    admin: &Admin,
    token: Option<&Secret>,
    question: &Question<'_>,
) -> std::io::Result<(u16, Vec<u8>)> {
    let Question { method, target, body } = question;
    let mut stream = admin.connect()?;
    let mut asked = Zeroizing::new(Vec::with_capacity(body.len() + 1024));
    asked.extend_from_slice(
        format!(
            "{method} {target} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n",
            admin.host(),
            body.len()
        )
        .as_bytes(),
    );
    if let Some(token) = token {
        asked.extend_from_slice(b"Authorization: Bearer ");
        asked.extend_from_slice(token.expose());
        asked.extend_from_slice(b"\r\n");
    }
    asked.extend_from_slice(b"\r\n");
    asked.extend_from_slice(body);
    // A gateway that refuses may answer and close before it has read all: what it said counts.
    let sent = stream.write_all(&asked).and_then(|()| stream.flush());
    let mut answer = Vec::new();
    let read = stream.take(MAX_ANSWER_BYTES).read_to_end(&mut answer);
    if answer.is_empty() {
        sent.and(read)?;
    }
    let broken = || std::io::Error::from(std::io::ErrorKind::InvalidData);
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").ok_or_else(broken)?;
    let line = answer.get(..end).unwrap_or_default().split(|byte| *byte == b'\r').next().unwrap_or_default();
    let status = std::str::from_utf8(line).ok().and_then(|line| line.split(' ').nth(1)?.parse().ok());
    Ok((status.ok_or_else(broken)?, answer.split_off(end + 4)))
}
