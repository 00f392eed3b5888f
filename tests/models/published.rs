//! Published models against their references: every folder of `tests/golden/<system>/<case>/` holds a checkpoint, inputs
//! and what the reference makes of them; `tests/golden/<system>.py` made it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor, safetensors};
use vlp_bench::models::checkpoint::{self, Given, Opened};

/// The folders of all cases, in order of name.
fn cases() -> Vec<PathBuf> {
    let folders = |folder: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let mut folders: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
        folders.sort();
        folders
    };
    let systems = folders(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden"));
    systems.iter().flat_map(|system| folders(system)).collect()
}

fn tensors(path: &Path) -> BTreeMap<String, Tensor> {
    safetensors::load(path, &Device::Cpu).unwrap().into_iter().collect()
}

fn flat(tensor: &Tensor) -> Vec<f32> {
    tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// The greatest difference as a share of the greatest element. What the reference leaves at zero is padding.
fn difference(name: &str, got: &Tensor, expected: &Tensor) -> f32 {
    assert_eq!(got.dims(), expected.dims(), "{name}");
    let (got, expected) = (flat(got), flat(expected));
    let scale = expected.iter().fold(0f32, |scale, x| scale.max(x.abs()));
    assert!(scale > 0.01, "{name} is zero throughout");
    let pairs = got.iter().zip(&expected).filter(|(_, expected)| **expected != 0.0);
    pairs.fold(0f32, |most, (got, expected)| {
        assert!(got.is_finite(), "{name} holds {got}");
        most.max((got - expected).abs() / scale)
    })
}

#[test]
fn published_models_equal_their_references() {
    let (mut found, mut worst) = (BTreeSet::new(), BTreeMap::<String, f32>::new());
    for case in cases() {
        let opened = Opened::read(&case, &Device::Cpu).unwrap_or_else(|fault| panic!("{case:?}: {fault}"));
        let outputs = opened.forward(&Given::new(tensors(&case.join("inputs.safetensors")))).unwrap();
        let expected = tensors(&case.join("outputs.safetensors"));
        assert!(!expected.is_empty(), "{case:?} expects nothing");
        for (name, expected) in &expected {
            assert!(opened.class.outputs.contains(&name.as_str()), "{case:?}: `{name}` is not declared");
            let error = difference(&format!("{case:?} {name}"), &outputs[name], expected);
            assert!(error <= 1e-4, "{case:?}: {name} is off by {error:e} of its greatest element");
            let most = worst.entry(opened.config.name().to_owned()).or_default();
            *most = most.max(error);
        }
        found.insert(opened.class.name);
    }
    // `cargo test published -- --nocapture` prints the table.
    worst.iter().for_each(|(system, error)| println!("{system:8} {error:.1e}"));
    let every: BTreeSet<&str> = checkpoint::classes().map(|class| class.name).collect();
    assert_eq!(found, every, "each class needs a case");
}

#[test]
fn what_is_saved_reads_back_as_the_same_model() {
    for case in cases() {
        let opened = Opened::read(&case, &Device::Cpu).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let class = Some(opened.class.name);
        checkpoint::save(&opened.config, &opened.inputs, class, &opened.store, folder.path()).unwrap();
        let again = Opened::read(folder.path(), &Device::Cpu).unwrap();
        assert_eq!((&again.config, &again.inputs), (&opened.config, &opened.inputs), "{case:?}");
        let (before, after) =
            (tensors(&case.join("model.safetensors")), tensors(&folder.path().join("model.safetensors")));
        for (name, after) in &after {
            let before = &before.get(name).unwrap_or_else(|| panic!("{case:?}: `{name}` is new"));
            assert_eq!(before.dims(), after.dims(), "{case:?} {name}");
            assert_eq!(flat(before), flat(after), "{case:?} {name}");
        }
    }
}

#[test]
fn every_parameter_of_a_system_has_a_name_in_one_of_its_classes() {
    let mut named = BTreeMap::<String, BTreeSet<String>>::new();
    let mut present = BTreeMap::<String, BTreeSet<String>>::new();
    for case in cases() {
        let opened = Opened::read(&case, &Device::Cpu).unwrap();
        let system = opened.config.name().to_owned();
        named.entry(system.clone()).or_default().extend(opened.named());
        present.entry(system).or_default().extend(opened.store.entries().into_keys());
    }
    for (system, present) in present {
        let nameless: Vec<&String> = present.difference(&named[&system]).collect();
        assert!(nameless.is_empty(), "{system}: {nameless:?}");
    }
}
