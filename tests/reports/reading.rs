//! Finding runs and reading their records, whole, torn and foreign.

use std::fs;
use std::path::PathBuf;

use tempfile::tempdir;
use vlp_bench::experiments::record::{PublishedEffect, Status};
use vlp_bench::reports::{End, read};

use super::{failed, header, published, study, write};

#[track_caller]
fn refusal(paths: &[PathBuf]) -> String {
    read(paths).expect_err("refused").to_string()
}

#[test]
fn runs_are_found_at_any_depth_and_put_in_the_order_of_arms_and_seeds() {
    let folder = tempdir().expect("a folder");
    study(1.0, 3).write(&folder.path().join("a/b"));
    fs::create_dir_all(folder.path().join("a/empty/checkpoint")).expect("a folder");
    let found = read(&[folder.path().to_owned()]).expect("runs");
    let [experiment] = found.experiments.as_slice() else { panic!("one experiment") };
    let order: Vec<_> =
        experiment.runs.iter().map(|run| (run.header.arm.as_str(), run.header.seed)).collect();
    assert_eq!(
        order,
        [("without", 0), ("without", 1), ("without", 2), ("with", 0), ("with", 1), ("with", 2)]
    );
    assert_eq!(experiment.title(), "albef/distillation-weight (cpu)");
    assert!(experiment.missing.is_empty() && experiment.unfinished.is_empty());
}

#[test]
fn a_run_given_twice_counts_once() {
    let folder = tempdir().expect("a folder");
    study(1.0, 2).write(folder.path());
    let paths = [folder.path().to_owned(), folder.path().join("with-0")];
    assert_eq!(read(&paths).expect("runs").experiments[0].runs.len(), 4);
}

#[test]
fn profiles_and_names_make_experiments_of_their_own() {
    let folder = tempdir().expect("a folder");
    let mut other = study(1.0, 1);
    study(1.0, 1).write(&folder.path().join("cpu"));
    other.about.profile = Some("gpu".to_owned());
    other.about.name = "albef/distillation-weight".to_owned();
    other.arms[0].1 = 30.0;
    other.arms[1].1 = 31.0;
    other.write(&folder.path().join("gpu"));
    let found = read(&[folder.path().to_owned()]).expect("runs");
    let titles: Vec<_> = found.experiments.iter().map(|experiment| experiment.title()).collect();
    assert_eq!(titles, ["albef/distillation-weight (cpu)", "albef/distillation-weight (gpu)"]);
}

#[test]
fn a_torn_last_line_is_passed_over_and_its_run_is_unfinished() {
    let folder = tempdir().expect("a folder");
    study(1.0, 2).write(folder.path());
    let file = folder.path().join("with-1/records.jsonl");
    let text = fs::read_to_string(&file).expect("records");
    fs::write(&file, &text[..text.len() - 40]).expect("cut");
    let experiment = read(&[folder.path().to_owned()]).expect("runs").experiments.remove(0);
    assert_eq!(experiment.runs.len(), 3);
    let [run] = experiment.unfinished.as_slice() else { panic!("one unfinished run") };
    assert_eq!((run.header.arm.as_str(), run.header.seed), ("with", 1));
    assert!(matches!(run.end, End::Open));
    assert_eq!(run.examples.len(), 3, "all whole lines are read");
}

#[test]
fn failed_and_missing_runs_are_told_apart() {
    let folder = tempdir().expect("a folder");
    let study = study(1.0, 3);
    study.write(folder.path());
    let mut records = study.records("with", 1);
    *records.last_mut().expect("an end") = failed(400, "the loss of itc is not finite");
    write(&folder.path().join("with-1"), &records);
    fs::remove_dir_all(folder.path().join("without-2")).expect("removed");
    let experiment = read(&[folder.path().to_owned()]).expect("runs").experiments.remove(0);
    assert_eq!(experiment.missing, [("without".to_owned(), 2)]);
    let [run] = experiment.unfinished.as_slice() else { panic!("one unfinished run") };
    assert!(matches!(&run.end, End::Failed(failed) if failed.step == 400));
}

#[test]
fn a_run_that_has_only_begun_to_write_is_named_and_not_refused() {
    let folder = tempdir().expect("a folder");
    study(1.0, 1).write(folder.path());
    let begun = folder.path().join("zz");
    fs::create_dir_all(&begun).expect("a folder");
    fs::write(begun.join("records.jsonl"), r#"{"record":"run","for"#).expect("a file");
    let found = read(&[folder.path().to_owned()]).expect("runs");
    assert_eq!(found.empty, [begun]);
    assert_eq!(found.experiments[0].runs.len(), 2);
}

#[test]
fn damaged_and_foreign_records_are_refused_with_file_and_line() {
    let folder = tempdir().expect("a folder");
    let place = folder.path().join("run");
    let records = study(1.0, 1).records("with", 0);
    let file = write(&place, &records);
    let text = fs::read_to_string(&file).expect("records");
    let lines: Vec<&str> = text.lines().collect();
    let damaged = format!("{}\n{}\n{{\"record\":\"train\"}}\n", lines[0], lines[1]);
    for (content, words) in [
        (damaged, &[":3: ", "missing field `step`", "damaged"][..]),
        (format!("{text}{text}"), &[":27: ", "a second run begins here"]),
        ("name,value\n1,2\n".to_owned(), &[":1: ", "not the start of a run's records", "vlp run"]),
        (format!("{}\n", lines[1]), &[":1: ", "not the start of a run's records"]),
        (
            text.replacen("\"format\":1", "\"format\":7", 1),
            &[":1: ", "records of format 7, this program reads format 1"],
        ),
    ] {
        fs::write(&file, content).expect("a file");
        let message = refusal(std::slice::from_ref(&place));
        for word in words {
            assert!(message.contains(word), "{word:?} is not in {message:?}");
        }
        assert!(message.contains("records.jsonl"));
    }
}

#[test]
fn paths_without_runs_are_refused_by_name() {
    let folder = tempdir().expect("a folder");
    let (nowhere, file) = (folder.path().join("nowhere"), folder.path().join("file"));
    fs::write(&file, "").expect("a file");
    assert!(refusal(&[nowhere]).contains("nowhere: does not exist"));
    assert!(refusal(&[file]).contains("file: is a file"));
    assert!(refusal(&[folder.path().to_owned()]).contains("no run in it"));
}

#[test]
fn two_finished_runs_of_one_arm_and_seed_are_refused_with_what_differs() {
    let folder = tempdir().expect("a folder");
    let study = study(1.0, 2);
    study.write(folder.path());
    let mut records = study.records("with", 1);
    header(&mut records).hash = "another".to_owned();
    header(&mut records).config["train"]["steps"] = 2000.into();
    header(&mut records).program = "90d1".to_owned();
    write(&folder.path().join("with-1-again"), &records);
    let message = refusal(&[folder.path().to_owned()]);
    for word in
        ["arm `with`, seed 1", "differ in the program, train.steps", "with-1-again", "belong together"]
    {
        assert!(message.contains(word), "{word:?} is not in {message:?}");
    }
}

#[test]
fn arms_and_seeds_that_were_added_later_belong_to_the_same_experiment() {
    let folder = tempdir().expect("a folder");
    let mut later = study(1.0, 3);
    study(1.0, 2).write(folder.path());
    later.about.seeds = vec![0, 1, 2];
    write(&folder.path().join("with-2"), &later.records("with", 2));
    let experiment = read(&[folder.path().to_owned()]).expect("runs").experiments.remove(0);
    assert_eq!(experiment.about.seeds, [0, 1, 2]);
    assert_eq!(experiment.missing, [("without".to_owned(), 2)]);
}

#[test]
fn a_claim_is_one_however_its_runs_differ_from_the_paper() {
    let folder = tempdir().expect("a folder");
    let with = |pairs: &str| {
        let mut study = study(1.0, 1);
        let differences = vec![format!("14M training pairs there, {pairs} here")];
        let published = PublishedEffect { differences, ..published(0.74, Status::Verified) };
        study.about.claims[0].published = Some(published);
        study
    };
    write(&folder.path().join("with-0"), &with("1,402").records("with", 0));
    write(&folder.path().join("without-0"), &with("6,029").records("without", 0));
    let experiment = read(&[folder.path().to_owned()]).expect("runs").experiments.remove(0);
    let [claim] = experiment.about.claims.as_slice() else { panic!("one claim") };
    assert_eq!(claim.published.as_ref().expect("published").differences.len(), 2);
}
