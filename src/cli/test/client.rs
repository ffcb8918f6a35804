//! The client of a case: one request over HTTP/1.1, and the whole answer as it came.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::plan::cases::Send;

/// An answer, undone of its framing.
#[derive(Debug, Clone, Default)]
pub struct Received {
    /// The status line, without its line break.
    pub status_line: String,
    /// The status; 0 where there is none.
    pub status: u16,
    /// Fields in order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// Trailer fields.
    pub trailers: Vec<(String, String)>,
    /// Whether it came to its end.
    pub is_whole: bool,
}

impl Received {
    /// A field's values, joined.
    pub fn header(&self, name: &str) -> Option<String> {
        joined(&self.headers, name)
    }
}

/// All values of a field, joined by `, `.
pub fn joined(fields: &[(String, String)], name: &str) -> Option<String> {
    let values: Vec<&str> = fields
        .iter()
        .filter(|(other, _)| other.eq_ignore_ascii_case(name))
        .map(|(_, v)| v.as_str())
        .collect();
    (!values.is_empty()).then(|| values.join(", "))
}

/// Both ends of one connection within this process.
///
/// # Errors
/// The system has no socket left.
pub async fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let ours = TcpStream::connect(listener.local_addr()?).await?;
    loop {
        let (theirs, from) = listener.accept().await?;
        // Somebody else on this machine may have found the port.
        if from == ours.local_addr()? {
            // As the sockets of a running gateway: nothing waits to be sent together.
            ours.set_nodelay(true)?;
            theirs.set_nodelay(true)?;
            return Ok((ours, theirs));
        }
    }
}

/// The client's address: what the case says, and a port that nobody looks at.
pub fn address(send: &Send) -> SocketAddr {
    SocketAddr::new(send.from.unwrap_or(DEFAULT_CLIENT.into()), 50_000)
}

/// Sends and reads the answer; what has come when the connection breaks or the time is over is given as not whole.
pub async fn exchange(stream: &mut TcpStream, send: &Send) -> Received {
    let is_head = send.method.as_deref() == Some("HEAD");
    let mut got = Vec::new();
    let talk = async {
        if stream.write_all(&request(send)).await.is_err() {
            // It may have answered before it closed.
        }
        let mut buffer = vec![0; 16 << 10];
        loop {
            if let Some(answer) = parse(&got, is_head, false) {
                return answer;
            }
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return parse(&got, is_head, true).unwrap_or_default(),
                Ok(read) => got.extend_from_slice(buffer.get(..read).unwrap_or_default()),
            }
        }
    };
    tokio::time::timeout(LONGEST, talk).await.unwrap_or_default()
}

/// The bytes of a request.
pub fn request(send: &Send) -> Vec<u8> {
    let method = send.method.as_deref().unwrap_or("GET");
    let mut text = format!("{method} {} HTTP/1.1\r\n", send.path);
    let has = |name: &str| send.headers.keys().any(|key| key.eq_ignore_ascii_case(name));
    if !has("host") {
        text.push_str("host: gateway.example\r\n");
    }
    for (name, values) in &send.headers {
        for value in values.as_slice() {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    let body = match (&send.json, &send.body) {
        (Some(json), _) => {
            if !has("content-type") {
                text.push_str("content-type: application/json\r\n");
            }
            json.to_string()
        }
        (None, Some(body)) => body.clone(),
        (None, None) => String::new(),
    };
    let carries = send.json.is_some() || send.body.is_some();
    if carries && !has("content-length") && !has("transfer-encoding") {
        text.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    text.push_str("\r\n");
    text.push_str(&body);
    text.into_bytes()
}

/// Reads the answer out of what has come; `None`: more is to come. `closed`: nothing more will.
fn parse(bytes: &[u8], is_head: bool, closed: bool) -> Option<Received> {
    let mut rest = bytes;
    let mut answer = loop {
        let Some((head, after)) = split(rest, b"\r\n\r\n") else {
            return closed.then(Received::default);
        };
        let answer = head_of(&String::from_utf8_lossy(head));
        rest = after;
        // Interim answers have no body and are followed by the real one.
        if !(100..200).contains(&answer.status) || answer.status == 101 {
            break answer;
        }
    };
    let length = answer.header("content-length").and_then(|text| text.parse::<usize>().ok());
    let chunked = answer.header("transfer-encoding").is_some_and(|coding| coding.contains("chunked"));
    if is_head || matches!(answer.status, 101 | 204 | 304) {
        answer.is_whole = true;
        return Some(answer);
    }
    if chunked {
        answer.is_whole = unchunk(rest, &mut answer.body, &mut answer.trailers);
    } else if let Some(length) = length {
        answer.body = rest.get(..length.min(rest.len())).unwrap_or_default().to_vec();
        answer.is_whole = rest.len() >= length;
    } else {
        answer.body = rest.to_vec();
        answer.is_whole = closed;
    }
    (answer.is_whole || closed).then_some(answer)
}

fn head_of(head: &str) -> Received {
    let mut lines = head.split("\r\n");
    let status_line = lines.next().unwrap_or_default().to_owned();
    let status = status_line.split(' ').nth(1).and_then(|text| text.parse().ok()).unwrap_or(0);
    Received { status_line, status, headers: lines.filter_map(field).collect(), ..Received::default() }
}

fn field(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once(':')?;
    Some((name.to_ascii_lowercase(), value.trim().to_owned()))
}

/// Undoes the chunked coding (RFC 9112 §7.1); whether the end has come.
fn unchunk(mut rest: &[u8], body: &mut Vec<u8>, trailers: &mut Vec<(String, String)>) -> bool {
    loop {
        let Some((line, after)) = split(rest, b"\r\n") else { return false };
        let size = String::from_utf8_lossy(line);
        let size = size.split(';').next().unwrap_or_default().trim();
        let Ok(size) = usize::from_str_radix(size, 16) else { return false };
        if size == 0 {
            let mut fields = after;
            while let Some((line, after)) = split(fields, b"\r\n") {
                if line.is_empty() {
                    return true;
                }
                trailers.extend(field(&String::from_utf8_lossy(line)));
                fields = after;
            }
            return false;
        }
        body.extend_from_slice(after.get(..size.min(after.len())).unwrap_or_default());
        match after.get(size..).and_then(|after| after.strip_prefix(b"\r\n")) {
            Some(after) => rest = after,
            None => return false,
        }
    }
}

fn split<'b>(bytes: &'b [u8], at: &[u8]) -> Option<(&'b [u8], &'b [u8])> {
    let found = bytes.windows(at.len()).position(|window| window == at)?;
    Some((bytes.get(..found)?, bytes.get(found + at.len()..)?))
}

/// Who asks, unless the case says: an address for documentation (RFC 5737).
const DEFAULT_CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// No gateway takes so long: upstreams answer at once here.
const LONGEST: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_undone_of_their_framing() {
        let fixed = parse(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi", false, false).expect("whole");
        assert_eq!((fixed.status, fixed.body.as_slice(), fixed.is_whole), (200, b"hi".as_slice(), true));
        let chunked =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n1;x\r\n!\r\n0\r\nA: b\r\n\r\n";
        let answer = parse(chunked, false, false).expect("whole");
        assert_eq!(answer.body, b"hi!");
        assert_eq!(answer.trailers, [("a".to_owned(), "b".to_owned())]);
        for end in 0..chunked.len() {
            assert!(parse(&chunked[..end], false, false).is_none(), "{end}");
            assert!(!parse(&chunked[..end], false, true).expect("what there is").is_whole, "{end}");
        }
        let interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n";
        assert_eq!(parse(interim, false, false).map(|answer| answer.status), Some(204));
    }
}
