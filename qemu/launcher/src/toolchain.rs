//! Finds a compiler for the guest.
//!
//! In this order, so that nothing is downloaded while something usable is there:
//! 1. a compiler that has the libraries of both guest targets (`rustup target add` was run once);
//! 2. a compiler that has the library *source*: cargo then builds `core` and `alloc` itself (`-Zbuild-std`). Debian's
//!    packages are like that;
//! 3. `rustup target add`;
//! 4. Debian's compiler, by `apt-get`.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Error, Result};
use crate::install::Installer;
use crate::process;

/// Kernel, boot loader, servers: no floating-point registers.
pub const SOFT_FLOAT: &str = "aarch64-unknown-none-softfloat";
/// Applications: with floating point.
pub const HARD_FLOAT: &str = "aarch64-unknown-none";
/// Both.
pub const TARGETS: [&str; 2] = [SOFT_FLOAT, HARD_FLOAT];

/// Debian's packages: bookworm has a current compiler in the `-web` set, later releases in the plain one.
const PACKAGE_SETS: [&[&str]; 2] = [
    &["rustc-web", "cargo-web", "rust-web-src", "rust-web-clippy"],
    &["rustc", "cargo", "rust-src", "rust-clippy"],
];
/// The oldest compiler the workspace builds with.
const OLDEST: &str = env!("CARGO_PKG_RUST_VERSION");

/// Where `core` and `alloc` come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Library {
    /// Installed for the guest's targets.
    Installed,
    /// Built from its source.
    Source,
}

/// A compiler that can build the guest.
#[derive(Clone, Debug)]
pub struct Toolchain {
    /// Where `core` comes from.
    pub library: Library,
    /// `cargo`.
    pub cargo: PathBuf,
    /// `rustc`.
    pub rustc: PathBuf,
    /// What `rustc --version` says.
    pub version: String,
    /// The linker to use, where the compiler does not bring its own.
    pub linker: Option<PathBuf>,
}

impl Toolchain {
    /// Finds or installs one. `root` is the workspace: its `rust-toolchain.toml` decides which rustup toolchain counts.
    ///
    /// # Errors
    /// [`Error::Missing`] with what to type.
    pub fn find(installer: Installer, root: &Path) -> Result<Self> {
        if let Some(found) = Self::installed(root) {
            return found.with_linker(installer, root);
        }
        if installer.rustup_targets(&TARGETS, root)
            && let Some(found) = Self::installed(root)
        {
            return found.with_linker(installer, root);
        }
        let purpose = "a compiler for the guest";
        if !installer.is_allowed() {
            let targets = TARGETS.join(" ");
            return Err(Error::Missing(format!("{purpose} is missing: type `rustup target add {targets}`")));
        }
        installer.packages(purpose, installer.known_set(&PACKAGE_SETS).unwrap_or(PACKAGE_SETS[0]))?;
        match Self::installed(root) {
            Some(found) => found.with_linker(installer, root),
            None => Err(Error::Missing(format!(
                "no compiler for the guest: the distribution's is older than {OLDEST}; type `rustup target add {}`",
                TARGETS.join(" ")
            ))),
        }
    }

    /// The best one that is there already, without a linker of its own yet.
    pub fn installed(root: &Path) -> Option<Self> {
        let candidates = [("rustc", "cargo"), ("/usr/bin/rustc", "/usr/bin/cargo")];
        let mut found: Vec<Self> =
            candidates.iter().filter_map(|(rustc, cargo)| probe(rustc, cargo, root)).collect();
        let best = found.iter().position(|toolchain| toolchain.library == Library::Installed).unwrap_or(0);
        (!found.is_empty()).then(|| found.swap_remove(best))
    }

    fn with_linker(mut self, installer: Installer, root: &Path) -> Result<Self> {
        if bundled_linker(&self.rustc, root).is_some() {
            return Ok(self);
        }
        let find = || bundled_linker(Path::new("rustc"), root).or_else(|| which::which("ld.lld").ok());
        self.linker = find();
        if self.linker.is_none() {
            installer.packages("a linker for the guest", &["lld"])?;
            self.linker = find();
        }
        match self.linker {
            Some(_) => Ok(self),
            None => {
                Err(Error::Missing("the linker `ld.lld` is missing: type `sudo apt-get install lld`".into()))
            }
        }
    }

    /// `cargo VERB …` for guest packages, for one target.
    pub fn cargo(
        &self,
        verb: &str,
        target: &str,
        packages: &[&str],
        root: &Path,
        target_dir: &Path,
    ) -> Command {
        let mut command = process::command(&self.cargo);
        command.arg(verb);
        self.complete(&mut command, target, packages, root, target_dir);
        command
    }

    /// `cargo clippy` for guest packages; `None` if this toolchain has no clippy.
    ///
    /// It is started by its path: `/usr/bin/cargo clippy` would find rustup's `cargo-clippy` first in `PATH`, whose
    /// driver belongs to another compiler.
    pub fn clippy(&self, target: &str, packages: &[&str], root: &Path, target_dir: &Path) -> Option<Command> {
        let clippy = if self.cargo.is_absolute() {
            let path = self.cargo.with_file_name("cargo-clippy");
            path.exists().then_some(path)?
        } else {
            which::which("cargo-clippy").ok()?
        };
        let mut command = process::command(clippy);
        command.arg("clippy").env("CARGO", &self.cargo);
        self.complete(&mut command, target, packages, root, target_dir);
        command.args(["--", "-D", "warnings"]);
        Some(command)
    }

    fn complete(
        &self,
        command: &mut Command,
        target: &str,
        packages: &[&str],
        root: &Path,
        target_dir: &Path,
    ) {
        command.args(["--profile", "guest", "--target", target]).arg("--target-dir").arg(target_dir);
        for package in packages {
            command.args(["-p", package]);
        }
        if self.library == Library::Source {
            command.args(["-Zbuild-std=core,alloc,compiler_builtins"]);
            command.arg("-Zbuild-std-features=compiler-builtins-mem");
            command.env("RUSTC_BOOTSTRAP", "1");
            // The library's source is not ours to worry about.
            command.env("CARGO_FUTURE_INCOMPAT_REPORT_FREQUENCY", "never");
        }
        if self.rustc.is_absolute() {
            command.env("RUSTC", &self.rustc);
        }
        let name = target.to_uppercase().replace('-', "_");
        if target == HARD_FLOAT {
            // A dying program's report has a backtrace.
            command.env(format!("CARGO_TARGET_{name}_RUSTFLAGS"), "-Cforce-frame-pointers=yes");
        }
        if let Some(linker) = &self.linker {
            command.env(format!("CARGO_TARGET_{name}_LINKER"), linker);
        }
        command.current_dir(root);
    }

    /// One line that says which compiler this is.
    pub fn describe(&self) -> String {
        let library = match self.library {
            Library::Installed => "with installed guest libraries",
            Library::Source => "building core from source",
        };
        format!("{} ({}), {library}", self.version, self.rustc.display())
    }
}

fn sysroot(rustc: &Path, root: &Path) -> Option<PathBuf> {
    process::output(process::command(rustc).args(["--print", "sysroot"]).current_dir(root)).map(PathBuf::from)
}

fn probe(rustc: &str, cargo: &str, root: &Path) -> Option<Toolchain> {
    let sysroot = sysroot(Path::new(rustc), root)?;
    let version = process::output(process::command(rustc).arg("--version").current_dir(root))?;
    let has_cargo = process::output(process::command(cargo).arg("--version").current_dir(root)).is_some();
    if !has_cargo || !recent_enough(&version) {
        return None;
    }
    let rustlib = sysroot.join("lib/rustlib");
    let library = if TARGETS.iter().all(|target| rustlib.join(target).join("lib").is_dir()) {
        Library::Installed
    } else if rustlib.join("src/rust/library/Cargo.lock").exists() {
        Library::Source
    } else {
        return None;
    };
    Some(Toolchain { library, cargo: cargo.into(), rustc: rustc.into(), version, linker: None })
}

/// `rust-lld` of the compiler's own sysroot.
fn bundled_linker(rustc: &Path, root: &Path) -> Option<PathBuf> {
    let hosts = std::fs::read_dir(sysroot(rustc, root)?.join("lib/rustlib")).ok()?;
    hosts.filter_map(|host| Some(host.ok()?.path().join("bin/rust-lld"))).find(|path| path.exists())
}

/// Whether `rustc 1.96.0 (…)` is at least [`OLDEST`].
fn recent_enough(version: &str) -> bool {
    let numbers = |text: &str| -> Vec<u32> { text.split('.').map_while(|part| part.parse().ok()).collect() };
    version.split(' ').nth(1).is_some_and(|version| numbers(version) >= numbers(OLDEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(recent_enough("rustc 1.100.0 (x)") && recent_enough("rustc 2.0.0"));
        assert!(
            !recent_enough("rustc 1.9.0 (x)") && !recent_enough("rustc 1.85.0") && !recent_enough("rustc")
        );
    }

    #[test]
    fn a_build_from_source_gets_the_flags_and_the_linker() {
        let toolchain = Toolchain {
            library: Library::Source,
            cargo: "/usr/bin/cargo".into(),
            rustc: "/usr/bin/rustc".into(),
            version: String::new(),
            linker: Some("/x/rust-lld".into()),
        };
        let command = toolchain.cargo("build", SOFT_FLOAT, &["kernel"], Path::new("/"), Path::new("/t"));
        let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
        assert!(words.iter().any(|word| word.starts_with("-Zbuild-std=core")), "{words:?}");
        assert!(command.get_envs().any(|(name, value)| {
            name == "CARGO_TARGET_AARCH64_UNKNOWN_NONE_SOFTFLOAT_LINKER"
                && value == Some("/x/rust-lld".as_ref())
        }));
    }
}
