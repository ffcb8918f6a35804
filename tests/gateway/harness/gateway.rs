//! The gateway as a second process: the real binary, its configuration, its signals, what it says.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::{Answer, Client, PATIENCE};

/// The gateway as a second process.
pub struct Gateway {
    child: Child,
    directory: tempfile::TempDir,
    config: PathBuf,
    pub listeners: BTreeMap<String, SocketAddr>,
    pub admin: Option<SocketAddr>,
    stdout: Arc<Mutex<String>>,
    stderr: Arc<Mutex<String>>,
}

/// What a gateway is started with.
#[derive(Default)]
pub struct Setup {
    files: Vec<(String, Vec<u8>)>,
    env: Vec<(String, String)>,
    arguments: Vec<String>,
}

impl Setup {
    pub fn new() -> Self {
        Self::default()
    }

    /// A file beside the configuration.
    pub fn file(mut self, name: &str, content: impl AsRef<[u8]>) -> Self {
        self.files.push((name.into(), content.as_ref().to_vec()));
        self
    }

    /// A variable of the environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// A further argument of `run`.
    pub fn argument(mut self, text: &str) -> Self {
        self.arguments.push(text.into());
        self
    }

    /// Starts and waits until it is ready.
    pub fn start(self, yaml: &str) -> Gateway {
        match self.try_start(yaml) {
            Ok(gateway) => gateway,
            Err((status, stderr)) => panic!("the gateway did not start ({status}):\n{stderr}"),
        }
    }

    /// Starts; the exit status and everything it said where it did not come up.
    pub fn try_start(self, yaml: &str) -> Result<Gateway, (ExitStatus, String)> {
        let directory = tempfile::tempdir().expect("a directory");
        let config = directory.path().join("portcullis.yaml");
        std::fs::write(&config, yaml).expect("written");
        for (name, content) in &self.files {
            let path = directory.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            std::fs::write(path, content).expect("written");
        }
        let mut child = Command::new(env!("CARGO_BIN_EXE_portcullis"))
            .arg("run")
            .arg("--config")
            .arg(&config)
            .args(&self.arguments)
            .envs(self.env.iter().map(|(n, v)| (n.as_str(), v.as_str())))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let stdout = collect(child.stdout.take().expect("piped"));
        let stderr = collect(child.stderr.take().expect("piped"));
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = child.try_wait().expect("a child") {
                // The collectors need a moment to see the end of the pipes.
                std::thread::sleep(Duration::from_millis(50));
                let said = stderr.lock().unwrap().clone();
                return Err((status, said));
            }
            if stdout.lock().unwrap().lines().any(|line| line.starts_with("ready ")) {
                break;
            }
            assert!(Instant::now() < until, "the gateway is not ready: {}", stderr.lock().unwrap());
            std::thread::sleep(Duration::from_millis(5));
        }
        let mut listeners = BTreeMap::new();
        let mut admin = None;
        for line in stdout.lock().unwrap().lines() {
            let words: Vec<&str> = line.split(' ').collect();
            match words.as_slice() {
                ["listening", name, address] => {
                    listeners.insert((*name).to_owned(), address.parse().expect("an address"));
                }
                ["admin", url] => admin = url.strip_prefix("http://").and_then(|a| a.parse().ok()),
                _ => {}
            }
        }
        Ok(Gateway { child, directory, config, listeners, admin, stdout, stderr })
    }
}

fn collect(mut pipe: impl std::io::Read + Send + 'static) -> Arc<Mutex<String>> {
    let text = Arc::new(Mutex::new(String::new()));
    let sink = text.clone();
    std::thread::spawn(move || {
        let mut buffer = [0; 8192];
        while let Ok(n) = pipe.read(&mut buffer) {
            if n == 0 {
                return;
            }
            sink.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..n]));
        }
    });
    text
}

impl Gateway {
    /// With nothing but its configuration.
    pub fn start(yaml: &str) -> Self {
        Setup::new().start(yaml)
    }

    /// Where the listener `public` is.
    pub fn address(&self) -> SocketAddr {
        *self.listeners.get("public").expect("a listener called public")
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Replaces the configuration file, as an editor would: a new file moved over the old.
    pub fn write_config(&self, yaml: &str) {
        self.write_file("portcullis.yaml", yaml.as_bytes());
    }

    /// Replaces a file beside the configuration.
    pub fn write_file(&self, name: &str, content: &[u8]) {
        let path = self.directory.path().join(name);
        let new = path.with_extension("new");
        std::fs::write(&new, content).expect("written");
        std::fs::rename(&new, &path).expect("moved");
    }

    /// Everything it wrote to stdout: start lines and the access log.
    pub fn stdout(&self) -> String {
        self.stdout.lock().unwrap().clone()
    }

    /// Everything it wrote to stderr: events and diagnostics.
    pub fn stderr(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    /// The lines of the access log so far.
    pub fn log(&self) -> Vec<serde_json::Value> {
        self.stdout().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Sends a signal by name, such as `HUP`.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args([&format!("-{name}"), &self.child.id().to_string()])
            .status()
            .expect("kill is there");
        assert!(status.success(), "the signal was sent");
    }

    /// Waits for the end.
    pub fn wait(&mut self) -> ExitStatus {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status;
            }
            assert!(Instant::now() < until, "the gateway does not end: {}", self.stderr());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A request over its own connection.
    pub fn get(&self, target: &str) -> Answer {
        self.request("GET", target, &[], b"")
    }

    /// A request over its own connection, `Host: app.example` where no other is given.
    pub fn request(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        Client::connect(self.address()).request(method, target, headers, body)
    }

    /// `GET` on the admin side.
    pub fn admin(&self, target: &str) -> Answer {
        Client::connect(self.admin.expect("an admin side")).request(
            "GET",
            target,
            &[("Host", "localhost")],
            b"",
        )
    }

    /// `POST` on the admin side.
    pub fn admin_post(&self, target: &str, body: &str) -> Answer {
        Client::connect(self.admin.expect("an admin side")).request(
            "POST",
            target,
            &[("Host", "localhost")],
            body.as_bytes(),
        )
    }

    /// The value of a metric's line, by its name and labels as they are written.
    pub fn metric(&self, series: &str) -> f64 {
        let text = self.admin("/metrics").text();
        text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok()).unwrap_or(0.0)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- gateway stdout\n{}\n--- gateway stderr\n{}", self.stdout(), self.stderr());
            eprintln!("--- config\n{}", std::fs::read_to_string(&self.config).unwrap_or_default());
        }
    }
}
