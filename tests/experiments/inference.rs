//! What is asked of trained models from outside: embeddings, matches, captions and retrieval, on pictures in files.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use candle_core::{Device, safetensors};
use serde_json::Value as Json;
use tempfile::TempDir;
use vlp_bench::data::{Split, scenes};

const PICTURES: usize = 20;

/// Runs of a few steps, pictures and texts, made once.
struct Place {
    folder: TempDir,
    texts: Vec<String>,
}

const TOWERS: &str = "image: {width: 32, depth: 1, heads: 2}, text: {width: 32, depth: 2, heads: 2}";

fn place() -> &'static Place {
    static PLACE: OnceLock<Place> = OnceLock::new();
    PLACE.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        for (name, model, objectives) in [
            ("blip", format!("blip: {{{TOWERS}, embed: 16}}"), "itc, itm, lm"),
            ("clip", format!("clip: {{{TOWERS}, patch: 8, embed: 16}}"), "itc"),
            ("vilt", "vilt: {trunk: {width: 32, depth: 1, heads: 2}}".to_owned(), "itm: {negatives: random}"),
            ("uniter", "uniter: {trunk: {width: 32, depth: 1, heads: 2}}".to_owned(), "mlm"),
        ] {
            let yaml = format!(
                "question: Does it answer?\n\
                 data: {{train: {{scenes: {{pairs: 32, size: 16}}}}, size: 16, words: 16}}\n\
                 model: {{{model}}}\n\
                 objectives: [{objectives}]\n\
                 train: {{steps: 3, batch: 8}}\n"
            );
            fs::write(folder.path().join(format!("{name}.yaml")), yaml).unwrap();
            let file = format!("{name}.yaml");
            let trained = vlp(folder.path(), &["run", &file, "--no-report", "--quiet", "--threads", "1"]);
            assert!(trained.status.success(), "{}", String::from_utf8_lossy(&trained.stderr));
        }
        let config = scenes::Config { pairs: PICTURES, size: 40, captions: 1, ..Default::default() };
        let sources = vlp_bench::data::Sources(vec![vlp_bench::data::Source::Scenes(config)]);
        let pairs = sources.open(Split::Test).unwrap();
        fs::create_dir_all(folder.path().join("pictures/below")).unwrap();
        let mut texts = Vec::new();
        for number in 0..PICTURES {
            let example = pairs.get(number).unwrap();
            let below = if number % 2 == 0 { "" } else { "below/" };
            let end = ["png", "jpg", "webp"][number % 3];
            let file = folder.path().join(format!("pictures/{below}{number:02}.{end}"));
            let (width, height) = (example.picture.width, example.picture.height);
            image::RgbImage::from_raw(width, height, example.picture.rgb).unwrap().save(file).unwrap();
            texts.extend(example.captions);
        }
        fs::write(folder.path().join("texts.txt"), texts.join("\n\n")).unwrap();
        Place { folder, texts }
    })
}

fn vlp(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vlp")).current_dir(folder).args(arguments).output().unwrap()
}

/// The directory of the run of this model.
fn run_of(name: &str) -> String {
    let mut folder = place().folder.path().join("runs").join(name);
    while !folder.join("config.yaml").exists() {
        let mut folders = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        folder = folders.find(|path| path.is_dir()).unwrap();
    }
    folder.display().to_string()
}

/// What a verb prints, and how it ends.
#[track_caller]
fn ask(code: i32, arguments: &[&str]) -> (String, String) {
    let said = vlp(place().folder.path(), arguments);
    let (out, error) = (String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    assert_eq!(said.status.code(), Some(code), "{arguments:?}\n{out}\n{error}");
    (out.into_owned(), error.into_owned())
}

#[track_caller]
fn asked(arguments: &[&str]) -> Json {
    serde_json::from_str(&ask(0, &[arguments, &["--json"]].concat()).0).unwrap()
}

#[test]
fn pictures_of_every_kind_and_texts_are_embedded_as_unit_vectors_in_a_named_order() {
    let (run, out) = (run_of("blip"), place().folder.path().join("embeds.safetensors"));
    let verb =
        ["embed", &run, "--images", "pictures", "--texts", "texts.txt", "--out", out.to_str().unwrap()];
    let said = asked(&verb);
    let tensors = safetensors::load(&out, &Device::Cpu).unwrap();
    assert_eq!(tensors["images"].dims(), [PICTURES, 16]);
    assert_eq!(tensors["texts"].dims(), [place().texts.len(), 16]);
    let lengths = tensors["images"].sqr().unwrap().sum(1).unwrap().to_vec1::<f32>().unwrap();
    assert!(lengths.iter().all(|length| (length - 1.0).abs() < 1e-5));
    let names: Vec<&str> =
        said["images"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), PICTURES);
    let header = fs::read(&out).unwrap();
    let header = String::from_utf8_lossy(&header);
    assert!(header.contains("below/01.jpg") && header.contains(&place().texts[0]));
}

#[test]
fn what_is_retrieved_is_what_similarity_ranks_first() {
    let run = run_of("clip");
    let text = &place().texts[3];
    let said = asked(&["retrieve", &run, "--images", "pictures", "--query", text, "--top", "4"]);
    let found = said["found"].as_array().unwrap();
    assert_eq!((found.len(), said["by"].as_str()), (4, Some("similarity")));
    let matched = asked(&["match", &run, "--image", "pictures", "--text", text]);
    let mut scores: Vec<f64> =
        matched.as_array().unwrap().iter().map(|pair| pair["similarity"].as_f64().unwrap()).collect();
    assert!(matched[0]["probability"].is_null());
    scores.sort_by(|a, b| b.total_cmp(a));
    for (found, score) in found.iter().zip(scores) {
        assert!((found["score"].as_f64().unwrap() - score).abs() < 1e-4);
    }
}

#[test]
fn a_model_without_embeddings_matches_and_retrieves_by_its_head() {
    let run = run_of("vilt");
    let verb = ["retrieve", &run, "--image", "pictures/00.png", "--texts", "texts.txt", "--top", "3"];
    let said = asked(&verb);
    assert_eq!(said["by"], "log-odds of a match");
    let best = &said["found"][0];
    let matched =
        asked(&["match", &run, "--image", "pictures/00.png", "--text", best["found"].as_str().unwrap()]);
    assert!(matched[0]["similarity"].is_null());
    let odds = best["score"].as_f64().unwrap();
    assert!((matched[0]["probability"].as_f64().unwrap() - 1.0 / (1.0 + (-odds).exp())).abs() < 1e-5);
    let (_, error) = ask(2, &["embed", &run, "--images", "pictures"]);
    assert!(
        error.contains("vilt cannot embed, which takes `embed`: vilt encodes neither side alone"),
        "{error}"
    );
    assert!(error.contains("it can match, retrieve"), "{error}");
}

#[test]
fn captions_are_the_same_whenever_they_are_written_and_drawn_ones_change_with_the_seed() {
    let run = run_of("blip");
    let write = |how: &[&str]| asked(&[&["caption", &run, "--images", "pictures"], how].concat());
    for how in ["greedy", "beam", "nucleus"] {
        let captions = write(&["--decode", how]);
        assert_eq!(captions.as_array().unwrap().len(), PICTURES, "{how}");
        assert_eq!(captions, write(&["--decode", how]), "{how}");
        assert!(captions[0]["score"].as_f64().unwrap() < 0.0);
    }
    assert_ne!(write(&["--decode", "nucleus"]), write(&["--decode", "nucleus", "--seed", "1"]));
    let (table, _) = ask(0, &["caption", &run, "--images", "pictures/00.png", "--prompt", "a red"]);
    assert!(table.starts_with("pictures/00.png  "), "{table}");
}

#[test]
fn what_a_model_cannot_do_is_refused_with_what_it_can() {
    let (clip, uniter) = (run_of("clip"), run_of("uniter"));
    let (_, error) = ask(2, &["caption", &clip, "--images", "pictures"]);
    assert!(error.contains("clip cannot caption, which takes `generate`: clip has no joint pass"), "{error}");
    assert!(error.contains("it can embed, match, retrieve"), "{error}");
    let (_, error) = ask(2, &["match", &uniter, "--image", "pictures", "--text", "a"]);
    assert!(error.contains("uniter reads regions that a detector has found, not plain pictures"), "{error}");
    let (_, error) = ask(2, &["embed", &clip]);
    assert!(error.contains("nothing to embed"), "{error}");
    let (_, error) = ask(2, &["embed", &clip, "--images", "runs"]);
    assert!(error.contains("no picture there"), "{error}");
    let long = "a ".repeat(40);
    let (_, error) = ask(2, &["caption", &run_of("blip"), "--images", "pictures", "--prompt", &long]);
    assert!(error.contains("leaves no room for a caption"), "{error}");
}

#[test]
fn a_picture_that_cannot_be_read_is_named_and_passed_over_and_the_end_says_so() {
    let broken = place().folder.path().join("broken");
    fs::create_dir_all(&broken).unwrap();
    fs::write(broken.join("a.png"), b"no picture").unwrap();
    fs::copy(place().folder.path().join("pictures/00.png"), broken.join("b.png")).unwrap();
    let run = run_of("clip");
    let (out, error) = ask(1, &["match", &run, "--image", "broken", "missing.png", "--text", "a", "--json"]);
    let found: Json = serde_json::from_str(&out).unwrap();
    assert_eq!(found.as_array().unwrap().len(), 1);
    assert!(found[0]["image"].as_str().unwrap().ends_with("b.png"));
    assert!(
        error.contains("a.png: cannot be decoded") && error.contains("missing.png: cannot be read"),
        "{error}"
    );
    let (_, error) = ask(2, &["match", &run, "--image", "missing.png", "--text", "a"]);
    assert!(error.contains("none of the pictures can be read"), "{error}");
}

/// A published captioner with a vocabulary and its own way to prepare pictures.
fn published() -> PathBuf {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/blip/captions");
    let folder = place().folder.path().join("published");
    fs::create_dir_all(&folder).unwrap();
    for file in ["config.json", "model.safetensors"] {
        fs::copy(golden.join(file), folder.join(file)).unwrap();
    }
    let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].map(str::to_owned);
    let letters = ('a'..='v').map(|letter| letter.to_string());
    let pieces: Vec<String> = special.into_iter().chain(letters).collect();
    fs::write(folder.join("vocab.txt"), pieces.join("\n")).unwrap();
    folder
}

#[test]
fn published_weights_are_asked_the_same_way_and_refuse_what_their_class_does_not_hold() {
    let folder = published();
    let folder = folder.to_str().unwrap();
    let write = || asked(&["caption", folder, "--images", "pictures", "--decode", "greedy"]);
    let plain = write();
    assert_eq!(plain.as_array().unwrap().len(), PICTURES);
    let other = r#"{"image_mean": [0, 0, 0], "image_std": [0.1, 1, 2], "do_center_crop": true,
        "size": {"shortest_edge": 20}, "crop_size": 10}"#;
    fs::write(Path::new(folder).join("preprocessor_config.json"), other).unwrap();
    assert_ne!(write(), plain);
    let (_, error) = ask(2, &["embed", folder, "--images", "pictures"]);
    assert!(error.contains("BlipForConditionalGeneration cannot embed: it holds no weights"), "{error}");
}
