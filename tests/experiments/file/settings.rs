//! Keys and values, one by one.

use proptest::prelude::*;
use vlp_bench::experiments::failure::Failure;
use vlp_bench::experiments::fault::Paint;
use vlp_bench::experiments::{Step, evaluate, load};

use super::{Folder, Options, RIGHT, read, read_with, refuses, told, with};

#[test]
fn a_right_file_becomes_an_experiment_with_one_arm() {
    let experiment = read(RIGHT);
    assert_eq!(experiment.question, "Does it learn?");
    assert_eq!((experiment.arms.len(), experiment.arms[0].name.as_str()), (1, "main"));
    assert_eq!((experiment.seeds, experiment.control), (vec![0], None));
    let run = &experiment.arms[0].run;
    assert_eq!((run.train.steps, run.train.batch, run.model.name()), (4, 8, "clip"));
    assert_eq!(run.objectives.iter().map(|one| one.name()).collect::<Vec<_>>(), ["itc"]);
    assert!(matches!(run.evaluate.as_slice(), [evaluate::Config::Retrieval(_)]));
    assert_eq!(run.select.step, Step::Last);
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_one() {
    refuses(
        &with("train: {steps: 4, bach: 8}"),
        &[("6:19", &["unknown key `bach`", "did you mean `batch`?"])],
    );
    refuses(&with("trian: {steps: 4}"), &[("8:1", &["unknown key `trian`", "did you mean `train`?"])]);
    let nested = with("data: {train: {scenes: {pears: 64}}, test: {scenes: {pairs: 32}}}");
    refuses(&nested, &[("2:25", &["unknown key `pears`", "did you mean `pairs`?"])]);
}

#[test]
fn a_key_that_is_like_no_other_is_refused_with_all_there_are() {
    refuses(&with("train: {steps: 4, wibblewobble: 8}"), &[("6:19", &["known here: steps, batch, rate"])]);
}

#[test]
fn a_value_of_the_wrong_kind_is_refused_at_its_line_and_column() {
    refuses(
        &with("train: {steps: many, batch: 8}"),
        &[(
            "6:16",
            &["expected a whole number, 0 or more, found the text `many`", "6 | train: {steps: many", "^^^^"],
        )],
    );
    refuses(
        &with("train: {steps: 4, rate: fast}"),
        &[("6:25", &["expected a number, found the text `fast`"])],
    );
    refuses(&with("train: {steps: -4}"), &[("6:16", &["expected a whole number, 0 or more, found `-4`"])]);
    refuses(&with("train: {steps: 1.5}"), &[("6:16", &["expected a whole number, 0 or more, found `1.5`"])]);
    refuses(&with("train: [4, 8]"), &[("6:8", &["expected a map of settings, found a list"])]);
    refuses(
        &with("train: {steps: 4, betas: [0.9, 0.9, 0.9]}"),
        &[("6:26", &["expected a list of 2, found 3"])],
    );
    refuses(
        &with("train: {steps: 4, schedule: cosin}"),
        &[("6:29", &["there is no `cosin`", "did you mean `cosine`?"])],
    );
    refuses(&with("question: 7"), &[("1:11", &["expected a text, found `7`", "needs quotes"])]);
    refuses(&with("evaluate: retrieval"), &[("7:11", &["expected a list", "write `evaluate: [..]`"])]);
}

#[test]
fn text_that_is_not_yaml_is_refused_where_it_breaks() {
    refuses(&with("train: {steps: 4"), &[("7:9", &["error: "])]);
    refuses(&format!("{RIGHT}seeds: [0, 1"), &[("8:8", &["unclosed bracket"])]);
    refuses(&format!("{RIGHT}model: albef\n"), &[("8:1", &["duplicate mapping key `model`"])]);
    refuses(&with("train: {rate: .nan}"), &[("6:15", &["not a finite number"])]);
    refuses("just a text", &[("1:1", &["not a map of settings"])]);
}

#[test]
fn all_faults_of_a_file_are_told_at_once_in_the_order_of_its_lines() {
    let text = "\
data: {train: {scenes: {pears: 64, size: big}}, tset: {}}
model: {clip: {}, albef: {}}
objectives: [itcs, mlm: {probability: much}]
train: {stepps: 4, batch: eight, rate: 0.1}
seeds: [0, 1, 0]
sedes: 3
";
    refuses(
        text,
        &[
            ("1:1", &["the key `question` is missing"]),
            ("1:25", &["pears"]),
            ("1:42", &["expected a whole number"]),
            ("1:49", &["unknown key `tset`", "did you mean `test`?"]),
            ("2:8", &["expected one name with its settings, found `clip`, `albef` at once"]),
            ("3:14", &["there is no `itcs`", "did you mean `itc`?"]),
            ("3:39", &["expected a number, found the text `much`"]),
            ("4:9", &["stepps"]),
            ("4:27", &["expected a whole number, 0 or more, found the text `eight`"]),
            ("5:15", &["seed 0 is given twice"]),
            ("6:1", &["unknown key `sedes`", "did you mean `seeds`?"]),
        ],
    );
}

#[test]
fn what_is_missing_is_named() {
    refuses(
        "question: Does it learn?\n",
        &[
            ("1:1", &["the key `data` is missing"]),
            ("1:1", &["`model` is missing"]),
            ("1:1", &["`objectives` is missing"]),
        ],
    );
    refuses(&with("data: {test: {scenes: {}}}"), &[("2:7", &["the key `train` is missing"])]);
}

#[test]
fn an_objective_may_be_a_bare_word_or_carry_settings() {
    let bare = read(&with("objectives: [itc]"));
    for same in ["objectives: [itc: {}]", "objectives: [{itc: {weight: 1}}]", "objectives:\n  - itc:\n"] {
        assert_eq!(read(&with(same)).arms[0].run, bare.arms[0].run, "{same}");
    }
}

#[test]
fn numbers_outside_their_range_are_refused_with_what_would_be_right() {
    for (line, place, words) in [
        ("train: {rate: 0}", "6:15", "`train.rate` is 0"),
        ("train: {rate: -1e-3}", "6:15", "give a rate above 0"),
        ("train: {batch: 0}", "6:16", "give at least 1 pair"),
        ("train: {steps: 4, warmup: 5}", "6:27", "`train.warmup` is 5"),
        ("train: {final_rate: 2}", "6:21", "from 0 to 1"),
        ("train: {betas: [0.9, 1.0]}", "6:9", "`train.betas` is [0.9, 1.0]"),
        ("train: {clip: 0}", "6:15", "null for no bound"),
        ("train: {teacher: {momentum: 1.5}}", "6:29", "`train.teacher.momentum` is 1.5"),
        ("train: {log: 0}", "6:14", "give at least 1 update"),
        ("train: {evaluate_every: 0}", "6:25", "give at least 1 update"),
        ("train: {checkpoint: {seconds: 0}}", "6:31", "give a time above 0"),
        ("train: {weight_decay: -0.1}", "6:23", "give 0 or more"),
    ] {
        told(&with(line), place, words);
    }
}

#[test]
fn a_file_that_is_not_there_is_refused_with_one_that_is() {
    let folder = Folder::new();
    folder.write("quickstart.yaml", RIGHT);
    let faults = folder.load("quikstart.yaml", &Options::default()).map(|_| ()).expect_err("refused");
    assert!(faults[0].contains("quikstart.yaml cannot be read"), "{}", faults[0]);
    assert!(faults[0].contains("did you mean `quickstart.yaml`?"), "{}", faults[0]);
}

#[test]
fn colour_adds_escape_codes_and_nothing_else() {
    let folder = Folder::new();
    let file = folder.write("test.yaml", &with("train: {stepz: 4}"));
    let failure = load(&file, &Options::default()).map(|_| ()).expect_err("refused");
    let Failure::Refused(faults) = failure else { panic!("not a fault of the file: {failure}") };
    let coloured = faults[0].render(Paint::Colour);
    assert!(coloured.starts_with("\x1b[1;31merror\x1b[0m: "), "{coloured}");
    let bare = ["\x1b[1;31m", "\x1b[1;34m", "\x1b[1m", "\x1b[0m"];
    let stripped = bare.iter().fold(coloured.clone(), |text, code| text.replace(code, ""));
    assert_eq!(stripped, faults[0].render(Paint::Plain));
}

#[test]
fn columns_count_letters_and_tabs_keep_their_width() {
    refuses(
        "# é\nquestion: \"é\"\nsed: 1\n",
        &[
            ("2:1", &["`data` is missing"]),
            ("2:1", &["`model` is missing"]),
            ("2:1", &["`objectives` is missing"]),
            ("3:1", &["unknown key `sed`"]),
        ],
    );
    refuses(
        &with("train: {schedule: \"é\", stepz: 4}"),
        &[("6:19", &["there is no `é`"]), ("6:24", &["unknown key `stepz`"])],
    );
    refuses(&with("train:\t{stepz: 4}"), &[("6:9", &["train:\t{stepz: 4}", "| \u{20}     \t ^^^^^"])]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_damage_to_a_file_makes_the_reader_fall_over(at in 0usize..200, length in 0usize..6, put in "[-a-z0-9{}\\[\\]:,&*!|>'\"%@ \n\t.#é]{0,4}") {
        let letters: Vec<char> = RIGHT.chars().collect();
        let at = at.min(letters.len());
        let end = (at + length).min(letters.len());
        let damaged: String = letters[..at].iter().copied().chain(put.chars()).chain(letters[end..].iter().copied()).collect();
        if let Err(faults) = read_with(&damaged, &Options::default()) {
            prop_assert!(!faults.is_empty());
            prop_assert!(faults.iter().all(|fault| fault.starts_with("error: ")));
        }
    }
}
