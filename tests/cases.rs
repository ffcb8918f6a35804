//! `portcullis test` on what we hand out: every case of `conf/` passes.

use std::path::Path;
use std::process::Command;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Exit code, stdout, stderr.
fn run(directory: &Path, arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .arg("test")
        .args(arguments)
        .current_dir(directory)
        .env_remove("VENDOR_KEY")
        .output()
        .expect("the binary runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code().expect("an exit code"), text(output.stdout), text(output.stderr))
}

#[test]
fn every_case_that_we_hand_out_passes() {
    let (code, told, errors) = run(Path::new(ROOT), &["conf"]);
    assert_eq!((code, errors.as_str()), (0, ""), "{told}");
    assert!(told.contains("conf/portcullis.yaml: ") && told.contains("conf/minimal.test.yaml: "), "{told}");
}
