//! Program images: what is loaded where, with which rights.

use elf::ElfBytes;
use elf::abi::{EM_AARCH64, ET_EXEC, PT_LOAD};
use elf::endian::LittleEndian;
use elf::file::Class;
use heapless::Vec;
use skerry_abi::Rights;
use skerry_abi::boot::Range;
use skerry_abi::fpage::PAGE_SIZE;

use crate::options::Name;
use crate::{Error, Memory};

/// Loadable parts of a program at most.
const MAX_PARTS: usize = 8;

/// A loadable part of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part<'a> {
    /// Where its contents start.
    va: u64,
    /// Its contents; the rest of its pages is zero.
    data: &'a [u8],
    /// The pages it occupies: it shares none with another part.
    pub pages: Range,
    /// What may be done with them; never both write and execute.
    pub rights: Rights,
}

/// A statically linked program, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image<'a> {
    /// Where it starts; inside an executable part.
    pub entry: u64,
    /// Its parts by ascending address; at least one.
    pub parts: Vec<Part<'a>, MAX_PARTS>,
}

impl<'a> Image<'a> {
    /// Checks that `bytes` are a program for this machine all of whose parts lie in `window`, at most `max_parts` of them.
    ///
    /// # Errors
    /// [`Error::BadProgram`] with the first thing that is wrong.
    pub fn parse(name: &str, bytes: &'a [u8], window: Range, max_parts: usize) -> Result<Self, Error> {
        let bad = |problem| Error::BadProgram { name: Name::of(name), problem };
        let file = ElfBytes::<LittleEndian>::minimal_parse(bytes)
            .map_err(|_| bad("it is not a (whole) little-endian ELF file"))?;
        if file.ehdr.class != Class::ELF64 || file.ehdr.e_machine != EM_AARCH64 {
            return Err(bad("it is not a program for 64-bit ARM"));
        }
        if file.ehdr.e_type != ET_EXEC {
            return Err(bad("it is not a statically linked executable"));
        }
        let mut parts: Vec<Part<'a>, MAX_PARTS> = Vec::new();
        let headers = file.segments().ok_or(bad("it has no program headers"))?;
        for header in headers.iter().filter(|header| header.p_type == PT_LOAD && header.p_memsz != 0) {
            let data = file.segment_data(&header).map_err(|_| bad("it is truncated"))?;
            let end = header.p_vaddr.checked_add(header.p_memsz);
            let end = end.and_then(|end| end.checked_next_multiple_of(PAGE_SIZE));
            let base = header.p_vaddr / PAGE_SIZE * PAGE_SIZE;
            let end = end
                .filter(|&end| base >= window.base && end <= window.end())
                .ok_or(bad("it is linked for another address range"))?;
            if data.len() as u64 > header.p_memsz {
                return Err(bad("a segment has more contents than memory"));
            }
            let rights = Rights::from_bits(header.p_flags.into()) | Rights::R;
            if rights.contains(Rights::W | Rights::X) {
                return Err(bad("a segment is both writable and executable"));
            }
            let part = Part { va: header.p_vaddr, data, pages: Range { base, size: end - base }, rights };
            if parts.len() == max_parts || parts.push(part).is_err() {
                return Err(bad("it has too many segments"));
            }
        }
        parts.sort_unstable_by_key(|part| part.pages.base);
        if parts.windows(2).any(|pair| pair[0].pages.end() > pair[1].pages.base) {
            return Err(bad("two segments share a page"));
        }
        let entry = file.ehdr.e_entry;
        if !parts.iter().any(|part| part.pages.contains(entry) && part.rights.contains(Rights::X)) {
            return Err(bad("its entry point is not in an executable segment"));
        }
        Ok(Self { entry, parts })
    }

    /// Bytes of memory it needs; whole pages.
    pub fn size(&self) -> u64 {
        self.parts.iter().map(|part| part.pages.size).sum()
    }

    /// Every part with the physical address it gets when the image is loaded to `base`: parts follow each other there.
    pub fn placed(&self, base: u64) -> impl Iterator<Item = (&Part<'a>, u64)> {
        self.parts.iter().scan(base, |next, part| {
            let address = *next;
            *next += part.pages.size;
            Some((part, address))
        })
    }

    /// Writes a copy to [`Image::size`] bytes of memory at `base`.
    pub fn load(&self, memory: &mut impl Memory, base: u64) {
        memory.zero(Range { base, size: self.size() });
        for (part, address) in self.placed(base) {
            memory.write(address + (part.va - part.pages.base), part.data);
        }
    }
}
