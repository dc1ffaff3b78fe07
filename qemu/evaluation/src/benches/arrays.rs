//! Figures of walked arrays: 5.8 to 5.16.

use crate::cell::{Cell, Core, NON_NUMA, NUMA, SINGLE_SPACE, SPACES, System, Variant};
use crate::figure::{Figure, Panel, Point, Question, Series, Shape, X};
use crate::metric::Metric;
use crate::setup::Setup;

/// Axis labels.
const ITERATIONS: &str = "iterations";
const TIME: &str = "time to completion (modelled cycles)";
const REMOTE: &str = "accesses to the other node (lines)";

fn over_iterations(setup: Setup, name: &'static str, metric: Metric, cell: impl Fn(u32) -> Cell) -> Series {
    let point =
        |iterations| Point { x: X::Number(f64::from(iterations)), cell: cell(iterations), metric, per: None };
    Series { name, points: setup.iterations().into_iter().map(point).collect() }
}

fn panels(series: impl Fn(Core) -> Vec<Series>) -> Vec<Panel> {
    Core::ALL.map(|core| Panel { core, series: series(core) }).into()
}

/// Both systems over the iterations.
fn two_systems(setup: Setup, overlap: u8, metric: Metric) -> Vec<Panel> {
    let one = |system: System, core| {
        over_iterations(setup, system.name, metric, |n| setup.walk(system, core, overlap, n))
    };
    panels(|core| vec![one(NUMA, core), one(NON_NUMA, core)])
}

const WALK: Figure = Figure {
    id: "",
    bench: "array-walk",
    title: "",
    x: ITERATIONS,
    y: TIME,
    shape: Shape::Lines,
    question: Question::Crossing,
    expected: "",
    panels: Vec::new(),
};

/// Figures 5.8 to 5.12.
pub(super) fn array_walk(setup: Setup) -> Vec<Figure> {
    let per_cpu = |core| {
        let one =
            |name, system, metric| over_iterations(setup, name, metric, |n| setup.walk(system, core, 10, n));
        vec![
            one("numa, CPU 1", NUMA, Metric::RemoteOf(1)),
            one("non-numa, CPU 1", NON_NUMA, Metric::RemoteOf(1)),
            one("numa, CPU 0", NUMA, Metric::RemoteOf(0)),
        ]
    };
    vec![
        Figure {
            id: "5.8",
            title: "Two threads walk the same array",
            expected: "The thesis: a space per node loses with few iterations (twice the page faults) and wins with many.",
            panels: two_systems(setup, 10, Metric::Elapsed),
            ..WALK
        },
        Figure {
            id: "5.9",
            title: "Two threads walk the same array: remote accesses",
            y: REMOTE,
            expected: "The thesis: more to begin with, fewer than the baseline with many iterations.",
            panels: two_systems(setup, 10, Metric::Remote),
            ..WALK
        },
        Figure {
            id: "5.10",
            title: "Two threads walk the same array: remote accesses of each CPU",
            y: REMOTE,
            expected: "The thesis: the baseline's CPU 1 has more than either of a space per node: the slowest thread decides.",
            panels: panels(per_cpu),
            ..WALK
        },
        Figure {
            id: "5.11",
            title: "Two threads walk an array each",
            expected: "The thesis: a space per node is clearly faster at any number of iterations.",
            panels: two_systems(setup, 0, Metric::Elapsed),
            ..WALK
        },
        Figure {
            id: "5.12",
            title: "Two threads walk an array each: remote accesses",
            y: REMOTE,
            expected: "The thesis: nearly none with a space per node, one per line and iteration in the baseline.",
            panels: two_systems(setup, 0, Metric::Remote),
            ..WALK
        },
    ]
}

/// Figure 5.13.
pub(super) fn local_global(setup: Setup) -> Vec<Figure> {
    let one = |name, variant, core| {
        over_iterations(setup, name, Metric::Elapsed, |n| setup.walk_of(NUMA, core, 0, n, variant))
    };
    vec![Figure {
        id: "5.13",
        bench: "local-global",
        title: "Mappings of a node's own against global ones",
        expected: "The thesis: the advantage of local mappings is small.",
        panels: panels(|core| vec![one("local", Variant::Local, core), one("global", Variant::Plain, core)]),
        ..WALK
    }]
}

/// Figures 5.14 and 5.15, and the same with ten iterations.
pub(super) fn overlap(setup: Setup) -> Vec<Figure> {
    let figure = |id, title, expected, iterations| {
        let one = |system: System, core| {
            let point = |overlap: u8| Point {
                x: X::Number(f64::from(overlap) / 10.0),
                cell: setup.walk(system, core, overlap, iterations),
                metric: Metric::Elapsed,
                per: None,
            };
            Series { name: system.name, points: (0..=10).map(point).collect() }
        };
        Figure {
            id,
            bench: "overlap",
            title,
            x: "overlap",
            expected,
            panels: panels(|core| vec![one(NUMA, core), one(NON_NUMA, core)]),
            ..WALK
        }
    };
    vec![
        figure(
            "5.14",
            "Time against overlap, one iteration",
            "The thesis: a space per node is slower from an overlap of 0.3 on. Here: nowhere.",
            1,
        ),
        figure(
            "5.15",
            "Time against overlap, four iterations",
            "The thesis: a space per node is faster up to an overlap of 0.9. Here: everywhere.",
            4,
        ),
        figure(
            "overlap-10",
            "Time against overlap, ten iterations",
            "A space per node is nowhere slower.",
            10,
        ),
    ]
}

/// Figure 5.16.
pub(super) fn single_space(setup: Setup) -> Vec<Figure> {
    let one = |name, system, core| {
        over_iterations(setup, name, Metric::Elapsed, |n| setup.walk(system, core, 10, n))
    };
    vec![Figure {
        id: "5.16",
        bench: "single-space",
        title: "A space per node against one space, under one kernel",
        expected: "The thesis: local page tables do not make up for the additional page faults, however many iterations.",
        panels: panels(|core| {
            vec![one("space per node", SPACES, core), one("one space", SINGLE_SPACE, core)]
        }),
        ..WALK
    }]
}
