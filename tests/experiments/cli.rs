//! The program from outside: what it prints, where, and the code it ends with.

use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

const TINY: &str = "\
question: Does it run?
data: {train: {scenes: {pairs: 48, size: 16}}, test: {scenes: {pairs: 24, size: 16}}, size: 16, words: 12}
model: {clip: {image: {width: 32, depth: 1, heads: 2}, text: {width: 32, depth: 1, heads: 2}, patch: 8, embed: 16}}
objectives: [itc]
train: {steps: 12, batch: 8, log: 4}
evaluate: [retrieval]
ablate: {control: slow, arms: {slow: {}, fast: {train.rate: 2e-3}}}
seeds: [0, 1]
claims:
  - {effect: {metric: retrieval.mean_recall, arm: fast, minus: slow}, expect: positive}
profiles: {smaller: {train.steps: 2}}
";

/// `vlp` in a folder that holds `tiny.yaml`.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("tiny.yaml"), TINY).expect("a file");
        Self(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn vlp(&self, arguments: &[&str]) -> Said {
        Said(vlp_in(self.path(), arguments))
    }
}

fn vlp_in(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vlp"));
    command.current_dir(folder).args(arguments).output().expect("the program starts")
}

struct Said(Output);

impl Said {
    fn out(&self) -> String {
        String::from_utf8_lossy(&self.0.stdout).into_owned()
    }

    fn error(&self) -> String {
        String::from_utf8_lossy(&self.0.stderr).into_owned()
    }

    #[track_caller]
    fn ends_with(&self, code: i32) -> &Self {
        assert_eq!(self.0.status.code(), Some(code), "{}\n{}", self.out(), self.error());
        self
    }

    /// Exit code 2, nothing on standard output, plain text with these words on the other.
    #[track_caller]
    fn refused_with(&self, words: &[&str]) {
        self.ends_with(2);
        let error = self.error();
        assert_eq!(self.out(), "", "{error}");
        assert!(!error.contains('\x1b'), "escape codes in a pipe: {error}");
        for word in words {
            assert!(error.contains(word), "{word}\n{error}");
        }
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn every_experiment_that_ships_is_right_in_every_size() {
    for file in ["experiments/quickstart.yaml", "experiments/albef/distillation-weight.yaml"] {
        let said = Said(vlp_in(root(), &["check", file]));
        let out = said.ends_with(0).out();
        for profile in ["smoke", "cpu", "gpu"] {
            assert!(out.contains(&format!("{file} --profile {profile}: ")), "{out}");
        }
    }
}

#[test]
fn check_tells_all_faults_at_once_and_ends_with_2() {
    let place = Place::new();
    place.vlp(&["check", "tiny.yaml"]).ends_with(0);
    let wrong = TINY.replace("batch: 8", "bach: 8").replace("seeds: [0, 1]", "seeds: [0, 0]");
    std::fs::write(place.path().join("wrong.yaml"), wrong).expect("a file");
    place.vlp(&["check", "wrong.yaml"]).refused_with(&[
        "error: unknown key `bach`\n --> wrong.yaml:5:20",
        "5 | train: {steps: 12, bach: 8",
        "help: did you mean `batch`?",
        "error: seed 0 is given twice\n --> wrong.yaml:8:12",
    ]);
}

#[test]
fn what_does_not_exist_is_refused_before_anything_is_written() {
    let place = Place::new();
    place.vlp(&["run", "tiny.yml"]).refused_with(&["tiny.yml cannot be read", "did you mean `tiny.yaml`?"]);
    place
        .vlp(&["run", "tiny.yaml", "--profile", "smal"])
        .refused_with(&["there is no profile `smal`", "`smaller`"]);
    place
        .vlp(&["run", "tiny.yaml", "--only", "arm=slo"])
        .refused_with(&["there is no arm `slo`", "did you mean `slow`?"]);
    place
        .vlp(&["run", "tiny.yaml", "--only", "seed=7"])
        .refused_with(&["there is no seed `7`", "the seeds are 0, 1"]);
    place
        .vlp(&["run", "tiny.yaml", "--only", "slow"])
        .refused_with(&["`slow` chooses nothing", "--only arm=NAME"]);
    place
        .vlp(&["run", "tiny.yaml", "--set", "train.stepz=1"])
        .refused_with(&["1 | --set train.stepz=1", "`steps`"]);
    place.vlp(&["run", "tiny.yaml", "--device", "gpu"]).refused_with(&["`gpu`", "cuda:0"]);
    place.vlp(&["run"]).ends_with(2);
    let left: Vec<_> = std::fs::read_dir(place.path()).expect("a folder").collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn a_device_that_is_not_there_is_one_message() {
    let place = Place::new();
    // No machine has a hundred accelerators, whatever this program was built for.
    let said = place.vlp(&["run", "tiny.yaml", "--device", "cuda:99"]);
    said.refused_with(&["error: device `cuda:99`: is not there", "help:"]);
    assert_eq!(said.error().matches("error").count(), 1, "{}", said.error());
}

#[test]
fn a_precision_that_the_processor_does_not_compute_in_is_one_message() {
    let place = Place::new();
    for verb in ["run", "plan"] {
        let said = place.vlp(&[verb, "tiny.yaml", "--device", "cpu", "--set", "train.precision=bf16"]);
        said.refused_with(&[
            "error: `train.precision: bf16` needs a GPU; the processor computes in f32",
            "1 | --set train.precision=bf16",
            "help: run with `--device cuda`",
        ]);
        assert_eq!(said.error().matches("error").count(), 1, "{}", said.error());
    }
    place.vlp(&["check", "tiny.yaml", "--set", "train.precision=f16"]).refused_with(&["`f16`", "bf16"]);
}

#[test]
fn a_folder_that_cannot_be_written_is_refused() {
    let place = Place::new();
    let said = place.vlp(&["run", "tiny.yaml", "--out", "tiny.yaml/runs"]);
    said.refused_with(&["tiny.yaml/runs", "choose another place with --out"]);
}

#[test]
fn run_reports_and_a_second_run_has_nothing_to_do() {
    let place = Place::new();
    let first = place.vlp(&["run", "tiny.yaml", "--threads", "1"]);
    let out = first.ends_with(0).out();
    assert!(out.contains("4 runs done, 0 of them before, 0 failed"), "{out}");
    let page = out.lines().find_map(|line| line.strip_prefix("report: ")).expect("the report's path");
    let page = std::fs::read_to_string(place.path().join(page)).expect("a page");
    assert!(page.contains("Does it run?"));
    let second = place.vlp(&["run", "tiny.yaml", "--threads", "1", "--no-report"]);
    let out = second.ends_with(0).out();
    assert!(out.contains("4 runs done, 4 of them before"), "{out}");
    assert!(!out.contains("report:"), "{out}");
    let report = place.vlp(&["report", "runs", "--out", "again"]);
    assert_eq!(report.ends_with(0).out().trim(), "again/report.html");
    let plan = place.vlp(&["plan", "tiny.yaml", "--quiet"]);
    assert!(plan.ends_with(0).out().contains("2/2"), "{}", plan.out());
}

#[test]
fn a_folder_is_planned_a_row_an_experiment_and_its_faults_are_told() {
    let place = Place::new();
    let smaller = ["plan", ".", "--profile", "smaller", "--quiet"];
    std::fs::write(place.path().join("other.yaml"), TINY.replace("batch: 8", "batch: 4")).expect("a file");
    let out = place.vlp(&smaller).ends_with(0).out();
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines[0].starts_with("experiment ") && lines[1].starts_with("other "), "{out}");
    assert!(lines[2].starts_with("tiny ") && lines[2].contains(" 0/4 "), "{out}");
    assert!(lines[3].starts_with("2 experiments, 8 of 8 runs left: ") && lines.len() == 4, "{out}");
    std::fs::write(place.path().join("wrong.yaml"), TINY.replace("batch: 8", "bach: 8")).expect("a file");
    let said = place.vlp(&smaller);
    assert!(said.ends_with(2).out().contains("8 of 8 runs left"), "{}", said.out());
    assert!(said.error().contains("wrong.yaml is left out:\nerror: unknown key `bach`"), "{}", said.error());
    let json = place.vlp(&["plan", "tiny.yaml", "--profile", "smaller", "--json"]).ends_with(0).out();
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!((&json["total"]["runs"], &json["experiments"][0]["name"]), (&4.into(), &"tiny".into()));
}

#[test]
fn a_folder_is_run_within_a_budget_and_the_last_line_is_how_it_goes_on() {
    let place = Place::new();
    std::fs::write(place.path().join("other.yaml"), TINY.replace("claims:", "#").replace("  - {", "# "))
        .expect("a file");
    let said = place.vlp(&["run", ".", "--profile", "smaller", "--budget", "1s", "--no-report"]);
    let out = said.ends_with(0).out();
    let last = out.lines().last().unwrap_or_default();
    let go_on = "; go on with: vlp run . --profile smaller --no-report --budget 1s";
    assert!(last.contains("left: 8 runs of 2 experiments") && last.ends_with(go_on), "{out}");
    let said = place.vlp(&["run", "tiny.yaml", "other.yaml", "--profile", "smaller", "--budget", "1h"]);
    let out = said.ends_with(0).out();
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[0], "tiny", "{out}");
    assert!(lines[1].starts_with("4 runs done, 0 of them before, 0 failed; planned "), "{out}");
    assert!(
        out.contains("report: runs/tiny/smaller/report") && out.contains("report: runs/other/smaller/report")
    );
    assert!(lines.last().unwrap_or(&"").ends_with("2 experiments complete; left: nothing"), "{out}");
    place.vlp(&["run", ".", "--budget", "4 hours"]).refused_with(&["`4 hours` is no time", "write e.g. 4h"]);
}

#[test]
fn only_some_runs_can_be_meant() {
    let place = Place::new();
    let asked = [
        "run",
        "tiny.yaml",
        "--profile",
        "smaller",
        "--seeds",
        "5,6",
        "--only",
        "arm=fast",
        "--only",
        "seed=6",
    ];
    let said = place.vlp(&asked);
    assert!(said.ends_with(0).out().contains("1 runs done"), "{}", said.out());
    assert!(place.path().join("runs/tiny/smaller/fast").is_dir());
    assert!(!place.path().join("runs/tiny/smaller/slow").exists());
    place.vlp(&["run", "tiny.yaml", "--profile", "smaller", "--quiet", "--only", "seed=0"]).ends_with(0);
    assert_eq!(place.vlp(&["report", "nowhere"]).ends_with(2).out(), "");
}

#[test]
fn a_killed_run_is_proved_to_go_on_to_equal_bits() {
    let place = Place::new();
    let said = place.vlp(&[
        "verify-resume",
        "tiny.yaml",
        "--only",
        "arm=fast",
        "--set",
        "train.steps=60",
        "--quiet",
    ]);
    let out = said.ends_with(0).out();
    assert!(out.contains("fast, seed 0: killed after step") && out.contains("bit-equal"), "{out}");
}

#[test]
fn list_names_every_part_and_what_it_does_differently() {
    let said = Said(vlp_in(root(), &["list"]));
    let out = said.ends_with(0).out();
    for word in [
        "clip ",
        "albef ",
        "itc_momentum ",
        "zero_shot ",
        "scenes",
        "emoji",
        "experiments/quickstart.yaml",
        "recalled, unverified",
    ] {
        assert!(out.contains(word), "{word}\n{out}");
    }
    assert!(!out.contains("published:"), "{out}");
    let out = Said(vlp_in(root(), &["list", "--deviations"])).ends_with(0).out();
    assert!(out.lines().any(|line| line.starts_with("albef: weights begin at random")), "{out}");
}

#[test]
fn the_matrix_gives_a_reason_for_every_no_within_a_hundred_columns() {
    let out = Said(vlp_in(root(), &["matrix"])).ends_with(0).out();
    assert!(out.lines().all(|line| line.chars().count() <= 100), "{out}");
    assert!(out.contains("itm, mlm: a joint pass in which words see each other both ways"), "{out}");
    let json = Said(vlp_in(root(), &["matrix", "--json"])).ends_with(0).out();
    let cells: Vec<serde_json::Value> = serde_json::from_str(&json).expect("JSON");
    for cell in &cells {
        let reasons = cell["reasons"].as_array().expect("a list");
        assert_eq!(cell["fits"].as_bool().expect("yes or no"), reasons.is_empty(), "{cell}");
    }
    let mlm =
        cells.iter().find(|cell| cell["objective"] == "mlm" && cell["model"] == "clip").expect("a cell");
    assert_eq!(mlm["fits"], false);
    let itm =
        cells.iter().find(|cell| cell["objective"] == "itm" && cell["model"] == "vilt").expect("a cell");
    assert_eq!(itm["setting"], "`negatives: random` does without similarities");
}

#[test]
fn doctor_finds_equal_bits_and_whole_packs() {
    let place = Place::new();
    let said = place.vlp(&["doctor", "--device", "cpu"]);
    let out = said.ends_with(0).out();
    for words in
        ["checksums right", "at 1 and at 2 threads end at the same weights", "free for runs", "cpu", "gpu"]
    {
        assert!(out.contains(words), "{words}\n{out}");
    }
    let broken = place.vlp(&["doctor", "--device", "cuda:99"]);
    assert!(broken.ends_with(1).out().contains("WRONG"), "{}", broken.out());
}

#[test]
fn help_shows_examples_of_every_common_command() {
    let out = Said(vlp_in(root(), &["--help"])).ends_with(0).out();
    for words in ["vlp run experiments/quickstart.yaml", "verify-resume", "doctor", "matrix"] {
        assert!(out.contains(words), "{words}\n{out}");
    }
}

#[test]
fn forward_writes_what_the_reference_would_and_refuses_another_system() {
    let place = Place::new();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/clip/gelu");
    let (folder, inputs) =
        (golden.display().to_string(), golden.join("inputs.safetensors").display().to_string());
    let arguments = |model: &'static str, input: String| {
        [
            "forward",
            "--model",
            model,
            "--checkpoint",
            &folder,
            "--input",
            &input,
            "--output",
            "out.safetensors",
        ]
        .map(str::to_owned)
    };
    let run = |arguments: [String; 9]| place.vlp(&arguments.each_ref().map(String::as_str));
    let said = run(arguments("clip", inputs.clone()));
    said.ends_with(0);
    assert!(said.out().contains("logits_per_image [4, 4]"), "{}", said.out());
    let written = safetensors(&place.path().join("out.safetensors"));
    let expected = safetensors(&golden.join("outputs.safetensors"));
    let difference = (&written["logits_per_image"] - &expected["logits_per_image"]).unwrap().abs().unwrap();
    assert!(difference.max_all().unwrap().to_scalar::<f32>().unwrap() < 1e-4);

    let said = run(arguments("albef", inputs));
    said.ends_with(2);
    assert!(said.error().contains("holds CLIPModel, a model of clip, not of albef"), "{}", said.error());
    let said = run(arguments("clip", golden.join("outputs.safetensors").display().to_string()));
    said.ends_with(2);
    assert!(said.error().contains("`pixel_values` is missing; given were "), "{}", said.error());
}

fn safetensors(path: &Path) -> std::collections::HashMap<String, candle_core::Tensor> {
    candle_core::safetensors::load(path, &candle_core::Device::Cpu).unwrap()
}

#[test]
fn what_a_run_has_learnt_is_exported_in_the_form_that_forward_reads() {
    let place = Place::new();
    place
        .vlp(&[
            "run",
            "tiny.yaml",
            "--profile",
            "smaller",
            "--only",
            "arm=slow",
            "--seeds",
            "0",
            "--no-report",
        ])
        .ends_with(0);
    let arm = std::fs::read_dir(place.path().join("runs/tiny/smaller/slow")).unwrap();
    let run = arm.map(|entry| entry.unwrap().path().display().to_string()).next().unwrap();
    place.vlp(&["export", &run, "--out", "clip"]).ends_with(0);
    let opened =
        vlp_bench::models::checkpoint::Opened::read(&place.path().join("clip"), &candle_core::Device::Cpu);
    let learnt = safetensors(&Path::new(&run).join("checkpoint/last.safetensors"));
    for (name, entry) in opened.unwrap().store.entries() {
        let difference = (entry.var.as_tensor() - &learnt[&format!("store/{name}")]).unwrap().abs().unwrap();
        assert_eq!(difference.sum_all().unwrap().to_scalar::<f32>().unwrap(), 0.0, "{name}");
    }
    let said = place.vlp(&["export", &run, "--out", "clip", "--class", "ViltModel"]);
    said.refused_with(&["this model can be saved as CLIPModel, not as ViltModel"]);
    place.vlp(&["export", "clip", "--out", "again"]).refused_with(&["clip: is no run's directory"]);
}
