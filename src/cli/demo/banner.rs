//! What `portcullis demo` prints: what is running, and what to try.

use std::io::{self, Write};
use std::net::SocketAddr;

use super::Running;

/// Prints what the demo is and the lines worth trying. `gateway` and `admin` are where the two listeners of the demo's file
/// are. The key is not shown: nothing that one tries needs it, which is the point.
///
/// # Errors
/// What `out` reports.
pub fn print_banner(
    gateway: SocketAddr,
    admin: SocketAddr,
    running: &Running,
    out: &mut impl Write,
) -> io::Result<()> {
    let Running { vendor, webapp, .. } = running;
    writeln!(
        out,
        "\n\
         Portcullis demo, offline\n\
         \n  \
           browser -> http://{gateway}  the gate: the only address a browser needs\n    \
             /api/... -> http://{vendor}  a vendor's API: wants a key, leaks wherever it can\n    \
             /...     -> http://{webapp}  a web app of your own\n  \
           operator -> http://{admin}  metrics, health, purge: never public\n\
         \n\
         It runs conf/demo.yaml: edit it while this runs, and the change is served at once.\n\
         Open http://{gateway}/ in a browser, or try:\n"
    )?;
    for (what, line) in lines(gateway, admin, vendor) {
        writeln!(out, "  # {what}\n  {line}\n")?;
    }
    writeln!(out, "Ctrl-C ends it.")?;
    out.flush()
}

fn lines(gateway: SocketAddr, admin: SocketAddr, vendor: &SocketAddr) -> [(&'static str, String); 6] {
    [
        (
            "A public path, a hidden upstream: what the vendor was sent, the key it got hidden by itself.",
            format!("curl -s -H 'X-Api-Key: mine' http://{gateway}/api/echo"),
        ),
        (
            "The same answer twice: the second one never reaches the vendor (Cache-Status, Age).",
            format!(
                "for i in 1 2; do curl -si 'http://{gateway}/api/weather?city=Oslo' | grep -iE '^(cache-status|age)'; done"
            ),
        ),
        (
            "Ten a minute, then 429 with Retry-After.",
            format!(
                "for i in $(seq 15); do curl -s -o /dev/null -w '%{{http_code}} ' http://{gateway}/api/limited; done; echo"
            ),
        ),
        (
            "The shaped answer, and what the vendor says to whoever has its key.",
            format!(
                "curl -s 'http://{gateway}/api/weather?city=Oslo'; \
                 curl -si -H \"X-Api-Key: $(cat .demo/vendor-key)\" 'http://{vendor}/v2/weather?city=Oslo'"
            ),
        ),
        (
            "The vendor fails and names its database; the client learns nothing of it.",
            format!("curl -si 'http://{gateway}/api/fail?status=503'"),
        ),
        (
            "All of it was counted.",
            format!(
                "curl -s http://{admin}/metrics | grep -E '^portcullis_(requests|cache)' | grep -v ' 0$'"
            ),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_banner_shows_the_addresses_and_not_the_key() {
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let running = Running { vendor: at(1), webapp: at(2), key: "demo-secret".to_owned() };
        let mut out = Vec::new();
        print_banner(at(8080), at(9090), &running, &mut out).expect("a vector takes everything");
        let text = String::from_utf8(out).expect("text");
        for part in
            ["http://127.0.0.1:8080/api/echo", "http://127.0.0.1:9090/metrics", "127.0.0.1:1", "127.0.0.1:2"]
        {
            assert!(text.contains(part), "{part} is missing in:\n{text}");
        }
        assert!(!text.contains("demo-secret"), "the key is in:\n{text}");
        assert_eq!(text.matches("\n  # ").count(), 6, "six lines worth trying");
    }
}
