//! Starting other programs without letting the outer `cargo run` leak into them.

use std::ffi::OsStr;
use std::process::{Command, Stdio};

/// Variables that `cargo` sets for the programs it runs, and that would change what a nested `cargo` does. What the
/// *user* configures for registries and networks stays.
fn belongs_to_outer_cargo(name: &str) -> bool {
    const KEPT: [&str; 7] = [
        "CARGO_HOME",
        "CARGO_HTTP_",
        "CARGO_NET_",
        "CARGO_REGISTRIES_",
        "CARGO_REGISTRY_",
        "CARGO_SOURCE_",
        "CARGO_TERM_",
    ];
    let dropped = name.starts_with("CARGO")
        || name.starts_with("RUSTC")
        || name.starts_with("RUSTDOC")
        || ["RUSTFLAGS", "RUST_RECURSION_COUNT", "MAKEFLAGS", "MFLAGS", "LD_LIBRARY_PATH"].contains(&name);
    dropped && !KEPT.iter().any(|kept| name.starts_with(kept))
}

/// A command for `program` with the environment as it was outside of cargo, and no standard input.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(belongs_to_outer_cargo) {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// The trimmed standard output of a command that succeeds; `None` if it cannot be started or fails.
pub fn output(command: &mut Command) -> Option<String> {
    let output = command.stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changes_the_build_is_dropped() {
        for name in
            ["CARGO", "CARGO_TARGET_DIR", "CARGO_MAKEFLAGS", "RUSTC_WRAPPER", "CARGO_ENCODED_RUSTFLAGS"]
        {
            assert!(belongs_to_outer_cargo(name), "{name}");
        }
        for name in ["PATH", "CARGO_HOME", "CARGO_NET_OFFLINE", "RUSTUP_TOOLCHAIN", "HTTPS_PROXY"] {
            assert!(!belongs_to_outer_cargo(name), "{name}");
        }
    }

    #[test]
    fn failures_give_no_output() {
        assert_eq!(output(command("/bin/sh").args(["-c", "echo hi"])).as_deref(), Some("hi"));
        assert_eq!(output(command("/bin/sh").args(["-c", "echo hi; exit 1"])), None);
        assert_eq!(output(&mut command("/nonexistent/program")), None);
    }
}
