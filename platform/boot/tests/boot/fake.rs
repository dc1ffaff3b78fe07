//! A machine made of a map: physical memory, programs and archives for the tests.

use std::collections::BTreeMap;

use skerry_abi::boot::{BootInfo, Range};
use skerry_boot::Memory;

const PAGE: u64 = 4096;

/// Physical memory in which a page exists once it was written.
#[derive(Default)]
pub(crate) struct Ram {
    pub(crate) pages: BTreeMap<u64, Box<[u8; PAGE as usize]>>,
    /// Boot information by address; its pages are not in `pages`.
    pub(crate) infos: BTreeMap<u64, Box<BootInfo>>,
}

impl Ram {
    fn page(&mut self, address: u64) -> &mut [u8; PAGE as usize] {
        self.pages.entry(address / PAGE).or_insert_with(|| Box::new([0xaa; PAGE as usize]))
    }

    /// The byte at an address that was written.
    pub(crate) fn byte(&self, address: u64) -> u8 {
        self.pages[&(address / PAGE)][(address % PAGE) as usize]
    }
}

impl Memory for Ram {
    fn write(&mut self, address: u64, bytes: &[u8]) {
        for (address, &byte) in (address..).zip(bytes) {
            self.page(address)[(address % PAGE) as usize] = byte;
        }
    }
    fn zero(&mut self, range: Range) {
        assert_eq!((range.base % PAGE, range.size % PAGE), (0, 0), "the loader clears whole pages");
        (range.base..range.end()).step_by(PAGE as usize).for_each(|page| self.page(page).fill(0));
    }
    fn word(&self, address: u64) -> u64 {
        assert_eq!(address % 8, 0);
        u64::from_le_bytes(std::array::from_fn(|i| self.byte(address + i as u64)))
    }
    fn set_word(&mut self, address: u64, value: u64) {
        assert_eq!(address % 8, 0);
        self.write(address, &value.to_le_bytes());
    }
    fn write_boot_info(&mut self, address: u64, info: &BootInfo) {
        assert_eq!(address % PAGE, 0);
        self.infos.insert(address, Box::new(info.clone()));
    }
}

/// What [`Ram`] shows at a virtual address under a first-level table: physical address and descriptor.
pub(crate) fn walk(ram: &Ram, root: u64, va: u64) -> Option<(u64, u64)> {
    let mut table = root;
    for shift in [30, 21, 12] {
        let entry = ram.word(table + ((va >> shift) & 511) * 8);
        let next = entry & 0xffff_ffff_f000;
        match (entry & 3, shift) {
            (3, 12) | (1, 21) => return Some((next + (va & ((1 << shift) - 1)), entry)),
            (3, _) => table = next,
            (0, _) => return None,
            _ => panic!("entry {entry:#x} for {va:#x} is malformed"),
        }
    }
    unreachable!("level 3 has pages or nothing")
}

/// A segment: address, flags (4 = read, 2 = write, 1 = execute), contents, bytes of memory.
pub(crate) type Segment<'a> = (u64, u32, &'a [u8], u64);

/// An ELF program.
pub(crate) fn program(entry: u64, segments: &[Segment<'_>]) -> Vec<u8> {
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    let put16 = |file: &mut Vec<u8>, values: &[u16]| file.extend(values.iter().flat_map(|v| v.to_le_bytes()));
    let put32 = |file: &mut Vec<u8>, values: &[u32]| file.extend(values.iter().flat_map(|v| v.to_le_bytes()));
    let put64 = |file: &mut Vec<u8>, values: &[u64]| file.extend(values.iter().flat_map(|v| v.to_le_bytes()));
    put16(&mut file, &[2, 183]);
    put32(&mut file, &[1]);
    put64(&mut file, &[entry, 64, 0]);
    put32(&mut file, &[0]);
    put16(&mut file, &[64, 56, segments.len() as u16, 64, 0, 0]);
    let mut offset = 64 + 56 * segments.len() as u64;
    for (va, flags, data, memory) in segments {
        put32(&mut file, &[1, *flags]);
        put64(&mut file, &[offset, *va, *va, data.len() as u64, *memory, PAGE]);
        offset += data.len() as u64;
    }
    segments.iter().for_each(|(_, _, data, _)| file.extend_from_slice(data));
    file
}

/// A tar archive.
pub(crate) fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, contents) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(contents.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, *contents).unwrap();
    }
    builder.into_inner().unwrap()
}

/// Boot information of zeros.
pub(crate) fn blank_info() -> Box<BootInfo> {
    use skerry_abi::boot::*;
    let range = Range::default();
    Box::new(BootInfo {
        magic: 0,
        cpu_count: 0,
        node_count: 0,
        cluster_count: 0,
        memory_count: 0,
        pool_count: 0,
        module_count: 0,
        tick_ns: 0,
        kernel_switches: 0,
        gic_distributor: range,
        gic_redistributors: [range; 4],
        uart: range,
        timer_irq: 0,
        semihosting: 0,
        archive: range,
        command_line: [0; 1024],
        distances: [[0; MAX_NODES]; MAX_NODES],
        cpus: [Cpu::default(); MAX_CPUS],
        memory: [PoolRange::default(); MAX_RANGES],
        pools: [PoolRange::default(); MAX_RANGES],
        clusters: [Cluster::default(); MAX_CLUSTERS],
        modules: [Module { name: [0; 48], range }; MAX_MODULES],
    })
}
