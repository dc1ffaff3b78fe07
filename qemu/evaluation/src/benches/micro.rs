//! Figures of single paths: memory latency (5.1), IPC (5.2 to 5.7), unmap (5.17).

use crate::cell::{Cell, Core, Machine, NON_NUMA, NUMA, System, Work};
use crate::figure::{Figure, Panel, Point, Question, Series, Shape, X};
use crate::metric::Metric;
use crate::setup::{MACHINE, Setup};

/// Bytes of the lists: in each level of the caches, and beyond.
pub(super) const LISTS: [u64; 6] = [16 << 10, 256 << 10, 512 << 10, 2 << 20, 4 << 20, 8 << 20];

fn panels(series: impl Fn(Core) -> Vec<Series>) -> Vec<Panel> {
    Core::ALL.map(|core| Panel { core, series: series(core) }).into()
}

/// Figure 5.1.
pub(super) fn latency(setup: Setup) -> Vec<Figure> {
    let list = |name, home, core| {
        let point = |&bytes: &u64| Point {
            x: X::Number(bytes as f64 / 1024.0),
            cell: setup.cell(NUMA, core, Work::Latency { sizes: LISTS.into() }),
            metric: Metric::PerLoad { home, bytes },
            per: None,
        };
        Series { name, points: LISTS.iter().map(point).collect() }
    };
    vec![Figure {
        id: "5.1",
        bench: "latency",
        title: "A load of a linked list",
        x: "KiB of the list",
        y: "modelled cycles per load",
        shape: Shape::Lines,
        question: Question::Ratio,
        expected: "The thesis: a remote load takes 1.4 times a local one. In caches there is no difference.",
        panels: panels(|core| vec![list("local", 0, core), list("remote", 1, core)]),
    }]
}

/// What lies on the other node.
const CODE_AND_TCBS: [(&str, &[&str]); 4] = [
    ("code and TCBs remote", &["image=next", "tcbs=next"]),
    ("code local", &["tcbs=next"]),
    ("TCBs local", &["image=next"]),
    ("both local", &[]),
];
const USER_PARTS: [&str; 2] = ["utcbs=next", "page-tables=next"];

fn ping_pong(setup: Setup, core: Core, uncached: bool, parts: &[&'static str]) -> Cell {
    let mut cell = setup.cell(NUMA, core, Work::PingPong);
    cell.machine = Machine { uncached, ..Machine::named(MACHINE) };
    cell.options.extend(parts);
    cell
}

/// Figures 5.2 to 5.7.
pub(super) fn ipc(setup: Setup) -> Vec<Figure> {
    let bars = |name, metric, points: &[(&'static str, Vec<&'static str>)], core, uncached| {
        let point = |(name, parts): &(&'static str, Vec<&'static str>)| Point {
            x: X::Name(name),
            cell: ping_pong(setup, core, uncached, parts),
            metric,
            per: None,
        };
        Series { name, points: points.iter().map(point).collect() }
    };
    let kernel: Vec<(&str, Vec<&str>)> =
        CODE_AND_TCBS.iter().map(|(name, parts)| (*name, [parts, &USER_PARTS[..]].concat())).collect();
    let homes: Vec<(&str, Vec<&str>)> =
        vec![("UTCBs and page tables remote", USER_PARTS.into()), ("all local", Vec::new())];
    let figure =
        |id, title, metric, points: &[(&'static str, Vec<&'static str>)], uncached, expected| Figure {
            id,
            bench: "ipc",
            title,
            x: "what lies on the node of the threads",
            y: if metric == Metric::PerRound {
                "modelled cycles per round trip"
            } else {
                "lines from the other node per round trip"
            },
            shape: Shape::Bars,
            question: Question::LastToFirst,
            expected,
            panels: panels(|core| vec![bars("round trip", metric, points, core, uncached)]),
        };
    const NO_EFFECT: &str = "The thesis: with caches the place of code and TCBs makes no difference.";
    const EFFECT: &str = "The thesis: without caches it makes a clear one, TCBs more than code. (Here instructions are \
                          taken to be in the first level always, so of the kernel's image only data counts.)";
    const HOME: &str = "The thesis: no faster with caches, though there are fewer remote accesses.";
    use Metric::{PerRound, RemotePerRound};
    vec![
        figure("5.2", "IPC with caches: cycles", PerRound, &kernel, false, NO_EFFECT),
        figure("5.3", "IPC with caches: remote accesses", RemotePerRound, &kernel, false, NO_EFFECT),
        figure("5.4", "IPC without caches: cycles", PerRound, &kernel, true, EFFECT),
        figure("5.5", "IPC without caches: remote accesses", RemotePerRound, &kernel, true, EFFECT),
        figure("5.6", "UTCBs and page tables: cycles of an IPC", PerRound, &homes, false, HOME),
        figure(
            "5.7",
            "UTCBs and page tables: remote accesses of an IPC",
            RemotePerRound,
            &homes,
            false,
            HOME,
        ),
    ]
}

/// A page is taken away.
pub(crate) fn unmap_cell(
    setup: Setup,
    system: System,
    core: Core,
    sharers: usize,
    batch: bool,
    polling: bool,
    how: Option<&'static str>,
) -> Cell {
    let mut cell = setup.cell(system, core, Work::Unmap { sharers, batch, polling });
    if let Some(how) = how {
        cell.options.retain(|option| !option.starts_with("unmap="));
        cell.options.push(how);
    }
    if sharers > 2 {
        cell.machine.nodes = Some((sharers, 1));
    }
    cell
}

/// Figure 5.17, and what it becomes with more nodes.
pub(super) fn unmap(setup: Setup) -> Vec<Figure> {
    let situations = [
        ("one node", 1, false, false),
        ("both, sleeping", 2, false, false),
        ("both, polling", 2, false, true),
        ("both, 63 pages a call", 2, true, false),
    ];
    let bars = |name, system: System, how: Option<&'static str>, core| {
        let points = situations.map(|(x, sharers, batch, polling)| Point {
            x: X::Name(x),
            cell: unmap_cell(setup, system, core, sharers, batch, polling, how),
            metric: Metric::PerRound,
            per: None,
        });
        Series { name, points: points.into() }
    };
    let growth = |name, how, core| {
        let point = |sharers: usize| Point {
            x: X::Number(sharers as f64),
            cell: unmap_cell(setup, NUMA, core, sharers, false, false, Some(how)),
            metric: Metric::PerRound,
            per: None,
        };
        Series { name, points: [1, 2, 4, 8].map(point).into() }
    };
    vec![
        Figure {
            id: "5.17",
            bench: "unmap",
            title: "A page is taken away",
            x: "who maps the page, and what they do",
            y: "modelled cycles per page",
            shape: Shape::Bars,
            question: Question::Ratio,
            expected: "The thesis: with two pagers about three times the time of one.",
            panels: panels(|core| {
                vec![
                    bars("non-numa", NON_NUMA, None, core),
                    bars("numa, all at once", NUMA, Some("unmap=parallel"), core),
                    bars("numa, one by one", NUMA, Some("unmap=sequential"), core),
                    bars("numa, by the root pager", NUMA, Some("unmap=root"), core),
                ]
            }),
        },
        Figure {
            id: "unmap-nodes",
            bench: "unmap",
            title: "A page is taken away from many nodes",
            x: "nodes that map the page",
            y: "modelled cycles per page",
            shape: Shape::Lines,
            question: Question::Crossing,
            expected: "The thesis: linear if nodes are asked one by one; it proposes to ask all at once.",
            panels: panels(|core| {
                vec![
                    growth("all at once", "unmap=parallel", core),
                    growth("one by one", "unmap=sequential", core),
                    growth("by the root pager", "unmap=root", core),
                ]
            }),
        },
    ]
}
