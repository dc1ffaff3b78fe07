//! The app pager's words on the kernel command line.

use core::fmt;

use skerry_abi::boot::BootInfo;
use skerry_ipc::pager::Ahead;
use skerry_policy::SpecError;
use skerry_policy::shipped::Any;

use crate::placement::Placement;
use crate::step;

/// How many spaces a task has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TaskSpace {
    /// One per node where it has threads.
    #[default]
    PerNode,
    /// One: needs a kernel that runs all CPUs.
    One,
}

/// Where the master of a task is that is started on any CPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum MasterChoice {
    /// In the cluster of the thread that starts it.
    #[default]
    Creator,
    /// In one cluster after the other.
    RoundRobin,
}

/// When a pager takes over the master table of a task that is new on its node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TakeOver {
    /// Page by page, when threads fault there.
    #[default]
    Lazy,
    /// All of it, before the first thread comes.
    Eager,
}

/// How the words of a page in the master table are reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum MasterTable {
    /// In shared memory, by whoever wants something of them.
    #[default]
    Shared,
    /// By messages to the pager in whose memory they are.
    Ipc,
}

/// How the nodes that share a page are reached when it is unmapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Driver {
    /// All are asked, then all are awaited.
    #[default]
    Parallel,
    /// One is asked when the one before has answered.
    Sequential,
    /// The root pager tells all of them; then they are awaited.
    Root,
}

/// An error that is made on purpose, so that one sees the audit find it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Plant {
    /// A frame is given back without being unmapped.
    FreeMapped,
    /// A frame is given back twice.
    FreeTwice,
    /// Somebody writes to a frame that was given back.
    WriteFreed,
}

/// How many pages a fault establishes, in regions that do not say so themselves.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum PagesAhead {
    /// The one that was touched.
    #[default]
    One,
    /// The sixteen of the same 64 KiB.
    Sixteen,
    /// The same, in adjacent frames if the node has such.
    Block,
}

impl PagesAhead {
    /// In a region that says this.
    #[must_use]
    pub const fn for_region(self, ahead: Ahead) -> Self {
        match ahead {
            Ahead::AsBooted => self,
            Ahead::One => Self::One,
            Ahead::Sixteen => Self::Sixteen,
            Ahead::Block => Self::Block,
        }
    }
}

/// The options.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options<'a> {
    /// `space=one|per-node`.
    pub space: TaskSpace,
    /// `placement=first-touch|node0`.
    pub placement: Placement,
    /// `policy=NAME[:OPTION=VALUE]…` ([`skerry_policy::shipped`]): which node a fresh page of all nodes comes from, instead.
    pub policy: Option<&'a str>,
    /// `master=creator|round-robin`.
    pub master: MasterChoice,
    /// `takeover=lazy|eager`.
    pub take_over: TakeOver,
    /// `table=shared|ipc`.
    pub table: MasterTable,
    /// `unmap=parallel|sequential|root`.
    pub unmap: Driver,
    /// `ahead=1|16|64k`.
    pub ahead: PagesAhead,
    /// `maintenance=model|always`: whether caches are maintained though the memory model does not want it.
    pub maintain_always: bool,
    /// `balance=on`: whether the load balancer runs.
    pub balance: bool,
    /// `audit=on`: whether frames that are given back are audited and poisoned (`guest/audit.rs`).
    pub audit: bool,
    /// `plant=…`: an error of this pager that the audit has to find.
    pub plant: Option<Plant>,
    /// `crash=…`, if that names a step of this pager ([`crate::step`]).
    pub crash: Option<&'a str>,
    /// `history=on`: whether pagers remember what became of pages ([`crate::history`]).
    pub history: bool,
    /// `app=<module>`.
    pub app: &'a str,
}

/// What is wrong with them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OptionError<'a> {
    /// A value that does not exist.
    Value(&'static str, &'a str),
    /// No `app=`.
    NoApp,
    /// `space=one` needs `clusters=one`.
    OneSpaceManyKernels,
    /// `placement=node0` needs `clusters=one`: a pager allocates from its own pool only.
    Node0ManyKernels,
    /// `policy=` that is none.
    Policy(SpecError<'a>),
    /// `policy=` needs `placement=first-touch` and `ahead=1`: it places each page by itself.
    PolicyAndPlacement,
    /// `takeover=eager` needs `table=shared`: it reads all of the table in one go.
    EagerByIpc,
    /// `plant=` needs `audit=on`: nobody else would find the error.
    PlantWithoutAudit,
}

impl fmt::Display for OptionError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(key, value) => write!(f, "{key}={value} is not known"),
            Self::NoApp => f.write_str("app= is missing: nothing to run"),
            Self::OneSpaceManyKernels => {
                f.write_str("space=one needs clusters=one: a space ends at its kernel")
            }
            Self::Node0ManyKernels => {
                f.write_str("placement=node0 needs clusters=one: a pager allocates from its own pool only")
            }
            Self::Policy(error) => write!(f, "policy=: {error}"),
            Self::PolicyAndPlacement => {
                f.write_str("policy= needs placement=first-touch and ahead=1: it places each page by itself")
            }
            Self::EagerByIpc => f.write_str("takeover=eager needs table=shared: it reads the whole table"),
            Self::PlantWithoutAudit => f.write_str("plant= needs audit=on, which finds the error"),
        }
    }
}

impl<'a> Options<'a> {
    /// Reads the command line.
    ///
    /// # Errors
    /// [`OptionError`] for unknown values and illegal combinations.
    pub fn read(boot: &'a BootInfo) -> Result<Self, OptionError<'a>> {
        Self::decode(|key| boot.option(key), boot.cluster_count)
    }

    /// Whether somebody looks at every step: then all of them go the general ways.
    #[inline(always)]
    pub const fn is_watched(&self) -> bool {
        self.crash.is_some() || self.history
    }

    fn decode(get: impl Fn(&'static str) -> Option<&'a str>, clusters: u32) -> Result<Self, OptionError<'a>> {
        let space = match get("space") {
            None | Some("per-node") => TaskSpace::PerNode,
            Some("one") => TaskSpace::One,
            Some(other) => return Err(OptionError::Value("space", other)),
        };
        let placement = match get("placement") {
            None | Some("first-touch") => Placement::FirstTouch,
            Some("node0") => Placement::Node0,
            Some(other) => return Err(OptionError::Value("placement", other)),
        };
        let master = match get("master") {
            None | Some("creator") => MasterChoice::Creator,
            Some("round-robin") => MasterChoice::RoundRobin,
            Some(other) => return Err(OptionError::Value("master", other)),
        };
        let take_over = match get("takeover") {
            None | Some("lazy") => TakeOver::Lazy,
            Some("eager") => TakeOver::Eager,
            Some(other) => return Err(OptionError::Value("takeover", other)),
        };
        let table = match get("table") {
            None | Some("shared") => MasterTable::Shared,
            Some("ipc") if take_over == TakeOver::Eager => return Err(OptionError::EagerByIpc),
            Some("ipc") => MasterTable::Ipc,
            Some(other) => return Err(OptionError::Value("table", other)),
        };
        let unmap = match get("unmap") {
            None | Some("parallel") => Driver::Parallel,
            Some("sequential") => Driver::Sequential,
            Some("root") => Driver::Root,
            Some(other) => return Err(OptionError::Value("unmap", other)),
        };
        let maintain_always = match get("maintenance") {
            None | Some("model") => false,
            Some("always") => true,
            Some(other) => return Err(OptionError::Value("maintenance", other)),
        };
        let balance = match get("balance") {
            None | Some("off") => false,
            Some("on") => true,
            Some(other) => return Err(OptionError::Value("balance", other)),
        };
        let audit = match get("audit") {
            None | Some("off") => false,
            Some("on") => true,
            Some(other) => return Err(OptionError::Value("audit", other)),
        };
        let plant = match get("plant") {
            None => None,
            Some("free-mapped") => Some(Plant::FreeMapped),
            Some("free-twice") => Some(Plant::FreeTwice),
            Some("write-freed") => Some(Plant::WriteFreed),
            Some(other) => return Err(OptionError::Value("plant", other)),
        };
        if plant.is_some() && !audit {
            return Err(OptionError::PlantWithoutAudit);
        }
        let ahead = match get("ahead") {
            None | Some("1") => PagesAhead::One,
            Some("16") => PagesAhead::Sixteen,
            Some("64k") => PagesAhead::Block,
            Some(other) => return Err(OptionError::Value("ahead", other)),
        };
        let crash = match get("crash") {
            None => None,
            Some(text) => match step::check(text) {
                Ok(steps) => steps.then_some(text),
                Err(bad) => return Err(OptionError::Value("crash", bad)),
            },
        };
        let history = match get("history") {
            None | Some("off") => false,
            Some("on") => true,
            Some(other) => return Err(OptionError::Value("history", other)),
        };
        let policy = get("policy").filter(|&policy| policy != "first-touch");
        if let Some(policy) = policy {
            Any::new(policy).map_err(OptionError::Policy)?;
            if (placement, ahead) != (Placement::FirstTouch, PagesAhead::One) {
                return Err(OptionError::PolicyAndPlacement);
            }
        }
        let app = get("app").ok_or(OptionError::NoApp)?;
        match (clusters > 1, space, placement) {
            (true, TaskSpace::One, _) => Err(OptionError::OneSpaceManyKernels),
            (true, _, Placement::Node0) => Err(OptionError::Node0ManyKernels),
            _ => Ok(Self {
                space,
                placement,
                policy,
                master,
                take_over,
                table,
                unmap,
                ahead,
                maintain_always,
                balance,
                audit,
                plant,
                crash,
                history,
                app,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode<'a>(line: &'a str, clusters: u32) -> Result<Options<'a>, OptionError<'a>> {
        let get = |key: &str| line.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
        Options::decode(get, clusters)
    }

    #[test]
    fn combinations() {
        let numa = decode("app=x", 2).unwrap();
        assert_eq!((numa.space, numa.placement), (TaskSpace::PerNode, Placement::FirstTouch));
        let baseline = decode("app=x space=one placement=node0", 1).unwrap();
        assert_eq!((baseline.space, baseline.placement), (TaskSpace::One, Placement::Node0));
        assert_eq!((numa.unmap, numa.maintain_always), (Driver::Parallel, false));
        let slow = decode("app=x unmap=sequential maintenance=always", 2).unwrap();
        assert_eq!((slow.unmap, slow.maintain_always), (Driver::Sequential, true));
        assert_eq!((numa.balance, decode("app=x balance=on", 2).unwrap().balance), (false, true));
        assert_eq!(decode("app=x balance=1", 2), Err(OptionError::Value("balance", "1")));
        assert_eq!(decode("app=x table=ipc", 2).unwrap().table, MasterTable::Ipc);
        assert_eq!(decode("app=x table=far", 2), Err(OptionError::Value("table", "far")));
        assert_eq!(decode("app=x takeover=eager table=ipc", 2), Err(OptionError::EagerByIpc));
        assert_eq!((numa.table, decode("app=x takeover=eager", 2).is_ok()), (MasterTable::Shared, true));
        assert_eq!(decode("app=x unmap=root", 2).unwrap().unmap, Driver::Root);
        assert_eq!(decode("app=x unmap=never", 2), Err(OptionError::Value("unmap", "never")));
        assert_eq!(decode("app=x space=one", 2), Err(OptionError::OneSpaceManyKernels));
        assert_eq!(decode("app=x placement=node0", 2), Err(OptionError::Node0ManyKernels));
        assert_eq!(decode("app=x space=two", 1), Err(OptionError::Value("space", "two")));
        assert_eq!(decode("app=x master=me", 2), Err(OptionError::Value("master", "me")));
        assert_eq!(decode("app=x takeover=late", 2), Err(OptionError::Value("takeover", "late")));
        let other = decode("app=x master=round-robin takeover=eager", 2).unwrap();
        assert_eq!((other.master, other.take_over), (MasterChoice::RoundRobin, TakeOver::Eager));
        let audited = decode("app=x audit=on plant=free-twice", 2).unwrap();
        assert_eq!((audited.audit, audited.plant, other.audit), (true, Some(Plant::FreeTwice), false));
        assert_eq!(decode("app=x plant=free-twice", 2), Err(OptionError::PlantWithoutAudit));
        assert_eq!(decode("app=x audit=yes", 2), Err(OptionError::Value("audit", "yes")));
        assert_eq!(decode("app=x crash=1@500", 2).unwrap().crash, None);
        assert_eq!(decode("app=x crash=lead.ask@1", 2).unwrap().crash, Some("lead.ask@1"));
        assert_eq!(decode("app=x crash=lead.fly@1", 2), Err(OptionError::Value("crash", "lead.fly@1")));
        let remembers = decode("app=x history=on", 2).unwrap();
        assert_eq!((remembers.history, remembers.is_watched(), numa.is_watched()), (true, true, false));
        assert_eq!(numa.ahead, PagesAhead::One);
        assert_eq!(decode("app=x ahead=64k", 2).unwrap().ahead, PagesAhead::Block);
        assert_eq!(decode("app=x ahead=2", 2), Err(OptionError::Value("ahead", "2")));
        assert_eq!(decode("", 1), Err(OptionError::NoApp));
    }

    #[test]
    fn policies() {
        let policy = |line| decode(line, 2).map(|options| options.policy);
        assert_eq!(policy("app=x policy=bind:nodes=0,2-3"), Ok(Some("bind:nodes=0,2-3")));
        assert_eq!((policy("app=x"), policy("app=x policy=first-touch")), (Ok(None), Ok(None)));
        let wrong = |line| policy(line).unwrap_err();
        assert_eq!(wrong("app=x policy=bind"), OptionError::Policy(SpecError::Missing("nodes")));
        assert_eq!(wrong("app=x policy=adaptive"), OptionError::Policy(SpecError::AsksMore("adaptive")));
        assert_eq!(wrong("app=x policy=interleave ahead=16"), OptionError::PolicyAndPlacement);
        let one = decode("app=x policy=interleave placement=node0", 1);
        assert_eq!(one, Err(OptionError::PolicyAndPlacement));
    }
}
