//! The registry of published effects.

use vlp_bench::experiments::published::{Rerun, effect, keys, papers};
use vlp_bench::experiments::record::Status;

const RERUN: Rerun =
    Rerun { metric: "retrieval.mean_recall", pairs: 8000, size: 32, batch: 64, tested: "scenes" };

#[test]
fn every_effect_is_between_two_rows_that_have_its_metric() {
    for paper in papers().expect("a right registry") {
        for (name, table) in &paper.tables {
            for (effect, difference) in &table.effects {
                let place = format!("{}/{name}/{effect}", paper.key);
                let metric =
                    table.metrics.get(&difference.metric).unwrap_or_else(|| panic!("{place}: metric"));
                let own = vec![difference.metric.clone()];
                let columns = if metric.mean.is_empty() { &own } else { &metric.mean };
                for arm in [&difference.arm, &difference.minus] {
                    let row = table.arms.get(arm).unwrap_or_else(|| panic!("{place}: no row {arm}"));
                    for column in columns {
                        assert!(row.contains_key(column), "{place}: {arm} has no {column}");
                    }
                }
            }
        }
    }
}

#[test]
fn every_cell_is_a_number_of_a_known_column_with_a_credible_origin() {
    for paper in papers().expect("a right registry") {
        assert!(!paper.title.is_empty() && paper.arxiv.contains('.'), "{}", paper.key);
        for (name, table) in &paper.tables {
            for (arm, row) in &table.arms {
                for (column, cell) in row {
                    let place = format!("{}/{name}: {arm}, {column}", paper.key);
                    assert!(table.metrics.contains_key(column), "{place}: no such column");
                    assert!(cell.value.is_finite(), "{place}");
                    assert!(
                        cell.spread.is_none() || cell.runs.is_some_and(|runs| runs > 1),
                        "{place}: spread of what"
                    );
                }
            }
        }
    }
}

#[test]
fn metrics_that_are_said_to_be_alike_are_ones_that_runs_measure() {
    use vlp_bench::experiments::evaluate::{self, retrieval};
    let retrieval = evaluate::Config::Retrieval(retrieval::Config { rerank: Some(1), ..Default::default() });
    let measured = [retrieval.metrics(), evaluate::Config::ZeroShot(Default::default()).metrics()].concat();
    for paper in papers().expect("a right registry") {
        for metric in paper.tables.values().flat_map(|table| table.metrics.values()) {
            assert!(
                metric.like.iter().all(|like| measured.contains(like)),
                "{}: {:?}",
                paper.key,
                metric.like
            );
        }
    }
}

#[test]
fn an_effect_is_the_difference_of_its_rows_and_as_unsure_as_they_are() {
    let found = effect("albef/table-1/distillation", &RERUN).expect("an entry");
    // (97.47 - 97.01 + 92.58 - 92.16) / 2
    assert!((found.value.expect("a value") - 0.44).abs() < 1e-9);
    assert_eq!(found.status, Status::Recalled);
    assert!(found.source.contains("arXiv:2107.07651, Table 1"), "{}", found.source);
    assert!(found.incomparable.is_empty());
    let differences = found.differences.join("; ");
    for words in
        ["4000000 training pairs there, 8000 here", "256 pixels a side there, 32 here", "Flickr30K", "512"]
    {
        assert!(differences.contains(words), "{words}: {differences}");
    }
}

#[test]
fn an_effect_on_something_else_may_not_be_compared() {
    let rerun = Rerun { metric: "zero_shot.top1", ..RERUN };
    let found = effect("albef/table-1/contrast", &rerun).expect("an entry");
    assert_eq!(found.incomparable.len(), 1);
    assert!(found.incomparable[0].ends_with("zero_shot.top1 here"), "{}", found.incomparable[0]);
}

#[test]
fn every_key_can_be_looked_up_and_no_other() {
    let keys = keys().expect("a right registry");
    assert!(keys.iter().any(|key| key == "albef/table-1/hard-negatives"));
    for key in &keys {
        assert!(effect(key, &RERUN).is_ok(), "{key}");
    }
    let refused = effect("albef/table-1/distilation", &RERUN).expect_err("refused").to_string();
    assert!(refused.contains("did you mean `albef/table-1/distillation`?"), "{refused}");
}
