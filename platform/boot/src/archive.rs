//! The initial archive: a tar file of modules.

use skerry_abi::boot::{BootInfo, Module, Range};
use tar_no_std::TarArchiveRef;

use crate::Error;
use crate::options::Name;

/// A checked archive in memory.
#[derive(Clone, Copy)]
pub struct Archive<'a> {
    base: u64,
    bytes: &'a [u8],
}

impl<'a> Archive<'a> {
    /// The archive whose contents are `bytes` and lie at physical address `base`.
    pub const fn new(base: u64, bytes: &'a [u8]) -> Self {
        Self { base, bytes }
    }

    /// All of it.
    pub const fn range(&self) -> Range {
        Range { base: self.base, size: self.bytes.len() as u64 }
    }

    /// Enters every regular file into `info`; a leading `./` does not belong to the name.
    ///
    /// # Errors
    /// If it is not a tar archive, or names do not fit the boot information.
    pub fn list(&self, info: &mut BootInfo) -> Result<(), Error> {
        let tar = TarArchiveRef::new(self.bytes).map_err(Error::Archive)?;
        for entry in tar.entries() {
            let path = entry.filename();
            let path = path.as_str().map_err(|_| Error::ModuleName)?;
            let path = path.strip_prefix("./").unwrap_or(path).as_bytes();
            let mut name = [0; 48];
            // One zero stays: names are zero-terminated.
            name[..47].get_mut(..path.len()).ok_or(Error::ModuleName)?.copy_from_slice(path);
            let offset = entry.data().as_ptr().addr() - self.bytes.as_ptr().addr();
            let range = Range { base: self.base + offset as u64, size: entry.data().len() as u64 };
            let slot = info.modules.get_mut(info.module_count as usize).ok_or(Error::TooManyModules)?;
            *slot = Module { name, range };
            info.module_count += 1;
        }
        Ok(())
    }

    /// The contents of the module with this name.
    ///
    /// # Errors
    /// [`Error::NoModule`] if [`Archive::list`] found none.
    pub fn module(&self, info: &BootInfo, name: &str) -> Result<&'a [u8], Error> {
        let missing = || Error::NoModule(Name::of(name));
        let range = info.module(name).ok_or_else(missing)?.range;
        let start = (range.base - self.base) as usize;
        self.bytes.get(start..start + range.size as usize).ok_or_else(missing)
    }
}
