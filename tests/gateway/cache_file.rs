//! `portcullis cache` on the file itself: of a gateway that was killed, of one that runs, and of what is no such file.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::cache_gate::{is_hit, yaml};
use crate::cache_warm::{kill, on, place};
use crate::harness::{Gateway, Origin, response};

const SECRET: &str = "only-for-this-client";

fn origin() -> Origin {
    Origin::start(|request| {
        let body = format!("{} for {}", request.target(), request.header("accept").unwrap_or("-"));
        let tag = if request.target().contains("news") { "news" } else { "rest" };
        let fields = [
            ("Cache-Control", "max-age=600, stale-if-error=60"),
            ("Content-Type", "text/plain"),
            ("Vary", "Accept"),
            ("Cache-Tag", tag),
            ("X-Session", SECRET),
        ];
        response(200, &fields, body.as_bytes())
    })
}

/// `portcullis cache ...`: its exit code, stdout and stderr.
fn cache(arguments: &[&str], file: Option<&Path>) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command.arg("cache").args(arguments).env_remove("PORTCULLIS_CONFIG").env_remove("PORTCULLIS_ADMIN_TOKEN");
    if let Some(file) = file {
        command.arg("--file").arg(file);
    }
    let output = command.output().expect("the binary runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code().expect("an exit code"), text(output.stdout), text(output.stderr))
}

/// The JSON of a question about a file.
fn told(file: &Path, arguments: &[&str]) -> Value {
    let (code, stdout, stderr) = cache(&[arguments, &["--format", "json"]].concat(), Some(file));
    assert_eq!(code, 0, "{arguments:?}: {stderr}");
    serde_json::from_str(&stdout).expect("JSON")
}

#[test]
fn the_file_of_a_dead_gateway_says_what_it_holds() {
    let origin = origin();
    let (_folder, file) = place();
    let gateway = Gateway::start(&on(&origin, &["cache: {}"], &file));
    for target in ["/api/news", "/api/a", "/app/a"] {
        gateway.get(target);
    }
    let pid = gateway.pid();
    let (_, stdout, _) = cache(&["stats"], Some(&file));
    assert!(stdout.contains(&format!("process {pid} stores, since ")), "{stdout}");
    assert!(stdout.contains(&format!("shared by  process {pid}\n")), "{stdout}");
    let purge = json!({ "tag": "news", "mode": "hard" }).to_string();
    assert_eq!(gateway.admin_post("/purge", &purge).status, 200);
    kill(gateway);

    let stats = told(&file, &["stats"]);
    assert_eq!(stats["fileBytes"], json!(4 << 20), "{stats}");
    assert_eq!((&stats["layout"], &stats["thisBoot"]), (&json!(1), &json!(true)), "{stats}");
    assert_eq!(stats["writer"]["holds"], json!(false), "{stats}");
    assert_eq!(stats["processes"], json!([{ "slot": 0, "pid": pid, "alive": false }]), "{stats}");
    let number = |name: &str| stats[name].as_u64().expect(name);
    assert_eq!(
        (number("fresh"), number("stale"), number("expired")),
        (2, 0, 0),
        "the purged one is none: {stats}"
    );
    assert_eq!(number("usedBytes") + number("freeBytes"), number("capacityBytes"), "{stats}");
    assert_eq!((number("changed"), number("damaged")), (0, 0), "{stats}");
    let ages: u64 =
        stats["ages"].as_array().expect("ages").iter().map(|age| age["entries"].as_u64().unwrap()).sum();
    assert_eq!(ages, 2, "{stats}");
    assert_eq!(
        (&stats["routes"]["app"]["entries"], &stats["routes"]["api"]["entries"]),
        (&json!(1), &json!(1))
    );
    let (_, stdout, _) = cache(&["stats"], Some(&file));
    for line in [
        "freshness  2 fresh, 0 stale, 0 expired, ",
        "age        2 up to 1m, 0 up to 10m, 0 up to 1h, 0 up to 1day, 0 over 1day; the oldest ",
        &format!("writer     nobody stores; process {pid} began to "),
        &format!("shared by  process {pid}, which is dead"),
        "route      `api`: 1 answer, ",
    ] {
        assert!(stdout.contains(line), "{line}: {stdout}");
    }
}

#[test]
fn what_is_listed_is_narrowed_as_the_admin_side_narrows_it_and_paged() {
    let origin = origin();
    let (_folder, file) = place();
    let gateway = Gateway::start(&on(&origin, &["cache: {}"], &file));
    for number in 0..7 {
        gateway.get(&format!("/api/a{number}"));
    }
    gateway.get("/app/news?x=1");
    kill(gateway);
    let urls = |arguments: &[&str]| -> Vec<String> {
        let entries = told(&file, &[&["ls"], arguments].concat())["entries"].clone();
        entries
            .as_array()
            .expect("a list")
            .iter()
            .map(|one| one["url"].as_str().expect("a URL").to_owned())
            .collect()
    };
    assert_eq!(urls(&["--route", "app"]), ["http://app.example/app/news?x=1"]);
    assert_eq!(urls(&["--tag", "news"]), ["http://app.example/app/news?x=1"]);
    assert_eq!(urls(&["--prefix", "http://APP.example:80/app"]), ["http://app.example/app/news?x=1"]);
    let (code, stdout, _) = cache(&["ls", "--prefix", "http://app.example/ap"], Some(&file));
    assert_eq!((code, stdout.as_str()), (1, "nothing is stored\n"), "whole segments");
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let place: Vec<&str> = after.iter().flat_map(|after: &String| ["--after", after]).collect();
        let page = told(&file, &[&["ls", "--limit", "3"], &place[..]].concat());
        all.extend(page["entries"].as_array().expect("a list").iter().map(|one| one["url"].to_string()));
        match page["next"].as_str() {
            Some(next) => after = Some(next.to_owned()),
            None => break,
        }
    }
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 8, "each once: {all:?}");
}

#[test]
fn one_answer_is_told_with_its_fields_and_its_body_and_no_value_that_may_be_secret() {
    let origin = origin();
    let (_folder, file) = place();
    let gateway = Gateway::start(&on(&origin, &["cache: {}"], &file));
    for accept in ["text/html", "text/plain"] {
        gateway.request("GET", "/app/a", &[("Accept", accept)], b"");
    }
    gateway.get("/app/b");
    kill(gateway);
    let (code, stdout, _) = cache(&["get", "http://app.example/app/a"], Some(&file));
    assert_eq!(code, 0, "{stdout}");
    assert_eq!(stdout.matches("  200  ").count(), 2, "both variants: {stdout}");
    assert!(stdout.contains("    content-type: text/plain\n"), "{stdout}");
    assert!(stdout.contains("    x-session: (not shown)\n") && !stdout.contains(SECRET), "{stdout}");
    assert!(!stdout.contains("text/html"), "what a client asked with is a hash: {stdout}");
    let body = |arguments: &[&str]| cache(&[&["get", "--body"], arguments].concat(), Some(&file));
    assert_eq!(body(&["http://app.example/app/b"]), (0, "/app/b for -".into(), String::new()));
    let both = [
        body(&["http://app.example/app/a", "--variant", "1"]),
        body(&["http://app.example/app/a", "--variant", "2"]),
    ];
    assert_eq!(both.map(|(_, body, _)| body), ["/app/a for text/html", "/app/a for text/plain"]);
    let url = "http://app.example/app/a";
    let wrong = |arguments: &[&str], why: &str| {
        assert_eq!(body(arguments), (2, String::new(), format!("error: {why}\n")), "{arguments:?}");
    };
    wrong(
        &[url],
        &format!("2 answers are stored for `{url}`: choose one of them, `--variant 1` to `--variant 2`"),
    );
    wrong(&[url, "--variant", "3"], &format!("there is no answer 3 for `{url}`: of 2, counted from 1"));
    wrong(&["http://app.example/no"], "nothing is stored for `http://app.example/no`");
    wrong(&["/app/a"], "`/app/a` is no URL: it begins with `http://` or `https://`");
}

#[test]
fn what_is_damaged_is_found() {
    let origin = origin();
    let (folder, file) = place();
    let gateway = Gateway::start(&on(&origin, &["cache: {}"], &file));
    gateway.get("/app/a");
    gateway.get("/app/b");
    kill(gateway);
    let (code, stdout, stderr) = cache(&["verify"], Some(&file));
    assert_eq!((code, stderr.as_str()), (0, ""), "{stdout}");
    assert!(
        stdout.starts_with("2 answers sound, ") && stdout.ends_with(" of bodies read; nothing is wrong\n"),
        "{stdout}"
    );
    let whole = std::fs::read(&file).expect("read");
    let find = |bytes: &[u8]| memchr::memmem::find(&whole, bytes).expect("it is there");
    let word = |at: usize| u64::from_le_bytes(whole[at..at + 8].try_into().unwrap()) as usize;
    let (records, user_bytes) = (word(4096 + 24), word(4096 + 32));
    let table = (8192 + user_bytes + 4 * records.next_power_of_two()).next_multiple_of(128);
    let committed = |number: &usize| whole[table + 128 * number] & 3 == 2;
    let record = table + 128 * (0..records).find(committed).expect("a record");
    for (what, at, said) in [
        (
            "a body",
            find(b"/app/a for -"),
            "the body of `http://app.example/app/a` does not match its checksum",
        ),
        ("a head", find(SECRET.as_bytes()), "its head has a checksum of other bytes"),
        ("where a head lies", record + 38, "the record contradicts itself"),
        ("the number of a record", record + 96, "the record contradicts itself"),
        ("the table of purges", 8192, "the table of purges is damaged: everything counts as purged"),
    ] {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x40;
        let damaged = folder.path().join("damaged");
        std::fs::write(&damaged, bytes).expect("written");
        std::fs::set_permissions(&damaged, PermissionsExt::from_mode(0o600)).expect("private");
        let (code, stdout, _) = cache(&["verify"], Some(&damaged));
        assert_eq!(code, 1, "{what}: {stdout}");
        assert!(stdout.contains(said) && stdout.contains("1 wrong\n"), "{what}: {stdout}");
        let verified: Value =
            serde_json::from_str(&cache(&["verify", "--format", "json"], Some(&damaged)).1).expect("JSON");
        assert_eq!(verified["wrongCount"], json!(1), "{what}: {verified}");
        let stats = told(&damaged, &["stats"]);
        let is_record = !matches!(what, "a body" | "the table of purges");
        assert_eq!(stats["damaged"], json!(u8::from(is_record)), "{what}: {stats}");
        assert_eq!(stats["bans"].is_null(), what == "the table of purges", "{what}: {stats}");
        let shown = cache(&["get", "--body", "http://app.example/app/a"], Some(&damaged));
        assert_eq!(shown.0 == 0, shown.1 == "/app/a for -", "{what}: never a wrong byte: {shown:?}");
    }
}

#[test]
fn a_running_gateway_that_is_looked_at_under_load_is_never_said_to_be_damaged() {
    let origin = Origin::start(|request| {
        if request.header("if-none-match").is_some() {
            return response(
                304,
                &[("ETag", "\"1\""), ("Cache-Control", "max-age=0"), ("X-Length", request.target())],
                b"",
            );
        }
        let length = 100 + request.target().len() * 997 % 40_000;
        let freshness = if request.target().contains("asked") { "max-age=0" } else { "max-age=600" };
        response(
            200,
            &[("Cache-Control", freshness), ("ETag", "\"1\""), ("Cache-Tag", "all")],
            &vec![b'x'; length],
        )
    });
    let (_folder, file) = place();
    let gateway = Gateway::start(&on(&origin, &["cache: {}"], &file));
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let stores = scope.spawn(|| {
            (0..1200).for_each(|n| {
                assert_eq!(gateway.get(&format!("/app/{n}{}", "y".repeat(n % 37))).status, 200);
            });
        });
        // Heads are exchanged, bodies come and go, purges are written.
        scope.spawn(|| {
            for n in (0..).take_while(|_| !is_over.load(Ordering::SeqCst)) {
                gateway.get(&format!("/app/asked{}", n % 5));
                if n % 50 == 49 {
                    let purge = json!({ "tag": "all", "mode": if n % 100 == 99 { "hard" } else { "soft" } });
                    assert_eq!(gateway.admin_post("/purge", &purge.to_string()).status, 200);
                }
            }
        });
        while !stores.is_finished() {
            let (code, stdout, stderr) = cache(&["verify"], Some(&file));
            assert_eq!(code, 0, "{stdout}{stderr}");
            let stats = told(&file, &["stats"]);
            assert_eq!((&stats["damaged"], stats["bans"].is_u64()), (&json!(0), true), "{stats}");
        }
        is_over.store(true, Ordering::SeqCst);
    });
    let stats = gateway.admin("/cache/stats").json();
    assert!(stats["evicted"]["size"].as_u64() > Some(0), "it was full: {stats}");
    gateway.get("/app/last");
    assert!(is_hit(&gateway.get("/app/last")), "and it still stores");
}

#[test]
fn what_cannot_be_looked_at_is_said_in_plain_words() {
    let origin = origin();
    let (folder, file) = place();
    kill(Gateway::start(&on(&origin, &["cache: {}"], &file)));
    let whole = std::fs::read(&file).expect("read");
    let path = folder.path().join("other");
    let shown = path.display();
    let says = |why: &str| {
        for question in [&["stats"][..], &["ls"], &["get", "http://app.example/"], &["verify"]] {
            let expected = (2, String::new(), format!("error: {why}\n"));
            assert_eq!(cache(question, Some(&path)), expected, "{question:?}");
        }
    };
    says(&format!("there is no file `{shown}`"));
    let write = |bytes: &[u8], mode: u32| {
        std::fs::write(&path, bytes).expect("written");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("a mode");
    };
    write(b"not a cache", 0o600);
    says(&format!("`{shown}` cannot be read: it is no file of this kind"));
    write(&whole[..1 << 20], 0o600);
    says(&format!("`{shown}` cannot be read: it has 1048576 bytes and says that it has 4194304"));
    let mut damaged = whole.clone();
    damaged[40] ^= 1;
    write(&damaged, 0o600);
    says(&format!("`{shown}` cannot be read: its first page is damaged"));
    // Another layout, with the sum that belongs to it.
    let mut other = whole.clone();
    other[8] = 9;
    let sum = u64::from(crc32fast::hash(&other[..80])) | 1 << 32;
    other[80..88].copy_from_slice(&sum.to_le_bytes());
    write(&other, 0o600);
    says(&format!("`{shown}` cannot be read: another version wrote it, in another layout"));
    write(&whole, 0o644);
    says(&format!(
        "`{shown}` may be read or written by others (mode 0644): `chmod 600 {shown}`, or remove it"
    ));
    std::fs::remove_file(&path).expect("removed");
    std::os::unix::fs::symlink(&file, &path).expect("a link");
    says(&format!("`{shown}` is a symbolic link; a path of its own is needed"));
}

#[test]
fn a_configuration_names_who_is_asked_and_the_file_of_one_that_is_dead() {
    let origin = origin();
    let (folder, file) = place();
    let socket = folder.path().join("admin.sock");
    let with_file = on(&origin, &["cache: {}"], &file);
    let admin = format!("admin: {{ address: \"unix:{}\" }}\n", socket.display());
    let free = "admin: { address: \"127.0.0.1:0\" }\n";
    let config = folder.path().join("portcullis.yaml");
    let named = config.to_str().expect("a path");
    let ask = |text: &str, arguments: &[&str]| {
        std::fs::write(&config, text).expect("written");
        cache(&[arguments, &["--config", named]].concat(), None)
    };
    let text = with_file.replace(free, &admin);
    let gateway = Gateway::start(&text);
    gateway.get("/app/a");
    let (code, stdout, stderr) = ask(&text, &["stats"]);
    assert_eq!((code, stderr.as_str()), (0, ""), "{stdout}");
    assert!(stdout.contains("stores     yes\n"), "the gateway that runs is asked: {stdout}");
    kill(gateway);
    let (code, stdout, stderr) = ask(&text, &["ls"]);
    let note = format!(
        "note: nobody answers at `unix:{}`; this is read from `{}`\n",
        socket.display(),
        file.display()
    );
    assert_eq!((code, stderr), (0, note), "{stdout}");
    assert!(stdout.starts_with("http://app.example/app/a  (route `app`)\n"), "{stdout}");
    let without_admin = with_file.replace(free, "");
    let (code, stdout, stderr) = ask(&without_admin, &["stats"]);
    assert_eq!((code, stderr.as_str()), (0, ""), "{stdout}");
    assert!(stdout.starts_with("file       "), "without an admin side its file: {stdout}");
    assert_eq!(ask(&without_admin, &["get", "--body", "http://app.example/app/a"]).1, "/app/a for -");
    let nothing = yaml(&origin, &["cache: {}"]).replace(free, "");
    let says = |text: &str, arguments: &[&str], why: &str| {
        assert_eq!(ask(text, arguments), (2, String::new(), format!("error: {why}\n")), "{arguments:?}");
    };
    says(
        &nothing,
        &["stats"],
        &format!(
            "`{named}` has no `admin`, so nobody can be asked; and it names no `cache.file` that could be read instead"
        ),
    );
    says(
        &nothing,
        &["verify"],
        &format!(
            "`{named}` names no `cache.file`: such a cache lies in the memory of its process, and nobody else can read it"
        ),
    );
    let mistake = format!(
        "`{named}` has mistakes, so it does not tell where the cache is: `portcullis check {named}` names them; or give `--file` or `--admin`"
    );
    says("version: 9\n", &["ls"], &mistake);
    let (code, _, stderr) = cache(&["stats"], None);
    let why = "error: which cache? name its file with `--file FILE`, the gateway's configuration with `--config FILE`, or its admin side with `--admin ADDRESS`\n";
    assert_eq!((code, stderr.as_str()), (2, why));
}
