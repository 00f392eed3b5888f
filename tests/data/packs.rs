//! The packs: what they hold, how a part of one is chosen, and what is said of a damaged one.

use std::collections::BTreeSet;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};

use serde_json::json;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use vlp_bench::data::emoji::{self, Concepts};
use vlp_bench::data::pack::Pack;
use vlp_bench::data::{Dataset, Field, Source, Split, clipart};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

const SPLITS: [Split; 3] = [Split::Train, Split::Val, Split::Test];

fn style(name: &str) -> emoji::Config {
    emoji::Config { styles: vec![name.to_owned()], concepts: Concepts::All, ..emoji::Config::default() }
}

#[test]
fn emoji_of_an_unseen_style_have_the_captions_of_the_seen_ones() {
    let captions = |config: &emoji::Config| -> BTreeSet<String> {
        let set = config.open(Split::Train).expect("emoji");
        (0..set.len()).map(|index| set.get(index).expect("a pair").captions.remove(0)).collect()
    };
    let (seen, unseen) = (captions(&style("noto")), captions(&style("fluent")));
    assert!(unseen.intersection(&seen).count() * 100 > unseen.len() * 95);
}

#[test]
fn every_pair_of_a_pack_can_be_read_and_says_something() {
    for source in [Source::Emoji(emoji::Config::default()), Source::Clipart(clipart::Config::default())] {
        let mut names = BTreeSet::new();
        for split in SPLITS {
            let set = source.open(split).expect("a split");
            let fields = BTreeSet::from([Field::Pixels, Field::Words, Field::Tags, Field::Category]);
            assert_eq!(set.fields(), fields);
            let classes = set.classes().expect("classes");
            for index in 0..set.len() {
                let pair = set.get(index).expect("a pair");
                assert!(!pair.captions.is_empty() && !pair.tags.is_empty(), "{}", pair.id);
                assert!(pair.captions.iter().chain(&pair.tags).all(|text| !text.trim().is_empty()));
                assert!(classes.contains(pair.category.as_ref().expect("a class")));
                let least = pair.picture.rgb.iter().min().expect("pixels");
                assert!(*least < 245, "{} is white on white", pair.id);
                assert!(names.insert(pair.id));
            }
        }
    }
}

#[test]
fn a_number_of_pairs_takes_the_first_ones_and_no_more_than_there_are() {
    let open = |pairs| emoji::Config { pairs, ..emoji::Config::default() }.open(Split::Test);
    let (all, few) = (open(None).expect("all"), open(Some(40)).expect("forty"));
    assert_eq!(few.len(), 40);
    assert_eq!(few.get(39).expect("a pair"), all.get(39).expect("a pair"));
    assert_ne!(few.fingerprint(), all.fingerprint());
    assert!(few.get(40).is_err());
    for pairs in [0, all.len() + 1] {
        let error = open(Some(pairs)).err().expect("refused").to_string();
        assert!(error.contains(&format!("`emoji.pairs` is {pairs}, there are {}", all.len())), "{error}");
    }
}

#[test]
fn an_unknown_style_or_category_is_refused_with_the_nearest_one() {
    let error = style("notto").open(Split::Test).err().expect("refused").to_string();
    assert!(
        error.contains("`emoji.styles` names `notto`") && error.contains("did you mean `noto`?"),
        "{error}"
    );
    let config = clipart::Config { categories: vec!["animal".to_owned()], ..clipart::Config::default() };
    let error = config.open(Split::Test).err().expect("refused").to_string();
    assert!(error.contains("did you mean `animals`?"), "{error}");
    let error = style("wxyz").open(Split::Test).err().expect("refused").to_string();
    assert!(
        !error.contains("did you mean") && error.contains("known here: fluent, noto, twemoji"),
        "{error}"
    );
    let none = emoji::Config { styles: Vec::new(), ..emoji::Config::default() };
    assert!(none.open(Split::Test).is_err());
}

#[test]
fn categories_choose_pairs() {
    let config = clipart::Config { categories: vec!["food".to_owned()], ..clipart::Config::default() };
    let set = config.open(Split::Train).expect("food");
    assert_eq!(set.classes().expect("classes"), ["food"]);
    assert_eq!(set.get(0).expect("a pair").category.as_deref(), Some("food"));
}

#[test]
fn every_source_says_what_it_offers() {
    let summaries = Source::all().map(|source| source.summary().expect("a summary"));
    let names = ["clipart", "emoji", "scenes", "questions", "statements", "hypotheses", "expressions"];
    assert_eq!(summaries.each_ref().map(|one| one.name.as_str()), names);
    for summary in &summaries {
        assert!(!summary.description.is_empty() && !summary.licence.is_empty());
        assert!(!summary.attribution.is_empty());
        let labels = [Field::Category, Field::Answer, Field::Entailment, Field::Target];
        assert!(labels.iter().any(|label| summary.fields.contains(label)));
        assert_eq!(summary.classes.len() > 5, summary.fields.contains(&Field::Category));
        assert!(summary.classes.is_sorted());
    }
    assert_eq!(summaries[2].pairs, None);
    assert!(summaries[1].pairs.is_some_and(|counts| counts.iter().sum::<usize>() == 5160));
}

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/packs").join(name)
}

/// A copy of the emoji pack that a test may damage.
fn copied() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["emoji.zip", "emoji.json"] {
        std::fs::copy(shipped(name), folder.path().join(name)).expect("copied");
    }
    let file = folder.path().join("emoji.zip");
    (folder, file)
}

/// What is said when the pack at `file` is opened in place of the shipped one.
fn refusal(file: &Path) -> String {
    let config = emoji::Config { file: Some(file.to_owned()), ..emoji::Config::default() };
    config.open(Split::Test).err().expect("refused").to_string()
}

#[test]
fn a_truncated_pack_is_refused_with_what_is_missing_and_what_to_do() {
    let (_folder, file) = copied();
    let whole = std::fs::read(&file).expect("read");
    for length in [0, 1, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&file, &whole[..length]).expect("written");
        let error = refusal(&file);
        assert!(error.contains("truncated") && error.contains("emoji.zip"), "{error}");
        assert!(error.contains(&format!("{length} of {} bytes", whole.len())), "{error}");
        assert!(error.contains("help: restore"), "{error}");
    }
}

#[test]
fn a_pack_with_one_changed_byte_is_refused_by_its_checksum() {
    let (_folder, file) = copied();
    let whole = std::fs::read(&file).expect("read");
    for place in [0, 2_000_000, whole.len() - 1] {
        let mut altered = whole.clone();
        altered[place] ^= 1;
        std::fs::write(&file, altered).expect("written");
        let error = refusal(&file);
        assert!(error.contains("SHA-256") && error.contains("help:"), "{error}");
    }
}

#[test]
fn a_manifest_that_is_missing_or_of_another_version_is_named() {
    let (folder, file) = copied();
    let manifest = folder.path().join("emoji.json");
    let text = std::fs::read_to_string(&manifest).expect("read");
    for (from, to, reason) in [
        ("\"format\": 1", "\"format\": 2", "has format 2, this program reads format 1"),
        ("\"pairs\": 5160", "\"pairs\": 5161", "has 5160 pairs, its manifest says 5161"),
        ("\"near\"", "\"nearly\"", "manifest"),
        ("{", "", "manifest"),
    ] {
        std::fs::write(&manifest, text.replacen(from, to, 1)).expect("written");
        let error = refusal(&file);
        assert!(error.contains(reason), "{error}");
    }
    std::fs::remove_file(&manifest).expect("removed");
    assert!(refusal(&file).contains("emoji.json"));
    assert!(refusal(&folder.path().join("none.zip")).contains("none.zip"));
}

/// A pack of these lines, with a white picture for each name.
fn written(folder: &Path, lines: &[serde_json::Value], pictures: &[&str]) -> PathBuf {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let mut picture = Cursor::new(Vec::new());
    image::RgbImage::from_pixel(8, 8, image::Rgb([9, 9, 9]))
        .write_to(&mut picture, image::ImageFormat::WebP)
        .expect("encoded");
    archive.start_file("pairs.jsonl", options).expect("an entry");
    archive.write_all(text.as_bytes()).expect("written");
    for name in pictures {
        archive.start_file(format!("{name}.webp"), options).expect("an entry");
        archive.write_all(picture.get_ref()).expect("written");
    }
    let bytes = archive.finish().expect("finished").into_inner();
    let sum: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    let manifest = json!({
        "format": 1, "pairs": lines.len(), "bytes": bytes.len(), "sha256": sum, "near": 8, "title": "My drawings",
        "licence": "CC0-1.0", "attribution": ["me"], "packages": [],
    });
    let file = folder.join("mine.zip");
    std::fs::write(&file, bytes).expect("written");
    std::fs::write(folder.join("mine.json"), manifest.to_string()).expect("written");
    file
}

fn line(id: &str) -> serde_json::Value {
    json!({
        "id": id, "captions": ["a sketch"], "tags": [], "category": "things", "style": "pencil", "stem": "a",
        "hash": "00ff00ff00ff00ff", "split": "test",
    })
}

#[test]
fn a_pack_of_ones_own_can_take_the_place_of_a_shipped_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = written(folder.path(), &[line("a"), line("b/c")], &["a", "b/c"]);
    let config = emoji::Config { file: Some(file), ..style("pencil") };
    let set = config.open(Split::Test).expect("a pack");
    let pair = set.get(1).expect("a pair");
    assert_eq!((set.len(), pair.picture.width, pair.picture.rgb[0]), (2, 8, 9));
    assert_eq!(pair.captions, ["a sketch"]);
    assert!(!set.fields().contains(&Field::Tags), "not every pair has tags");
    assert_eq!(set.attribution(), ["me"]);
}

#[test]
fn a_file_that_is_no_pack_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().expect("a folder");
    let with = |key: &str, value: serde_json::Value| {
        let mut line = line("a");
        line[key] = value;
        line
    };
    let without = |key: &str| {
        let mut line = line("a");
        line.as_object_mut().expect("an object").remove(key);
        line
    };
    for (line, reason) in [
        (line("b"), "it has no `b.webp`"),
        (with("captions", json!([])), "`a` has no caption"),
        (with("colour", json!("red")), "unknown field `colour`"),
        (with("split", json!("dev")), "unknown variant `dev`"),
        (without("category"), "missing field `category`"),
    ] {
        let file = written(folder.path(), &[line], &["a"]);
        let error = Pack::read(&file).err().expect("refused").to_string();
        assert!(error.contains(reason) && error.contains("mine.zip"), "{error}");
    }
}

#[test]
fn the_readme_states_the_pairs_of_each_split() {
    let readme = include_str!("../../data/README.md");
    for source in Source::all() {
        let summary = source.summary().expect("a summary");
        let Some([train, val, test]) = summary.pairs else { continue };
        let row = readme.lines().find(|line| line.starts_with(&format!("| `{}` |", summary.name)));
        assert!(row.expect("a row").ends_with(&format!("| {train} | {val} | {test} |")), "{summary:?}");
    }
}
