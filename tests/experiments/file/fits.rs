//! Parts that do not fit each other.

use super::{RIGHT, refuses, told, with};

#[test]
fn an_objective_that_the_model_cannot_serve_is_refused_with_both_reasons_and_what_fits() {
    refuses(
        &with("objectives: [itc, mlm]"),
        &[(
            "4:19",
            &[
                "`mlm` cannot train `clip`",
                "= mlm needs a word decoder (predict_words)",
                "help: objectives that fit clip: bow, caption, itc, itc_momentum, itc_sigmoid",
            ],
        )],
    );
}

#[test]
fn a_missing_teacher_is_named() {
    told(&with("objectives: [itc_momentum]"), "4:14", "`train` sets no `teacher`");
    told(&with("objectives: [itc_momentum]"), "4:14", "set `train.teacher: {momentum: 0.995}`");
}

#[test]
fn a_batch_of_one_has_nothing_to_contrast() {
    told(&with("train: {batch: 1}"), "5:5", "itc needs at least 2 pairs a batch");
    told(&with("train: {batch: 1}"), "5:5", "`train.batch` is 1");
}

#[test]
fn a_batch_larger_than_the_data_is_refused() {
    told(&with("train: {batch: 65}"), "6:16", "a batch of 65 is more than all 64 training pairs");
}

#[test]
fn a_weight_that_is_not_above_zero_is_refused() {
    for weight in ["0", "-1"] {
        let text = with(&format!("objectives: [itc: {{weight: {weight}}}]"));
        refuses(&text, &[("4:28", &["`itc` has the weight", "leave the objective out of the list"])]);
    }
}

#[test]
fn an_objective_listed_twice_is_refused_at_the_second_place() {
    refuses(&with("objectives: [itc, itc: {weight: 2}]"), &[("4:19", &["`itc` is listed twice"])]);
    refuses(&with("objectives: []"), &[("4:1", &["no objective is listed", "known objectives: answer"])]);
}

#[test]
fn faults_of_the_data_are_told_at_their_setting() {
    let text = with("data: {train: {scenes: {pairs: 64, noise: 1.5}}, test: {scenes: {pairs: 32}}}");
    refuses(&text, &[("2:43", &["`scenes.noise` is 1.5", "give a share between 0 and 1"])]);
    let text = with("data: {train: {scenes: {pairs: 64}}, test: {scenes: {pairs: 0}}, size: 32}");
    refuses(&text, &[("2:61", &["`scenes.pairs` is 0"])]);
    let text = with("data: {train: {scenes: {pairs: 64}}, test: {scenes: {}}, size: 4}");
    refuses(&text, &[("2:64", &["`data.size` is 4", "between 8 and 1024"])]);
    let text = with("data: {train: {scenes: {pairs: 64}}, test: {scenes: {}}, augment: {crop: [0, 1]}}");
    refuses(&text, &[("2:68", &["`augment.crop` is [0, 1]"])]);
}

#[test]
fn an_evaluation_needs_test_pairs() {
    refuses(&with("data: {train: {scenes: {pairs: 64}}}"), &[("7:1", &["`data.test` names no pairs"])]);
}

#[test]
fn ranking_anew_needs_a_joint_pass_and_a_matching_head() {
    let text = with("evaluate: [retrieval: {rerank: 4}]");
    told(&text, "7:32", "`rerank` cannot evaluate `clip`");
    told(&text, "7:32", "which only `itm` trains");
}

#[test]
fn zero_shot_templates_say_where_the_class_stands() {
    refuses(
        &with("evaluate: [zero_shot: {templates: [\"a picture\"]}]"),
        &[("7:24", &["a template needs `{}`"])],
    );
    refuses(&with("evaluate: [retrieval, retrieval]"), &[("7:12", &["`retrieval` is listed twice"])]);
}

#[test]
fn the_reported_split_never_chooses_the_reported_step() {
    let best = |split: &str| {
        format!(
            "{}select: {{step: {{best_on: {{split: {split}, metric: retrieval.mean_recall}}}}}}\n",
            RIGHT.replace("batch: 8", "batch: 8, evaluate_every: 2")
        )
    };
    refuses(
        &best("test"),
        &[("8:34", &["the reported split cannot choose what is reported", "choose on `val`"])],
    );
    refuses(&best("val"), &[("8:34", &["`data.val` names no pairs"])]);
    refuses(&best("vall"), &[("8:34", &["there is no `vall`", "did you mean `val`?"])]);
    let text = best("val").replace("test: {", "val: {scenes: {pairs: 16}}, test: {");
    assert!(super::read_with(&text, &super::Options::default()).is_ok());
    refuses(&text.replace("mean_recall", "mean"), &[("8:47", &["nothing measures `retrieval.mean`"])]);
    let never = text.replace(", evaluate_every: 2", "");
    refuses(&never, &[("8:17", &["there is one step to choose from"])]);
}

#[test]
fn a_freeze_pattern_that_matches_nothing_is_refused_with_what_could_be_frozen() {
    let text = with("train: {batch: 8, freeze: [\"image.*\", \"imagine.*\"]}");
    refuses(&text, &[("6:39", &["`imagine.*` freezes nothing", "`image.*`"])]);
    refuses(&with("train: {batch: 8, freeze: [\"*\"]}"), &[("6:19", &["every parameter is frozen"])]);
}

#[test]
fn a_model_that_cannot_be_built_is_refused_in_its_own_words() {
    told(&with("model: {clip: {patch: 7}}"), "3:9", "`clip`: ");
    told(&with("model: {clip: {image: {width: 30, depth: 1, heads: 4}}}"), "3:9", "`clip`: ");
}

#[test]
fn the_same_pictures_are_never_learnt_and_tested() {
    let text =
        with("data: {train: {emoji: {styles: [noto], concepts: all}}, test: {emoji: {styles: [noto]}}}");
    told(&text, "2:57", "shows emoji of the style noto");
}

#[test]
fn an_objective_that_hides_words_needs_a_tokenizer_with_something_to_hide_them_behind() {
    let path = |name: &str| {
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/spelling").join(name)
    };
    let text = |name: &str| {
        format!(
            "question: q\ndata: {{train: {{scenes: {{pairs: 16}}}}, tokenizer: {}}}\nmodel: {{albef: {{}}}}\n\
             objectives: [mlm]\ntrain: {{batch: 8, steps: 2}}\nevaluate: []\nseeds: [0]\n",
            path(name).display()
        )
    };
    assert!(super::read_with(&text("vocab.txt"), &super::Options::default()).is_ok());
    let message = super::read_with(&text("clip.json"), &super::Options::default()).unwrap_err().join("\n");
    assert!(message.contains("`mlm` cannot be part of this run") && message.contains(":4:14"), "{message}");
    let message = super::read_with(&text("none"), &super::Options::default()).unwrap_err().join("\n");
    assert!(message.contains("is not there") && message.contains(":2:"), "{message}");
}

#[test]
fn an_evaluation_that_the_model_cannot_serve_is_refused_with_both_reasons() {
    let text = with("model: uniter").replace("- itc", "- mlm");
    for words in [
        "`retrieval` cannot evaluate `uniter`",
        "= retrieval needs image and text embedded apart, in one space (embed)",
        "help: `retrieval: {by: matching}` ranks by the matching head of `itm`",
    ] {
        told(&text, "7:12", words);
    }
}
