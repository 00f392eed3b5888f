//! Published weights as the start of a run: taken whole where the run's model is theirs, refused with every difference else.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{Device, Result, Tensor, safetensors};
use vlp_bench::kernels::Activation;
use vlp_bench::models::checkpoint::hub::{Hub, Place};
use vlp_bench::models::checkpoint::{Opened, weights};
use vlp_bench::models::clip::TextEncoder;
use vlp_bench::models::{Config, Inputs, Store, albef, clip};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn read(config: &Config, inputs: &Inputs, folder: &Path) -> Result<BTreeMap<String, Tensor>> {
    // A path asks no hub.
    let hub = Hub::from_variables(|_| None);
    weights(config, inputs, &Place::Path(folder.to_owned()), &hub, &Device::Cpu)
}

fn refused(config: &Config, inputs: &Inputs, folder: &Path) -> String {
    read(config, inputs, folder).unwrap_err().to_string()
}

/// A published CLIP with another configuration, which `change` makes.
fn changed(change: impl FnOnce(&mut clip::Config, &mut Inputs)) -> (Config, Inputs) {
    let Opened { config: Config::Clip(mut config), mut inputs, .. } =
        Opened::read(&golden("clip/quick_gelu"), &Device::Cpu).unwrap()
    else {
        panic!("no CLIP")
    };
    change(&mut config, &mut inputs);
    (Config::Clip(config), inputs)
}

fn cases() -> Vec<PathBuf> {
    let below = |folder: PathBuf| {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.is_dir()).collect::<Vec<_>>()
    };
    below(golden("")).into_iter().flat_map(below).collect()
}

#[test]
fn a_run_of_the_same_model_begins_with_every_published_value() {
    let cases = cases();
    assert!(cases.len() > 40);
    for folder in cases {
        let opened = Opened::read(&folder, &Device::Cpu).unwrap();
        let values = read(&opened.config, &opened.inputs, &folder).unwrap();
        let (named, expected) = (opened.named().collect::<Vec<_>>(), opened.store.tensors());
        let expected: Vec<&String> = expected.keys().filter(|name| named.contains(name)).collect();
        assert_eq!(values.keys().collect::<Vec<_>>(), expected, "{}", folder.display());
        let published = opened.store.tensors();
        for (name, value) in &values {
            let off = (value - &published[name]).unwrap().abs().unwrap().max_all().unwrap();
            assert_eq!(off.to_scalar::<f32>().unwrap(), 0.0, "{}: {name}", folder.display());
        }

        let store = Store::new(&Device::Cpu, 5, &[]);
        opened.config.build(&store.student(), &opened.inputs).unwrap();
        let entries = store.entries();
        let own: BTreeMap<_, _> = values.into_iter().filter(|(name, _)| entries.contains_key(name)).collect();
        assert!(!own.is_empty());
        store.overwrite(&own).unwrap();
    }
}

#[test]
fn every_setting_that_differs_is_listed_with_both_values_and_what_would_fit() {
    let (config, inputs) = changed(|config, inputs| {
        config.text.width = 16;
        config.image.depth = 3;
        config.activation = Activation::Gelu;
        config.text_encoder = TextEncoder::BagOfWords;
        (inputs.size, inputs.words) = (20, 24);
        config.dropout = 0.1;
    });
    let folder = golden("clip/quick_gelu");
    let message = refused(&config, &inputs, &folder);
    for words in [
        "the weights are of another model",
        "`text.width` is 8 there and 16 in this run",
        "`image.depth` is 2 there and 3 in this run",
        "`activation` is \"quick_gelu\" there and \"gelu\" in this run",
        "`data.size` is 15 there and 20 in this run",
        "`data.words + data.tags` is 9 there and 24 in this run",
        "`text_encoder` is null there and \"bag_of_words\" in this run",
    ] {
        assert!(message.contains(words), "no `{words}` in\n{message}");
    }
    for free in ["dropout`", "`text.depth", "`patch", "word table"] {
        assert!(!message.contains(free), "{message}");
    }
    let (_, fitting) = message.split_once("help: this fits the weights:\n").unwrap();
    #[derive(serde::Deserialize)]
    struct Fitting {
        data: BTreeMap<String, usize>,
        model: Config,
    }
    let fitting: Fitting = serde_yaml::from_str(fitting).unwrap();
    let inputs = Inputs { size: fitting.data["size"], words: fitting.data["words"], ..inputs };
    read(&fitting.model, &inputs, &folder).unwrap();
}

#[test]
fn a_setting_may_be_left_out_and_dropout_is_the_runs_own() {
    let (config, inputs) = changed(|config, _| {
        assert_eq!(config.text.mlp, Some(4 * config.text.width));
        config.text.mlp = None;
        config.dropout = 0.2;
    });
    read(&config, &inputs, &golden("clip/quick_gelu")).unwrap();
}

#[test]
fn another_vocabulary_is_refused_and_the_tokenizer_that_belongs_to_the_weights_is_named() {
    let (config, inputs) = changed(|_, inputs| inputs.vocabulary = 30);
    let folder = golden("clip/quick_gelu");
    let message = refused(&config, &inputs, &folder);
    for words in [
        "has 23 rows there and 30 in this run",
        "set `data.tokenizer` to the tokenizer",
        "`data.entries: 23`",
    ] {
        assert!(message.contains(words), "{message}");
    }
    assert!(
        message.starts_with(&folder.display().to_string()) && !message.contains("this fits"),
        "{message}"
    );
}

#[test]
fn weights_of_another_system_or_with_other_tensors_are_refused() {
    let (config, inputs) = changed(|_, _| {});
    let message = refused(&Config::Albef(albef::Config::default()), &inputs, &golden("clip/quick_gelu"));
    assert!(message.contains("holds CLIPModel, and the run's model reads ALBEF"), "{message}");

    let folder = tempfile::tempdir().unwrap();
    fs::copy(golden("clip/quick_gelu/config.json"), folder.path().join("config.json")).unwrap();
    let weights = golden("clip/quick_gelu/model.safetensors");
    let mut all = safetensors::load(weights, &Device::Cpu).unwrap();
    all.remove("logit_scale");
    all.insert("extra".to_owned(), Tensor::new(1f32, &Device::Cpu).unwrap());
    safetensors::save(&all, folder.path().join("model.safetensors")).unwrap();
    let message = refused(&config, &inputs, folder.path());
    assert!(
        message.contains("missing: `logit_scale`") && message.contains("left over: `extra`"),
        "{message}"
    );
    let message = refused(&config, &inputs, &folder.path().join("none"));
    assert!(message.contains("is not there") && message.contains("hub:OWNER/NAME"), "{message}");
}
