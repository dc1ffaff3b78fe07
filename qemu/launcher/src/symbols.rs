//! Names of addresses: the functions (inlined ones included) and labels of a guest program.

use std::path::Path;

use addr2line::Loader;
use elf::ElfBytes;
use elf::abi::{STT_FILE, STT_SECTION};
use elf::endian::LittleEndian;

use crate::error::{Error, Result};
use crate::ledger::parts::PREFIX;

/// A function that an instruction belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its name, without hash and generic arguments.
    pub function: String,
    /// Its source file, as the compiler knew it; empty for assembly.
    pub file: String,
    /// The line in it; 0 = unknown.
    pub line: u32,
}

/// The names of one program.
pub struct Symbols {
    loader: Loader,
    /// Sorted by address.
    labels: Vec<(u64, String)>,
    range: std::ops::Range<u64>,
}

impl Symbols {
    /// Reads an ELF file with its debug information.
    ///
    /// # Errors
    /// [`Error::Build`] if there is none.
    pub fn load(path: &Path) -> Result<Self> {
        let wrong = |what: &dyn std::fmt::Display| Error::Build(format!("{}: {what}", path.display()));
        let bytes = std::fs::read(path).map_err(Error::host(format!("reading {}", path.display())))?;
        let file = ElfBytes::<LittleEndian>::minimal_parse(&bytes).map_err(|e| wrong(&e))?;
        let (symbols, names) =
            file.symbol_table().map_err(|e| wrong(&e))?.ok_or_else(|| wrong(&"no symbols"))?;
        let mut labels = Vec::new();
        for symbol in symbols.iter() {
            let name = names.get(symbol.st_name as usize).map_err(|e| wrong(&e))?;
            let is_label = !matches!(symbol.st_symtype(), STT_FILE | STT_SECTION) && !symbol.is_undefined();
            // `$x` and `$d` tell code from data.
            if is_label && !name.is_empty() && !name.starts_with('$') {
                // At the same address the label of a part says more than others.
                labels.push((symbol.st_value, name.starts_with(PREFIX), name.to_owned()));
            }
        }
        labels.sort();
        let segments = file.segments().ok_or_else(|| wrong(&"no segments"))?;
        let loads = || segments.iter().filter(|segment| segment.p_type == elf::abi::PT_LOAD);
        let start = loads().map(|s| s.p_vaddr).min().unwrap_or(0);
        let end = loads().map(|s| s.p_vaddr + s.p_memsz).max().unwrap_or(0);
        Ok(Self {
            loader: Loader::new(path).map_err(|e| wrong(&e))?,
            labels: labels.into_iter().map(|(address, _, name)| (address, name)).collect(),
            range: start..end,
        })
    }

    /// Whether the address belongs to this program.
    pub fn contains(&self, address: u64) -> bool {
        self.range.contains(&address)
    }

    /// The address of a label.
    pub fn address(&self, label: &str) -> Option<u64> {
        self.labels.iter().find(|(_, name)| name == label).map(|(address, _)| *address)
    }

    /// The labels at this address.
    pub fn labels_at(&self, address: u64) -> impl Iterator<Item = &str> {
        let start = self.labels.partition_point(|(at, _)| *at < address);
        let here = self.labels[start..].iter().take_while(move |(at, _)| *at == address);
        here.map(|(_, name)| name.as_str())
    }

    /// The nearest label at or before the address that is not to be skipped.
    pub fn label(&self, address: u64, skip: impl Fn(&str) -> bool) -> Option<&str> {
        let end = self.labels.partition_point(|(start, _)| *start <= address);
        self.labels[..end].iter().rev().map(|(_, name)| name.as_str()).find(|name| !skip(name))
    }

    /// The functions that the address is in, the innermost (the last one inlined) first; empty in assembly.
    pub fn frames(&self, address: u64) -> Vec<Frame> {
        let mut found = Vec::new();
        let Ok(mut frames) = self.loader.find_frames(address) else { return found };
        while let Ok(Some(frame)) = frames.next() {
            let name = frame.function.as_ref().and_then(|name| name.demangle().ok());
            let file = frame.location.as_ref().and_then(|location| location.file).unwrap_or("");
            let line = frame.location.as_ref().and_then(|location| location.line).unwrap_or(0);
            let Some(name) = name else { continue };
            found.push(Frame { function: plain(&name), file: file.to_owned(), line });
        }
        found
    }
}

/// A demangled name without its hash, generic arguments and `impl` blocks: the last two parts of its path.
pub(crate) fn plain(name: &str) -> String {
    let mut depth = 0;
    let outside: String = name
        .replace("->", "")
        .chars()
        .filter(|c| {
            depth += i32::from(*c == '<');
            let keep = depth == 0;
            depth -= i32::from(*c == '>');
            keep
        })
        .collect();
    let is_hash = |part: &&str| {
        part.len() == 17 && part.starts_with('h') && part[1..].bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let parts: Vec<&str> = outside.split("::").filter(|part| !part.is_empty() && !is_hash(part)).collect();
    parts[parts.len().saturating_sub(2)..].join("::")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short() {
        for (long, short) in [
            (
                "skerry_kernel::ipc::<impl skerry_kernel::kernel::Kernel<H>>::transfer::h0123456789abcdef",
                "ipc::transfer",
            ),
            ("<core::iter::Map<A, B> as Iterator>::next", "next"),
            ("memcpy", "memcpy"),
            ("core::option::Option<T>::map", "Option::map"),
            ("core::ops::function::FnOnce::call_once{{vtable.shim}}", "FnOnce::call_once{{vtable.shim}}"),
        ] {
            assert_eq!(plain(long), short);
        }
    }
}
