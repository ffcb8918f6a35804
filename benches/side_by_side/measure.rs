//! One measurement: load for a while, and what the process used meanwhile.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{ChildStdin, ChildStdout};

use super::Outcome;

/// The way to the process that loads.
pub struct Peers {
    pub commands: ChildStdin,
    pub answers: BufReader<ChildStdout>,
}

/// How hard.
#[derive(Clone, Copy)]
pub struct Load {
    pub connections: u32,
    pub seconds: u32,
}

/// What came out.
#[derive(Clone, Copy)]
pub struct Sample {
    /// CPU of the process, user and system, per request.
    pub cpu_us: f64,
    /// Requests in a second.
    pub rate: f64,
}

/// Loads `address` and reads the CPU time of `pid` before and after.
pub fn one(peers: &mut Peers, pid: u32, address: SocketAddr, path: &str, load: &Load) -> Outcome<Sample> {
    let before = cpu_ticks(pid)?;
    writeln!(peers.commands, "{address} {path} {} {}", load.connections, load.seconds)?;
    let mut answer = String::new();
    peers.answers.read_line(&mut answer)?;
    let ticks = cpu_ticks(pid)? - before;
    let requests: f64 = answer.trim().parse().map_err(|_| format!("{path}: {answer}"))?;
    Ok(Sample {
        cpu_us: ticks as f64 * MICROSECONDS_PER_TICK / requests,
        rate: requests / f64::from(load.seconds),
    })
}

/// `USER_HZ`, a constant of the interface (proc(5)).
const MICROSECONDS_PER_TICK: f64 = 10_000.0;

/// utime and stime: fields 14 and 15 of `/proc/PID/stat`, counted behind the name, which may have spaces.
fn cpu_ticks(pid: u32) -> Outcome<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, rest) = text.rsplit_once(')').ok_or("no stat")?;
    let mut fields = rest.split_whitespace().skip(11);
    let mut next = || -> Outcome<u64> { Ok(fields.next().ok_or("no stat")?.parse()?) };
    Ok(next()? + next()?)
}
