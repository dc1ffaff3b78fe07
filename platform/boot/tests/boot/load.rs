//! The loader on the host: real device trees, made-up programs, and then a look at what it wrote, through the page tables.

use crate::fake::{Ram, archive, blank_info, program, walk};
use skerry_abi::boot::{BootInfo, Cluster, Range, arena, kernel_switch};
use skerry_abi::layout::*;
use skerry_boot::registers::Features;
use skerry_boot::{Archive, Error, Input, Loaded, Memory as _, load};
use skerry_topology::Topology;

const PAGE: u64 = 4096;
const ENTRY: u64 = KERNEL_BASE + PAGE + 8;
/// Cortex-A76: 40-bit addresses, 16-bit ASIDs; PAN, hardware access flag and dirty state.
const A76: Features = Features { mmfr0: 0x10_1122, mmfr1: 0x1021_2122 };

const LOADER: Range = Range { base: 0x4008_0000, size: 0xc_9000 };
const TRAMPOLINE: Range = Range { base: 0x4008_3000, size: PAGE };

const MACHINES: [&[u8]; 6] = [
    include_bytes!("../../../topology/tests/machines/one-node.dtb"),
    include_bytes!("../../../topology/tests/machines/two-nodes.dtb"),
    include_bytes!("../../../topology/tests/machines/uneven.dtb"),
    include_bytes!("../../../topology/tests/machines/cpu-less.dtb"),
    include_bytes!("../../../topology/tests/machines/memory-less.dtb"),
    include_bytes!("../../../topology/tests/machines/eight-cpus.dtb"),
];

fn kernel() -> Vec<u8> {
    program(
        ENTRY,
        &[
            (KERNEL_BASE, 4, b"constants", 9),
            (KERNEL_BASE + PAGE, 5, &[0x5a; 5000], 5000),
            (KERNEL_BASE + 4 * PAGE + 16, 6, b"data", 3 * PAGE),
        ],
    )
}

fn root_pager() -> Vec<u8> {
    let base = PROGRAM_BASE;
    program(base, &[(base, 5, b"code", 4), (base + 3 * PAGE, 6, b"data", 2 * PAGE)])
}

struct Booted {
    topology: Topology,
    ram: Ram,
    info: Box<BootInfo>,
    loaded: Loaded,
}

fn topology(tree: &[u8], line: &str) -> Topology {
    let mut topology = Topology::parse(tree).unwrap();
    topology.command_line = line.try_into().unwrap();
    topology
}

fn boot_with(topology: Topology, archive: &[u8]) -> Result<Booted, Error> {
    let (mut ram, mut info) = (Ram::default(), blank_info());
    let input = Input {
        topology: &topology,
        archive: Archive::new(0x4100_0000, archive),
        device_tree: Range { base: 0x4200_0000, size: 1 << 20 },
        loader: LOADER,
        trampoline: TRAMPOLINE,
        features: A76,
        semihosting: true,
    };
    let loaded = load(&input, &mut ram, &mut info)?;
    Ok(Booted { topology, ram, info, loaded })
}

fn modules() -> Vec<u8> {
    archive(&[("kernel", &kernel()), ("./root-pager", &root_pager()), ("app", b"hello")])
}

fn boot(tree: &[u8], line: &str) -> Result<Booted, Error> {
    boot_with(topology(tree, line), &modules())
}

/// Every machine in every mode.
fn all() -> impl Iterator<Item = Booted> {
    let elsewhere = "tcbs=next utcbs=next page-tables=next map-nodes=next image=next";
    let modes = ["", "clusters=one", "clusters=per-cpu tick=100us", elsewhere];
    MACHINES.into_iter().flat_map(move |tree| modes.into_iter().map(move |line| boot(tree, line).unwrap()))
}

#[test]
fn nothing_is_written_but_kernel_memory_and_root_pagers() {
    for booted in all() {
        let mut written: Vec<Range> = booted.loaded.written(&booted.info).collect();
        written.sort_by_key(|range| range.base);
        for &page in booted.ram.pages.keys() {
            assert!(written.iter().any(|range| range.contains(page * PAGE)), "{page:#x}");
        }
        // None of it, nor the heaps, can be in a pool or overlap anything else.
        let mut ranges: Vec<Range> = booted.info.pools().iter().map(|pool| pool.range).collect();
        for cluster in booted.info.clusters() {
            assert_eq!(cluster.heap.end(), cluster.kernel.end());
            assert!(cluster.heap.size >= 4 << 20, "{:?}", cluster.heap);
            ranges.extend(cluster.kernel_memory());
            let parts = cluster.root.iter().filter(|part| part.size != 0);
            ranges.extend(parts.map(|part| Range { base: part.pa, size: part.size }));
        }
        ranges.extend([LOADER, Range { base: 0x4200_0000, size: 1 << 20 }, booted.info.archive]);
        ranges.sort_by_key(|range| range.base);
        assert!(ranges.windows(2).all(|pair| pair[0].end() <= pair[1].base));
        // All RAM is accounted for.
        assert_eq!(ranges.iter().map(|range| range.size).sum::<u64>(), booted.topology.ram());
    }
}

#[test]
fn every_cpu_enters_its_own_copy_of_the_kernel_on_its_own_stack() {
    for booted in all() {
        let Booted { ram, info, loaded, .. } = &booted;
        for (cpu, description) in info.cpus().iter().enumerate() {
            let start = loaded.start(info, cpu);
            let [identity, root, .., entry, boot_info, number, sp, _] = start.words;
            assert_eq!((entry, number), (ENTRY, cpu as u64));
            assert_eq!(sp, KERNEL_STACKS + (cpu as u64 + 1) * KERNEL_STACK_STRIDE);

            // The start block is what the stack shows at its top, the guards around it are nothing.
            let kernel = info.clusters()[description.cluster as usize].kernel;
            assert_eq!(walk(ram, root, sp - 80).unwrap().0, start.address);
            assert!(kernel.contains(start.address));
            for (address, word) in (start.address..).step_by(8).zip(start.words) {
                assert_eq!(ram.word(address), word);
            }
            assert!(walk(ram, root, sp).is_none() && walk(ram, root, sp - KERNEL_STACK_SIZE - 1).is_none());

            // Its image is in its own memory: contents, zeros and rights.
            let home = Range {
                size: if info.clusters()[description.cluster as usize].image.size == 0 {
                    kernel.size
                } else {
                    0
                },
                ..kernel
            };
            let image = [home, info.clusters()[description.cluster as usize].image];
            let at = |va| walk(ram, root, va).unwrap();
            let rights = |va| (at(va).1 >> 7 & 1, at(va).1 >> 53 & 1); // read-only, never executed at EL1
            for (va, byte) in [(KERNEL_BASE, b'c'), (ENTRY, 0x5a), (KERNEL_BASE + 4 * PAGE + 16, b'd')] {
                assert!(image.iter().any(|part| part.contains(at(va).0)));
                assert_eq!(ram.byte(at(va).0), byte);
            }
            assert_eq!(ram.byte(at(KERNEL_BASE + 6 * PAGE).0), 0);
            let all_rights = [0, 1, 4].map(|page| rights(KERNEL_BASE + page * PAGE));
            assert_eq!(all_rights, [(1, 1), (1, 0), (0, 1)]);
            assert!(walk(ram, root, KERNEL_BASE + 3 * PAGE).is_none());

            let info_at = walk(ram, root, boot_info).unwrap().0;
            assert_eq!(ram.infos[&info_at].clusters(), info.clusters());
            assert_eq!(walk(ram, identity, TRAMPOLINE.base).map(|(pa, _)| pa), Some(TRAMPOLINE.base));
            assert!(walk(ram, identity, LOADER.base).is_none());
        }
    }
}

#[test]
fn a_kernel_sees_its_own_memory_all_rings_and_devices_only() {
    for booted in all() {
        let Booted { ram, info, loaded, .. } = &booted;
        for (number, cluster) in info.clusters().iter().enumerate() {
            let root = loaded.start(info, cluster.first_cpu.into()).words[1];
            for ram_range in info.memory() {
                for pa in (ram_range.range.base..ram_range.range.end()).step_by(PAGE as usize) {
                    let ring = info.clusters().iter().any(|other| other.rings.contains(pa));
                    let own = core::iter::once(&cluster.kernel).chain(&cluster.arenas);
                    let expected = (own.into_iter().any(|own| own.contains(pa)) || ring).then_some(pa);
                    let found = walk(ram, root, PHYSMAP + pa);
                    assert_eq!(found.map(|(pa, _)| pa), expected, "cluster {number}, {pa:#x}");
                    // Writable, never executable by anybody, inner shareable, write-back.
                    let bits = |entry: u64| (entry >> 53 & 3, entry >> 6 & 3, entry >> 8 & 3, entry >> 2 & 7);
                    assert!(found.is_none_or(|(_, entry)| bits(entry) == (3, 0, 3, 0)));
                }
            }
            for device in [info.gic_distributor, info.gic_redistributors[0], info.uart] {
                for pa in [device.base, device.end() - PAGE] {
                    let (found, entry) = walk(ram, root, PHYSMAP + pa).unwrap();
                    assert_eq!((found, entry >> 2 & 7, entry >> 53 & 3), (pa, 1, 3));
                }
            }
        }
    }
}

#[test]
fn rings_are_empty_and_root_pagers_loaded() {
    for Booted { ram, info, .. } in all() {
        for cluster in info.clusters() {
            assert_eq!(cluster.rings.size, info.cluster_count as u64 * 0x6000);
            assert!((cluster.rings.base..cluster.rings.end()).all(|address| ram.byte(address) == 0));
            assert_eq!(cluster.root_entry, PROGRAM_BASE);
            let [code, data, unused, _] = cluster.root;
            assert_eq!((code.va, code.size, code.rights), (PROGRAM_BASE, PAGE, 5));
            assert_eq!((data.va, data.size, data.rights), (PROGRAM_BASE + 3 * PAGE, 2 * PAGE, 6));
            assert_eq!(unused.size, 0);
            assert_eq!((ram.byte(code.pa), ram.byte(data.pa + 3), ram.byte(data.pa + 4)), (b'c', b'a', 0));
            let home = info.memory().iter().find(|piece| piece.range.contains(code.pa)).unwrap();
            assert_eq!(home.node, cluster.memory_node);
        }
    }
}

#[test]
fn kernel_objects_lie_where_the_command_line_says() {
    // Nodes 0 and 1 have memory.
    let node = |booted: &Booted, range: Range| {
        let home = booted.info.memory().iter().find(|piece| piece.range.contains(range.base));
        home.map(|piece| (piece.node, piece.range.end() >= range.end()))
    };
    let booted = boot(MACHINES[1], "tcbs=next page-tables=0 utcbs=home").unwrap();
    let [first, second] = booted.info.clusters() else { panic!("two clusters") };
    let places = |cluster: &Cluster| cluster.arenas.map(|arena| node(&booted, arena));
    assert_eq!(places(first), [Some((1, true)), None, None, None]);
    assert_eq!(places(second), [Some((0, true)), None, Some((0, true)), None]);
    assert_eq!((first.image.size, second.image.size), (0, 0));
    let booted = boot(MACHINES[1], "map-nodes=1 image=next").unwrap();
    let clusters = booted.info.clusters();
    assert_eq!(node(&booted, clusters[0].arenas[arena::MAP_NODES]), Some((1, true)));
    assert_eq!(clusters[1].arenas, [Range::default(); arena::COUNT]);
    assert_eq!([0, 1].map(|c| node(&booted, clusters[c].image)), [Some((1, true)), Some((0, true))]);
    // One node with memory is its own next one.
    let booted = boot(MACHINES[0], "tcbs=next").unwrap();
    assert_eq!(booted.info.clusters()[0].arenas, [Range::default(); arena::COUNT]);

    let line = |line| boot(MACHINES[1], line).err().unwrap();
    for (word, option) in
        [("tcbs=", "tcbs"), ("utcbs=far", "utcbs"), ("image=-1", "image"), ("map-nodes=+1", "map-nodes")]
    {
        assert_eq!(line(word), Error::Where(option), "{word}");
    }
    assert_eq!(line("page-tables=2").to_string(), "page-tables=2: node 2 has no memory, or does not exist");
}

#[test]
fn boot_information_describes_machine_and_modules() {
    let booted = boot(MACHINES[1], "tick=250us clusters=per-node other=1 -- tick=bad x").unwrap();
    let info = &booted.info;
    assert_eq!((info.tick_ns, info.timer_irq, info.semihosting), (250_000, 27, 1));
    assert_eq!(info.app_arguments(), "tick=bad x");
    assert_eq!(info.kernel_switches, 0);
    let booted = boot(MACHINES[1], "trace=on tlb=interrupt measure=off rings=coherent").unwrap();
    assert_eq!(booted.info.kernel_switches, kernel_switch::TRACE | kernel_switch::TLB_INTERRUPT);
    let booted = boot(MACHINES[1], "rings=maintained").unwrap();
    assert_eq!(booted.info.kernel_switches, kernel_switch::RINGS_MAINTAINED);
    let booted = boot(MACHINES[1], "mutate=published").unwrap();
    assert_eq!(booted.info.kernel_switches, 2 << kernel_switch::MUTATE_SHIFT);
    assert_eq!((info.node_count, info.distances[0][1]), (2, 21));
    let names: Vec<&str> = info.modules().iter().map(|module| module.name()).collect();
    assert_eq!(names, ["kernel", "root-pager", "app"]);
    let app = info.module("app").unwrap().range;
    let start = (app.base - 0x4100_0000) as usize;
    assert_eq!(&modules()[start..start + app.size as usize], b"hello");
}

#[test]
fn mistakes_are_named() {
    let tree = MACHINES[1];
    let line = |line| boot(tree, line).err().unwrap();
    assert_eq!(line("clusters=two"), Error::Clusters);
    for tick in ["tick=", "tick=5", "tick=ms", "tick=0ms", "tick=-1ms", "tick=10001ms", "tick=1s"] {
        assert_eq!(line(tick), Error::Tick, "{tick}");
    }
    let long = format!("root={}", "x".repeat(48));
    for root in ["root=", &long] {
        assert_eq!(line(root), Error::Root, "{root}");
    }
    assert_eq!(line("root=nosuch").to_string(), "no module named `nosuch` in the archive");
    assert!(line("root=app").to_string().starts_with("module `app` cannot be loaded: it is not a (whole)"));
    for (word, option) in
        [("tlb=maybe", "tlb"), ("measure=", "measure"), ("trace=On", "trace"), ("rings=dry", "rings")]
    {
        assert!(matches!(line(word), Error::Switch { option: o, .. } if o == option), "{word}");
    }
    assert!(line("mutate=everything").to_string().ends_with("answers, response-heads, is-wanted"));
    let with = |files: &[(&str, &[u8])]| boot_with(topology(tree, ""), &archive(files)).err().unwrap();
    let (kernel, root) = (kernel(), root_pager());
    assert_eq!(with(&[("root-pager", &root)]).to_string(), "no module named `kernel` in the archive");
    assert_eq!(with(&[("kernel", &kernel)]).to_string(), "no module named `root-pager` in the archive");
    assert_eq!(with(&[(&"long".repeat(12), b"")]), Error::ModuleName);
    let many = [("x", &b""[..]); 33];
    assert_eq!(with(&many), Error::TooManyModules);

    let problem = |kernel: &[u8], root: &[u8]| with(&[("kernel", kernel), ("root-pager", root)]).to_string();
    assert!(problem(b"#!", &root).contains("ELF"));
    assert!(problem(&root, &root).contains("`kernel` cannot be loaded: it is linked for another"));
    let page = |n: u64| PROGRAM_BASE + n * PAGE;
    let five: Vec<crate::fake::Segment<'_>> = (0..5).map(|n| (page(n), 5, &b"x"[..], 1)).collect();
    assert!(problem(&kernel, &program(page(0), &five)).contains("too many segments"));
    let writable_code = program(page(0), &[(page(0), 7, b"x", 1)]);
    assert!(problem(&kernel, &writable_code).contains("both writable and executable"));
    let shared = program(page(0), &[(page(0), 5, b"x", 1), (page(0) + 8, 6, b"x", 1)]);
    assert!(problem(&kernel, &shared).contains("share a page"));
    let data = program(page(0), &[(page(0), 6, b"x", 1)]);
    assert!(problem(&kernel, &data).contains("entry point"));
}

#[test]
fn another_root_program_can_be_chosen() {
    let entry = PROGRAM_BASE + 2 * PAGE;
    let other = program(entry, &[(entry, 5, b"other", 5)]);
    let files = [("kernel", &kernel()[..]), ("root-pager", b"never looked at"), ("other", &other)];
    let booted = boot_with(topology(MACHINES[1], "root=other"), &archive(&files)).unwrap();
    for cluster in booted.info.clusters() {
        assert_eq!((cluster.root_entry, cluster.root[0].va), (entry, entry));
        assert_eq!(booted.ram.byte(cluster.root[0].pa), b'o');
    }
}

#[test]
fn a_machine_that_is_too_small_is_named() {
    let mut small = topology(MACHINES[1], "");
    small.memory[1].range.size = 8 << 20;
    let error = boot_with(small, &modules()).err().unwrap().to_string();
    assert_eq!(
        error,
        "node 1 has 8 MiB of contiguous RAM left, a kernel needs 10 MiB: give the node more memory"
    );
    let mut far = topology(MACHINES[1], "");
    far.gic_redistributors.push(Range { base: KERNEL_BASE - PHYSMAP, size: 0x400_0000 }).unwrap();
    assert!(matches!(boot_with(far, &modules()), Err(Error::OutOfReach { .. })));
}
