//! A client that sends and reads raw bytes over HTTP/1.1.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use super::{PATIENCE, contains};

/// A connection that sends and reads bytes.
pub struct Client {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("somebody listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        stream.set_nodelay(true).expect("set");
        let reader = BufReader::new(stream.try_clone().expect("a socket"));
        Self { stream, reader }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("sent");
    }

    /// Sends; false where the other side has closed.
    pub fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// The bare socket.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub fn request(&mut self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut raw = format!("{method} {target} HTTP/1.1\r\n");
        if !headers.iter().any(|(n, _)| n.eq_ignore_ascii_case("host")) {
            raw.push_str("Host: app.example\r\n");
        }
        for (name, value) in headers {
            raw.push_str(&format!("{name}: {value}\r\n"));
        }
        let framed = headers.iter().any(|(n, _)| {
            n.eq_ignore_ascii_case("content-length") || n.eq_ignore_ascii_case("transfer-encoding")
        });
        if !framed && !body.is_empty() {
            raw.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        raw.push_str("\r\n");
        let mut bytes = raw.into_bytes();
        bytes.extend_from_slice(body);
        self.send(&bytes);
        self.read(method)
    }

    /// Reads one final answer (interim ones are kept in `interim`).
    pub fn read(&mut self, method: &str) -> Answer {
        self.try_read(method).expect("an answer")
    }

    /// Reads one answer; `None` where the connection ended before a whole head.
    pub fn try_read(&mut self, method: &str) -> Option<Answer> {
        let mut interim = Vec::new();
        loop {
            let (status, headers, mut raw) = self.read_head()?;
            if (100..200).contains(&status) && status != 101 {
                interim.push(status);
                continue;
            }
            let mut answer =
                Answer { status, headers, body: Vec::new(), raw: Vec::new(), interim, cut: false };
            if method != "HEAD" && !matches!(status, 101 | 204 | 304) {
                answer.cut = self.read_body(&answer.headers.clone(), &mut answer.body, &mut raw).is_none();
            }
            answer.raw = raw;
            return Some(answer);
        }
    }

    /// Reads a head only, for streams.
    pub fn read_head(&mut self) -> Option<Head> {
        let mut raw = Vec::new();
        let mut lines = Vec::new();
        loop {
            let start = raw.len();
            if self.reader.read_until(b'\n', &mut raw).ok()? == 0 {
                return None;
            }
            let line = String::from_utf8_lossy(&raw[start..]).trim_end().to_owned();
            if line.is_empty() {
                break;
            }
            lines.push(line);
        }
        let status = lines.first()?.split(' ').nth(1)?.parse().ok()?;
        let headers = lines
            .iter()
            .skip(1)
            .filter_map(|line| line.split_once(':').map(|(n, v)| (n.to_owned(), v.trim().to_owned())))
            .collect();
        Some((status, headers, raw))
    }

    /// Exactly so many bytes.
    pub fn read_exact(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.reader.read_exact(&mut bytes).expect("bytes");
        bytes
    }

    /// Everything until the other side closes.
    pub fn read_to_end(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let _ = self.reader.read_to_end(&mut bytes);
        bytes
    }

    /// Waits for the end of the connection; false where bytes came or nothing did in time.
    pub fn is_closed(&mut self) -> bool {
        matches!(self.reader.read(&mut [0]), Ok(0)) || self.reader.get_ref().take_error().is_err()
    }

    fn read_body(
        &mut self,
        headers: &[(String, String)],
        body: &mut Vec<u8>,
        raw: &mut Vec<u8>,
    ) -> Option<()> {
        let find =
            |name: &str| headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str());
        if find("transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked")) {
            loop {
                let start = raw.len();
                if self.reader.read_until(b'\n', raw).ok()? == 0 {
                    return None;
                }
                let size = usize::from_str_radix(String::from_utf8_lossy(&raw[start..]).trim(), 16).ok()?;
                let mut chunk = vec![0; size + 2];
                self.reader.read_exact(&mut chunk).ok()?;
                raw.extend_from_slice(&chunk);
                if size == 0 {
                    return Some(());
                }
                body.extend_from_slice(&chunk[..size]);
            }
        } else if let Some(length) = find("content-length") {
            let mut left = length.parse::<usize>().ok()?;
            let mut buffer = [0; 8192];
            while left > 0 {
                let wanted = left.min(buffer.len());
                match self.reader.read(&mut buffer[..wanted]) {
                    Ok(0) | Err(_) => return None,
                    Ok(n) => {
                        body.extend_from_slice(&buffer[..n]);
                        left -= n;
                    }
                }
            }
            raw.extend_from_slice(body);
            Some(())
        } else {
            self.reader.read_to_end(body).ok()?;
            raw.extend_from_slice(body);
            Some(())
        }
    }
}

/// Status, fields and every byte of a head.
pub type Head = (u16, Vec<(String, String)>, Vec<u8>);

/// An answer as the client got it.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    /// Fields in order, names as they came.
    pub headers: Vec<(String, String)>,
    /// The decoded body.
    pub body: Vec<u8>,
    /// Every byte.
    pub raw: Vec<u8>,
    /// Interim answers before it.
    pub interim: Vec<u16>,
    /// Whether the connection ended before the body did.
    pub cut: bool,
}

impl Answer {
    /// All values of a field, by name.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str()).collect()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|why| panic!("no JSON ({why}): {}", self.text()))
    }

    /// The `code` of a problem document.
    pub fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    /// Whether any byte sequence of the answer is `needle`.
    pub fn contains(&self, needle: &[u8]) -> bool {
        contains(&self.raw, needle)
    }
}
