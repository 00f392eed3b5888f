//! Bases, profiles and flags: what lies over what.

use super::{Folder, Options, RIGHT, read, read_with, refuses, refuses_with};

fn profile(name: &str) -> Options {
    Options { profile: Some(name.to_owned()), ..Options::default() }
}

fn set(flags: &[&str]) -> Options {
    Options { set: flags.iter().map(|flag| (*flag).to_owned()).collect(), ..Options::default() }
}

const SIZES: &str =
    "profiles: {small: {train.steps: 2, data.train.scenes.pairs: 16}, large: {train: {steps: 9}}}\n";

#[test]
fn a_file_lies_over_its_base_key_by_key() {
    let folder = Folder::new();
    folder.write(
        "presets/base.yaml",
        "train: {steps: 7, rate: 0.01}\nmodel: {albef: {}}\nevaluate: [retrieval]\n",
    );
    folder.write(
        "paper/test.yaml",
        "question: q\nbase: ../presets/base.yaml\ndata: {train: {scenes: {}}, test: {scenes: {}}}\nmodel: clip\nobjectives: [itc]\ntrain: {steps: 4}\n",
    );
    let experiment = folder.load("paper/test.yaml", &Options::default()).expect("right");
    let run = &experiment.arms[0].run;
    assert_eq!((run.train.steps, run.train.rate, run.model.name()), (4, 0.01, "clip"));
}

#[test]
fn the_choice_of_a_model_or_a_source_replaces_the_choice_below() {
    let text = format!(
        "{RIGHT}profiles: {{other: {{model: {{albef: {{}}}}, data: {{train: [scenes: {{pairs: 20}}]}}}}}}\n"
    );
    let experiment = read_with(&text, &profile("other")).expect("right");
    assert_eq!(experiment.arms[0].run.model.name(), "albef");
    assert_eq!(experiment.arms[0].run.data.train.0.len(), 1);
}

#[test]
fn a_base_that_is_not_there_or_leads_back_is_refused_where_it_is_named() {
    refuses(&format!("{RIGHT}base: bose.yaml\n"), &[("8:7", &["bose.yaml cannot be read"])]);
    refuses(&format!("{RIGHT}base: test.yaml\n"), &[("8:7", &["is its own base"])]);
    refuses(&format!("{RIGHT}base: [a]\n"), &[("8:7", &["expected the path of a file, found a list"])]);
    let folder = Folder::new();
    folder.write("a.yaml", &format!("{RIGHT}base: b.yaml\n"));
    folder.write("b.yaml", "base: a.yaml\n");
    let faults = folder.load("a.yaml", &Options::default()).map(|_| ()).expect_err("refused");
    assert!(faults[0].contains("b.yaml:1:7"), "{}", faults[0]);
    assert!(faults[0].contains("by way of"), "{}", faults[0]);
}

#[test]
fn a_fault_in_the_base_is_told_at_its_place_in_the_base() {
    let folder = Folder::new();
    folder.write("base.yaml", "# sizes\ntrain: {stepps: 7}\n");
    folder.write("test.yaml", &RIGHT.replace("train: {steps: 4, batch: 8}", "base: base.yaml"));
    let faults = folder.load("test.yaml", &Options::default()).map(|_| ()).expect_err("refused");
    assert!(faults[0].contains("--> base.yaml:2:9\n"), "{}", faults[0]);
}

#[test]
fn a_profile_changes_sizes_by_dotted_keys_or_by_maps() {
    let text = format!("{RIGHT}{SIZES}");
    let steps = |options: &Options| read_with(&text, options).expect("right").arms[0].run.train.steps;
    assert_eq!((steps(&Options::default()), steps(&profile("small")), steps(&profile("large"))), (4, 2, 9));
    let small = read_with(&text, &profile("small")).expect("right");
    assert_eq!((small.profile.as_deref(), small.arms[0].run.train.batch), (Some("small"), 8));
}

#[test]
fn a_profile_that_does_not_exist_is_refused_with_those_that_do() {
    let text = format!("{RIGHT}{SIZES}");
    refuses_with(
        &text,
        &profile("smal"),
        &[("1:11", &["there is no profile `smal`", "did you mean `small`?"])],
    );
    refuses_with(RIGHT, &profile("small"), &[("1:11", &["the file has no `profiles`"])]);
    let text = format!("{RIGHT}profiles: {{odd: {{question: why}}}}\n");
    refuses_with(&text, &profile("odd"), &[("8:18", &["a profile cannot change `question`"])]);
}

#[test]
fn flags_lie_over_the_profile_and_below_the_arms() {
    let arms = "ablate: {control: a, arms: {a: {}, b: {train.steps: 3}}}\n";
    let options = Options { profile: Some("small".to_owned()), ..set(&["train.steps=5", "train.rate=0.5"]) };
    let experiment = read_with(&format!("{RIGHT}{SIZES}{arms}"), &options).expect("right");
    let steps: Vec<u64> = experiment.arms.iter().map(|arm| arm.run.train.steps).collect();
    assert_eq!((steps, experiment.arms[0].run.train.rate), (vec![5, 3], 0.5));
}

#[test]
fn a_flag_reaches_into_lists_by_name_and_opens_bare_words() {
    let options = set(&["objectives.itc.weight=0.25", "model.clip={}", "train.teacher.momentum=0.9"]);
    let experiment = read_with(RIGHT, &options).expect("right");
    let run = &experiment.arms[0].run;
    assert_eq!(
        (run.objectives[0].weight(), run.train.teacher.map(|teacher| teacher.momentum)),
        (0.25, Some(0.9))
    );
}

#[test]
fn a_flag_that_is_wrong_is_shown_as_it_was_typed() {
    refuses_with(
        RIGHT,
        &set(&["train.stepz=5"]),
        &[(
            "1:13",
            &[
                "unknown key `stepz`",
                "--> command line:1:13",
                "1 | --set train.stepz=5",
                "did you mean `steps`?",
            ],
        )],
    );
    refuses_with(RIGHT, &set(&["train.steps=x"]), &[("1:19", &["expected a whole number"])]);
    refuses_with(RIGHT, &set(&["train.steps"]), &[("1:7", &["sets nothing", "write `--set key=value`"])]);
    refuses_with(
        RIGHT,
        &set(&["tran.steps=1"]),
        &[("1:7", &["unknown key `tran`", "did you mean `train`?"])],
    );
    refuses_with(RIGHT, &set(&["objectives.itm.weight=1"]), &[("1:18", &["`objectives` has no `itm`"])]);
    refuses_with(
        RIGHT,
        &set(&["train.steps.more=1"]),
        &[("1:19", &["`train.steps` is `4`, it has no `more`"])],
    );
    refuses_with(RIGHT, &set(&["train.steps=[1"]), &[("1:19", &["unclosed bracket"])]);
}

#[test]
fn seeds_of_the_command_replace_those_of_the_file() {
    let text = format!("{RIGHT}seeds: [0, 1, 2]\n");
    assert_eq!(read(&text).seeds, [0, 1, 2]);
    let options = Options { seeds: Some("7,8".to_owned()), ..Options::default() };
    assert_eq!(read_with(&text, &options).expect("right").seeds, [7, 8]);
    let options = Options { seeds: Some("7,7".to_owned()), ..Options::default() };
    refuses_with(&text, &options, &[("1:11", &["seed 7 is given twice", "1 | --seeds 7,7"])]);
    let options = Options { seeds: Some("7,few".to_owned()), ..Options::default() };
    refuses_with(&text, &options, &[("1:11", &["expected a whole number, 0 or more, found the text `few`"])]);
}
