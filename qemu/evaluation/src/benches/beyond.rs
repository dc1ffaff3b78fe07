//! Figures that the thesis asks for and does not have: more nodes, and memory that is farther away.

use crate::cell::{Cell, Core, Machine, NON_NUMA, NUMA, SINGLE_SPACE, System, Variant, Work};
use crate::figure::{Figure, Panel, Point, Question, Series, Shape, X};
use crate::metric::Metric;
use crate::setup::{MACHINE, Setup};

/// Numbers of nodes.
const NODES: [usize; 4] = [2, 4, 8, 16];
/// Remote distances, in tenths of the local one.
const DISTANCES: [u8; 5] = [11, 14, 20, 30, 40];

fn panels(series: impl Fn(Core) -> Vec<Series>) -> Vec<Panel> {
    Core::ALL.map(|core| Panel { core, series: series(core) }).into()
}

/// So many nodes with so many CPUs each walk arrays that do not overlap, a thread per CPU.
pub(crate) fn many(setup: Setup, system: System, core: Core, nodes: usize, cpus: usize) -> Cell {
    let bytes = setup.bytes_of_many() / cpus as u64;
    let work = Work::ArrayWalk { overlap: 0, iterations: 1, bytes, variant: Variant::PerCpu };
    let mut cell = setup.cell(system, core, work);
    cell.machine = Machine { nodes: Some((nodes, cpus)), ..Machine::named(MACHINE) };
    cell.options = vec!["ahead=1"];
    cell
}

/// Time against the number of nodes.
pub(super) fn scaling(setup: Setup) -> Vec<Figure> {
    let line = |name, system, core, cpus| {
        let point = |nodes: usize| Point {
            x: X::Number(nodes as f64),
            cell: many(setup, system, core, nodes, cpus),
            metric: Metric::Elapsed,
            per: None,
        };
        Series { name, points: NODES.map(point).into() }
    };
    vec![Figure {
        id: "scaling",
        bench: "scaling",
        title: "The same work on every node, more nodes",
        x: "nodes",
        y: "time to completion (modelled cycles)",
        shape: Shape::Lines,
        question: Question::Growth,
        expected: "Nodes that share nothing do not slow each other down: flat, where one kernel and one space are not.",
        panels: panels(|core| {
            vec![
                line("numa, 1 CPU per node", NUMA, core, 1),
                line("numa, 4 CPUs per node", NUMA, core, 4),
                line("single-space, 1 CPU per node", SINGLE_SPACE, core, 1),
            ]
        }),
    }]
}

/// The walk whose pages are there, with which the floor comes (`Metric::Floor`): every access local, faults for nothing.
pub(crate) fn floor(setup: Setup, core: Core, iterations: u32) -> Cell {
    setup.walk_of(NUMA, core, 0, iterations, Variant::Touched)
}

/// Gain against the distance of remote memory, and against the floor.
pub(super) fn remote(setup: Setup) -> Vec<Figure> {
    let far = |system, core, overlap, distance| {
        let mut cell = setup.walk(system, core, overlap, 4);
        cell.machine.distance = Some(distance);
        cell
    };
    let curve = |name, system, core, overlap| {
        let point = |distance: u8| Point {
            x: X::Number(f64::from(distance) / 10.0),
            cell: far(NUMA, core, overlap, distance),
            metric: Metric::Elapsed,
            per: Some((far(system, core, overlap, distance), Metric::Elapsed)),
        };
        Series { name, points: DISTANCES.map(point).into() }
    };
    let against_floor = |core| {
        let curve = |name, ahead: Option<&'static str>| {
            let point = |iterations: u32| {
                let mut cell = setup.walk(NUMA, core, 0, iterations);
                cell.options.retain(|option| ahead.is_none() || !option.starts_with("ahead="));
                cell.options.extend(ahead);
                let per = Some((floor(setup, core, iterations), Metric::Floor));
                Point { x: X::Number(f64::from(iterations)), cell, metric: Metric::Elapsed, per }
            };
            Series { name, points: [1, 4, 10].map(point).into() }
        };
        vec![
            curve("as booted", None),
            curve("16 pages per fault", Some("ahead=16")),
            curve("64 KiB per fault", Some("ahead=64k")),
        ]
    };
    vec![
        Figure {
            id: "remote",
            bench: "remote",
            title: "The farther remote memory, the more it matters where a page lives",
            x: "remote to local",
            y: "time of numa / time of the other system",
            shape: Shape::Lines,
            question: Question::Growth,
            expected: "The thesis' future work: a higher ratio makes locality worth more.",
            panels: panels(|core| {
                vec![
                    curve("against non-numa, overlap 0", NON_NUMA, core, 0),
                    curve("against non-numa, overlap 1", NON_NUMA, core, 10),
                    curve("against single-space, overlap 1", SINGLE_SPACE, core, 10),
                ]
            }),
        },
        Figure {
            id: "floor",
            bench: "remote",
            title: "How near the walk is to one that no placement can beat",
            x: "iterations",
            y: "time of numa / time of the floor",
            shape: Shape::Lines,
            question: Question::Growth,
            expected: "Page faults are paid once: with every further iteration they matter less.",
            panels: panels(against_floor),
        },
    ]
}
