//! `doctor`: looks at everything Skerry needs, changes nothing, and says how to get what is missing.

use std::path::Path;

use crate::commands::print_line;
use crate::error::{Error, Result};
use crate::install::{Installer, NO_INSTALL};
use crate::machine::{Machine, Overrides};
use crate::process;
use crate::qemu::Qemu;
use crate::session;
use crate::toolchain::{TARGETS, Toolchain};

struct Finding {
    what: &'static str,
    found: std::result::Result<String, String>,
    essential: bool,
}

/// Prints one line per thing that is needed.
///
/// # Errors
/// [`Error::Missing`] if something essential is missing.
pub fn examine(installer: Installer) -> Result<()> {
    let root = session::workspace()?;
    let findings = [host(&root), guest(&root), qemu(), machines(&root), git(&root), installing(installer)];
    for Finding { what, found, .. } in &findings {
        match found {
            Ok(detail) => print_line(&format!("ok       {what:<16} {detail}"))?,
            Err(advice) => print_line(&format!("missing  {what:<16} {advice}"))?,
        }
    }
    let missing: Vec<_> =
        findings.iter().filter(|f| f.essential && f.found.is_err()).map(|f| f.what).collect();
    if missing.is_empty() { Ok(()) } else { Err(Error::Missing(format!("missing: {}", missing.join(", ")))) }
}

fn host(root: &Path) -> Finding {
    let version = process::output(process::command("rustc").arg("--version").current_dir(root));
    let found = version.ok_or_else(|| "`rustc` does not start; get it from https://rustup.rs".into());
    Finding { what: "host compiler", found, essential: true }
}

fn guest(root: &Path) -> Finding {
    let found = Toolchain::installed(root).map(|toolchain| toolchain.describe()).ok_or_else(|| {
        format!("type `rustup target add {}` (a run tries that itself, then apt-get)", TARGETS.join(" "))
    });
    Finding { what: "guest compiler", found, essential: true }
}

fn qemu() -> Finding {
    // With installing forbidden, `find` only looks.
    let found = Qemu::find(Installer::new(true));
    let found = found.map(|qemu| format!("{} ({})", qemu.version, qemu.program.display()));
    Finding { what: "QEMU", found: found.map_err(|error| error.to_string()), essential: true }
}

fn machines(root: &Path) -> Finding {
    let folder = root.join("qemu/machines");
    let check = || -> Result<String> {
        let names = Machine::names(&folder)?;
        for name in &names {
            Machine::load(&folder, name, Overrides::default())?;
        }
        Ok(names.join(", "))
    };
    Finding { what: "machine files", found: check().map_err(|error| error.to_string()), essential: true }
}

fn git(root: &Path) -> Finding {
    let revision =
        process::output(process::command("git").args(["rev-parse", "--short", "HEAD"]).current_dir(root));
    let found = revision.ok_or_else(|| "no revision: records will say `unknown`".into());
    Finding { what: "git", found, essential: false }
}

fn installing(installer: Installer) -> Finding {
    let found = if installer.is_allowed() {
        format!("what is missing is installed when it is needed ({NO_INSTALL}=1 prevents this)")
    } else {
        format!("forbidden (--no-install or {NO_INSTALL})")
    };
    Finding { what: "installing", found: Ok(found), essential: false }
}
