use vlp_bench::experiments::evaluate;
use vlp_bench::source::{description, deviations};
use vlp_bench::{models, objectives};

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
