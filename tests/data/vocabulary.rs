//! The vocabulary: special tokens, whole words and their pieces.

use vlp_bench::data::collate::Encode;
use vlp_bench::data::vocabulary::Vocabulary;
use vlp_bench::data::{Dataset, Source, Split, clipart, emoji, scenes};
use vlp_bench::token::{CLS, SEP, SPECIAL, UNK};

use super::opened;

#[test]
fn a_text_begins_and_ends_with_its_special_tokens_and_reads_back() {
    let vocabulary = Vocabulary::shipped().expect("the vocabulary");
    let encoding = vocabulary.encode("A Red  STAR, over the café", 24).expect("spelt");
    assert_eq!((encoding.ids.first(), encoding.ids.last()), (Some(&CLS), Some(&SEP)));
    assert_eq!(vocabulary.text(&encoding.ids), "a red star , over the cafe");
    let starts: usize = encoding.word_starts.iter().map(|start| usize::from(*start)).sum();
    assert_eq!((encoding.word_starts.len(), starts), (encoding.ids.len(), 7));
}

#[test]
fn a_long_text_is_cut_to_the_places_there_are() {
    let vocabulary = Vocabulary::shipped().expect("the vocabulary");
    for most in 3..12 {
        let encoding = vocabulary.encode(&"star ".repeat(most), most).expect("spelt");
        assert_eq!((encoding.ids.len(), encoding.word_starts.len()), (most, most));
        assert_eq!(encoding.ids.last(), Some(&SEP));
    }
    assert_eq!(vocabulary.encode("", 8).expect("spelt").ids, [CLS, SEP]);
}

#[test]
fn rare_words_have_several_pieces_of_which_the_first_begins_the_word() {
    let vocabulary = Vocabulary::shipped().expect("the vocabulary");
    let encoding = vocabulary.encode("a zyzzyva star", 24).expect("spelt");
    let inner = encoding.ids.len() - 2 - 3;
    assert!(inner >= 1, "{encoding:?}");
    let mut expected = vec![0, 1, 1];
    expected.resize(3 + inner, 0);
    expected.extend([1, 0]);
    assert_eq!(encoding.word_starts, expected);
}

#[test]
fn many_words_of_unseen_captions_have_several_pieces_and_none_is_unknown() {
    let vocabulary = Vocabulary::shipped().expect("the vocabulary");
    for source in [Source::Emoji(emoji::Config::default()), Source::Clipart(clipart::Config::default())] {
        let set = source.open(Split::Test).expect("a split");
        let (mut words, mut pieces) = (0, 0);
        for index in 0..set.len() {
            for caption in set.get(index).expect("a pair").captions {
                let encoding = vocabulary.encode(&caption, 512).expect("spelt");
                assert!(!encoding.ids.contains(&UNK), "{caption}");
                words += encoding.word_starts.iter().map(|start| usize::from(*start)).sum::<usize>();
                pieces += encoding.ids.len() - 2;
            }
        }
        let ratio = pieces as f64 / words as f64;
        assert!((1.2..2.0).contains(&ratio), "{ratio} pieces a word");
    }
}

#[test]
fn every_word_of_a_scene_is_one_piece() {
    let vocabulary = Vocabulary::shipped().expect("the vocabulary");
    let noise = scenes::Noise { generic: 0.2, ..scenes::Noise::default() };
    let set =
        opened(scenes::Config { pairs: 500, objects: [1, 5], noise, ..Default::default() }, Split::Train);
    for index in 0..set.len() {
        let pair = set.get(index).expect("a pair");
        for text in pair.captions.iter().chain(&pair.tags) {
            let encoding = vocabulary.encode(text, 64).expect("spelt");
            let words = encoding.ids.len() - 2;
            assert_eq!(encoding.word_starts.iter().filter(|start| **start == 1).count(), words, "{text}");
            assert!(!encoding.ids.contains(&UNK), "{text}");
        }
    }
}

#[test]
fn a_vocabulary_that_cannot_be_used_is_refused_with_a_reason() {
    let special = SPECIAL.join("\n");
    for (text, reason) in [
        ("[UNK]\n[PAD]\na", "special tokens"),
        ("", "special tokens"),
        (&format!("{special}\na\nb\na"), "lines 6 and 8 are both `a`"),
    ] {
        let error = Vocabulary::new(text).err().expect("refused").to_string();
        assert!(error.contains(reason) && error.contains("help:"), "{error}");
    }
}
