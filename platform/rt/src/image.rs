//! From an ELF file to pages: what a loader has to put where.
//!
//! Both loaders (the root pager for servers, the app pager for applications) work page by page, so the plan is in pages too.

use core::fmt;

use elf::ElfBytes;
use elf::abi::{EM_AARCH64, ET_EXEC, PF_W, PF_X, PT_LOAD};
use elf::endian::LittleEndian;
use skerry_abi::Rights;
use skerry_abi::fpage::PAGE_SIZE;
use skerry_abi::layout::{PROGRAM_BASE, UTCB_BASE};

/// Loadable segments of a program at most.
pub const MAX_PARTS: usize = 8;

/// Why a file is no program of ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ImageError {
    /// Not a 64-bit little-endian ELF file, or damaged.
    NotElf,
    /// Not a statically linked program for this processor.
    NotStatic,
    /// A segment lies outside the program area, or two share a page.
    Misplaced,
    /// A segment is both writable and executable.
    WritableCode,
    /// More than [`MAX_PARTS`] segments, or none.
    Segments,
    /// The entry point is not in an executable segment.
    Entry,
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotElf => "not a 64-bit little-endian ELF file",
            Self::NotStatic => "not a statically linked aarch64 program",
            Self::Misplaced => "a segment lies outside the program area or shares a page with another",
            Self::WritableCode => "a segment is writable and executable",
            Self::Segments => "too many segments, or none",
            Self::Entry => "the entry point is not in an executable segment",
        })
    }
}

/// A segment, rounded to pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Part {
    /// Address of the first page.
    pub va: u64,
    /// Pages.
    pub pages: u64,
    /// Read, and write or execute.
    pub rights: Rights,
    /// Where its bytes begin in the file.
    pub file_offset: u64,
    /// How many bytes the file has; all others are zero.
    pub file_bytes: u64,
    /// How far into the first page the bytes begin.
    pub skip: u64,
}

impl Part {
    /// First address behind it.
    pub const fn end(&self) -> u64 {
        self.va + self.pages * PAGE_SIZE
    }
}

/// Which bytes of a source belong into page `page` of a part or region: offset in the page, offset in the source, count.
///
/// The source's `bytes` bytes begin `skip` bytes into page 0.
pub const fn page_bytes(page: u64, skip: u64, bytes: u64) -> (u64, u64, u64) {
    let (start, end) = (page * PAGE_SIZE, (page + 1) * PAGE_SIZE);
    let from = if start > skip { start } else { skip };
    let to = if end < skip + bytes { end } else { skip + bytes };
    if from >= to { (0, 0, 0) } else { (from - start, from - skip, to - from) }
}

/// A program.
#[derive(Clone, Copy, Debug)]
pub struct Image {
    /// Where it begins.
    pub entry: u64,
    parts: [Part; MAX_PARTS],
    count: usize,
}

impl Image {
    /// Reads a file's headers.
    ///
    /// # Errors
    /// [`ImageError`] for anything but a program that fits the address-space layout; never panics.
    pub fn parse(file: &[u8]) -> Result<Self, ImageError> {
        let elf = ElfBytes::<LittleEndian>::minimal_parse(file).map_err(|_| ImageError::NotElf)?;
        if elf.ehdr.e_type != ET_EXEC || elf.ehdr.e_machine != EM_AARCH64 {
            return Err(ImageError::NotStatic);
        }
        let mut image = Self { entry: elf.ehdr.e_entry, parts: [Part::default(); MAX_PARTS], count: 0 };
        let segments = elf.segments().ok_or(ImageError::Segments)?;
        for segment in segments.iter().filter(|s| s.p_type == PT_LOAD && s.p_memsz != 0) {
            let end = segment.p_vaddr.checked_add(segment.p_memsz).ok_or(ImageError::Misplaced)?;
            let file_end = segment.p_offset.checked_add(segment.p_filesz).ok_or(ImageError::NotElf)?;
            if file_end > file.len() as u64 || segment.p_filesz > segment.p_memsz {
                return Err(ImageError::NotElf);
            }
            let va = segment.p_vaddr & !(PAGE_SIZE - 1);
            let previous_end = image.parts().last().map_or(PROGRAM_BASE, Part::end);
            if va < previous_end || end > UTCB_BASE {
                return Err(ImageError::Misplaced);
            }
            let rights = match (segment.p_flags & PF_W != 0, segment.p_flags & PF_X != 0) {
                (true, true) => return Err(ImageError::WritableCode),
                (true, false) => Rights::RW,
                (false, true) => Rights::RX,
                (false, false) => Rights::R,
            };
            *image.parts.get_mut(image.count).ok_or(ImageError::Segments)? = Part {
                va,
                pages: (end - va).div_ceil(PAGE_SIZE),
                rights,
                file_offset: segment.p_offset,
                file_bytes: segment.p_filesz,
                skip: segment.p_vaddr - va,
            };
            image.count += 1;
        }
        let entered =
            |part: &Part| part.rights.contains(Rights::X) && (part.va..part.end()).contains(&image.entry);
        match image.parts() {
            [] => Err(ImageError::Segments),
            parts if parts.iter().any(entered) => Ok(image),
            _ => Err(ImageError::Entry),
        }
    }

    /// The parts, by ascending address.
    pub fn parts(&self) -> &[Part] {
        &self.parts[..self.count]
    }
    /// Pages of all parts together.
    pub fn pages(&self) -> u64 {
        self.parts().iter().map(|part| part.pages).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An ELF file with the given (vaddr, offset, filesz, memsz, flags) segments and nothing else.
    fn elf(entry: u64, segments: &[(u64, u64, u64, u64, u32)]) -> ([u8; 1024], usize) {
        let mut file = [0; 1024];
        let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, b"\x7fELF\x02\x01\x01");
        put(16, &ET_EXEC.to_le_bytes());
        put(18, &EM_AARCH64.to_le_bytes());
        put(20, &1u32.to_le_bytes());
        put(24, &entry.to_le_bytes());
        put(32, &64u64.to_le_bytes());
        put(52, &64u16.to_le_bytes());
        put(54, &56u16.to_le_bytes());
        put(56, &(segments.len() as u16).to_le_bytes());
        for (i, &(va, offset, filesz, memsz, flags)) in segments.iter().enumerate() {
            let at = 64 + i * 56;
            put(at, &PT_LOAD.to_le_bytes());
            put(at + 4, &flags.to_le_bytes());
            put(at + 8, &offset.to_le_bytes());
            put(at + 16, &va.to_le_bytes());
            put(at + 32, &filesz.to_le_bytes());
            put(at + 40, &memsz.to_le_bytes());
        }
        (file, 1024)
    }
    fn parse(entry: u64, segments: &[(u64, u64, u64, u64, u32)]) -> Result<Image, ImageError> {
        let (file, length) = elf(entry, segments);
        Image::parse(&file[..length])
    }

    #[test]
    fn parts_are_whole_pages() {
        let image = parse(
            0x20_1010,
            &[(0x20_0000, 0, 600, 600, 4), (0x20_1010, 16, 100, 100, 5), (0x20_3ff0, 0x20, 0x40, 0x1020, 6)],
        )
        .unwrap();
        let expected = Part {
            va: 0x20_3000,
            pages: 3,
            rights: Rights::RW,
            file_offset: 0x20,
            file_bytes: 0x40,
            skip: 0xff0,
        };
        assert_eq!(image.parts()[2], expected);
        assert_eq!(image.pages(), 5);
        assert_eq!(page_bytes(0, 0xff0, 0x40), (0xff0, 0, 0x10));
        assert_eq!(page_bytes(1, 0xff0, 0x40), (0, 0x10, 0x30));
        assert_eq!(page_bytes(2, 0xff0, 0x40), (0, 0, 0));
    }

    #[test]
    fn odd_files_are_refused() {
        assert_eq!(Image::parse(b"hello").unwrap_err(), ImageError::NotElf);
        assert_eq!(parse(0, &[]).unwrap_err(), ImageError::Segments);
        assert_eq!(parse(0x20_0000, &[(0x20_0000, 0, 8, 8, 7)]).unwrap_err(), ImageError::WritableCode);
        assert_eq!(parse(0x20_0000, &[(0x20_0000, 0, 8, 8, 4)]).unwrap_err(), ImageError::Entry);
        assert_eq!(parse(0x20_0000, &[(0x10_0000, 0, 8, 8, 5)]).unwrap_err(), ImageError::Misplaced);
        assert_eq!(parse(0x20_0000, &[(0x20_0000, 0, 2000, 2000, 5)]).unwrap_err(), ImageError::NotElf);
        assert_eq!(parse(0x20_0000, &[(0x20_0000, 0, 8, u64::MAX, 5)]).unwrap_err(), ImageError::Misplaced);
        let shared = [(0x20_0000, 0, 8, 8, 5), (0x20_0800, 0, 8, 8, 6)];
        assert_eq!(parse(0x20_0000, &shared).unwrap_err(), ImageError::Misplaced);
    }
}
