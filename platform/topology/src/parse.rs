//! From a flattened device tree to [`Topology`]. Nothing in here trusts its input.

use dtoolkit::Node as _;
use dtoolkit::Property as _;
use dtoolkit::fdt::{Fdt, FdtNode};
use dtoolkit::standard::NodeStandard as _;
use heapless::{String, Vec};
use skerry_abi::boot::{MAX_CPUS, MAX_NODES, MAX_RANGES, Range};
use skerry_abi::fpage::PAGE_SIZE;

use crate::{Conduit, Cpu, Error, LOCAL_DISTANCE, REMOTE_DISTANCE, Ram, Topology};

/// The affinity fields of MPIDR_EL1: Aff3 in bits 32..40, Aff2..Aff0 in bits 0..24.
const AFFINITY: u64 = 0xff_00ff_ffff;
/// Index of the virtual timer in the interrupts of an `arm,armv8-timer` node (secure, physical, virtual, hypervisor).
const VIRTUAL_TIMER: usize = 2;
/// Interrupt ids of private peripheral interrupts start here.
const FIRST_PPI: u32 = 16;

/// The length of the device tree that starts with these bytes; the first 8 are enough.
///
/// # Errors
/// [`Error::NoTree`] if no device tree starts there.
pub fn tree_size(start: &[u8]) -> Result<usize, Error> {
    const MAGIC: u32 = 0xd00d_feed;
    match start {
        [m0, m1, m2, m3, s0, s1, s2, s3, ..] if u32::from_be_bytes([*m0, *m1, *m2, *m3]) == MAGIC => {
            Ok(u32::from_be_bytes([*s0, *s1, *s2, *s3]) as usize)
        }
        _ => Err(Error::NoTree),
    }
}

pub(crate) fn parse(dtb: &[u8]) -> Result<Topology, Error> {
    let tree = Fdt::new(dtb).map_err(Error::Tree)?;
    let mut found = Found::default();
    for reservation in tree.memory_reservations() {
        found.reserve(Range { base: reservation.address(), size: reservation.size() })?;
    }
    for node in tree.root().children() {
        found.visit(node)?;
    }
    found.finish()
}

/// What has been seen so far.
#[derive(Default)]
struct Found {
    highest_node: u32,
    distances: Option<[[u8; MAX_NODES]; MAX_NODES]>,
    cpus: Vec<Cpu, MAX_CPUS>,
    memory: Vec<Ram, MAX_RANGES>,
    reserved: Vec<Range, { crate::MAX_RESERVED }>,
    gic: Option<(Range, Vec<Range, { crate::MAX_REDISTRIBUTORS }>)>,
    uart: Option<Range>,
    timer_irq: Option<u32>,
    conduit: Option<Conduit>,
    command_line: String<{ crate::MAX_COMMAND_LINE }>,
    initrd: Option<Range>,
}

impl Found {
    /// Looks at one child of the root.
    fn visit(&mut self, node: FdtNode<'_>) -> Result<(), Error> {
        match node.name_without_address() {
            "cpus" => node.children().try_for_each(|child| self.cpu(child)),
            "chosen" => self.chosen(node),
            "distance-map" => self.distance_map(node),
            "reserved-memory" => node.children().try_for_each(|child| {
                if child.property("reg").is_none() {
                    return Ok(()); // to be allocated by whoever wants it
                }
                ranges(child, "reserved-memory")?.try_for_each(|range| self.reserve(range?))
            }),
            _ if !enabled(node) => Ok(()),
            _ if text(node, "device_type") == Some("memory") => self.memory(node),
            _ if node.is_compatible("arm,gic-v3") => self.gic(node),
            _ if node.is_compatible("arm,armv8-timer") => self.timer(node),
            _ if node.is_compatible("arm,pl011") => {
                let uart = ranges(node, "pl011")?.next().ok_or(malformed("pl011", "reg"))??;
                self.uart.get_or_insert(uart); // the first one is the console of `virt`
                Ok(())
            }
            _ if node.is_compatible("arm,psci-1.0") || node.is_compatible("arm,psci-0.2") => self.psci(node),
            _ => Ok(()),
        }
    }

    fn reserve(&mut self, range: Range) -> Result<(), Error> {
        if range.base.checked_add(range.size).is_none() {
            return Err(malformed("reserved-memory", "reg"));
        }
        let full = Error::TooMany { what: "reserved memory ranges", limit: crate::MAX_RESERVED };
        self.reserved.push(range).map_err(|_| full)
    }

    /// The node's `numa-node-id`; 0 if it has none.
    fn node_id(&mut self, node: FdtNode<'_>, kind: &'static str) -> Result<usize, Error> {
        let Some(id) = cell(node, kind, "numa-node-id")? else { return Ok(0) };
        self.note_node(id)
    }

    fn note_node(&mut self, id: u32) -> Result<usize, Error> {
        if id as usize >= MAX_NODES {
            return Err(Error::NodeId(id));
        }
        self.highest_node = self.highest_node.max(id);
        Ok(id as usize)
    }

    fn cpu(&mut self, node: FdtNode<'_>) -> Result<(), Error> {
        if node.name_without_address() != "cpu" || !enabled(node) {
            return Ok(());
        }
        let register = node.property("reg").and_then(|property| number(property.value()));
        let mpidr = register.ok_or(malformed("cpu", "reg"))?;
        if mpidr & !AFFINITY != 0 {
            return Err(malformed("cpu", "reg"));
        }
        let cpu = Cpu { mpidr, node: self.node_id(node, "cpu")? };
        self.cpus.push(cpu).map_err(|_| Error::TooMany { what: "CPUs", limit: MAX_CPUS })
    }

    fn memory(&mut self, node: FdtNode<'_>) -> Result<(), Error> {
        let id = self.node_id(node, "memory")?;
        for range in ranges(node, "memory")? {
            let range = range?;
            // Whole pages only: what is left over at the ends is of no use.
            let base = range.base.checked_next_multiple_of(PAGE_SIZE).ok_or(malformed("memory", "reg"))?;
            let end = range.end() / PAGE_SIZE * PAGE_SIZE;
            if base < end {
                let ram = Ram { range: Range { base, size: end - base }, node: id };
                let full = Error::TooMany { what: "memory ranges", limit: MAX_RANGES };
                self.memory.push(ram).map_err(|_| full)?;
            }
        }
        Ok(())
    }

    fn distance_map(&mut self, node: FdtNode<'_>) -> Result<(), Error> {
        let bad = || malformed("distance-map", "distance-matrix");
        let matrix = node.property("distance-matrix").ok_or_else(bad)?;
        let mut given = [[0; MAX_NODES]; MAX_NODES];
        let (rows, rest) = matrix.value().as_chunks::<12>();
        if !rest.is_empty() {
            return Err(bad());
        }
        for row in rows {
            let (cells, _) = row.as_chunks::<4>();
            let [from, to, distance] = [0, 1, 2].map(|i| u32::from_be_bytes(cells[i]));
            let (a, b) = (self.note_node(from)?, self.note_node(to)?);
            let wrong = Error::Distance { from, to, distance };
            let value = u8::try_from(distance).map_err(|_| wrong.clone())?;
            if value < LOCAL_DISTANCE || (a == b && value != LOCAL_DISTANCE) {
                return Err(wrong);
            }
            given[a][b] = value;
            // The binding lets a tree name each pair once.
            if given[b][a] == 0 {
                given[b][a] = value;
            }
        }
        self.distances = Some(given);
        Ok(())
    }

    fn chosen(&mut self, node: FdtNode<'_>) -> Result<(), Error> {
        if let Some(property) = node.property("bootargs") {
            let line = property.value_as::<&str>().map_err(|_| malformed("chosen", "bootargs"))?;
            self.command_line = String::try_from(line).map_err(|_| Error::CommandLine)?;
        }
        let address = |property| match node.property(property) {
            Some(value) => number(value.value()).map(Some).ok_or(malformed("chosen", property)),
            None => Ok(None),
        };
        self.initrd = match (address("linux,initrd-start")?, address("linux,initrd-end")?) {
            (Some(start), Some(end)) if start < end => Some(Range { base: start, size: end - start }),
            (None, None) => None,
            _ => return Err(malformed("chosen", "linux,initrd-end")),
        };
        Ok(())
    }

    fn gic(&mut self, node: FdtNode<'_>) -> Result<(), Error> {
        let bad = || malformed("interrupt controller", "reg");
        let regions = cell(node, "interrupt controller", "#redistributor-regions")?.unwrap_or(1) as usize;
        let mut registers = ranges(node, "interrupt controller")?;
        let distributor = registers.next().ok_or_else(bad)??;
        let mut redistributors = Vec::new();
        for range in registers.take(regions) {
            let full = Error::TooMany { what: "redistributor regions", limit: crate::MAX_REDISTRIBUTORS };
            redistributors.push(range?).map_err(|_| full)?;
        }
        if redistributors.is_empty() || redistributors.len() != regions {
            return Err(bad());
        }
        self.gic = Some((distributor, redistributors));
        Ok(())
    }

    fn timer(&mut self, node: FdtNode<'_>) -> Result<(), Error> {
        let bad = || malformed("timer", "interrupts");
        let interrupts = node.property("interrupts").ok_or_else(bad)?;
        let (cells, _) = interrupts.value().as_chunks::<4>();
        // Three cells each: kind (1 = private to the CPU), number, trigger.
        let [kind, number] = [0, 1].map(|i| cells.get(3 * VIRTUAL_TIMER + i).map(|c| u32::from_be_bytes(*c)));
        match (kind, number) {
            (Some(1), Some(number)) if number < 16 => {
                self.timer_irq = Some(FIRST_PPI + number);
                Ok(())
            }
            _ => Err(bad()),
        }
    }

    fn psci(&mut self, node: FdtNode<'_>) -> Result<(), Error> {
        self.conduit = match text(node, "method") {
            Some("hvc") => Some(Conduit::Hvc),
            Some("smc") => Some(Conduit::Smc),
            _ => return Err(malformed("psci", "method")),
        };
        Ok(())
    }

    /// Checks that nothing is missing and brings it into order.
    fn finish(mut self) -> Result<Topology, Error> {
        let missing = |what, hint| Error::Missing { what, hint };
        self.cpus.sort_unstable_by_key(|cpu| cpu.mpidr);
        if let Some(pair) = self.cpus.windows(2).find(|pair| pair[0].mpidr == pair[1].mpidr) {
            return Err(Error::DuplicateCpu(pair[0].mpidr));
        }
        self.memory.sort_unstable_by_key(|ram| ram.range.base);
        if let Some(pair) = self.memory.windows(2).find(|pair| pair[0].range.end() > pair[1].range.base) {
            return Err(Error::OverlappingRam(pair[1].range.base));
        }
        if self.memory.is_empty() {
            return Err(missing("memory", "give at least one node memory"));
        }
        if self.cpus.is_empty() {
            return Err(missing("CPU", "give at least one node a CPU"));
        }
        if self.cpus.len() > 1 && self.conduit.is_none() {
            return Err(missing("PSCI, so that other CPUs cannot be started", "use one CPU"));
        }
        let (gic_distributor, gic_redistributors) =
            self.gic.ok_or(missing("GICv3", "start QEMU with -M virt,gic-version=3"))?;
        let virt = "start QEMU with -M virt";
        let node_count = self.highest_node as usize + 1;
        Ok(Topology {
            node_count,
            distances: distances(self.distances, node_count),
            cpus: self.cpus,
            memory: self.memory,
            reserved: self.reserved,
            gic_distributor,
            gic_redistributors,
            uart: self.uart.ok_or(missing("PL011 serial port", virt))?,
            timer_irq: self.timer_irq.ok_or(missing("generic timer", virt))?,
            conduit: self.conduit,
            command_line: self.command_line,
            initrd: self.initrd,
        })
    }
}

/// What the tree gives, completed with the defaults.
fn distances(given: Option<[[u8; MAX_NODES]; MAX_NODES]>, nodes: usize) -> [[u8; MAX_NODES]; MAX_NODES] {
    let mut distances = given.unwrap_or([[0; MAX_NODES]; MAX_NODES]);
    for (from, row) in distances.iter_mut().enumerate().take(nodes) {
        for (to, distance) in row.iter_mut().enumerate().take(nodes) {
            if *distance == 0 {
                *distance = if from == to { LOCAL_DISTANCE } else { REMOTE_DISTANCE };
            }
        }
    }
    distances
}

const fn malformed(node: &'static str, property: &'static str) -> Error {
    Error::Property { node, property }
}

/// Whether the node is there to be used: no `status`, or one that says so.
fn enabled(node: FdtNode<'_>) -> bool {
    matches!(text(node, "status"), None | Some("okay" | "ok"))
}

fn text<'a>(node: FdtNode<'a>, property: &str) -> Option<&'a str> {
    node.property(property)?.value_as::<&str>().ok()
}

fn cell(node: FdtNode<'_>, kind: &'static str, property: &'static str) -> Result<Option<u32>, Error> {
    let Some(value) = node.property(property) else { return Ok(None) };
    value.value_as::<u32>().map(Some).map_err(|_| malformed(kind, property))
}

/// A number of one or two cells.
fn number(bytes: &[u8]) -> Option<u64> {
    match bytes.len() {
        4 => Some(u32::from_be_bytes(bytes.try_into().ok()?).into()),
        8 => Some(u64::from_be_bytes(bytes.try_into().ok()?)),
        _ => None,
    }
}

/// The address ranges in `reg`; none reaches behind the end of the address space.
fn ranges<'a>(
    node: FdtNode<'a>,
    kind: &'static str,
) -> Result<impl Iterator<Item = Result<Range, Error>> + 'a, Error> {
    let bad = move || malformed(kind, "reg");
    let registers = node.reg().map_err(|_| bad())?.ok_or_else(bad)?;
    Ok(registers.map(move |entry| {
        let base = entry.address::<u64>().map_err(|_| bad())?;
        let size = entry.size::<u64>().map_err(|_| bad())?;
        base.checked_add(size).ok_or_else(bad)?;
        Ok(Range { base, size })
    }))
}
