//! Caption metrics against COCO's own evaluation, and where their value is known.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::json;
use vlp_bench::experiments::evaluate::caption::tokens::Tokenizer;
use vlp_bench::experiments::evaluate::caption::{Judged, bleu::Totals, cider::cider_d, rouge::rouge_l};
use vlp_bench::experiments::inference::{Answer, score};

#[derive(Deserialize)]
struct Golden {
    /// Captions and how they are cut.
    tokens: Vec<[String; 2]>,
    sets: Vec<Set>,
}

/// Captions with their values: of the set, then of each caption.
#[derive(Deserialize)]
struct Set {
    images: Vec<Written>,
    bleu: [f64; 4],
    rouge_l: Vec<f64>,
    cider_d: Vec<f64>,
}

#[derive(Deserialize)]
struct Written {
    written: String,
    references: Vec<String>,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("../golden/captions.json")).expect("the fixture")
}

fn judged(images: &[Written]) -> Vec<Judged> {
    let tokenizer = Tokenizer::new().expect("right patterns");
    let references = |image: &Written| image.references.iter().map(|text| tokenizer.tokenize(text)).collect();
    let one = |image: &Written| Judged {
        written: tokenizer.tokenize(&image.written),
        references: references(image),
    };
    images.iter().map(one).collect()
}

fn bleu(all: &[Judged]) -> [f64; 4] {
    all.iter().fold(Totals::default(), |sum, one| sum.plus(&Totals::of(one))).bleu()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[track_caller]
fn near(what: &str, found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() <= 1e-12 * expected.abs().max(1.0), "{what}: {found} {expected}");
    }
}

#[test]
fn captions_are_cut_as_by_the_tokenizer_of_the_treebank() {
    let tokenizer = Tokenizer::new().expect("right patterns");
    for [caption, expected] in golden().tokens {
        assert_eq!(tokenizer.tokenize(&caption), expected, "{caption}");
    }
}

#[test]
fn bleu_rouge_and_cider_equal_those_of_the_published_evaluation() {
    for set in golden().sets {
        let all = judged(&set.images);
        near("BLEU", &bleu(&all), &set.bleu);
        let rouges: Vec<f64> = all.iter().map(rouge_l).collect();
        near("ROUGE-L", &[&[mean(&rouges)], &rouges[..]].concat(), &set.rouge_l);
        let ciders = cider_d(&all);
        near("CIDEr-D", &[&[mean(&ciders)], &ciders[..]].concat(), &set.cider_d);
    }
}

fn pair(written: &str, references: &[&str]) -> Judged {
    Judged {
        written: written.to_owned(),
        references: references.iter().map(|&text| text.to_owned()).collect(),
    }
}

#[test]
fn a_caption_that_repeats_its_reference_has_the_greatest_value() {
    let all = [
        pair("a red star above a dog", &["a red star above a dog"]),
        pair("two blue cats on mats", &["two blue cats on mats"]),
    ];
    for value in bleu(&all).into_iter().chain(all.iter().map(rouge_l)) {
        assert!((value - 1.0).abs() < 1e-9, "{value}");
    }
    for value in cider_d(&all) {
        assert!((value - 10.0).abs() < 1e-9, "{value}");
    }
}

#[test]
fn of_two_equally_near_references_the_shorter_counts() {
    // Five words against four and six: with six, the caption would be too short.
    let [bleu1, ..] = bleu(&[pair("a b c d e", &["a b c d e f", "a b c d"])]);
    assert!((bleu1 - 1.0).abs() < 1e-9, "{bleu1}");
}

#[test]
fn a_word_of_every_image_weighs_nothing_in_cider() {
    let all = [pair("the", &["the cat"]), pair("the dog", &["the dog"])];
    let values = cider_d(&all);
    assert_eq!(values[0], 0.0);
    assert!(values[1] > 1.0, "{values:?}");
}

#[test]
fn without_one_caption_the_totals_are_those_of_the_others() {
    let all = judged(&golden().sets[0].images);
    let sum = all.iter().fold(Totals::default(), |sum, one| sum.plus(&Totals::of(one)));
    let less = sum.minus(&Totals::of(&all[0])).bleu();
    near("BLEU", &less, &bleu(&all[1..]));
}

/// COCO's two files of the captions in a fixture, in a folder of their own.
fn files(set: &Set) -> (tempfile::TempDir, PathBuf, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let (references, results) = (folder.path().join("references.json"), folder.path().join("results.json"));
    let annotated = set.images.iter().enumerate().flat_map(|(id, image)| {
        image.references.iter().map(move |caption| json!({"image_id": id, "id": 1, "caption": caption}))
    });
    let annotations: Vec<_> =
        annotated.chain([json!({"image_id": 9999, "id": 2, "caption": "unread"})]).collect();
    fs::write(&references, json!({"info": {}, "annotations": annotations}).to_string()).expect("written");
    let written = set.images.iter().enumerate();
    let written = written.map(|(id, image)| json!({"image_id": id, "caption": image.written}));
    fs::write(&results, written.collect::<serde_json::Value>().to_string()).expect("written");
    (folder, references, results)
}

#[test]
fn files_of_coco_are_scored_as_by_the_published_evaluation() {
    for set in golden().sets {
        let (_folder, references, results) = files(&set);
        let scores = score(&references, &results).expect("legal files");
        let found = scores.json();
        assert_eq!(found["images"], set.images.len());
        let value =
            |name: &str| found["metrics"][format!("captioning.{name}")]["value"].as_f64().expect("a value");
        let bleus = [value("bleu1"), value("bleu2"), value("bleu3"), value("bleu4")];
        near("BLEU", &bleus, &set.bleu.map(|bleu| 100.0 * bleu));
        near("ROUGE-L", &[value("rouge_l")], &[100.0 * set.rouge_l[0]]);
        near("CIDEr-D", &[value("cider")], &[100.0 * set.cider_d[0]]);
        assert!(scores.table().contains(&format!("{:.2}", value("cider"))), "{}", scores.table());
    }
}

#[test]
fn files_that_cannot_be_scored_are_refused_with_every_reason() {
    let set = &golden().sets[0];
    let (folder, references, results) = files(set);
    let twice = json!([{"image_id": 7777, "caption": "a cat"}, {"image_id": 7777, "caption": "a dog"}]);
    let other = folder.path().join("other.json");
    fs::write(&other, twice.to_string()).expect("written");
    let said = |references: &Path, results: &Path| match score(references, results) {
        Ok(_) => panic!("{} was scored", results.display()),
        Err(fault) => fault.to_string(),
    };
    let both = said(&references, &other);
    assert!(
        both.contains("image 7777 has two captions") && both.contains("nothing about 1 images"),
        "{both}"
    );
    let swapped = said(&results, &references);
    assert!(swapped.contains("is not one of COCO's files of captions"), "{swapped}");
    assert!(said(&references, &folder.path().join("none.json")).contains("cannot be read"));
}
