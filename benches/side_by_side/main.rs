//! CPU per request of the gateway beside a bare Pingora proxy, in one run on one machine.
//!
//! ```text
//! core 0   the proxy under test, one worker thread
//! core 1   the clients and the origin
//! ```
//!
//! The program is its own peers: `bare` and `peers` as first argument run those. A round runs every case once; rounds differ in the
//! case they begin with, so that drift of the machine meets all of them. A case is what `/proc/PID/stat` says that the proxy's
//! process used, all threads, divided by the requests that were answered.

mod bare;
mod measure;
mod peers;
mod table;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use clap::Parser;

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// CPU per request of the gateway beside a bare Pingora proxy.
#[derive(Parser)]
struct Arguments {
    /// How often every case is measured
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// How long one measurement takes
    #[arg(long, default_value_t = 4)]
    seconds: u32,
    /// Connections of the client
    #[arg(long, default_value_t = 64)]
    connections: u32,
    /// Only the cases whose name contains this, and the one they are compared with
    #[arg(long)]
    only: Option<String>,
    /// Another build of the gateway, measured in the same run
    #[arg(long)]
    before: Option<PathBuf>,
    /// What cargo passes to every bench
    #[arg(long, hide = true)]
    bench: bool,
}

/// What is measured: the first is what the others are compared with.
const CASES: [Case; 5] = [
    Case { name: "bare pass", path: "/api/item", proxy: Proxy::Bare, expect: &[] },
    Case {
        name: "gateway pass, api",
        path: "/api/item",
        proxy: Proxy::Gateway,
        expect: &["ratelimit: ", "x-request-id: ", "cache-status: "],
    },
    Case {
        name: "gateway pass, api, shaped",
        path: "/shaped/item",
        proxy: Proxy::Gateway,
        expect: &["ratelimit: ", "x-request-id: ", "cache-status: "],
    },
    Case {
        name: "gateway pass, app",
        path: "/app/item",
        proxy: Proxy::Gateway,
        expect: &["ratelimit: ", "x-request-id: ", "cache-status: "],
    },
    Case {
        name: "gateway hit",
        path: "/hit/item",
        proxy: Proxy::Gateway,
        expect: &["ratelimit: ", "x-request-id: ", "cache-status: portcullis; hit"],
    },
];

/// One line of the table.
struct Case {
    name: &'static str,
    path: &'static str,
    proxy: Proxy,
    /// What must stand in the answer's head, or the case does not measure what it says.
    expect: &'static [&'static str],
}

#[derive(Clone, Copy, PartialEq)]
enum Proxy {
    Bare,
    Gateway,
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let outcome = match arguments.next().as_deref() {
        Some("bare") => bare::run(arguments),
        Some("peers") => peers::run(arguments),
        _ => drive(&Arguments::parse()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::FAILURE
        }
    }
}

fn drive(arguments: &Arguments) -> Outcome<()> {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("side_by_side");
    std::fs::create_dir_all(&directory)?;
    let own = std::env::current_exe()?;
    let origin = free_address()?;
    let mut command = pinned(1, &own);
    command.arg("peers").arg(origin.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut around = Process::start(&mut command)?;
    let mut peers = measure::Peers {
        commands: around.0.stdin.take().ok_or("no stdin")?,
        answers: BufReader::new(around.0.stdout.take().ok_or("no stdout")?),
    };
    wait_for(origin)?;
    let bare = start_bare(&own, origin)?;
    let gateway = start_gateway(Path::new(env!("CARGO_BIN_EXE_portcullis")), origin, &directory.join("now"))?;
    let before = match &arguments.before {
        Some(program) => Some(start_gateway(program, origin, &directory.join("before"))?),
        None => None,
    };

    let mut lines = Vec::new();
    for (place, case) in CASES.iter().enumerate() {
        if place > 0 && arguments.only.as_ref().is_some_and(|part| !case.name.contains(part.as_str())) {
            continue;
        }
        let server = if case.proxy == Proxy::Bare { &bare } else { &gateway };
        lines.push(Line { name: case.name.to_owned(), case, server });
        if let (Some(server), Proxy::Gateway) = (&before, case.proxy) {
            lines.push(Line { name: format!("{} (before)", case.name), case, server });
        }
    }
    let load = measure::Load { connections: arguments.connections, seconds: arguments.seconds };
    for line in &lines {
        check(line.case, line.server.address)?;
        line.measure(&mut peers, &measure::Load { seconds: 1, ..load })?;
    }
    let mut samples = vec![Vec::new(); lines.len()];
    for round in 0..arguments.rounds {
        for step in 0..lines.len() {
            let at = (round + step) % lines.len();
            if let (Some(line), Some(taken)) = (lines.get(at), samples.get_mut(at)) {
                taken.push(line.measure(&mut peers, &load)?);
            }
        }
        eprintln!("round {} of {}", round + 1, arguments.rounds);
    }
    let names: Vec<&str> = lines.iter().map(|line| line.name.as_str()).collect();
    table::print(&names, &samples);
    if let Some(admin) = gateway.admin {
        println!("log lines dropped: {}", dropped_lines(admin)?);
    }
    Ok(())
}

/// One row of the table.
struct Line<'a> {
    name: String,
    case: &'a Case,
    server: &'a Server,
}

impl Line<'_> {
    fn measure(&self, peers: &mut measure::Peers, load: &measure::Load) -> Outcome<measure::Sample> {
        let sample =
            measure::one(peers, self.server.process.0.id(), self.server.address, self.case.path, load)?;
        if let Some(log) = &self.server.log {
            // It is written as in earnest; kept it need not be.
            std::fs::File::create(log)?;
        }
        Ok(sample)
    }
}

/// A running proxy.
struct Server {
    process: Process,
    address: SocketAddr,
    admin: Option<SocketAddr>,
    log: Option<PathBuf>,
}

fn start_bare(own: &Path, origin: SocketAddr) -> Outcome<Server> {
    let address = free_address()?;
    let mut command = pinned(0, own);
    command.arg("bare").arg(address.to_string()).arg(origin.to_string()).stdout(Stdio::null());
    let process = Process::start(&mut command)?;
    wait_for(address)?;
    Ok(Server { process, address, admin: None, log: None })
}

fn start_gateway(program: &Path, origin: SocketAddr, directory: &Path) -> Outcome<Server> {
    // The log apart: the gateway watches the folder of its configuration.
    std::fs::create_dir_all(directory.join("log"))?;
    let config = directory.join("gateway.yaml");
    std::fs::write(&config, include_str!("gateway.yaml").replace("ORIGIN", &origin.to_string()))?;
    let mut command = pinned(0, program);
    command
        .args(["run", "--threads", "1", "--log", "warn", "--config"])
        .arg(&config)
        .env("BENCH_VENDOR_KEY", "0123456789abcdef0123456789abcdef")
        .stdout(Stdio::piped());
    let mut process = Process::start(&mut command)?;
    let (address, admin) = process.addresses()?;
    Ok(Server { process, address, admin: Some(admin), log: Some(directory.join("log/access.log")) })
}

/// A child that does not outlive us.
struct Process(Child);

impl Process {
    fn start(command: &mut Command) -> Outcome<Self> {
        Ok(Self(command.spawn().map_err(|why| format!("{command:?}: {why}"))?))
    }

    /// Where the gateway listens and where its admin side does, once it is ready.
    fn addresses(&mut self) -> Outcome<(SocketAddr, SocketAddr)> {
        let (mut public, mut admin) = (None, None);
        let mut lines = BufReader::new(self.0.stdout.take().ok_or("no stdout")?).lines();
        for line in &mut lines {
            let line = line?;
            if let Some(rest) = line.strip_prefix("listening ") {
                public = rest.rsplit(' ').next().and_then(|word| word.parse().ok());
            } else if let Some(rest) = line.strip_prefix("admin ") {
                admin =
                    rest.rsplit(' ').next().and_then(|word| word.trim_start_matches("http://").parse().ok());
            } else if line.starts_with("ready") {
                break;
            }
        }
        // Whatever else it says is read away, so that it never waits for us.
        std::thread::spawn(move || lines.for_each(drop));
        Ok((public.ok_or("the gateway does not listen")?, admin.ok_or("the gateway has no admin side")?))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn pinned(core: usize, program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", &core.to_string()]).arg(program);
    command
}

fn free_address() -> Outcome<SocketAddr> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}

fn wait_for(address: SocketAddr) -> Outcome<()> {
    for _ in 0..200 {
        if TcpStream::connect(address).is_ok() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Err(format!("nobody listens on {address}").into())
}

/// A measurement of the wrong thing is worse than none: twice, since the first fills the cache.
fn check(case: &Case, address: SocketAddr) -> Outcome<()> {
    get(address, case.path)?;
    let answer = get(address, case.path)?;
    let head = answer.split("\r\n\r\n").next().unwrap_or_default().to_ascii_lowercase();
    if !head.starts_with("http/1.1 200") || answer.len() < head.len() + 4 + peers::BODY_BYTES {
        return Err(format!("{}: not the answer that was expected:\n{answer}", case.name).into());
    }
    match case.expect.iter().find(|part| !head.contains(*part)) {
        Some(part) => Err(format!("{}: no `{part}` in:\n{head}", case.name).into()),
        None => Ok(()),
    }
}

fn get(address: SocketAddr, path: &str) -> Outcome<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn dropped_lines(admin: SocketAddr) -> Outcome<String> {
    let text = get(admin, "/metrics")?;
    let line = text.lines().find(|line| line.starts_with("portcullis_log_lines_dropped_total"));
    Ok(line.and_then(|line| line.rsplit(' ').next()).unwrap_or("unknown").to_owned())
}
