//! The benchmarks, each with its figures. What a goal needs beyond the figures belongs to a benchmark as well.

mod arrays;
mod beyond;
mod micro;

use crate::cell::Cell;
use crate::figure::Figure;
use crate::goals;
use crate::setup::Setup;

pub(crate) use beyond::{floor, many};
pub(crate) use micro::unmap_cell;

/// A benchmark.
#[derive(Clone, Copy, Debug)]
pub struct Bench {
    /// As it is typed.
    pub name: &'static str,
    /// One line about it.
    pub about: &'static str,
    figures: fn(Setup) -> Vec<Figure>,
}

/// All, in the order of the thesis.
pub static BENCHES: [Bench; 9] = [
    Bench {
        name: "latency",
        about: "a load of local and of remote memory (figure 5.1)",
        figures: micro::latency,
    },
    Bench {
        name: "ipc",
        about: "a round trip between two spaces of a node, with the kernel's parts on another node (5.2 to 5.7)",
        figures: micro::ipc,
    },
    Bench {
        name: "array-walk",
        about: "arrays that overlap entirely or not at all, walked several times (5.8 to 5.12)",
        figures: arrays::array_walk,
    },
    Bench {
        name: "local-global",
        about: "mappings of a node's own against mappings that pagers agree about (5.13)",
        figures: arrays::local_global,
    },
    Bench {
        name: "overlap",
        about: "the same walk with every overlap (5.14, 5.15, and ten iterations)",
        figures: arrays::overlap,
    },
    Bench {
        name: "single-space",
        about: "a space per node against one space, everything else equal (5.16)",
        figures: arrays::single_space,
    },
    Bench {
        name: "unmap",
        about: "a page is taken away that one node maps, or both (5.17), or eight",
        figures: micro::unmap,
    },
    Bench { name: "scaling", about: "two to sixteen nodes, the same work on each", figures: beyond::scaling },
    Bench {
        name: "remote",
        about: "memory that is 1.1 to 4 times as far away, and the floor that no placement can beat",
        figures: beyond::remote,
    },
];

impl Bench {
    /// The benchmark of this name.
    pub fn find(name: &str) -> Option<&'static Self> {
        BENCHES.iter().find(|bench| bench.name == name)
    }

    /// Its figures.
    pub fn figures(&self, setup: Setup) -> Vec<Figure> {
        (self.figures)(setup)
    }

    /// The runs it needs, each once, in the order of the figures.
    pub fn cells(&self, setup: Setup) -> Vec<Cell> {
        let goals = goals::goals(setup).into_iter().filter(|goal| goal.bench == self.name);
        let figures = self.figures(setup);
        let mut cells: Vec<Cell> = Vec::new();
        for cell in
            figures.iter().flat_map(Figure::cells).cloned().chain(goals.flat_map(|goal| goal.value.cells()))
        {
            if !cells.contains(&cell) {
                cells.push(cell);
            }
        }
        cells
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn a_name_is_of_one_cell() {
        for setup in ["full", "quick", "paper"].map(|name| Setup::find(name).unwrap()) {
            let mut names: HashMap<String, Cell> = HashMap::new();
            for cell in BENCHES.iter().flat_map(|bench| bench.cells(setup)) {
                let other = names.entry(cell.name()).or_insert_with(|| cell.clone());
                assert_eq!(*other, cell);
            }
        }
    }

    #[test]
    fn every_goal_has_a_bench_that_runs_its_cells() {
        let setup = Setup { quick: true, paper: false };
        for goal in goals::goals(setup) {
            let bench = Bench::find(goal.bench).unwrap_or_else(|| panic!("{}", goal.name));
            let cells = bench.cells(setup);
            assert!(goal.value.cells().iter().all(|cell| cells.contains(cell)), "{}", goal.name);
        }
    }

    #[test]
    fn every_figure_of_the_thesis_is_there_for_both_cores() {
        let figures: Vec<Figure> =
            BENCHES.iter().flat_map(|bench| bench.figures(Setup { quick: true, paper: false })).collect();
        for number in 1..=17 {
            let id = format!("5.{number}");
            let figure = figures.iter().find(|figure| figure.id == id).unwrap_or_else(|| panic!("{id}"));
            assert_eq!(figure.panels.len(), 2, "{id}");
            assert!(
                figure.panels.iter().all(|panel| panel.series.iter().all(|s| !s.points.is_empty())),
                "{id}"
            );
        }
        for (index, figure) in figures.iter().enumerate() {
            assert!(figures[..index].iter().all(|other| other.id != figure.id), "{}", figure.id);
            assert!(Bench::find(figure.bench).is_some(), "{}", figure.id);
        }
    }
}
