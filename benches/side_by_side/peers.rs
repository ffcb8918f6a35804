//! What stands around the proxy: the clients and the origin, on one thread of one process that never sleeps while it measures.
//!
//! A peer that sleeps must be woken, and the system books that on the one who sends: up to three microseconds a message on a virtual
//! machine, and the more the slower the proxy is, since its peers then sleep more. A proxy on a network pays no such thing.
//!
//! Commands come on stdin, `ADDRESS PATH CONNECTIONS SECONDS`, and the number of requests that were answered goes to stdout.

use std::cell::Cell;
use std::io::BufRead;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::LocalSet;

use super::Outcome;

/// How long the body of each answer is.
pub const BODY_BYTES: usize = 1024;

/// What a browser's `fetch` sends.
const FIELDS: &str = "Host: bench.example\r\n\
    Accept: application/json\r\n\
    Accept-Language: de-DE,de;q=0.9,en;q=0.8\r\n\
    Accept-Encoding: gzip, deflate, br\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n\
    Referer: https://bench.example/page\r\n\
    Sec-Fetch-Mode: cors\r\n\r\n";

/// `peers LISTEN`.
pub fn run(mut arguments: impl Iterator<Item = String>) -> Outcome<()> {
    let listen = arguments.next().ok_or("peers LISTEN")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answer: &'static [u8] = answer().leak();
    let (told, mut commands) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if told.send(line).is_err() {
                return;
            }
        }
    });
    LocalSet::new().block_on(&runtime, async move {
        let listener = TcpListener::bind(listen).await?;
        tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                tokio::task::spawn_local(serve(stream, answer));
            }
        });
        while let Some(line) = commands.recv().await {
            let words: Vec<&str> = line.split(' ').collect();
            let [address, path, connections, seconds] = words.as_slice() else { return Err(line.into()) };
            let seconds = Duration::from_secs(seconds.parse()?);
            match load(address.parse()?, path, connections.parse()?, seconds).await {
                Ok(count) => println!("{count}"),
                Err(why) => println!("{why}"),
            }
        }
        Ok(())
    })
}

/// Keeps every connection asking until the time is over. Who polls all the time never sleeps.
async fn load(address: SocketAddr, path: &str, connections: usize, time: Duration) -> Outcome<u64> {
    let request: Rc<[u8]> = format!("GET {path} HTTP/1.1\r\n{FIELDS}").into_bytes().into();
    let until = Instant::now() + time;
    let count = Rc::new(Cell::new(0));
    let clients: Vec<_> = (0..connections)
        .map(|_| tokio::task::spawn_local(ask(address, Rc::clone(&request), until, Rc::clone(&count))))
        .collect();
    while Instant::now() < until {
        tokio::task::yield_now().await;
    }
    for client in clients {
        client.await??;
    }
    Ok(count.get())
}

async fn ask(address: SocketAddr, request: Rc<[u8]>, until: Instant, count: Rc<Cell<u64>>) -> Outcome<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; 16 << 10];
    while Instant::now() < until {
        stream.write_all(&request).await?;
        let mut held = 0;
        loop {
            let read = stream.read(buffer.get_mut(held..).unwrap_or_default()).await?;
            if read == 0 {
                return Err("the proxy closed a connection".into());
            }
            held += read;
            let bytes = buffer.get(..held).unwrap_or_default();
            match length(bytes)? {
                Some(length) if length < held => return Err("more than one answer".into()),
                Some(length) if length == held => break,
                _ => {}
            }
        }
        count.set(count.get() + 1);
    }
    Ok(())
}

/// How long the answer is, once its head is there.
fn length(bytes: &[u8]) -> Outcome<Option<usize>> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(bytes.get(..end).unwrap_or_default())?;
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap_or_default();
    if !status.starts_with("HTTP/1.1 200") {
        return Err(format!("not a 200: {head}").into());
    }
    let body: usize = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .ok_or("an answer without a length")?
        .1
        .trim()
        .parse()?;
    Ok(Some(end + 4 + body))
}

/// What an API says: JSON of 1 KiB, with the fields that such answers have.
fn answer() -> Vec<u8> {
    let mut body = String::from(r#"{"id":4711,"internal_id":"a-17","name":"station","readings":["#);
    while body.len() < BODY_BYTES - 24 {
        body.push_str("21.5,");
    }
    body.push_str(r#"0],"note":""#);
    while body.len() < BODY_BYTES - 2 {
        body.push('x');
    }
    body.push_str(r#""}"#);
    let head = format!(
        "HTTP/1.1 200 OK\r\nServer: vendor/1.2\r\nDate: {}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\nCache-Control: public, max-age=86400\r\n\
         ETag: \"5e6f7081\"\r\nVary: Accept-Encoding\r\nX-Vendor-Node: eu-7\r\n\r\n",
        httpdate::fmt_http_date(std::time::SystemTime::now()),
        body.len()
    );
    [head.into_bytes(), body.into_bytes()].concat()
}

async fn serve(mut stream: TcpStream, answer: &'static [u8]) {
    let mut buffer = vec![0; 16 << 10];
    let mut held = 0;
    while let Some(rest) = buffer.get_mut(held..) {
        match stream.read(rest).await {
            Ok(0) | Err(_) => return,
            Ok(read) => held += read,
        }
        // The requests that come here have no body and are not pipelined.
        if buffer.get(..held).is_some_and(|bytes| bytes.ends_with(b"\r\n\r\n")) {
            held = 0;
            if stream.write_all(answer).await.is_err() {
                return;
            }
        }
    }
}
