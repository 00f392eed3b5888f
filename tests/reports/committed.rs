//! The reports that are part of the project: records in, the same files out, byte by byte.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::tempdir;
use vlp_bench::reports::report;

fn folders() -> Vec<PathBuf> {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("reports/published");
    let entries = fs::read_dir(place).unwrap().map(|entry| entry.unwrap().path());
    // `performance` compares training steps with PyTorch's and holds no runs.
    let holds_runs = |path: &PathBuf| path.is_dir() && !path.ends_with("performance");
    let mut folders: Vec<PathBuf> = entries.filter(holds_runs).collect();
    folders.sort();
    assert!(!folders.is_empty());
    folders
}

#[test]
fn every_published_report_is_what_its_records_give() {
    for folder in folders() {
        let out = tempdir().unwrap();
        report(&[folder.join("runs")], out.path()).unwrap();
        let mut names: Vec<_> =
            fs::read_dir(out.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert!(names.iter().any(|name| name == "report.html"));
        for name in names {
            let (new, old) = (out.path().join(&name), folder.join("report").join(&name));
            let equal = fs::read(&new).unwrap() == fs::read(&old).unwrap_or_default();
            assert!(equal, "{} is not what `vlp report` makes of the records beside it", old.display());
        }
    }
}
