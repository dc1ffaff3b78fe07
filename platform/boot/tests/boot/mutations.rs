//! Thousands of damaged device trees, archives and programs, each a few seeded mutations away from a real one: decoders say what is wrong,
//! or give something that lies inside the input; they never panic and never loop. A failure prints its seed.

use std::panic::{AssertUnwindSafe, catch_unwind};

use fastrand::Rng;
use skerry_abi::boot::Range;
use skerry_abi::layout::{PROGRAM_BASE, UTCB_BASE};
use skerry_boot::{Archive, Image};
use skerry_topology::{Clusters, FreeRanges, Mode, Topology, pools};

use crate::fake::{archive, blank_info, program};

const ROUNDS: u64 = 10_000;

/// Numbers that decoders get wrong.
const SPECIAL: [u64; 12] =
    [0, 1, 2, 7, 8, 0x7f, 0xff, 0x1000, 0x7fff_ffff, 0xffff_ffff, 0x7fff_ffff_ffff_ffff, u64::MAX];

/// Changes a file at one place: mostly a field, as most fields are aligned.
fn mutate(rng: &mut Rng, file: &mut Vec<u8>) {
    if file.is_empty() {
        return;
    }
    let at = rng.usize(0..file.len());
    let size = [1, 2, 4, 8][rng.usize(0..4)];
    let field = at & !(size - 1)..((at & !(size - 1)) + size).min(file.len());
    let special = SPECIAL[rng.usize(0..SPECIAL.len())];
    match rng.u32(0..10) {
        0 => file[at] ^= 1 << rng.u32(0..8),
        1 => file[at] = rng.u8(..),
        2 => field.clone().zip(special.to_le_bytes()).for_each(|(i, byte)| file[i] = byte),
        3 => field.clone().rev().zip(special.to_le_bytes()).for_each(|(i, byte)| file[i] = byte),
        // A bit more or less.
        4 => file[at] = file[at].wrapping_add(rng.u8(0..9)).wrapping_sub(4),
        // A piece of it again, moved, or missing.
        5..8 => {
            let end = (at + rng.usize(1..65)).min(file.len());
            let piece: Vec<u8> = match rng.bool() {
                true => file.drain(at..end).collect(),
                false => file[at..end].to_vec(),
            };
            let to = rng.usize(0..=file.len());
            if rng.u32(0..3) != 0 {
                file.splice(to..to, piece);
            }
        }
        8 => file.truncate(at),
        _ => file.extend((0..rng.usize(1..300)).map(|_| 0)),
    }
}

/// Feeds `decode` damaged versions of these files.
fn feed(files: &[Vec<u8>], decode: impl Fn(&[u8])) {
    for seed in 0..ROUNDS {
        let mut rng = Rng::with_seed(seed);
        let mut file = files[rng.usize(0..files.len())].clone();
        (0..rng.u32(0..6)).for_each(|_| mutate(&mut rng, &mut file));
        let result = catch_unwind(AssertUnwindSafe(|| decode(&file)));
        assert!(result.is_ok(), "seed {seed}");
    }
}

#[test]
fn device_trees() {
    let machines = ["one-node", "two-nodes", "cpu-less", "memory-less", "eight-cpus", "uneven"];
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../topology/tests/machines/");
    let files = machines.map(|name| std::fs::read(format!("{folder}{name}.dtb")).unwrap());
    feed(&files, |file| {
        // What follows from a tree that is accepted must hold, too.
        let Ok(topology) = Topology::parse(file) else { return };
        for mode in [Mode::PerNode, Mode::One, Mode::PerCpu] {
            if let (Ok(clusters), Ok(free)) = (Clusters::new(&topology, mode), FreeRanges::new(&topology))
                && let Ok(pools) = pools(&topology, &clusters, &free)
            {
                assert!(pools.windows(2).all(|pair| pair[0].range.end() <= pair[1].range.base));
            }
        }
    });
}

#[test]
fn archives() {
    let files = [
        archive(&[("kernel", &[1; 700]), ("root-pager", b""), ("a/b", &[7; 512])]),
        archive(&[("x", &[0; 10_000])]),
        archive(&[]),
    ];
    feed(&files, |file| {
        let mut info = blank_info();
        let archive = Archive::new(0x4000_0000, file);
        if archive.list(&mut info).is_ok() {
            let inside = |range: Range| range.base >= 0x4000_0000 && range.end() <= archive.range().end();
            assert!(info.modules().iter().all(|module| inside(module.range)));
        }
    });
}

#[test]
fn programs() {
    let (code, data) = ([1; 600], [2; 100]);
    let files = [
        program(0x20_0000, &[(0x20_0000, 5, &code, 600), (0x20_1000, 4, &data, 100)]),
        program(0x20_0100, &[(0x20_0000, 5, &code, 600), (0x20_1800, 6, &data, 9000)]),
    ];
    let window = Range { base: 0x20_0000, size: 0x100_0000 };
    feed(&files, |file| {
        if let Ok(image) = Image::parse("x", file, window, 4) {
            assert!(image.parts.iter().all(|part| window.base <= part.pages.base));
            assert!(image.parts.iter().all(|part| part.pages.end() <= window.end()));
            assert!(image.size() <= window.size);
        }
        // The decoder of programs that run later.
        if let Ok(image) = skerry_rt::image::Image::parse(file) {
            for part in image.parts() {
                assert!(part.va >= PROGRAM_BASE && part.va + part.pages * 4096 <= UTCB_BASE);
                assert!(part.file_offset + part.file_bytes <= file.len() as u64);
                assert!(part.skip + part.file_bytes <= part.pages * 4096);
            }
        }
    });
}
