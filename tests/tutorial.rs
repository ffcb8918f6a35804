//! The tutorial, executed line by line: what `docs/tutorial.md` says is printed is what is printed.
//!
//! A block whose fence says `yaml NAME` or `text NAME` is written to the file NAME. A block `console` is a session in one shell: each line
//! that begins with `$ ` is run, and what stands below it up to the next one is its output. There `...` alone on a line stands for any
//! lines, and `…` within a line for any text. `BLESS=1` writes the output as it is now where it has neither. The ports of the text are
//! exchanged for free ones, and a gateway in the background is waited for until it is ready.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

const TUTORIAL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/tutorial.md");

/// One thing that a reader does.
#[derive(Debug, PartialEq)]
enum Step {
    Write { file: String, text: String },
    Run { command: String, expected: Vec<String>, line: usize },
}

/// The steps of a text, in order.
fn steps(text: &str) -> Vec<Step> {
    let mut found = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((_, line)) = lines.next() {
        let Some(fence) = line.strip_prefix("```") else { continue };
        let body: Vec<(usize, &str)> = lines.by_ref().take_while(|(_, line)| *line != "```").collect();
        match fence.split_once(' ') {
            Some(("yaml" | "text", file)) => {
                let text = body.iter().map(|(_, line)| format!("{line}\n")).collect();
                found.push(Step::Write { file: file.to_owned(), text });
            }
            None if fence == "console" => session(&body, &mut found),
            _ => {}
        }
    }
    found
}

fn session(body: &[(usize, &str)], found: &mut Vec<Step>) {
    for (at, line) in body {
        if let Some(command) = line.strip_prefix("$ ") {
            found.push(Step::Run { command: command.to_owned(), expected: Vec::new(), line: at + 1 });
        } else if let Some(Step::Run { expected, .. }) = found.last_mut() {
            expected.push((*line).to_owned());
        }
    }
}

/// Whether `printed` is what `expected` describes.
fn agrees(expected: &[String], printed: &[String]) -> bool {
    match expected.split_first() {
        None => printed.is_empty(),
        Some((first, rest)) if first == ANY_LINES => {
            (0..=printed.len()).any(|from| agrees(rest, &printed[from..]))
        }
        Some((first, rest)) => {
            printed.split_first().is_some_and(|(line, others)| fits(first, line) && agrees(rest, others))
        }
    }
}

fn fits(pattern: &str, line: &str) -> bool {
    match pattern.split_once(ANY_TEXT) {
        None => pattern == line,
        Some((before, after)) => line.strip_prefix(before).is_some_and(|rest| {
            rest.char_indices().map(|(at, _)| at).chain([rest.len()]).any(|at| fits(after, &rest[at..]))
        }),
    }
}

const ANY_LINES: &str = "...";
const ANY_TEXT: char = '…';

/// A shell in a folder of its own. Ends, with all that it started, when it is dropped.
struct Shell {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<std::process::ChildStdout>,
}

impl Shell {
    fn start(folder: &Path) -> Self {
        let binary = Path::new(env!("CARGO_BIN_EXE_portcullis"));
        let beside = binary.parent().expect("a folder").display();
        let path = std::env::var("PATH").unwrap_or_default();
        let mut child = Command::new("bash")
            .args(["--noprofile", "--norc"])
            .current_dir(folder)
            .env("PATH", format!("{beside}:{path}"))
            .env("NO_COLOR", "1")
            .env_remove("PORTCULLIS_CONFIG")
            .env_remove("VENDOR_KEY")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("bash runs");
        let mut input = child.stdin.take().expect("piped");
        writeln!(input, "exec 2>&1; trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT").expect("written");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        Self { child, input: Some(input), output }
    }

    /// What a command prints.
    fn run(&mut self, command: &str) -> Vec<String> {
        let input = self.input.as_mut().expect("open");
        writeln!(input, "{command}\nprintf '\\n{END}\\n'").expect("written");
        let mut printed = Vec::new();
        loop {
            let mut line = String::new();
            assert_ne!(self.output.read_line(&mut line).expect("text"), 0, "the shell ended in `{command}`");
            let line = line.trim_end_matches(['\n', '\r']);
            if line == END {
                break;
            }
            printed.push(line.to_owned());
        }
        // The line break before the mark, or the one of a text that ended without.
        if printed.last().is_some_and(String::is_empty) {
            printed.pop();
        }
        printed
    }
}

const END: &str = "-- the command has ended --";

impl Drop for Shell {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}

/// Ports as the text has them, and free ones that are used instead.
struct Ports(Vec<(&'static str, String)>);

impl Ports {
    fn free() -> Self {
        let held: Vec<TcpListener> =
            ["", "", ""].iter().map(|_| TcpListener::bind("127.0.0.1:0").expect("a port")).collect();
        let port = |index: usize| format!(":{}", held[index].local_addr().expect("bound").port());
        Self(vec![(":8080", port(0)), (":9090", port(1)), (":7001", port(2))])
    }

    fn hide(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (shown, used)| text.replace(shown, used))
    }

    fn show(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (shown, used)| text.replace(used, shown))
    }
}

/// What is started in the background writes to a file; the next line waits for what a reader would wait for.
fn settle(folder: &Path, command: &str) {
    let Some((_, rest)) = command.split_once("> ").filter(|_| command.ends_with('&')) else { return };
    let log = folder.join(rest.split_whitespace().next().unwrap_or_default());
    let patience = Instant::now();
    let is_up = || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let mut lines = text.lines();
        if command.contains("portcullis run") {
            lines.any(|line| line.starts_with("ready"))
        } else {
            lines.next().is_some()
        }
    };
    while !is_up() {
        assert!(
            patience.elapsed() < Duration::from_secs(20),
            "`{command}` is not up: {}",
            std::fs::read_to_string(&log).unwrap_or_default()
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn the_tutorial_is_true_line_by_line() {
    let text = std::fs::read_to_string(TUTORIAL).expect("docs/tutorial.md");
    let steps = steps(&text);
    let ran = steps.iter().filter(|step| matches!(step, Step::Run { .. })).count();
    assert!(ran >= 12, "a walk has steps, found {ran}");
    let folder = tempfile::tempdir().expect("a folder");
    let ports = Ports::free();
    let mut shell = Shell::start(folder.path());
    let bless = std::env::var_os("BLESS").is_some();
    let mut wrong = Vec::new();
    let mut edits = Vec::new();
    for step in &steps {
        match step {
            Step::Write { file, text } => {
                let path = folder.path().join(file);
                std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
                std::fs::write(path, ports.hide(text)).expect("written");
            }
            Step::Run { command, expected, line } => {
                let printed: Vec<String> =
                    shell.run(&ports.hide(command)).iter().map(|line| ports.show(line)).collect();
                settle(folder.path(), command);
                if agrees(expected, &printed) {
                    continue;
                }
                let exact = !expected.iter().any(|line| line == ANY_LINES || line.contains(ANY_TEXT));
                if bless && exact {
                    edits.push((*line, expected.len(), printed));
                } else {
                    wrong.push(format!("line {line}: $ {command}\n{}", printed.join("\n")));
                }
            }
        }
    }
    if bless {
        std::fs::write(TUTORIAL, blessed(&text, edits)).expect("written");
    }
    assert!(wrong.is_empty(), "printed something else than the tutorial says:\n\n{}", wrong.join("\n\n"));
}

/// The text with what was printed: after the command in that line, instead of so many lines.
fn blessed(text: &str, edits: Vec<(usize, usize, Vec<String>)>) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for (line, count, printed) in edits.into_iter().rev() {
        lines.splice(line..line + count, printed);
    }
    lines.join("\n") + "\n"
}

#[test]
fn a_session_is_commands_and_what_they_print() {
    let text = "a\n```yaml x/y.yaml\nb: 1\n```\n```console\n$ one\n1\n$ two\n```\n```yaml\nno: 1\n```\n";
    let run = |command: &str, expected: &[&str], line| Step::Run {
        command: command.into(),
        expected: expected.iter().map(|&line| line.to_owned()).collect(),
        line,
    };
    assert_eq!(
        steps(text),
        [
            Step::Write { file: "x/y.yaml".into(), text: "b: 1\n".into() },
            run("one", &["1"], 6),
            run("two", &[], 8)
        ]
    );
}

#[test]
fn an_ellipsis_stands_for_what_changes_and_for_nothing_else() {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let agrees = |expected: &str, printed: &str| agrees(&lines(expected), &lines(printed));
    assert!(agrees("a\n...\nz", "a\nb\nc\nz") && agrees("a\n...\nz", "a\nz"));
    assert!(agrees("took … ms", "took 12 ms") && !agrees("took … ms", "took 12 s"));
    assert!(!agrees("a", "a\nb") && !agrees("a\nb", "a") && !agrees("...\nz", "a"));
}
