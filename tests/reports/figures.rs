//! Figures are legible whatever the names and numbers are.

use tempfile::tempdir;
use vlp_bench::experiments::record::Status;
use vlp_bench::reports::plots::{Anchor, Figures, Mark, NARROW, Sheet, WIDE, text_width};
use vlp_bench::reports::{Results, read};

use super::{METRIC, Study, ablation, claim, published, study, write};

fn figures(study: &Study) -> Figures {
    let folder = tempdir().expect("a folder");
    for (index, (arm, ..)) in study.arms.iter().enumerate() {
        for seed in &study.about.seeds {
            write(&folder.path().join(format!("{index}-{seed}")), &study.records(arm, *seed));
        }
    }
    let found = read(&[folder.path().to_owned()]).expect("runs");
    Figures::new(&Results::new(&found.experiments[0]), "")
}

/// The left, upper, right and lower edges of a text.
fn bounds(mark: &Mark) -> Option<(&str, [f64; 4])> {
    let Mark::Text { at, text, size, anchor, .. } = mark else { return None };
    let width = text_width(text, *size);
    let left = match anchor {
        Anchor::Start => at.0,
        Anchor::Middle => at.0 - 0.5 * width,
        Anchor::End => at.0 - width,
    };
    Some((text, [left, at.1 - 0.72 * size, left + width, at.1 + 0.2 * size]))
}

#[track_caller]
fn assert_legible(sheet: &Sheet) {
    let texts: Vec<_> = sheet.marks.iter().filter_map(bounds).collect();
    for (index, (text, [left, top, right, bottom])) in texts.iter().enumerate() {
        let inside = *left >= -0.5 && *top >= 0.0 && *right <= sheet.width + 0.5 && *bottom <= sheet.height;
        assert!(inside, "{text:?} leaves the sheet of {} by {}", sheet.width, sheet.height);
        for (other, [a, b, c, d]) in &texts[index + 1..] {
            let apart = c <= left || right <= a || d <= top || bottom <= b;
            assert!(apart, "{text:?} and {other:?} lie on each other at width {}", sheet.width);
        }
    }
    for mark in &sheet.marks {
        let points = match mark {
            Mark::Line { points, .. } | Mark::Area { points, .. } => points.clone(),
            Mark::Dot { at, .. } | Mark::Text { at, .. } => vec![*at],
        };
        let inside = |point: &(f64, f64)| {
            (0.0..=sheet.width).contains(&point.0) && (0.0..=sheet.height).contains(&point.1)
        };
        assert!(
            points.iter().all(inside),
            "{mark:?} leaves the sheet of {} by {}",
            sheet.width,
            sheet.height
        );
    }
}

fn renamed(mut study: Study, names: &[&'static str]) -> Study {
    let old = study.about.arms.clone();
    let new = |name: &mut String| {
        if let Some(index) = old.iter().position(|other| other == name) {
            *name = names[index].to_owned();
        }
    };
    study.arms.iter_mut().zip(names).for_each(|((name, ..), new)| *name = new);
    study.about.arms.iter_mut().for_each(new);
    study.about.control.iter_mut().for_each(new);
    for claim in &mut study.about.claims {
        new(&mut claim.effect.arm);
        new(&mut claim.effect.minus);
    }
    study
}

#[test]
fn no_text_lies_on_another_or_leaves_the_sheet() {
    let long = [
        "a very long name of an arm that says everything about it, twice over, for the sake of clarity",
        "b",
    ];
    let mut extreme = study(-150.0, 3);
    extreme.about.claims[0].published = Some(published(2000.0, Status::Verified));
    let mut small = study(0.0005, 4);
    small.noise = 0.0001;
    for study in [study(1.0, 5), study(1.0, 1), ablation(), renamed(study(1.0, 3), &long), extreme, small] {
        let figures = figures(&study);
        assert!(figures.effects.is_some() && figures.curves.is_some() && figures.arms.len() == 1);
        for figure in figures.all() {
            assert_eq!((figure.wide.width, figure.narrow.width), (WIDE, NARROW));
            assert_legible(&figure.wide);
            assert_legible(&figure.narrow);
        }
    }
}

#[test]
fn every_arm_has_a_band_of_its_own_colour() {
    let figures = figures(&ablation());
    let curves = figures.curves.expect("curves").wide;
    let mut colours: Vec<_> = curves
        .marks
        .iter()
        .filter_map(|mark| match mark {
            Mark::Area { colour, alpha, .. } if *alpha < 0.5 => Some((colour.0, colour.1, colour.2)),
            _ => None,
        })
        .collect();
    colours.sort_unstable();
    colours.dedup();
    assert_eq!(colours.len(), 5, "one band for each arm");
}

#[test]
fn the_signs_of_a_figure_say_what_its_numbers_say() {
    let mut study = study(2.0, 5);
    study.about.claims[0].published = Some(published(2.4, Status::Verified));
    let effects = figures(&study).effects.expect("effects");
    for words in ["with \u{2212} without in retrieval.mean_recall: +2.", "published +2.4", "REPRODUCED"] {
        assert!(effects.alt.contains(words), "{words:?} is not in {:?}", effects.alt);
    }
    study.about.claims[0].published = Some(published(2.4, Status::Recalled));
    let effects = figures(&study).effects.expect("effects");
    assert!(!effects.alt.contains("2.4"), "{}", effects.alt);
}

#[test]
fn effects_on_different_metrics_have_axes_of_their_own() {
    let mut study = study(1.0, 3);
    let mut recall = claim("with", "without", vlp_bench::experiments::record::Expect::Positive);
    recall.effect.metric = "retrieval.text_recall_at_1".to_owned();
    study.about.claims.push(recall);
    let figures = figures(&study);
    let titles = |sheet: &Sheet| {
        sheet.marks.iter().filter_map(bounds).filter(|(text, _)| text.starts_with("Difference in")).count()
    };
    assert_eq!(titles(&figures.effects.expect("effects").wide), 2);
    assert_eq!(figures.arms.len(), 2, "{METRIC} and the other");
}

#[test]
fn text_is_drawn_in_the_font_of_the_program() {
    let mut sheet = Sheet::new(200.0, 40.0);
    let blank = sheet.png().expect("a picture");
    sheet.marks.push(Mark::Text {
        at: (10.0, 30.0),
        text: "α \u{2212} 0.4".to_owned(),
        size: 20.0,
        colour: plotters::style::RGBColor(0, 0, 0),
        anchor: Anchor::Start,
    });
    let dark = |png: &[u8]| -> Vec<(u32, u32)> {
        let picture = image::load_from_memory(png).expect("a PNG").to_luma8();
        picture.enumerate_pixels().filter(|(_, _, pixel)| pixel.0[0] < 128).map(|(x, y, _)| (x, y)).collect()
    };
    assert!(dark(&blank).is_empty());
    let ink = dark(&sheet.png().expect("a picture"));
    let (left, right) = (ink.iter().map(|(x, _)| x).min(), ink.iter().map(|(x, _)| x).max());
    let width = f64::from(right.expect("ink") - left.expect("ink")) / 3.0;
    assert!((width - text_width("α \u{2212} 0.4", 20.0)).abs() < 4.0, "{width}");
    let lowest = ink.iter().map(|(_, y)| *y).max().expect("ink");
    assert!((f64::from(lowest) / 3.0 - 30.0).abs() < 1.5, "the baseline lies at {lowest} of 90");
}
