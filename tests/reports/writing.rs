//! The files of a report.

use std::fs;
use std::path::Path;

use tempfile::tempdir;
use vlp_bench::experiments::record::{Expect, Status};
use vlp_bench::reports::report;

use super::{METRIC, Study, ablation, published, study};

fn written(study: &Study, out: &Path) {
    let folder = tempdir().expect("a folder");
    study.write(folder.path());
    report(&[folder.path().to_owned()], out).expect("a report");
}

fn text(out: &Path, name: &str) -> String {
    fs::read_to_string(out.join(name)).expect("a file of the report")
}

#[test]
fn every_file_it_names_is_there_and_equal_records_give_equal_files() {
    let (folder, one, two) = (tempdir().expect("a folder"), tempdir().expect("out"), tempdir().expect("out"));
    study(1.0, 3).write(folder.path());
    let first = report(&[folder.path().to_owned()], one.path()).expect("a report");
    let second = report(&[folder.path().to_owned()], two.path()).expect("a report");
    assert!(first.files.contains(&first.page));
    for (file, other) in first.files.iter().zip(&second.files) {
        assert_eq!(fs::read(file).expect("a file"), fs::read(other).expect("a file"), "{}", file.display());
    }
}

#[test]
fn one_seed_prints_no_interval_anywhere() {
    let out = tempdir().expect("out");
    written(&study(1.0, 1), out.path());
    for name in ["report.md", "table.tex"] {
        let text = text(out.path(), name);
        assert!(text.contains("n = 1"), "{name}");
        assert!(
            !text.contains("n = 1 [") && !text.contains(", +") && !text.contains("] n"),
            "{name}: {text}"
        );
    }
    let mut rows = csv::Reader::from_path(out.path().join("arms.csv")).expect("rows");
    for row in rows.records() {
        let row = row.expect("a row");
        assert_eq!((&row[5], &row[7], &row[8], &row[9]), ("1", "", "", ""));
    }
}

#[test]
fn a_recalled_number_appears_in_no_file() {
    let out = tempdir().expect("out");
    let mut study = study(1.0, 3);
    study.about.claims[0].published = Some(published(777.25, Status::Recalled));
    written(&study, out.path());
    for entry in fs::read_dir(out.path()).expect("files") {
        let path = entry.expect("a file").path();
        let bytes = fs::read(&path).expect("a file");
        assert!(!String::from_utf8_lossy(&bytes).contains("777."), "{}", path.display());
    }
    assert!(text(out.path(), "report.md").contains("recalled, unverified"));
    assert!(text(out.path(), "effects.csv").contains("recalled, unverified"));
}

#[test]
fn csv_reads_back_as_the_numbers_of_the_records() {
    let out = tempdir().expect("out");
    let study = study(1.0, 3);
    written(&study, out.path());
    let mut rows = csv::Reader::from_path(out.path().join("arms.csv")).expect("rows");
    let mut means = 0;
    for row in rows.records() {
        let row = row.expect("a row");
        if &row[3] == METRIC {
            let values: f64 = (0..3).map(|seed| study.value(&row[2], seed)).sum();
            let mean: f64 = row[6].parse().expect("a mean");
            assert!((mean - values / 3.0).abs() < 1e-9);
            means += 1;
        }
    }
    assert_eq!(means, 2);
    let mut rows = csv::Reader::from_path(out.path().join("curves.csv")).expect("rows");
    let test = rows.records().filter(|row| {
        let row = row.as_ref().expect("a row");
        &row[6] == METRIC && &row[5] == "test" && &row[8] == "true"
    });
    assert_eq!(test.count(), 6);
}

#[test]
fn names_with_marks_survive_markdown_latex_and_csv() {
    let out = tempdir().expect("out");
    let mut study = study(1.0, 2);
    let name = r"50%_of{a}|b\c & $x^2$ #1 ~<α>";
    study.arms[1].0 = name;
    study.about.arms[1] = name.to_owned();
    study.about.claims[0].effect.arm = name.to_owned();
    let folder = tempdir().expect("a folder");
    for (index, (arm, ..)) in study.arms.iter().enumerate() {
        for seed in 0..2 {
            super::write(&folder.path().join(format!("{index}-{seed}")), &study.records(arm, seed));
        }
    }
    report(&[folder.path().to_owned()], out.path()).expect("a report");
    let latex = text(out.path(), "table.tex");
    let escaped =
        r"50\%\_of\{a\}$|$b\textbackslash{}c \& \$x\textasciicircum{}2\$ \#1 \textasciitilde{}$<$$\alpha$$>$";
    assert!(latex.contains(escaped), "{latex}");
    assert!(text(out.path(), "report.md").contains(r"50%\_of{a}\|b\\c & $x^2$ \#1 \~\<α>"));
    let mut rows = csv::Reader::from_path(out.path().join("arms.csv")).expect("rows");
    assert!(rows.records().any(|row| &row.expect("a row")[2] == name));
}

#[test]
fn a_report_replaces_a_report_and_nothing_else() {
    let (folder, out) = (tempdir().expect("a folder"), tempdir().expect("out"));
    study(1.0, 2).write(folder.path());
    let runs = [folder.path().to_owned()];
    report(&runs, out.path()).expect("a report");
    report(&runs, out.path()).expect("a report over a report");

    let other = tempdir().expect("out");
    fs::write(other.path().join("report.md"), "mine").expect("a file");
    let message = report(&runs, other.path()).expect_err("refused").to_string();
    assert!(message.contains("report.md: exists, and no report wrote it; nothing was written"), "{message}");
    assert_eq!(fs::read_dir(other.path()).expect("files").count(), 1);
    assert_eq!(text(other.path(), "report.md"), "mine");
}

#[test]
fn a_folder_that_cannot_be_made_gives_one_clear_message() {
    let folder = tempdir().expect("a folder");
    study(1.0, 1).write(&folder.path().join("runs"));
    let file = folder.path().join("file");
    fs::write(&file, "").expect("a file");
    let message = report(&[folder.path().join("runs")], &file.join("out")).expect_err("refused").to_string();
    assert!(message.contains("file/out: cannot be written") && message.contains("--out"), "{message}");
}

#[test]
fn the_page_holds_everything_and_asks_the_network_for_nothing() {
    // Left there to be looked at.
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("report");
    written(&ablation(), &out);
    let page = text(&out, "report.html");
    for outside in ["http:", "https:", "src=\"/", "<script", "<link", "@import", "url(/"] {
        assert!(!page.contains(outside), "{outside}");
    }
    for figure in ["effects", "arms-retrieval-mean-recall", "curves"] {
        let svg = text(&out, &format!("{figure}.svg"));
        let alt =
            svg.split("aria-label=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("an alt text");
        assert_eq!(page.matches(&format!("aria-label=\"{alt}\"")).count(), 2, "{figure}: wide and narrow");
        assert!(alt.len() > 100, "{alt}");
        let png = fs::read(out.join(format!("{figure}.png"))).expect("a picture");
        let (width, _) = image::load_from_memory(&png).expect("a PNG").to_rgb8().dimensions();
        assert_eq!(width, 3 * (720 + 16));
    }
    for words in [
        "SIGN ONLY",
        "REPRODUCED",
        "recalled, unverified",
        "the last step",
        "vlp run",
        "0.1.0 (4f2c9a1)",
        "Xeon",
        "Scenes: drawn by this suite.",
        "trained from scratch",
        "test-77aa",
        "Missing: hard, seed 4.",
        "the loss of itc is not finite",
        "objectives.itc.distill: 0.4",
        "a star &amp; a &lt;ring&gt;",
    ] {
        assert!(page.contains(words), "{words:?}");
    }
    assert_eq!(page.matches("<h1>").count(), 1);
    assert_eq!(page.matches("<table").count(), page.matches("<caption>").count());
    assert_eq!(page.matches("<img").count(), page.matches(" alt=\"").count());
}

#[test]
fn several_experiments_share_a_page_with_their_answers_on_top() {
    let folder = tempdir().expect("a folder");
    // Left there to be looked at.
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("two-reports");
    study(-2.0, 3).write(&folder.path().join("cpu"));
    let mut other = study(2.0, 2);
    other.about.name = "quickstart".to_owned();
    other.about.question = "Which loss carries retrieval?".to_owned();
    other.about.profile = None;
    other.write(&folder.path().join("quickstart"));
    report(&[folder.path().to_owned()], &out).expect("a report");
    let page = text(&out, "report.html");
    for words in [
        "2 experiments",
        "href=\"#albef-distillation-weight-cpu\"",
        "id=\"albef-distillation-weight-cpu\"",
        "id=\"quickstart\"",
        "Which loss carries retrieval?",
        "CONTRADICTED</strong> with has",
    ] {
        assert!(page.contains(words), "{words:?}");
    }
    for file in ["quickstart-effects.png", "albef-distillation-weight-cpu-curves.svg"] {
        assert!(out.join(file).is_file(), "{file}");
    }
    let experiments = csv::Reader::from_path(out.join("effects.csv")).expect("rows").into_records();
    let names: Vec<String> = experiments.map(|row| row.expect("a row")[0].to_owned()).collect();
    assert_eq!(names, ["albef/distillation-weight", "quickstart"]);
}

#[test]
fn runs_that_have_only_begun_give_one_clear_message() {
    let folder = tempdir().expect("a folder");
    fs::write(folder.path().join("records.jsonl"), "{\"rec").expect("a file");
    let message = report(&[folder.path().to_owned()], folder.path()).expect_err("refused").to_string();
    assert!(message.contains("no run has written its first record yet"), "{message}");
}

#[test]
fn unfinished_runs_alone_give_a_report_that_says_so() {
    let (folder, out) = (tempdir().expect("a folder"), tempdir().expect("out"));
    let mut records = study(1.0, 1).records("with", 0);
    records.pop();
    super::write(&folder.path().join("with-0"), &records);
    report(&[folder.path().to_owned()], out.path()).expect("a report");
    let page = text(out.path(), "report.html");
    for words in ["0 of 2 runs are finished", "Not finished: with, seed 0, last record at step 1000."] {
        assert!(page.contains(words), "{words:?}");
    }
}

#[test]
fn files_of_an_earlier_report_that_are_no_longer_made_are_removed() {
    let (folder, out) = (tempdir().expect("a folder"), tempdir().expect("out"));
    study(1.0, 2).write(folder.path());
    report(&[folder.path().to_owned()], out.path()).expect("a report");
    fs::write(out.path().join("notes.txt"), "mine").expect("a file");
    let mut list = text(out.path(), "report.files");
    list.push_str("old.png\n../outside.txt\n");
    fs::write(out.path().join("report.files"), list).expect("a list");
    fs::write(out.path().join("old.png"), "old").expect("a file");
    let outside = out.path().parent().expect("a folder").join("outside.txt");
    assert!(!outside.exists());
    report(&[folder.path().to_owned()], out.path()).expect("a report");
    assert!(!out.path().join("old.png").exists());
    assert_eq!(text(out.path(), "notes.txt"), "mine");
}

#[test]
fn a_contradicted_effect_is_set_beside_scale_noise_and_power() {
    let out = tempdir().expect("out");
    let mut other_sign = study(-2.0, 5);
    other_sign.about.claims[0].published = Some(published(0.74, Status::Verified));
    written(&other_sign, out.path());
    let markdown = text(out.path(), "report.md");
    let said = |what: &str| markdown.lines().any(|line| line.starts_with(&format!("- {what}")));
    for what in [
        "Noise: with − without in retrieval.mean\\_recall is −",
        "Power: 5 seeds would have resolved the published +0.7",
        "Scale: with has 1,234,567 parameters and saw 64,000 pairs in 1,000 updates; its loss",
        "Scale: without has 1,234,567 parameters",
    ] {
        assert!(said(what), "{what:?}: {markdown}");
    }
    written(&study(2.0, 5), out.path());
    assert!(!text(out.path(), "report.md").contains("contradicted effects"));
}

#[test]
fn a_claim_put_the_other_way_round_is_no_second_effect() {
    let out = tempdir().expect("out");
    let mut study = study(2.0, 3);
    study.about.claims = vec![super::claim("without", "with", Expect::Negative)];
    written(&study, out.path());
    let effects = csv::Reader::from_path(out.path().join("effects.csv")).expect("rows").into_records();
    assert_eq!(effects.count(), 1);
}
