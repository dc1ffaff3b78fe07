//! Getting what is missing. Always says what is installed and how to prevent it; where it may not install, it
//! says in one line what to type.

use std::io;
use std::process::{Command, Stdio};
use std::time::Duration;

use wait_timeout::ChildExt;

use crate::error::{Error, Result};
use crate::{interrupt, process};

/// The variable that forbids installing.
pub const NO_INSTALL: &str = "SKERRY_NO_INSTALL";
/// How long `rustup target add` may take before the next way is tried.
const RUSTUP_LIMIT: Duration = Duration::from_secs(90);

/// Whether, and how, things may be installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Installer {
    allowed: bool,
}

/// How to become root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Root {
    Already,
    Sudo,
}

impl Installer {
    /// May install, unless `forbidden` or [`NO_INSTALL`] is set.
    pub fn new(forbidden: bool) -> Self {
        let by_variable = std::env::var_os(NO_INSTALL).is_some_and(|value| !value.is_empty() && value != "0");
        Self { allowed: !forbidden && !by_variable }
    }

    /// Whether installing is allowed at all.
    pub fn is_allowed(self) -> bool {
        self.allowed
    }

    /// Installs Debian packages, for what `purpose` says.
    ///
    /// # Errors
    /// [`Error::Missing`] with the command to type, if it may not or cannot.
    pub fn packages(self, purpose: &str, packages: &[&str]) -> Result<()> {
        let list = packages.join(" ");
        let advice =
            format!("{purpose} is missing: type `sudo apt-get install {list}` (or the like of your system)");
        let Some(root) = self.root() else { return Err(Error::Missing(advice)) };
        eprintln!(
            "skerry: {purpose} is missing; installing {list} with apt-get ({NO_INSTALL}=1 prevents this)"
        );
        let mut arguments = vec!["install", "-y", "-q", "--no-install-recommends"];
        arguments.extend(packages);
        if !apt_get(root, &arguments)? {
            // The package lists may be empty (a fresh container) or old.
            let _ = apt_get(root, &["update", "-q"])?;
            if !apt_get(root, &arguments)? {
                return Err(Error::Missing(format!("apt-get failed; {advice}")));
            }
        }
        Ok(())
    }

    /// Installs clippy for Debian's compiler.
    ///
    /// # Errors
    /// As for [`Installer::packages`].
    pub fn clippy(self) -> Result<()> {
        const SETS: [&[&str]; 2] = [&["rust-web-clippy"], &["rust-clippy"]];
        self.packages("clippy for the guest's compiler", self.known_set(&SETS).unwrap_or(SETS[0]))
    }

    /// The first of `sets` of packages that Debian's lists know completely.
    pub fn known_set<'a>(self, sets: &[&'a [&'a str]]) -> Option<&'a [&'a str]> {
        let find = || sets.iter().copied().find(|set| set.iter().all(|package| has_candidate(package)));
        find().or_else(|| {
            let _ = apt_get(self.root()?, &["update", "-q"]);
            find()
        })
    }

    /// Adds rustup targets to the active toolchain; says nothing and returns false if that does not work.
    pub fn rustup_targets(self, targets: &[&str], root: &std::path::Path) -> bool {
        if !self.allowed || which::which("rustup").is_err() {
            return false;
        }
        let list = targets.join(" ");
        eprintln!(
            "skerry: the guest's libraries are missing; running `rustup target add {list}` \
                   ({NO_INSTALL}=1 prevents this)"
        );
        let mut rustup = process::command("rustup");
        rustup.args(["target", "add"]).args(targets).current_dir(root);
        let Ok(mut child) = rustup.stdout(Stdio::null()).stderr(Stdio::null()).spawn() else { return false };
        match child.wait_timeout(RUSTUP_LIMIT) {
            Ok(Some(status)) => status.success(),
            _ => {
                // Already gone or gone now: either way nothing is left to do.
                let _ = child.kill();
                let _ = child.wait();
                false
            }
        }
    }

    fn root(self) -> Option<Root> {
        if !self.allowed || which::which("apt-get").is_err() {
            return None;
        }
        if process::output(process::command("id").arg("-u")).as_deref() == Some("0") {
            return Some(Root::Already);
        }
        process::output(process::command("sudo").args(["-n", "true"])).map(|_| Root::Sudo)
    }
}

fn has_candidate(package: &str) -> bool {
    process::output(process::command("apt-cache").args(["policy", package]))
        .is_some_and(|text| text.contains("Candidate:") && !text.contains("Candidate: (none)"))
}

/// Runs `apt-get`, its output on standard error: standard output belongs to results.
fn apt_get(root: Root, arguments: &[&str]) -> Result<bool> {
    let mut command: Command = match root {
        Root::Already => process::command("env"),
        Root::Sudo => {
            let mut sudo = process::command("sudo");
            sudo.args(["-n", "env"]);
            sudo
        }
    };
    command
        .args(["DEBIAN_FRONTEND=noninteractive", "apt-get"])
        .args(arguments)
        .stdout(Stdio::from(io::stderr()));
    let status = command.status().map_err(Error::host("starting apt-get"))?;
    if interrupt::requested() { Err(Error::interrupted()) } else { Ok(status.success()) }
}
