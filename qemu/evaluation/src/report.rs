//! The report: one HTML file that needs nothing else, and the figures as static SVG.

mod data;
mod page;
mod svg;

use crate::benches::BENCHES;
use crate::compare;
use crate::figure::Figure;
use crate::goals::{self, Outcome};
use crate::results::{Record, Results};
use crate::setup::Setup;

/// What a report shows.
#[derive(Clone, Debug)]
pub struct Report {
    setup: Setup,
    results: Results,
    figures: Vec<Figure>,
    goals: Vec<Outcome>,
    warnings: Vec<String>,
    first: Record,
}

/// Why there is no report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nothing {
    /// No record says which set it is of.
    NoSet,
    /// The records are of several sets (`--quick` and not): their sizes differ.
    SeveralSets,
    /// No figure has all its points.
    NoFigure,
}

impl std::fmt::Display for Nothing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NoSet => "there are no records of the evaluation",
            Self::SeveralSets => "the records are of several sets (full, quick, paper); give one",
            Self::NoFigure => "no figure has all its points",
        })
    }
}

impl Report {
    /// Of these records, with the figures that are complete.
    ///
    /// # Errors
    /// [`Nothing`].
    pub fn new(records: &[Record]) -> Result<Self, Nothing> {
        let set = |record: &Record| Setup::find(record.get("set")?.as_str()?);
        let first = records.iter().find(|record| set(record).is_some()).ok_or(Nothing::NoSet)?;
        let setup = set(first).ok_or(Nothing::NoSet)?;
        if records.iter().any(|record| set(record) != Some(setup)) {
            return Err(Nothing::SeveralSets);
        }
        let results = Results::of(records);
        let mut figures: Vec<Figure> = BENCHES.iter().flat_map(|bench| bench.figures(setup)).collect();
        figures.retain(|figure| figure.is_complete(&results));
        if figures.is_empty() {
            return Err(Nothing::NoFigure);
        }
        let goals = goals::outcomes(setup, &results);
        Ok(Self { setup, goals, figures, warnings: compare::mixed(records), first: first.clone(), results })
    }

    /// How many figures it has.
    pub fn figures(&self) -> usize {
        self.figures.len()
    }

    /// The page.
    pub fn html(&self) -> String {
        page::render(self)
    }

    /// The panels as static SVG: file name and text.
    pub fn svgs(&self) -> Vec<(String, String)> {
        let one = |figure: &Figure| {
            let name = figure.id.replace('.', "-");
            (format!("figure-{name}.svg"), svg::render(figure, &self.results))
        };
        self.figures.iter().map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invented;

    #[test]
    fn everything_that_was_measured_is_in_it() {
        let report = Report::new(&invented::all()).unwrap();
        let html = report.html();
        assert!(!html.contains("{{"), "every place is filled");
        for number in 1..=17 {
            assert!(html.contains(&format!("id=\"figure-5.{number}\"")), "5.{number}");
        }
        assert!(html.contains("overlap 1, one iteration: numa / non-numa"));
        assert!(html.contains("class=\"badge modelled\""));
        let outside = html.matches("<script src").count()
            + html.matches("<link").count()
            + html.matches("@import").count();
        assert_eq!(outside, 0, "it needs no network");
        let svgs = report.svgs();
        assert_eq!(svgs.len(), report.figures());
        for (name, svg) in svgs {
            assert!(svg.starts_with("<svg") && svg.contains("</svg>") && !svg.contains("NaN"), "{name}");
        }
    }

    #[test]
    fn sets_are_not_mixed_and_incomplete_figures_left_out() {
        assert_eq!(Report::new(&[]).unwrap_err(), Nothing::NoSet);
        let mut records = invented::all();
        let latency: Vec<_> = records.iter().filter(|record| record["bench"] == "latency").cloned().collect();
        assert_eq!(Report::new(&latency).unwrap().figures(), 1);
        records[0].insert("set".into(), "full".into());
        assert_eq!(Report::new(&records).unwrap_err(), Nothing::SeveralSets);
    }
}
