//! Vocabularies that come with published weights: their tokens are those of transformers, their special tokens their own.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use tempfile::TempDir;
use vlp_bench::data::collate::{Drawn, Encode, Layout, collate};
use vlp_bench::data::vocabulary::Vocabulary;
use vlp_bench::data::{Dataset, Split};
use vlp_bench::token::Specials;

use super::{LAYOUT, SceneConfig, opened};

/// What `tests/golden/spelling.py` wrote of one sentence.
#[derive(Deserialize)]
struct Encoded {
    text: String,
    ids: Vec<u32>,
    word_starts: Vec<u8>,
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/spelling").join(name)
}

fn vocabulary(name: &str) -> Vocabulary {
    Vocabulary::read(&golden(name)).unwrap_or_else(|fault| panic!("{name}: {fault}"))
}

/// A folder with a copy of a file under its usual name, and settings beside it.
fn folder(name: &str, usual: &str, settings: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(golden(name), folder.path().join(usual)).unwrap();
    fs::write(folder.path().join("tokenizer_config.json"), settings).unwrap();
    folder
}

#[test]
fn texts_are_spelt_as_transformers_spells_them() {
    let text = fs::read_to_string(golden("encodings.json")).unwrap();
    let cases: std::collections::BTreeMap<String, Vec<Encoded>> = serde_json::from_str(&text).unwrap();
    assert_eq!(cases.len(), 5);
    let cased = folder("vocab.txt", "vocab.txt", "{\"do_lower_case\": false}");
    for (name, sentences) in &cases {
        let vocabulary = match name.as_str() {
            "vocab.txt cased" => Vocabulary::read(cased.path()).unwrap(),
            name => vocabulary(name),
        };
        assert!(sentences.len() >= 40);
        for Encoded { text, ids, word_starts } in sentences {
            let encoding = vocabulary.encode(text, 512).unwrap();
            assert_eq!(&encoding.ids, ids, "{name}: {text:?}");
            assert_eq!(&encoding.word_starts, word_starts, "{name}: {text:?}");
        }
    }
}

#[test]
fn special_tokens_are_those_of_the_file() {
    let shipped = Vocabulary::shipped().unwrap();
    assert_eq!((shipped.specials(), shipped.fingerprint()), (&Specials::SHIPPED, ""));
    let id = |vocabulary: &Vocabulary, text: &str| vocabulary.encode(text, 9).unwrap().ids;
    for (name, begin, end, mask, pad) in [
        ("vocab.txt", Some(4), Some(5), Some(6), 0),
        ("clip.json", Some(1100), Some(1101), None, 1101),
        ("t5.json", None, Some(1), None, 0),
        ("opt.json", Some(2), None, None, 1),
    ] {
        let vocabulary = vocabulary(name);
        let Specials { begin: found, end: ends, mask: masks, pad: pads, .. } = *vocabulary.specials();
        assert_eq!((found, ends, masks), (begin, end, mask), "{name}");
        assert_eq!(pads, pad, "{name}");
        assert_eq!(id(&vocabulary, ""), begin.into_iter().chain(end).collect::<Vec<_>>(), "{name}");
        assert!(vocabulary.specials().all().iter().all(|id| (*id as usize) < vocabulary.len()), "{name}");
    }
    let sentinel = vocabulary("t5.json").len() as u32 - 1;
    assert!(vocabulary("t5.json").specials().all().contains(&sentinel));
}

#[test]
fn a_text_that_is_cut_keeps_the_tokens_around_it() {
    for name in ["vocab.txt", "clip.json", "t5.json", "opt.json"] {
        let vocabulary = vocabulary(name);
        let Specials { begin, end, .. } = vocabulary.specials().clone();
        for most in 3..9 {
            let encoding = vocabulary.encode(&"star ".repeat(most), most).unwrap();
            assert_eq!((encoding.ids.len(), encoding.word_starts.len()), (most, most), "{name}");
            assert_eq!(begin.unwrap_or(encoding.ids[0]), encoding.ids[0], "{name}");
            assert_eq!(end.unwrap_or(encoding.ids[most - 1]), encoding.ids[most - 1], "{name}");
        }
    }
}

#[test]
fn what_is_spelt_reads_back() {
    for name in ["vocab.txt", "clip.json", "t5.json", "opt.json"] {
        let vocabulary = vocabulary(name);
        let ids = vocabulary.encode("a red star over the house", 64).unwrap().ids;
        assert_eq!(vocabulary.text(&ids), "a red star over the house", "{name}");
    }
}

#[test]
fn tags_follow_a_caption_of_any_vocabulary_and_padding_is_its_own() {
    let set = opened(SceneConfig { pairs: 4, ..SceneConfig::default() }, Split::Train);
    let pairs: Vec<Drawn> = (0..4)
        .map(|index| {
            let mut example = set.get(index).unwrap();
            example.picture.rgb = vec![0; 16 * 16 * 3];
            (example.picture.width, example.picture.height) = (16, 16);
            example.tags = vec!["red".to_owned()];
            Drawn { index, example, caption: "a star".to_owned() }
        })
        .collect();
    for name in ["vocab.txt", "clip.json", "t5.json", "opt.json"] {
        let vocabulary = vocabulary(name);
        let batch = collate(&pairs, &vocabulary, Layout { words: 24, tags: 12, ..LAYOUT }).unwrap();
        let (caption, tags) =
            (vocabulary.encode("a star", 24).unwrap(), vocabulary.encode("red", 24).unwrap());
        let begin = usize::from(vocabulary.specials().begin.is_some());
        let mut expected = [&caption.ids[..], &tags.ids[begin..]].concat();
        let visible = expected.len();
        expected.resize(batch.words, vocabulary.specials().pad);
        assert_eq!(batch.ids[..batch.words], expected, "{name}");
        assert_eq!(batch.mask[..batch.words].iter().sum::<f32>(), visible as f32, "{name}");
        assert_eq!(&batch.specials, vocabulary.specials());
    }
}

#[test]
fn a_fingerprint_covers_the_file_and_the_settings_beside_it() {
    let print = |folder: &TempDir| Vocabulary::read(folder.path()).unwrap().fingerprint().to_owned();
    let plain = print(&folder("vocab.txt", "vocab.txt", "{}"));
    assert_eq!(plain, vocabulary("vocab.txt").fingerprint());
    assert_ne!(plain, print(&folder("vocab.txt", "vocab.txt", "{\"do_lower_case\": false}")));
    let clip = print(&folder("clip.json", "tokenizer.json", "{}"));
    assert_eq!(clip, vocabulary("clip.json").fingerprint());
    let padded = folder("clip.json", "tokenizer.json", "{\"pad_token\": {\"content\": \"!\"}}");
    assert_ne!(clip, print(&padded));
    assert_eq!(Vocabulary::read(padded.path()).unwrap().specials().pad, 0);
}

#[test]
fn a_file_that_is_no_vocabulary_is_refused_with_its_name() {
    let (empty, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let written = |name: &str, text: &str| {
        fs::write(folder.path().join(name), text).unwrap();
        folder.path().join(name)
    };
    for (place, reason) in [
        (empty.path().to_owned(), "holds neither tokenizer.json nor vocab.txt"),
        (written("other.json", "{}"), "cannot be read"),
        (written("vocab.txt", "[PAD]\na\n"), "lacks the special tokens [UNK], [CLS], [SEP], [MASK]"),
        (folder.path().join("none.json"), "No such file"),
    ] {
        let message = Vocabulary::read(&place).err().expect("refused").to_string();
        assert!(message.contains(reason) && message.contains(&place.display().to_string()), "{message}");
    }
}
