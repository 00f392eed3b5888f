//! The rules of the tree: who may depend on whom, where `unsafe` may occur, how a file begins.

use std::fs;
use std::path::{Path, PathBuf};

fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    fn walk(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
        let mut entries: Vec<PathBuf> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        for path in entries {
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                found.push((path.clone(), fs::read_to_string(path).unwrap()));
            }
        }
    }
    let mut found = Vec::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut found);
    assert!(!found.is_empty(), "{folder} holds no source");
    found
}

/// Lines of code (not of comments) that contain `word`.
fn uses<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    text.lines().find(|line| !line.trim_start().starts_with("//") && line.contains(word))
}

const FOLDERS: [&str; 6] = ["kernels", "models", "objectives", "data", "experiments", "reports"];

#[test]
fn folders_depend_on_each_other_in_one_direction() {
    let allowed: [(&str, &[&str]); 5] = [
        ("kernels", &[]),
        ("models", &["kernels"]),
        ("objectives", &["kernels", "models"]),
        ("data", &["kernels"]),
        // Of the experiments, reports know the records alone; `experiments` re-exports the words that records use.
        ("reports", &["experiments"]),
    ];
    for (folder, may) in allowed {
        for (path, text) in sources(folder) {
            for other in FOLDERS.iter().filter(|other| **other != folder && !may.contains(other)) {
                let line = uses(&text, &format!("crate::{other}"));
                assert!(
                    line.is_none(),
                    "{} depends on {other}: {}",
                    path.display(),
                    line.unwrap_or_default()
                );
            }
        }
    }
}

#[test]
fn reports_know_records_and_neither_tensors_nor_runs() {
    for (path, text) in sources("reports") {
        for word in ["candle_core", "experiments::run", "experiments::train", "experiments::evaluate"] {
            let line = uses(&text, word);
            assert!(line.is_none(), "{}: {}", path.display(), line.unwrap_or_default());
        }
    }
}

#[test]
fn objectives_name_no_model_and_models_name_no_objective() {
    for model in vlp_bench::models::Config::all() {
        for (path, text) in sources("objectives") {
            let line = uses(&text, &format!("models::{}", model.name()));
            assert!(line.is_none(), "{}: {}", path.display(), line.unwrap_or_default());
        }
    }
    for objective in vlp_bench::objectives::Config::all() {
        for (path, text) in sources("models") {
            let line = uses(&text, &format!("objectives::{}", objective.name()));
            assert!(line.is_none(), "{}: {}", path.display(), line.unwrap_or_default());
        }
    }
}

#[test]
fn only_kernels_hold_unsafe_code_and_every_block_says_why() {
    for folder in FOLDERS {
        for (path, text) in sources(folder) {
            let lines: Vec<&str> = text.lines().collect();
            for (number, line) in lines.iter().enumerate() {
                let code = line.split("//").next().unwrap_or_default();
                if !code.contains("unsafe {") && !code.contains("unsafe fn") && !code.contains("unsafe impl")
                {
                    continue;
                }
                assert_eq!(folder, "kernels", "{}:{}: {line}", path.display(), number + 1);
                let reason =
                    lines[number.saturating_sub(6)..=number].iter().any(|line| line.contains("SAFETY"));
                assert!(reason, "{}:{}: {line}", path.display(), number + 1);
            }
        }
    }
}

#[test]
fn every_file_begins_by_saying_what_it_is() {
    for folder in FOLDERS {
        for (path, text) in sources(folder) {
            assert!(text.starts_with("//! "), "{} has no head", path.display());
        }
    }
}

#[test]
fn the_trainer_names_no_model_and_no_objective() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments/train.rs");
    let text = fs::read_to_string(&path).unwrap();
    let models = vlp_bench::models::Config::all().into_iter().map(|model| model.name());
    let objectives = vlp_bench::objectives::Config::all().into_iter().map(|objective| objective.name());
    for name in models.chain(objectives) {
        // As a module, or as a word to be compared; `config.clip` is a bound on the gradient.
        for form in [format!("::{name}"), format!("{name}::"), format!("\"{name}\"")] {
            let line = uses(&text, &form);
            assert!(line.is_none(), "the trainer names {name}: {}", line.unwrap_or_default());
        }
    }
}
