//! The registry of published effects.

use std::fs;

use tempfile::tempdir;
use vlp_bench::experiments::file::{Options, check as check_file};
use vlp_bench::experiments::published::{Rerun, check, effect, keys, listing, overview, papers};
use vlp_bench::experiments::record::{Sign, Status};

const RERUN: Rerun =
    Rerun { metric: "retrieval.mean_recall", pairs: 8000, size: 32, batch: 64, tested: "scenes" };

/// A small right file, in which errors are planted.
const RIGHT: &str = r#"title: A Paper
authors: Nobody et al.
venue: Nowhere 2026
arxiv: "2601.00001"
sources: {paper: its text}
tables:
  table-1:
    number: Table 1
    title: a thing
    procedure: trained
    status: verified
    source: paper
    metrics:
      tr: {is: R@1, tested: Flickr30K, protocol: zero_shot}
      ir: {is: R@1, tested: COCO, protocol: {fine_tuned: COCO}}
      both: {is: mean, tested: both, protocol: zero_shot, mean: [tr, ir]}
    arms:
      without: {tr: 40.25, ir: 30.5}
      with: {tr: {value: 44.5, spread: 0.2, runs: 3}, ir: 35.0}
    effects:
      thing: {what: the thing, metric: both, arm: with, minus: without}
  figure-1:
    number: Figure 1
    title: the thing in words
    procedure: trained
    status: verified
    source: paper
    metrics: {top1: {is: accuracy, tested: ImageNet, protocol: zero_shot}}
    arms: {with: {}, without: {}}
    effects:
      thing: {what: the thing, metric: top1, arm: with, minus: without, stated: {value: 1.3, words: "+1.3 %"}}
"#;

/// What is said of the right file after `from` has been replaced with `to`.
fn refused(from: &str, to: &str) -> String {
    assert!(RIGHT.contains(from), "{from}");
    let folder = tempdir().unwrap();
    let file = folder.path().join("paper.yaml");
    fs::write(&file, RIGHT.replacen(from, to, 1)).unwrap();
    let message = check(&file).expect_err("refused").to_string();
    message.replace(&format!("{}/", folder.path().display()), "")
}

#[track_caller]
fn assert_refused(from: &str, to: &str, words: &str, line: usize) {
    let message = refused(from, to);
    assert!(message.contains(words), "{words:?} is not in\n{message}");
    assert!(message.contains(&format!("--> paper.yaml:{line}:")), "line {line} is not in\n{message}");
}

#[test]
fn every_shipped_table_passes_the_lint_and_there_are_nine_papers() {
    let papers = papers().unwrap_or_else(|faults| panic!("{faults}"));
    let keys: Vec<&str> = papers.iter().map(|paper| paper.key.as_str()).collect();
    assert_eq!(keys, ["uniter", "oscar", "clip", "vilt", "albef", "blip", "coca", "vlmo", "blip2"]);
    for paper in papers {
        assert!(paper.arxiv.contains('.') && !paper.title.is_empty(), "{}", paper.key);
    }
}

#[test]
fn a_right_file_is_told_so_and_vlp_check_takes_it_as_one_of_the_registry() {
    let folder = tempdir().unwrap();
    let file = folder.path().join("paper.yaml");
    fs::write(&file, RIGHT).unwrap();
    assert!(check(&file).unwrap().ends_with("paper.yaml: 2 tables, 2 effects, nothing wrong"));
    assert!(check_file(&file, &Options::default()).unwrap().ends_with("nothing wrong"));
    fs::write(&file, RIGHT.replace("tr: 40.25", "tr: 4025")).unwrap();
    let message = check_file(&file, &Options::default()).unwrap_err().to_string();
    assert!(message.contains("4025 lies outside the range of `tr`, 0 to 100"), "{message}");
}

#[test]
fn a_key_that_is_there_twice_is_refused() {
    assert_refused("with: {tr: {", "without: {tr: {", "duplicate", 19);
    assert_refused("  figure-1:", "  table-1:", "duplicate", 22);
}

#[test]
fn a_value_outside_its_metrics_range_is_refused() {
    assert_refused("ir: 35.0", "ir: 350", "350 lies outside the range of `ir`, 0 to 100", 19);
    assert_refused("tr: 40.25", "tr: -1", "-1 lies outside the range of `tr`", 18);
    assert_refused("value: 1.3", "value: 130", "130 is more than the range of `top1`", 31);
    assert_refused("zero_shot}\n", "zero_shot, range: [5, 5]}\n", "the range of `tr` holds no value", 14);
}

#[test]
fn an_arm_without_a_source_is_refused_and_so_is_a_source_that_is_not_explained() {
    assert_refused("    source: paper\n    metrics:\n", "    metrics:\n", "arm `without` has no source", 17);
    let message = refused("    source: paper\n    metrics: {top1", "    metrics: {top1");
    assert!(message.contains("arm `with` has no source"), "{message}");
    assert_refused("source: paper", "source: memory", "`sources` does not say what `memory` is", 12);
    assert_refused(
        "ir: 35.0",
        "ir: {value: 35.0, source: code}",
        "`sources` does not say what `code` is",
        19,
    );
}

#[test]
fn an_effect_whose_arms_or_metric_do_not_exist_is_refused() {
    assert_refused("arm: with,", "arm: wiht,", "effect `thing` names `wiht`, which is no arm", 21);
    assert_refused("arm: with,", "arm: wiht,", "did you mean `with`?", 21);
    assert_refused("minus: without}", "minus: none}", "names `none`, which is no arm", 21);
    assert_refused("metric: both", "metric: r@1", "effect `thing` is in `r@1`, which is no metric", 21);
    assert_refused("minus: without}", "minus: with}", "compares `with` with itself", 21);
    assert_refused(", ir: 30.5", "", "`without` has no value of `both`", 21);
    assert_refused(", stated: {value: 1.3, words: \"+1.3 %\"}", "", "`with` has no value of `top1`", 31);
    assert_refused("value: 1.3", "value: 1.3, sign: negative", "states a value of the other sign", 31);
}

#[test]
fn a_spread_without_a_number_of_runs_is_refused() {
    assert_refused(", runs: 3", "", "the spread of `with` in `tr` is over no number of runs", 19);
    assert_refused("runs: 3", "runs: 1", "1 run has no spread", 19);
    assert_refused("spread: 0.2", "spread: -0.2", "-0.2 is no spread", 19);
}

#[test]
fn columns_and_means_that_do_not_exist_are_refused() {
    assert_refused("{tr: 40.25", "{tx: 40.25", "has a value of `tx`, which is no metric", 18);
    assert_refused("mean: [tr, ir]", "mean: [tr, xy]", "is the mean of `xy`, which is no metric", 16);
    assert_refused("ir: 35.0", "ir: 35.0, both: 39.75", "`both` is a mean of other columns", 19);
    assert_refused("status: verified", "status: certain", "there is no `certain`", 11);
}

#[test]
fn columns_rows_and_tables_that_are_equal_to_the_digit_are_refused() {
    let folder = tempdir().unwrap();
    let file = folder.path().join("paper.yaml");
    fs::write(&file, RIGHT.replace("ir: 30.5", "ir: 40.25")).unwrap();
    assert!(check(&file).is_ok(), "one equal pair is no copy");
    fs::write(&file, RIGHT.replace("ir: 30.5", "ir: 40.25").replace("ir: 35.0", "ir: 44.5")).unwrap();
    let message = check(&file).unwrap_err().to_string();
    assert!(message.contains("`ir` and `tr` are equal to the digit"), "{message}");
    assert!(message.contains("paper.yaml:15:"), "{message}");

    assert_refused(
        "{value: 44.5, spread: 0.2, runs: 3}, ir: 35.0",
        "40.25, ir: 30.5",
        "equal to the digit",
        19,
    );

    // The same numbers under another name and in another order, as a benchmark page once showed them.
    let table = RIGHT.split("  figure-1:").next().unwrap().split("tables:\n").nth(1).unwrap();
    let copy = table.replace("table-1", "table-2").replace("Flickr30K", "SBU").replace("without", "before");
    fs::write(&file, RIGHT.replace("  figure-1:", &format!("{copy}  figure-1:"))).unwrap();
    let message = check(&file).unwrap_err().to_string();
    assert!(message.contains("`paper/table-2` and `paper/table-1` are equal to the digit"), "{message}");
    assert!(message.contains("paper.yaml:22:"), "{message}");
}

#[test]
fn a_table_that_another_paper_has_already_is_refused() {
    let folder = tempdir().unwrap();
    let file = folder.path().join("copied.yaml");
    let place = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments/published/oscar.yaml");
    fs::write(&file, fs::read_to_string(place).unwrap()).unwrap();
    let message = check(&file).unwrap_err().to_string();
    assert!(message.contains("`copied/table-3` and `oscar/table-3` are equal to the digit"), "{message}");
}

#[test]
fn every_error_of_a_file_is_told_at_once() {
    let message = refused("tr: 40.25, ir: 30.5}", "tr: 4025, ir: 3050}");
    assert!(message.contains("4025 lies") && message.contains("3050 lies"), "{message}");
}

#[test]
fn metrics_that_are_said_to_be_alike_are_ones_that_runs_measure() {
    use vlp_bench::experiments::evaluate::{self, retrieval};
    let reranked = evaluate::Config::Retrieval(retrieval::Config { rerank: Some(1), ..Default::default() });
    let every = evaluate::Config::all().into_iter().chain([reranked]);
    let measured: Vec<String> = every.flat_map(|one| one.metrics()).collect();
    for paper in papers().unwrap() {
        for (_, table) in paper.tables.iter() {
            for (name, metric) in table.metrics.iter() {
                for like in &metric.like {
                    assert!(measured.contains(like), "{}: {name} is like {like}", paper.key);
                }
            }
        }
    }
}

#[test]
fn an_effect_is_the_difference_of_its_rows_and_as_unsure_as_they_are() {
    let found = effect("albef/table-1/distillation", &RERUN).unwrap();
    // (97.47 - 97.01 + 92.58 - 92.16) / 2
    assert!((found.value.unwrap() - 0.44).abs() < 1e-9);
    assert_eq!(found.status, Status::Recalled);
    assert!(found.source.contains("arXiv:2107.07651, Table 1"), "{}", found.source);
    assert!(found.incomparable.is_empty());
    let differences = found.differences.join("; ");
    for words in [
        "4000000 training pairs there, 8000 here",
        "256 pixels a side there, 32 here",
        "tested on Flickr30K there, on scenes here",
        "fine-tuned on Flickr30K there",
        "512",
    ] {
        assert!(differences.contains(words), "{words}: {differences}");
    }
    // 69.73 - 66.99 of ViLT, zero-shot; 74.41 +- 0.21 - 73.54 +- 0.02 over three fine-tunings.
    let words =
        effect("vilt/table-5/whole-words-text", &Rerun { metric: "retrieval.image_to_text_r1", ..RERUN });
    let words = words.unwrap();
    assert!((words.value.unwrap() - 2.74).abs() < 1e-9);
    assert_eq!((words.status, words.spread, words.incomparable.len()), (Status::Verified, None, 0));
    let pairs = effect("vilt/table-5/whole-words-nlvr2", &RERUN).unwrap();
    assert_eq!(pairs.runs, Some(3));
    assert!((pairs.spread.unwrap() - 0.21f64.hypot(0.02)).abs() < 1e-9);
}

#[test]
fn an_effect_that_a_paper_states_in_words_has_a_sign_and_no_number() {
    let rerun = Rerun { metric: "question_answering.accuracy", ..RERUN };
    let found = effect("blip2/figure-5/first-stage-opt", &rerun).unwrap();
    assert_eq!((found.value, found.sign), (None, Some(Sign::Positive)));
    assert_eq!(found.stated.as_deref(), Some("substantially lower without it"));
    let found = effect("clip/section-3.1.4/prompt", &Rerun { metric: "zero_shot.top1", ..RERUN }).unwrap();
    assert_eq!((found.value, found.sign), (Some(1.3), Some(Sign::Positive)));
}

#[test]
fn an_effect_on_something_else_may_not_be_compared() {
    let rerun = Rerun { metric: "zero_shot.top1", ..RERUN };
    let found = effect("albef/table-1/contrast", &rerun).unwrap();
    assert_eq!(found.incomparable.len(), 1);
    assert!(found.incomparable[0].ends_with("zero_shot.top1 here"), "{}", found.incomparable[0]);
}

#[test]
fn every_key_can_be_looked_up_and_no_other() {
    let keys = keys().unwrap();
    assert!(keys.iter().any(|key| key == "albef/table-1/hard-negatives"));
    for key in keys.iter().step_by(7) {
        assert!(effect(key, &RERUN).is_ok(), "{key}");
    }
    let refused = effect("albef/table-1/distilation", &RERUN).unwrap_err().to_string();
    assert!(refused.contains("did you mean `albef/table-1/distillation`?"), "{refused}");
}

#[test]
fn the_list_has_every_table_and_shows_no_recalled_number() {
    let overview = overview().unwrap();
    for paper in papers().unwrap() {
        let whole = listing(&paper.key).unwrap();
        for (key, table) in paper.tables.iter() {
            assert!(overview.contains(&format!("  {key}")), "{key}");
            assert!(whole.contains(&format!("{}/{key}  {}", paper.key, table.number)), "{key}");
        }
    }
    let albef = listing("albef").unwrap();
    assert!(albef.contains("83.14") && albef.contains("recalled, unverified"), "{albef}");
    for recalled in ["96.55", "79.88", "+0.44", "+2.86"] {
        assert!(!albef.contains(recalled), "{recalled}");
    }
    let vilt = listing("vilt").unwrap();
    assert!(vilt.contains("70.16±0.01") && vilt.contains("over 3 runs") && vilt.contains("+2.74"), "{vilt}");
    let unknown = listing("vlit").unwrap_err().to_string();
    assert!(unknown.contains("did you mean `vilt`?"), "{unknown}");
}
