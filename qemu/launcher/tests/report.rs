//! The report in a browser: every figure has its data, and nothing complains.

use std::process::Command;
use std::time::Duration;

use skerry::install::Installer;
use skerry_evaluation::benches::BENCHES;
use skerry_evaluation::invented;
use skerry_evaluation::report::Report;
use skerry_evaluation::setup::Setup;
use wait_timeout::ChildExt;

/// How long the browser may take to open a file.
const LIMIT: Duration = Duration::from_secs(180);

/// Opens a page and returns what it became, and what the browser said.
fn open(page: &std::path::Path, profile: &std::path::Path) -> (String, String) {
    if which::which("chromium").is_err() {
        Installer::new(false).packages("a browser for the test of the report", &["chromium"]).unwrap();
    }
    let out = |name: &str| profile.join(name);
    let file = |name: &str| std::fs::File::create(out(name)).unwrap();
    let mut browser = Command::new("chromium")
        .args([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--enable-logging=stderr",
        ])
        .args(["--window-size=1300,900", "--virtual-time-budget=20000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", out("profile").display()))
        .arg(format!("file://{}", page.display()))
        .stdout(file("dom"))
        .stderr(file("log"))
        .spawn()
        .unwrap();
    let status = browser.wait_timeout(LIMIT).unwrap();
    if status.is_none() {
        browser.kill().unwrap();
        browser.wait().unwrap();
    }
    let read = |name: &str| String::from_utf8_lossy(&std::fs::read(out(name)).unwrap()).into_owned();
    assert!(status.is_some_and(|status| status.success()), "{status:?}: {}", read("log"));
    (read("dom"), read("log"))
}

#[test]
fn every_figure_has_data_and_nothing_logs_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("report.html");
    let report = Report::new(&invented::all()).unwrap();
    std::fs::write(&page, report.html()).unwrap();
    let (dom, log) = open(&page, folder.path());
    let complaints: Vec<&str> = log.lines().filter(|line| line.contains("CONSOLE")).collect();
    assert_eq!(complaints, [""; 0]);
    assert!(
        dom.contains("data-errors=\"0\"") && dom.contains(&format!("data-figures=\"{}\"", report.figures()))
    );
    for figure in BENCHES.iter().flat_map(|bench| bench.figures(Setup { quick: true, paper: false })) {
        let points: usize =
            figure.panels.iter().flat_map(|panel| &panel.series).map(|series| series.points.len()).sum();
        let card = format!("id=\"figure-{}\" data-points=\"{points}\"", figure.id);
        assert!(points > 0 && dom.contains(&card), "{card}");
    }
    // Each panel became a drawing.
    let drawn =
        dom.matches("<svg xmlns=\"http://www.w3.org/2000/svg\"").count() + dom.matches("<svg width=").count();
    assert!(drawn >= 2 * report.figures(), "{drawn} drawings");
}

#[test]
fn a_browser_that_finds_an_error_is_heard() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("broken.html");
    std::fs::write(&page, "<!doctype html><script>nothing.at.all()</script>").unwrap();
    let (_, log) = open(&page, folder.path());
    assert!(log.lines().any(|line| line.contains("CONSOLE")), "{log}");
}
