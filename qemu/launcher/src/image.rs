//! What QEMU loads: a flat boot image, and a tar archive of modules as the initial RAM disk.
//!
//! The boot image is flat because QEMU passes neither a device tree nor an initrd to an ELF kernel.

use std::io::Write;
use std::path::Path;

use elf::ElfBytes;
use elf::abi::PT_LOAD;
use elf::endian::LittleEndian;

use crate::error::{Error, Result};

/// A boot image larger than this is a linking mistake (segments far apart).
const LARGEST_IMAGE: u64 = 64 << 20;

fn parse<'a>(name: &str, bytes: &'a [u8]) -> Result<ElfBytes<'a, LittleEndian>> {
    ElfBytes::minimal_parse(bytes).map_err(|error| Error::Build(format!("{name}: not an ELF file: {error}")))
}

/// The loadable segments of an ELF file as they lie in physical memory, from the lowest address on.
///
/// # Errors
/// [`Error::Build`] if the file is malformed, has nothing to load, or spans too much.
pub fn flatten(name: &str, bytes: &[u8]) -> Result<Vec<u8>> {
    let file = parse(name, bytes)?;
    let wrong = |what: &str| Error::Build(format!("{name}: {what}"));
    let headers = file.segments().ok_or_else(|| wrong("no program headers"))?;
    let loads: Vec<_> = headers.iter().filter(|h| h.p_type == PT_LOAD && h.p_filesz > 0).collect();
    let base = loads.iter().map(|h| h.p_paddr).min().ok_or_else(|| wrong("nothing to load"))?;
    let mut image = Vec::new();
    for header in &loads {
        let data = file.segment_data(header).map_err(|_| wrong("a segment lies outside of the file"))?;
        let start = header.p_paddr - base;
        let end = start.checked_add(header.p_filesz).filter(|&end| end <= LARGEST_IMAGE);
        let end = end.ok_or_else(|| wrong("its segments are too far apart for a flat image"))? as usize;
        if image.len() < end {
            image.resize(end, 0);
        }
        image[start as usize..end].copy_from_slice(data);
    }
    Ok(image)
}

/// The ELF file without sections, so without symbols and debug information: what the guest needs to load it.
///
/// # Errors
/// [`Error::Build`] if the file is malformed.
pub fn strip(name: &str, bytes: &[u8]) -> Result<Vec<u8>> {
    let file = parse(name, bytes)?;
    let wrong = || Error::Build(format!("{name}: malformed program headers"));
    let headers = file.segments().ok_or_else(wrong)?;
    let table =
        file.ehdr.e_phoff.checked_add(u64::from(file.ehdr.e_phnum) * u64::from(file.ehdr.e_phentsize));
    let mut end = table.ok_or_else(wrong)?;
    for header in headers.iter() {
        end = end.max(header.p_offset.checked_add(header.p_filesz).ok_or_else(wrong)?);
    }
    let mut stripped = bytes.get(..end as usize).ok_or_else(wrong)?.to_vec();
    // ELF64 header: e_shoff at 0x28, e_shentsize, e_shnum, e_shstrndx at 0x3a..0x40.
    stripped.get_mut(0x28..0x30).ok_or_else(wrong)?.fill(0);
    stripped.get_mut(0x3a..0x40).ok_or_else(wrong)?.fill(0);
    Ok(stripped)
}

/// A reproducible tar archive of `(name, contents)`.
///
/// # Errors
/// [`Error::Build`] if a name does not fit a tar header.
pub fn archive<'a>(modules: impl IntoIterator<Item = (&'a str, Vec<u8>)>) -> Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, contents) in modules {
        let mut header = tar::Header::new_ustar();
        header.set_size(contents.len() as u64);
        header.set_mode(0o444);
        header.set_mtime(0);
        header.set_cksum();
        builder
            .append_data(&mut header, name, contents.as_slice())
            .map_err(|error| Error::Build(format!("module {name}: {error}")))?;
    }
    builder.into_inner().map_err(Error::host("making the archive"))
}

/// Writes a file so that a QEMU that reads the old one at this moment keeps it.
///
/// # Errors
/// [`Error::Host`].
pub fn write(path: &Path, contents: &[u8]) -> Result<()> {
    let what = || format!("writing {}", path.display());
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(Error::host(what()))?;
    if std::fs::read(path).is_ok_and(|old| old == contents) {
        return Ok(());
    }
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(Error::host(what()))?;
    file.write_all(contents).map_err(Error::host(what()))?;
    file.persist(path).map(drop).map_err(Error::host(what()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A minimal ELF64 file with segments `(paddr, contents)`, followed by bytes that stand for sections.
    fn elf(segments: &[(u64, &[u8])]) -> Vec<u8> {
        let mut file = vec![0; 64 + 56 * segments.len()];
        file[..8].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1, 0]);
        let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
        put(0x10, &2u16.to_le_bytes());
        put(0x12, &183u16.to_le_bytes());
        put(0x14, &1u32.to_le_bytes());
        put(0x20, &64u64.to_le_bytes());
        put(0x34, &64u16.to_le_bytes());
        put(0x36, &56u16.to_le_bytes());
        put(0x38, &(segments.len() as u16).to_le_bytes());
        let mut offset = 64 + 56 * segments.len();
        for (index, (paddr, contents)) in segments.iter().enumerate() {
            let at = 64 + 56 * index;
            put(at, &1u32.to_le_bytes());
            put(at + 8, &(offset as u64).to_le_bytes());
            put(at + 24, &paddr.to_le_bytes());
            put(at + 32, &(contents.len() as u64).to_le_bytes());
            put(at + 40, &(contents.len() as u64).to_le_bytes());
            offset += contents.len();
        }
        segments.iter().for_each(|(_, contents)| file.extend_from_slice(contents));
        file.extend_from_slice(b"sections");
        file
    }

    #[test]
    fn segments_land_at_their_addresses() {
        let file = elf(&[(0x4008_0008, b"data"), (0x4008_0000, b"text")]);
        assert_eq!(flatten("boot", &file).unwrap(), b"text\0\0\0\0data");
    }

    #[test]
    fn scattered_or_broken_files_are_refused() {
        assert!(flatten("boot", &elf(&[(0, b"a"), (1 << 40, b"b")])).is_err());
        assert!(flatten("boot", &elf(&[])).is_err());
        assert!(flatten("boot", b"#!/bin/sh").is_err());
        let mut truncated = elf(&[(0, &[7; 100])]);
        truncated.truncate(150);
        assert!(flatten("boot", &truncated).is_err() && strip("boot", &truncated).is_err());
    }

    #[test]
    fn stripping_keeps_what_is_loaded() {
        let file = elf(&[(0x20_0000, b"text")]);
        let stripped = strip("app", &file).unwrap();
        assert_eq!(stripped.len(), file.len() - b"sections".len());
        assert_eq!(flatten("app", &stripped).unwrap(), b"text");
    }

    #[test]
    fn archives_are_reproducible_and_readable() {
        let make = || archive([("kernel", vec![1, 2, 3]), ("root-pager", vec![])]).unwrap();
        assert_eq!(make(), make());
        let bytes = make();
        let mut reader = tar::Archive::new(bytes.as_slice());
        let names: Vec<_> =
            reader.entries().unwrap().map(|e| e.unwrap().path().unwrap().display().to_string()).collect();
        assert_eq!(names, ["kernel", "root-pager"]);
    }
}
