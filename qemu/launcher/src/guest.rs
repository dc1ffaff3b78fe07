//! Builds everything that runs in the guest, in a target directory of its own: the outer `cargo` holds the lock of
//! the usual one while tests run, and a nested build in it would wait for ever.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::{Error, Result};
use crate::install::Installer;
use crate::interrupt;
use crate::toolchain::{HARD_FLOAT, SOFT_FLOAT, Toolchain};

/// A program of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its package.
    pub package: &'static str,
    /// The binary's file name, and the module's name in the archive.
    pub binary: &'static str,
    /// The target it is compiled for.
    pub target: &'static str,
}

const fn program(package: &'static str, binary: &'static str, target: &'static str) -> Program {
    Program { package, binary, target }
}

/// What QEMU starts; it finds the rest in the archive.
pub const BOOT: Program = program("skerry-boot", "skerry-boot", SOFT_FLOAT);
/// The kernel.
pub const KERNEL: Program = program("skerry-kernel", "kernel", SOFT_FLOAT);
/// The app pager.
pub const APP_PAGER: Program = program("app-pager", "app-pager", SOFT_FLOAT);
/// The system-call server.
pub const SYSCALL_SERVER: Program = program("syscall-server", "syscall-server", SOFT_FLOAT);
/// The kernel's benchmark.
pub const KERNEL_BENCH: Program = program("kernel-bench", "kernel-bench", SOFT_FLOAT);
/// The pagers' benchmark.
pub const PAGER_BENCH: Program = program("pager-bench", "pager-bench", HARD_FLOAT);
/// The programs in the archive.
pub const MODULES: [Program; 14] = [
    KERNEL,
    program("root-pager", "root-pager", SOFT_FLOAT),
    SYSCALL_SERVER,
    APP_PAGER,
    KERNEL_BENCH,
    program("kernel-test", "kernel-test", SOFT_FLOAT),
    program("array-walk", "array-walk", HARD_FLOAT),
    program("latency", "latency", HARD_FLOAT),
    program("load-balancer", "load-balancer", HARD_FLOAT),
    PAGER_BENCH,
    program("pager-test", "pager-test", HARD_FLOAT),
    program("selftest", "selftest", HARD_FLOAT),
    program("tasks", "tasks", HARD_FLOAT),
    program("unmap", "unmap", HARD_FLOAT),
];

/// The build of the guest.
#[derive(Clone, Debug)]
pub struct Guest {
    root: PathBuf,
    target_dir: PathBuf,
    toolchain: Toolchain,
}

impl Guest {
    /// For the workspace at `root`. The target directory is `guest` in the usual one.
    pub fn new(root: &Path, toolchain: Toolchain) -> Self {
        Self { root: root.to_owned(), target_dir: usual_target(root).join("guest"), toolchain }
    }

    /// The compiler that is used.
    pub fn toolchain(&self) -> &Toolchain {
        &self.toolchain
    }

    /// Where the images for QEMU go.
    pub fn image_dir(&self) -> PathBuf {
        self.target_dir.join("images")
    }

    /// Where the ELF file of `program` is after [`Guest::build`], with its symbols.
    pub fn elf(&self, program: Program) -> PathBuf {
        self.target_dir.join(program.target).join("guest").join(program.binary)
    }

    /// Builds all programs. Progress goes to standard error; nothing is said when everything is up to date.
    ///
    /// # Errors
    /// [`Error::Build`]; the compiler's own words have been shown.
    pub fn build(&self) -> Result<()> {
        self.each_target(|target, packages| {
            let mut command = self.toolchain.cargo("build", target, packages, &self.root, &self.target_dir);
            show(&mut command, "building the guest")
        })
    }

    /// Lints all programs, warnings denied. Gets clippy if the guest's compiler has none.
    ///
    /// # Errors
    /// [`Error::Build`] if there are warnings, [`Error::Missing`] without a clippy.
    pub fn clippy(&self, installer: Installer) -> Result<()> {
        self.each_target(|target, packages| {
            let find = || self.toolchain.clippy(target, packages, &self.root, &self.target_dir);
            let mut command = match find() {
                Some(command) => command,
                None => {
                    installer.clippy()?;
                    find().ok_or_else(|| Error::Missing("type `rustup component add clippy`".into()))?
                }
            };
            eprintln!("skerry: clippy for {target}: {}", packages.join(" "));
            show(&mut command, "clippy for the guest")
        })
    }

    fn each_target(&self, act: impl Fn(&str, &[&str]) -> Result<()>) -> Result<()> {
        for target in [SOFT_FLOAT, HARD_FLOAT] {
            let programs = MODULES.iter().chain([&BOOT]).filter(|program| program.target == target);
            act(target, &programs.map(|program| program.package).collect::<Vec<_>>())?;
        }
        Ok(())
    }
}

/// The target directory of the workspace at `root`.
pub(crate) fn usual_target(root: &Path) -> PathBuf {
    let usual = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    std::path::absolute(&usual).unwrap_or(usual)
}

/// Runs cargo and passes its messages on, but for the ones that say that nothing was done.
pub(crate) fn show(command: &mut Command, what: &str) -> Result<()> {
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(Error::host(format!("{what}: starting cargo")))?;
    if let Some(stderr) = child.stderr.take() {
        for line in BufReader::new(stderr).split(b'\n').map_while(|line| line.ok()) {
            let line = String::from_utf8_lossy(&line);
            if !line.trim_start().starts_with("Finished `") {
                eprintln!("{line}");
            }
        }
    }
    let status = child.wait().map_err(Error::host(format!("{what}: waiting for cargo")))?;
    match status.success() {
        true => Ok(()),
        false if interrupt::requested() => Err(Error::interrupted()),
        false => Err(Error::Build(format!("{what} failed; the compiler's messages are above"))),
    }
}
