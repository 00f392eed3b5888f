use candle_core::DType;
use vlp_bench::experiments::evaluate;
use vlp_bench::models::{Attend, Inputs};
use vlp_bench::objectives::representation::Representation;
use vlp_bench::objectives::{Reading, itm};
use vlp_bench::source::{description, deviations};
use vlp_bench::token::Specials;
use vlp_bench::{models, objectives};

use super::tiny::DIMS;
use super::{VOCABULARY, WORDS, assert_close, normal, random_batch, store};

const HEAD: &str = "\
//! Masked words: what stands
//! behind a mask? More of it.
//!
//! A paper et al., arXiv:0000.00000.
//! Deviation: one thing
//! is done otherwise.
//! Deviation: another.
//!
//! Not part of it.

//! Deviation: not in the head.
";

#[test]
fn a_description_is_the_first_sentence_of_the_head() {
    assert_eq!(description(HEAD), "Masked words: what stands behind a mask?");
    assert_eq!(description("//! No end\n\nuse x;"), "No end");
    assert_eq!(description("use x;"), "");
}

#[test]
fn deviations_are_the_marked_lines_of_the_head_and_what_continues_them() {
    assert_eq!(deviations(HEAD), ["one thing is done otherwise.", "another."]);
    assert!(deviations("//! None.").is_empty());
}

#[track_caller]
fn check_head(name: &str, description: &str, deviations: &[String], source: &str) {
    assert!(description.ends_with(['.', '?']) && description.len() > 20, "{name}: {description}");
    assert!(deviations.iter().all(|deviation| deviation.ends_with('.')), "{name}: {deviations:?}");
    assert!(source.contains("arXiv:"), "{name} names no paper");
}

#[test]
fn every_part_says_what_it_is_and_which_paper_it_follows() {
    for part in objectives::Config::all() {
        check_head(part.name(), &part.description(), &part.deviations(), part.source());
    }
    for part in models::Config::all() {
        check_head(part.name(), &part.description(), &part.deviations(), part.source());
    }
    for part in evaluate::Config::all() {
        check_head(part.name(), &part.description(), &part.deviations(), part.source());
    }
}

/// BLIP-2 (released code) judges each query output and averages the logits; its pooled vector is the average output.
#[test]
fn the_matching_head_of_average_outputs_says_what_the_heads_of_all_outputs_average_to() {
    let head = itm::Head::open(&store().student().at("itm"), &DIMS).unwrap();
    let outputs = normal("outputs", &[3, 4, DIMS.width], DType::F32);
    let pooled = head.scores(&outputs.mean(1).unwrap()).unwrap();
    let each = head.scores(&outputs.flatten(0, 1).unwrap()).unwrap().reshape((3, 4)).unwrap();
    assert_close(&pooled, &each.mean(1).unwrap(), 1e-5);
}

/// What CoCa (section 4.2) classifies of a pair, and what its decoder returns as pooled, is the outcome at the last word.
#[test]
fn a_head_on_a_pass_from_left_to_right_reads_the_last_word() {
    let inputs = Inputs {
        size: 16,
        words: WORDS,
        vocabulary: VOCABULARY,
        specials: Specials::SHIPPED,
        region_features: 0,
        region_classes: 0,
        answers: 0,
    };
    let batch = random_batch(&inputs, 5, 1);
    let config: models::Config = serde_yaml::from_str("coca: {patch: 8}").unwrap();
    let model = config.build(&store().student(), &inputs).unwrap();
    let reading = Reading::new(model.as_ref(), &batch, None);
    let pooled = model.fuse(&reading.image, &reading.text, Attend::Causal).unwrap().pooled;
    assert_close(&Representation::Causal.read(&reading).unwrap(), &pooled, 0.0);
}
