//! What all runs of one launcher share: the emulator, the built guest, and where the numbers come from.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::error::{Error, Result};
use crate::guest::{self, Guest, Program};
use crate::image;
use crate::install::Installer;
use crate::plugin;
use crate::provenance::Provenance;
use crate::qemu::Qemu;
use crate::toolchain::Toolchain;

/// Everything ready to boot.
#[derive(Clone, Debug)]
pub struct Session {
    /// The emulator.
    pub qemu: Qemu,
    /// The flat boot image.
    pub boot_image: PathBuf,
    /// The archive of modules.
    pub modules: PathBuf,
    /// Where the numbers come from.
    pub provenance: Provenance,
    guest: Guest,
    plugin: OnceLock<PathBuf>,
}

/// The workspace: where the launcher was built, or the folder above the current one that looks like it.
///
/// # Errors
/// [`Error::Host`] if neither is there.
pub fn workspace() -> Result<PathBuf> {
    let is_workspace = |path: &Path| path.join("qemu/machines").is_dir() && path.join("Cargo.toml").is_file();
    let built_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let here = std::env::current_dir().map_err(Error::host("finding the current folder"))?;
    std::iter::once(built_in.as_path())
        .chain(here.ancestors())
        .find(|path| is_workspace(path))
        .ok_or_else(|| {
            Error::Host("finding Skerry's sources".into(), "run this inside of the repository".into())
        })?
        .canonicalize()
        .map_err(Error::host("finding Skerry's sources"))
}

/// Where the machine files are.
///
/// # Errors
/// As for [`workspace`].
pub fn machines() -> Result<PathBuf> {
    Ok(workspace()?.join("qemu/machines"))
}

/// The guest's build, with a compiler found or installed.
///
/// # Errors
/// [`Error::Missing`] with what to type.
pub fn guest(installer: Installer) -> Result<Guest> {
    let root = workspace()?;
    let toolchain = Toolchain::find(installer, &root)?;
    Ok(Guest::new(&root, toolchain))
}

impl Session {
    /// Finds or installs the tools, builds the guest and makes the images.
    ///
    /// # Errors
    /// Whatever is missing or fails to build.
    pub fn prepare(installer: Installer) -> Result<Self> {
        let qemu = Qemu::find(installer)?;
        let guest = guest(installer)?;
        guest.build()?;
        let provenance = Provenance::collect(&workspace()?, &qemu.version, &guest.toolchain().version);
        let images = guest.image_dir();
        let session = Self {
            qemu,
            boot_image: images.join("boot.bin"),
            modules: images.join("modules.tar"),
            provenance,
            guest,
            plugin: OnceLock::new(),
        };
        let boot = image::flatten(guest::BOOT.binary, &session.read(guest::BOOT)?)?;
        image::write(&session.boot_image, &boot)?;
        image::write(&session.modules, &session.archive(|_| true)?)?;
        Ok(session)
    }

    /// The measuring instrument, built when it is asked for the first time.
    ///
    /// # Errors
    /// [`Error::Build`].
    pub fn plugin(&self) -> Result<&Path> {
        if let Some(library) = self.plugin.get() {
            return Ok(library);
        }
        let library = plugin::build(&workspace()?)?;
        Ok(self.plugin.get_or_init(|| library))
    }

    /// An archive of the modules for which `keep` holds.
    ///
    /// # Errors
    /// [`Error::Build`] for a program that is not an ELF file.
    pub fn archive(&self, keep: impl Fn(&str) -> bool) -> Result<Vec<u8>> {
        self.archive_with(keep, [])
    }

    /// As [`Session::archive`], and with further files.
    ///
    /// # Errors
    /// As for [`Session::archive`].
    pub fn archive_with<'a>(
        &self,
        keep: impl Fn(&str) -> bool,
        more: impl IntoIterator<Item = (&'a str, Vec<u8>)>,
    ) -> Result<Vec<u8>> {
        let kept = guest::MODULES.into_iter().filter(|program| keep(program.binary));
        let modules: Result<Vec<_>> =
            kept.map(|p| Ok((p.binary, image::strip(p.binary, &self.read(p)?)?))).collect();
        image::archive(modules?.into_iter().chain(more))
    }

    /// Where the ELF file of a program is, with its symbols.
    pub fn elf(&self, program: Program) -> PathBuf {
        self.guest.elf(program)
    }

    fn read(&self, program: Program) -> Result<Vec<u8>> {
        let path = self.guest.elf(program);
        std::fs::read(&path).map_err(Error::host(format!("reading {}", path.display())))
    }
}
