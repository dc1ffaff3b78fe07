//! The loader's own words on the kernel command line. All others belong to somebody else and are left alone.

use heapless::String;
use skerry_abi::boot::{BootInfo, UPKEEP, arena, kernel_switch};
use skerry_topology::Mode;

use crate::Error;

/// The name of a module: as long as the boot information has room for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(String<47>);

impl Name {
    /// A name that is short enough, for an error; a longer one is cut.
    pub(crate) fn of(name: &str) -> Self {
        let mut short = String::new();
        // The rest does not fit.
        name.chars().try_for_each(|c| short.push(c)).unwrap_or(());
        Self(short)
    }
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl core::fmt::Display for Name {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&self.0)
    }
}

/// The root program without `root=`.
pub const DEFAULT_ROOT: &str = "root-pager";

/// Timer period without `tick=`.
pub const DEFAULT_TICK_NS: u64 = 10_000_000;
/// Longer periods are a typing error.
const MAX_TICK_NS: u64 = 10_000_000_000;

/// On which node something is to lie: `home`, `next` or a node's number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Where {
    /// Where the rest of the kernel's memory is.
    #[default]
    Home,
    /// On the next node that has memory, by number; behind the last comes the first.
    Next,
    /// On this node.
    Node(usize),
}

impl core::str::FromStr for Where {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "home" => Ok(Self::Home),
            "next" => Ok(Self::Next),
            // `parse` would take a sign.
            _ if text.bytes().all(|byte| byte.is_ascii_digit()) => {
                text.parse().map(Self::Node).map_err(|_| ())
            }
            _ => Err(()),
        }
    }
}

/// The parts of a kernel that can be placed: [`boot::arena`]'s kinds by their index, and the image.
///
/// [`boot::arena`]: skerry_abi::boot::arena
pub(crate) const PLACED: [&str; arena::COUNT + 1] = ["tcbs", "utcbs", "page-tables", "map-nodes", "image"];

/// What the command line asks the loader to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// `clusters=per-node|one|per-cpu`.
    pub mode: Mode,
    /// `tick=<n>us|ms`, in nanoseconds.
    pub tick_ns: u64,
    /// `root=<module>`: what every kernel starts as its first program.
    pub root: Name,
    /// `tlb=broadcast|interrupt`, `measure=off|on`, `trace=off|on`, `rings=coherent|maintained`, `mutate=<one of UPKEEP>`, as [`kernel_switch`] bits.
    pub kernel_switches: u64,
    /// `tcbs=`, `utcbs=`, `page-tables=`, `map-nodes=`, `image=home|next|<node>`, in this order.
    pub places: [Where; PLACED.len()],
}

/// The switches: option, value that leaves the bit clear, value that sets it, bit.
const SWITCHES: [(&str, [&str; 2], u64); 4] = [
    ("tlb", ["broadcast", "interrupt"], kernel_switch::TLB_INTERRUPT),
    ("measure", ["off", "on"], kernel_switch::MEASURE),
    ("trace", ["off", "on"], kernel_switch::TRACE),
    ("rings", ["coherent", "maintained"], kernel_switch::RINGS_MAINTAINED),
];

impl Options {
    /// Reads the command line that `info` holds.
    ///
    /// # Errors
    /// [`Error::Clusters`], [`Error::Tick`], [`Error::Root`], [`Error::Switch`], [`Error::Mutate`] or [`Error::Where`] if a value is not one of those that can
    /// exist.
    pub fn read(info: &BootInfo) -> Result<Self, Error> {
        let mode = match info.option("clusters") {
            Some(value) => value.parse().map_err(|()| Error::Clusters)?,
            None => Mode::default(),
        };
        let tick_ns = match info.option("tick") {
            Some(value) => tick(value).ok_or(Error::Tick)?,
            None => DEFAULT_TICK_NS,
        };
        let root = info.option("root").unwrap_or(DEFAULT_ROOT);
        let root =
            String::try_from(root).ok().filter(|root| !root.is_empty()).map(Name).ok_or(Error::Root)?;
        let mut kernel_switches = 0;
        for (option, values, bit) in SWITCHES {
            match info.option(option) {
                Some(value) if value == values[1] => kernel_switches |= bit,
                Some(value) if value != values[0] => return Err(Error::Switch { option, values }),
                _ => {}
            }
        }
        if let Some(value) = info.option("mutate") {
            let place = UPKEEP.iter().position(|name| *name == value).ok_or(Error::Mutate)?;
            kernel_switches |= (place as u64 + 1) << kernel_switch::MUTATE_SHIFT;
        }
        let mut places = [Where::Home; PLACED.len()];
        for (place, option) in places.iter_mut().zip(PLACED) {
            if let Some(value) = info.option(option) {
                *place = value.parse().map_err(|()| Error::Where(option))?;
            }
        }
        Ok(Self { mode, tick_ns, root, kernel_switches, places })
    }
}

fn tick(text: &str) -> Option<u64> {
    let (digits, unit) = match text.strip_suffix("us") {
        Some(digits) => (digits, 1_000),
        None => (text.strip_suffix("ms")?, 1_000_000),
    };
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None; // `parse` would take a sign
    }
    let ns = digits.parse::<u64>().ok()?.checked_mul(unit)?;
    (1..=MAX_TICK_NS).contains(&ns).then_some(ns)
}
