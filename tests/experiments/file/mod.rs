//! Experiment files: what they may say, and what is said about those that are wrong.

mod arms;
mod fits;
mod layers;
mod settings;

use std::path::PathBuf;

use tempfile::TempDir;
use vlp_bench::experiments::failure::Failure;
use vlp_bench::experiments::file::Options;
use vlp_bench::experiments::{Experiment, load};

/// Every line of it is right.
const RIGHT: &str = "\
question: Does it learn?
data: {train: {scenes: {pairs: 64}}, test: {scenes: {pairs: 32}}}
model: clip
objectives:
  - itc
train: {steps: 4, batch: 8}
evaluate: [retrieval]
";

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let file = self.0.path().join(name);
        std::fs::create_dir_all(file.parent().expect("a folder above")).expect("a folder");
        std::fs::write(&file, text).expect("a file");
        file
    }

    fn load(&self, name: &str, options: &Options) -> Result<Experiment, Vec<String>> {
        load(&self.0.path().join(name), options).map_err(|failure| self.faults(failure))
    }

    /// The faults as they are printed, the folder's own path left out.
    fn faults(&self, failure: Failure) -> Vec<String> {
        let own = format!("{}/", self.0.path().display());
        match failure {
            Failure::Refused(faults) => {
                faults.iter().map(|fault| fault.to_string().replace(&own, "")).collect()
            }
            other => panic!("not a fault of the file: {other}"),
        }
    }
}

fn read_with(text: &str, options: &Options) -> Result<Experiment, Vec<String>> {
    let folder = Folder::new();
    folder.write("test.yaml", text);
    folder.load("test.yaml", options)
}

fn read(text: &str) -> Experiment {
    read_with(text, &Options::default()).unwrap_or_else(|faults| panic!("{}", faults.join("\n\n")))
}

/// Whether nothing is said against a file.
pub fn accepted(text: &str) -> bool {
    read_with(text, &Options::default()).is_ok()
}

/// [`RIGHT`] with `line` in place of the line that begins with the same word, or after the last line.
pub fn with(line: &str) -> String {
    let word = line.split(':').next().expect("a word");
    let begins = |known: &&str| known.starts_with(&format!("{word}:"));
    match RIGHT.lines().find(begins) {
        Some("objectives:") => RIGHT.replace("objectives:\n  - itc", line),
        Some(known) => RIGHT.replace(known, line),
        None => format!("{RIGHT}{line}\n"),
    }
}

/// Each fault at its place (`line:column`, or nothing) with its words, in order, and no other fault.
fn refuses_with(text: &str, options: &Options, expected: &[(&str, &[&str])]) {
    let faults = read_with(text, options).map(|_| ()).expect_err("refused");
    let printed = faults.join("\n\n");
    assert_eq!(faults.len(), expected.len(), "{printed}");
    for (fault, (place, words)) in faults.iter().zip(expected) {
        let arrow = fault.lines().find(|line| line.trim_start().starts_with("-->")).unwrap_or_default();
        assert!(
            arrow.ends_with(&format!(":{place}")) || place.is_empty() && arrow.is_empty(),
            "{place}\n{printed}"
        );
        for word in *words {
            assert!(fault.contains(word), "{word}\n{printed}");
        }
    }
}

pub fn refuses(text: &str, expected: &[(&str, &[&str])]) {
    refuses_with(text, &Options::default(), expected);
}

/// Among the faults is one at `place` with these words.
pub fn told(text: &str, place: &str, words: &str) {
    let faults = read_with(text, &Options::default()).map(|_| ()).expect_err("refused");
    let there = |fault: &String| fault.contains(&format!(":{place}\n")) && fault.contains(words);
    assert!(faults.iter().any(there), "{place} {words}\n{}", faults.join("\n\n"));
}
