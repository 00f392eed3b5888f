//! The `data:` section and datasets made of other datasets.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use vlp_bench::data::cache::{Cached, kept};
use vlp_bench::data::combine::{Concat, Shuffled};
use vlp_bench::data::{Config, Dataset, Error, Split, scenes};

use super::{faulty, opened, training};

fn parse(text: &str) -> std::result::Result<Config, String> {
    serde_yaml::from_str(text).map_err(|error| error.to_string())
}

#[test]
fn one_source_or_a_list_of_them_can_be_written() {
    let one = parse("train: {scenes: {pairs: 10, noise: 0.3}}").expect("one source");
    let two =
        parse("train:\n  - scenes: {pairs: 10}\n  - scenes: {pairs: 5, seed: 1, noise: {replaced: 0.5}}")
            .expect("two sources");
    assert_eq!(one.train.0.len(), 1);
    let dataset = two.open(Split::Train, 0).expect("opens").expect("a training set");
    assert_eq!((dataset.len(), dataset.name().as_str()), (15, "scenes+scenes"));
    assert!(two.open(Split::Test, 0).expect("opens").is_none());
}

#[test]
fn a_written_configuration_reads_back_equal() {
    let text = "train: {scenes: {pairs: 10, noise: 0.3, hold_out: [[red, star]]}}\ntest: {scenes: {}}\naugment: {flip: true, rand_augment: {}}";
    let config = parse(text).expect("valid");
    let written = serde_json::to_string(&config).expect("writes");
    assert_eq!(serde_json::from_str::<Config>(&written).expect("reads"), config);
}

#[test]
fn unknown_keys_are_refused_by_name() {
    for (text, key) in [
        ("train: {scenes: {pears: 10}}", "pears"),
        ("train: {sceens: {pairs: 10}}", "sceens"),
        ("train: {scenes: {}}\nsizes: 3", "sizes"),
        ("train: {scenes: {noise: {replaced: 0.1, cut: 0.1}}}", "cut"),
        ("train: {scenes: {}}\naugment: {crops: null}", "crops"),
    ] {
        let error = parse(text).expect_err("refused");
        assert!(error.contains(key), "{error}");
    }
}

#[test]
fn concatenation_keeps_every_pair_and_the_common_fields() {
    let first = training();
    let second: Arc<dyn Dataset> =
        Arc::new(opened(scenes::Config { pairs: 5, seed: 9, ..scenes::Config::default() }, Split::Train));
    let both = Concat::new(vec![first.clone(), second.clone()]).expect("two parts");
    assert_eq!((both.len(), both.name().as_str()), (55, "scenes+scenes"));
    assert_eq!(both.get(49).expect("a pair"), first.get(49).expect("a pair"));
    assert_eq!(both.get(50).expect("a pair"), second.get(0).expect("a pair"));
    assert!(matches!(both.get(55), Err(Error::Index { index: 55, len: 55, .. })));
    assert_eq!(both.fields(), first.fields());
    assert_eq!(both.attribution().len(), 1, "each credit once");
}

#[test]
fn shuffled_captions_are_all_there_and_none_where_it_was() {
    let data = training();
    let shuffled = Shuffled::new(data.clone(), 1).expect("shuffled");
    let (mut before, mut after) = (Vec::new(), Vec::new());
    for index in 0..data.len() {
        let (own, given) = (data.get(index).expect("a pair"), shuffled.get(index).expect("a pair"));
        assert_eq!(own.picture, given.picture);
        assert_ne!(own.captions, given.captions);
        before.push(own.captions);
        after.push(given.captions);
    }
    before.sort();
    after.sort();
    assert_eq!(before, after);
    assert_ne!(data.fingerprint(), shuffled.fingerprint());
}

#[test]
fn a_cache_changes_how_often_pairs_are_decoded_and_nothing_else() {
    let (data, read) = faulty(None, false, Duration::ZERO);
    let (whole, none) = (Cached::new(data.clone(), usize::MAX), Cached::new(data.clone(), 0));
    for _ in 0..3 {
        for index in 0..data.len() {
            assert_eq!(whole.get(index).expect("a pair"), data.inner.get(index).expect("a pair"));
        }
    }
    assert_eq!(read.load(Ordering::Relaxed), data.len());
    none.get(0).and_then(|_| none.get(0)).expect("a pair");
    assert_eq!(read.load(Ordering::Relaxed), data.len() + 2);
    assert!(whole.get(data.len()).is_err());
}

#[test]
fn a_split_that_is_opened_again_is_decoded_no_more() {
    let (data, read) = faulty(None, false, Duration::ZERO);
    let all = |size: Option<u32>| {
        let pairs = kept(data.clone(), size);
        (0..pairs.len()).map(|index| pairs.get(index).expect("a pair").picture).collect::<Vec<_>>()
    };
    let first = all(Some(16));
    assert_eq!((first == all(Some(16)), read.load(Ordering::Relaxed)), (true, data.len()));
    assert!(first.iter().all(|picture| (picture.width, picture.height, picture.rgb.len()) == (16, 16, 768)));
    // At another size it is another split.
    assert_ne!(first, all(None));
    assert_eq!(read.load(Ordering::Relaxed), 2 * data.len());
}

#[test]
fn a_style_with_all_concepts_cannot_be_in_two_splits() {
    for (text, refused) in [
        (
            "train: {emoji: {styles: [noto, twemoji], concepts: all}}\ntest: {emoji: {styles: [fluent], concepts: all}}",
            None,
        ),
        ("train: {emoji: {}}\nval: {emoji: {}}\ntest: {emoji: {}}", None),
        (
            "train: {emoji: {styles: [noto], concepts: all}}\ntest: {emoji: {styles: [noto]}}",
            Some("data.test"),
        ),
        ("train: {emoji: {}}\ntest: {emoji: {styles: [fluent], concepts: all}}", Some("data.test")),
        (
            "train: {scenes: {}}\nval: {emoji: {styles: [fluent]}}\ntest: [{clipart: {}}, {emoji: {concepts: all}}]",
            Some("data.test"),
        ),
    ] {
        let checked = parse(text).expect("readable").check();
        match refused {
            None => checked.expect("disjoint"),
            Some(key) => {
                let error = checked.expect_err("refused").to_string();
                assert!(error.contains(&format!("`{key}` shows emoji of the style")), "{error}");
                assert!(error.contains("`concepts: all`"), "{error}");
            }
        }
    }
}

#[test]
fn classes_are_sorted_and_each_there_once() {
    let sources = "train: [{clipart: {pairs: 300}}, {emoji: {pairs: 300}}, {scenes: {pairs: 10}}]";
    let joined = parse(sources).expect("readable").open(Split::Train, 0).expect("opens").expect("pairs");
    let classes = joined.classes().expect("classes");
    assert!(classes.is_sorted_by(|a, b| a < b), "{classes:?}");
    for name in ["food and drink", "animals", "star"] {
        assert!(classes.iter().any(|class| class == name), "{name} in {classes:?}");
    }
    for index in [0, 350, 605] {
        assert!(classes.contains(&joined.get(index).expect("a pair").category.expect("a class")));
    }
}

#[test]
fn shuffling_a_pack_moves_captions_between_its_own_pairs() {
    let text = "train: {emoji: {pairs: 200}}";
    let open =
        |text: &str| parse(text).expect("readable").open(Split::Train, 3).expect("opens").expect("pairs");
    let (own, shuffled) = (open(text), open(&format!("{text}\nshuffled_captions: true")));
    let moved = (0..200).filter(|index| {
        let (own, shuffled) = (own.get(*index).expect("a pair"), shuffled.get(*index).expect("a pair"));
        own.picture == shuffled.picture && own.captions != shuffled.captions
    });
    assert!(moved.count() >= 195, "two styles of one concept may have changed places");
    assert_eq!(own.classes().expect("classes"), shuffled.classes().expect("classes"));
}

#[test]
fn training_captions_can_be_class_names_and_begin_with_a_prompt() {
    let plain = parse("train: {scenes: {pairs: 10}}\ntest: {scenes: {pairs: 5}}").expect("valid");
    let text = "train: {scenes: {pairs: 10}}\ntest: {scenes: {pairs: 5}}\nwording: {captions: category, prompt: 'a picture of '}";
    let worded = parse(text).expect("valid");
    let open = |config: &Config, split| config.open(split, 0).expect("opens").expect("there");
    let (own, other) = (open(&plain, Split::Train), open(&worded, Split::Train));
    for index in 0..10 {
        let (own, other) = (own.get(index).expect("a pair"), other.get(index).expect("a pair"));
        assert_eq!(other.captions, [format!("a picture of {}", own.category.expect("a class"))]);
        assert_eq!(own.picture, other.picture);
    }
    assert_ne!(own.fingerprint(), other.fingerprint());
    let (own, other) = (open(&plain, Split::Test), open(&worded, Split::Test));
    assert_eq!(own.get(3).expect("a pair").captions, other.get(3).expect("a pair").captions);
}
