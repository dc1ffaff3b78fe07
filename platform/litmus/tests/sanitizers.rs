//! Runs tests again with sanitizers, each in a target directory of its own (`target/sanitize-*`).
//!
//! The thread sanitizer watches the rings on real threads (it does not know fences, so not the lock); the address sanitizer watches
//! the mapping database's tests. Sanitizers are unstable options, so the stable compiler is told to accept them; the standard library is the
//! prebuilt one, so what happens inside it is not watched (thread creation and joining are: the sanitizer intercepts them).

use std::path::Path;
use std::process::Command;

fn sanitized(sanitizer: &str, arguments: &[&str]) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let output = Command::new(env!("CARGO"))
        .current_dir(&root)
        .args(["test", "--quiet", "--target", "x86_64-unknown-linux-gnu"])
        .args(arguments)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTFLAGS", format!("-Zsanitizer={sanitizer} -Cunsafe-allow-abi-mismatch=sanitizer"))
        .env("CARGO_TARGET_DIR", root.join(format!("target/sanitize-{sanitizer}")))
        .env("ASAN_OPTIONS", "detect_leaks=0")
        .env("TSAN_OPTIONS", "halt_on_error=1")
        .env("PROPTEST_CASES", "16")
        .output()
        .expect("cargo runs");
    let text = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(output.status.success(), "{sanitizer}: {}\n{}", text[0], text[1]);
    assert!(text[0].contains("test result: ok"), "{sanitizer}: nothing was run\n{}", text[0]);
}

#[test]
fn threads_race_for_nothing() {
    sanitized("thread", &["--package", "skerry-litmus", "--no-default-features", "--test", "threads"]);
}

#[test]
fn the_mapping_database_stays_in_its_arenas() {
    sanitized(
        "address",
        &[
            "--package",
            "skerry-mapping-db",
            "--test",
            "database",
            "--",
            "scenarios",
            "golden",
            "random_operations",
        ],
    );
}
