//! The page on every published ablation: complete, honest about what was not run, and readable by everyone.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use tempfile::tempdir;
use vlp_bench::experiments::catalogue::{Catalogue, catalogue};
use vlp_bench::experiments::record::{StageRecord, Status};
use vlp_bench::reports::{report, reproduction};

use super::{Study, header, published, study, write};

fn shipped() -> Catalogue {
    catalogue(&Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments")).expect("a right catalogue")
}

/// A study of the shipped claim on ALBEF's distillation, with another published value.
fn shipped_claim() -> Study {
    let mut study = study(3.0, 3);
    let mut effect = published(0.9, Status::SecondHand);
    effect.key = "vlmo/table-6/global".to_owned();
    study.about.claims[0].published = Some(effect);
    study
}

/// Writes the page over that study.
fn written(out: &Path) -> String {
    let folder = tempdir().expect("a folder");
    shipped_claim().write(folder.path());
    reproduction(&shipped(), &[folder.path().to_owned()], out).expect("a page");
    text(out, "index.html")
}

fn text(out: &Path, name: &str) -> String {
    fs::read_to_string(out.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The start tags of a page, without what styles and figures hold.
fn tags(page: &str) -> Vec<&str> {
    page.split('<')
        .skip(1)
        .filter(|tag| !tag.starts_with('/'))
        .filter_map(|tag| tag.split('>').next())
        .collect()
}

fn attribute<'a>(tag: &'a str, name: &str) -> Option<&'a str> {
    tag.split(&format!(" {name}=\"")).nth(1)?.split('"').next()
}

#[test]
fn every_published_effect_has_a_row_and_what_was_not_run_says_so() {
    let out = tempdir().expect("out");
    let page = written(out.path());
    let rows = csv::Reader::from_path(out.path().join("ablations.csv")).expect("rows").into_records();
    let rows: Vec<csv::StringRecord> = rows.map(|row| row.expect("a row")).collect();
    for ablation in shipped().papers.iter().flat_map(|paper| &paper.ablations) {
        let key = &ablation.published.key;
        assert!(rows.iter().any(|row| row[0] == **key), "{key}");
    }
    let row = |key: &str| rows.iter().find(|row| &row[0] == key).expect("a row").clone();
    assert_eq!(&row("vlmo/table-6/global")[17], "REPRODUCED");
    // The experiment file claims it, and no run of it was given.
    assert_eq!(&row("albef/table-1/distillation")[17], "not run");
    assert_eq!(&row("uniter/table-2/more-data")[17], "");
    for words in [
        "Rerun: 1 of ",
        "not run",
        "no experiment",
        "vlp run ",
        "albef/distillation-weight.yaml --profile cpu",
        "href=\"albef-distillation-weight-cpu/report.html\"",
        "\u{201c}substantially lower without it\u{201d}",
        "recalled, unverified",
    ] {
        assert!(page.contains(words), "{words:?}");
    }
    let below = text(out.path(), "albef-distillation-weight-cpu/report.html");
    assert!(below.contains("href=\"../index.html\""), "the way back");
}

#[test]
fn what_runs_begin_with_costs_once_for_all_of_them() {
    let seconds = |staged: bool| {
        let (folder, out) = (tempdir().expect("a folder"), tempdir().expect("out"));
        let study = shipped_claim();
        for (arm, ..) in &study.arms {
            for seed in 0..3 {
                let mut records = study.records(arm, seed);
                let stage = |name: &str, seconds, before| StageRecord {
                    name: name.to_owned(),
                    hash: format!("{name}-{seed}"),
                    steps: 100,
                    seconds,
                    taken: 7,
                    before,
                };
                if staged {
                    // Both arms begin with one pre-training, and that and the first arm with one tower.
                    let tower = || stage("tower", 10.0, Vec::new());
                    let mut start = vec![stage("pretraining", 40.0, vec![tower()])];
                    start.extend((*arm == "with").then(tower));
                    header(&mut records).start = start;
                }
                write(&folder.path().join(format!("{arm}-{seed}")), &records);
            }
        }
        reproduction(&shipped(), &[folder.path().to_owned()], out.path()).expect("a page");
        let rows = csv::Reader::from_path(out.path().join("ablations.csv")).expect("rows").into_records();
        let mut rows = rows.map(|row| row.expect("a row"));
        let row = rows.find(|row| &row[0] == "vlmo/table-6/global").expect("a row");
        row[19].parse::<f64>().expect("seconds")
    };
    assert_eq!((seconds(false), seconds(true)), (6.0 * 95.0, 6.0 * 95.0 + 3.0 * 50.0));
}

#[test]
fn no_recalled_number_reaches_the_page_or_its_table() {
    let out = tempdir().expect("out");
    let page = written(out.path());
    let table = text(out.path(), "ablations.csv");
    // Contrast before fusion and distillation in ALBEF's table, as its remembered cells would give them.
    for recalled in ["2.865", "+2.87", "+2.86", "0.4399", "+0.44"] {
        assert!(!page.contains(recalled) && !table.contains(recalled), "{recalled}");
    }
}

#[test]
fn without_a_run_every_claimed_row_waits() {
    let out = tempdir().expect("out");
    reproduction(&shipped(), &[], out.path()).expect("a page");
    let page = text(out.path(), "index.html");
    assert!(page.contains("Rerun: 0 of ") && page.contains("No runs were found."));
    assert!(!out.path().join("forest.svg").exists());
}

#[test]
fn the_page_has_the_structure_that_keyboards_and_screen_readers_need() {
    let out = tempdir().expect("out");
    let page = written(out.path());
    let report = text(out.path(), "albef-distillation-weight-cpu/report.html");
    for (name, page) in [("index", &page), ("report", &report)] {
        let tags = tags(page);
        assert_eq!(tags.iter().filter(|tag| **tag == "h1").count(), 1, "{name}: one h1");
        assert!(page.contains("<html lang=\"en\">") && page.contains("name=\"viewport\""), "{name}");
        let ids: Vec<&str> = tags.iter().filter_map(|tag| attribute(tag, "id")).collect();
        let unique: BTreeSet<&str> = ids.iter().copied().collect();
        assert_eq!(ids.len(), unique.len(), "{name}: an id twice");
        for tag in &tags {
            if tag.starts_with("img ") || tag.starts_with("img\n") {
                assert!(attribute(tag, "alt").is_some_and(|alt| !alt.is_empty()), "{name}: {tag}");
            }
            if tag.starts_with("svg ") {
                assert!(attribute(tag, "aria-label").is_some_and(|label| label.len() > 40), "{name}: {tag}");
                assert_eq!(attribute(tag, "role"), Some("img"));
            }
            if *tag == "th" || tag.starts_with("th ") {
                assert!(matches!(attribute(tag, "scope"), Some("col" | "row")), "{name}: {tag}");
            }
            for target in [
                attribute(tag, "href").and_then(|to| to.strip_prefix('#')),
                attribute(tag, "aria-labelledby"),
            ]
            .into_iter()
            .flatten()
            {
                assert!(unique.contains(target), "{name}: nothing is called {target}");
            }
            if attribute(tag, "class") == Some("scroll") {
                assert_eq!(attribute(tag, "tabindex"), Some("0"), "{name}: a keyboard moves what scrolls");
            }
        }
        let count = |start: &str| tags.iter().filter(|tag| tag.starts_with(start)).count();
        assert_eq!(count("table"), count("caption"), "{name}: a table without a caption");
        let mut level = 1;
        for tag in tags.iter().filter(|tag| tag.len() >= 2 && tag.starts_with('h')) {
            let next = tag[1..].split(' ').next().and_then(|digit| digit.parse::<usize>().ok());
            let Some(next) = next.filter(|next| (1..7).contains(next)) else { continue };
            assert!(next <= level + 1, "{name}: h{next} follows h{level}");
            level = next;
        }
        for outside in ["http:", "https:", "src=\"/", "<script", "<link", "@import", "url(/"] {
            assert!(!page.contains(outside), "{name}: {outside}");
        }
    }
}

/// Relative luminance of `#rrggbb`, by WCAG 2.
fn luminance(colour: &str) -> f64 {
    let channel = |at: usize| {
        let value = f64::from(u8::from_str_radix(&colour[at..at + 2], 16).expect("a colour")) / 255.0;
        if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
    };
    0.2126 * channel(1) + 0.7152 * channel(3) + 0.0722 * channel(5)
}

#[test]
fn every_colour_of_text_stands_off_its_paper_in_light_dark_and_print() {
    let style = include_str!("../../reports/page/page.css");
    let themes: Vec<&str> =
        style.split(":root {").skip(1).filter_map(|theme| theme.split('}').next()).collect();
    assert_eq!(themes.len(), 3, "light, dark, print");
    let colour = |name: &str, theme: &str| {
        let found = |text: &str| text.split(&format!("--{name}: ")).nth(1).map(|rest| rest[..7].to_owned());
        found(theme).or_else(|| found(themes[0])).unwrap_or_else(|| panic!("no {name}"))
    };
    for theme in &themes {
        for ink in ["ink", "muted", "link", "good", "sign", "open", "bad", "void"] {
            for paper in ["paper", "panel"] {
                let (one, other) = (luminance(&colour(ink, theme)), luminance(&colour(paper, theme)));
                let contrast = (one.max(other) + 0.05) / (one.min(other) + 0.05);
                assert!(contrast >= 4.5, "{ink} on {paper}: {contrast:.2} in {theme}");
            }
        }
    }
}

#[test]
fn the_page_replaces_its_own_files_and_the_plain_report_has_no_way_back() {
    let (folder, out) = (tempdir().expect("a folder"), tempdir().expect("out"));
    written(out.path());
    written(out.path());
    study(1.0, 2).write(folder.path());
    let plain = out.path().join("plain");
    report(&[folder.path().to_owned()], &plain).expect("a report");
    assert!(!text(&plain, "report.html").contains("index.html"));
}
