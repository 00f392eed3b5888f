//! Arms, seeds and claims.

use serde_json::json;

use super::{RIGHT, read, refuses, with};

fn ablate(arms: &str) -> String {
    format!("{RIGHT}ablate: {{control: a, arms: {{{arms}}}}}\n")
}

#[test]
fn arms_keep_the_order_of_the_file_and_tell_what_they_change() {
    let experiment = read(&ablate("b: {train.steps: 3}, a: {}, c: {objectives: [itc: {weight: 2}]}"));
    let names: Vec<&str> = experiment.arms.iter().map(|arm| arm.name.as_str()).collect();
    assert_eq!((names, experiment.control.as_deref()), (vec!["b", "a", "c"], Some("a")));
    assert_eq!(json!(experiment.arms[0].overrides), json!({"train.steps": 3}));
    assert_eq!(json!(experiment.arms[2].overrides), json!({"objectives": [{"itc": {"weight": 2}}]}));
    assert_eq!(experiment.arms[2].run.objectives[0].weight(), 2.0);
    assert_eq!(experiment.arms[1].run.objectives[0].weight(), 1.0);
}

#[test]
fn an_arm_that_names_a_key_that_does_not_exist_is_refused() {
    refuses(
        &ablate("a: {}, b: {train.stepz: 3}"),
        &[("8:46", &["unknown key `stepz`", "did you mean `steps`?", "in arm `b`"])],
    );
    refuses(
        &ablate("a: {}, b: {objectives.itm.weight: 3}"),
        &[("8:51", &["`objectives` has no `itm`", "in arm `b`"])],
    );
    refuses(
        &ablate("a: {}, b: {trian.steps: 3}"),
        &[("8:40", &["arm `b` cannot change `trian`", "did you mean `train`?"])],
    );
    refuses(&ablate("a: {}, b: {\"train.stepz\": 3}"), &[("8:40", &["unknown key `stepz`"])]);
    refuses(&ablate("a: {}, b: 3"), &[("8:39", &["expected the changes of arm `b`, found `3`"])]);
}

#[test]
fn equal_arms_are_refused() {
    let same = ablate("a: {}, b: {train.steps: 4}");
    refuses(&same, &[("8:36", &["arm `b` is the same run as arm `a`"])]);
}

#[test]
fn a_control_must_be_one_of_the_arms() {
    let text =
        format!("{RIGHT}ablate: {{control: first, arms: {{frist: {{}}, second: {{train.steps: 3}}}}}}\n");
    refuses(&text, &[("8:19", &["the control `first` is no arm", "did you mean `frist`?"])]);
    let text = format!("{RIGHT}ablate: {{arms: {{a: {{}}}}}}\n");
    refuses(&text, &[("8:9", &["`ablate` names no control", "a"])]);
    let text = format!("{RIGHT}ablate: {{control: a, arms: {{}}}}\n");
    refuses(&text, &[("8:28", &["`ablate` has no arms"])]);
    let text = format!("{RIGHT}ablate: {{controll: a, control: a, arms: {{a: {{}}}}}}\n");
    refuses(&text, &[("8:10", &["unknown key `controll`"])]);
}

#[test]
fn duplicate_seeds_are_refused() {
    refuses(&with("seeds: [3, 1, 3]"), &[("8:15", &["seed 3 is given twice"])]);
    refuses(&with("seeds: []"), &[("8:8", &["there are no seeds"])]);
    refuses(&with("seeds: [-1]"), &[("8:9", &["expected a whole number, 0 or more"])]);
}

fn claim(effect: &str) -> String {
    format!(
        "{}claims:\n  - {{effect: {{{effect}}}, expect: positive}}\n",
        ablate("a: {}, b: {train.steps: 3}")
    )
}

#[test]
fn a_claim_is_about_arms_and_a_metric_that_exist() {
    let right = read(&claim("metric: retrieval.mean_recall, arm: b, minus: a"));
    assert_eq!((right.claims.len(), right.claims[0].effect.arm.as_str()), (1, "b"));
    let metric = claim("metric: retrieval.mean_recal, arm: b, minus: a");
    refuses(
        &metric,
        &[
            (
                "10:23",
                &["arm `b` measures no `retrieval.mean_recal`", "did you mean `retrieval.mean_recall`?"],
            ),
            ("10:23", &["arm `a` measures no"]),
        ],
    );
    let arm = claim("metric: retrieval.mean_recall, arm: bb, minus: a");
    refuses(&arm, &[("10:51", &["there is no arm `bb`", "did you mean `b`?"])]);
    let itself = claim("metric: retrieval.mean_recall, arm: a, minus: a");
    refuses(&itself, &[("10:61", &["a claim compares `a` with itself"])]);
    let rerank = claim("metric: rerank.mean_recall, arm: b, minus: a");
    refuses(&rerank, &[("10:23", &["arm `b` measures no `rerank.mean_recall`"]), ("10:23", &["arm `a`"])]);
}

#[test]
fn papers_and_published_effects_are_entries_of_the_registry() {
    let right = format!(
        "{}paper: {{key: albef, table: Table 1}}\n",
        claim("metric: retrieval.mean_recall, arm: b, minus: a")
            .replace("expect: positive", "expect: positive, published: albef/table-1/distillation")
    );
    assert_eq!(read(&right).claims[0].published.as_deref(), Some("albef/table-1/distillation"));
    let effect = right.replace("table-1/distillation", "table-1/destillation");
    refuses(
        &effect,
        &[(
            "10:94",
            &[
                "no published effect is called `albef/table-1/destillation`",
                "did you mean `albef/table-1/distillation`?",
            ],
        )],
    );
    refuses(&with("paper: {key: albfe}"), &[("8:14", &["no paper `albfe`", "did you mean `albef`?"])]);
    refuses(
        &with("paper: {key: albef, table: Table 9}"),
        &[("8:28", &["no `Table 9` of `albef`", "did you mean `Table 1`?"])],
    );
}
