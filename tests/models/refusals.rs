//! Checkpoints that cannot be right: each gets one message that names what is wrong.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor, safetensors};
use tempfile::TempDir;
use vlp_bench::models::checkpoint::Opened;

type Tensors = HashMap<String, Tensor>;

const BIAS: &str = "text_model.final_layer_norm.bias";
const CLASS: &str = "vision_model.embeddings.class_embedding";

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// A copy of a good checkpoint, its tensors and its configuration changed.
fn changed(tensors: impl FnOnce(&mut Tensors), config: impl FnOnce(String) -> String) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut all = safetensors::load(golden("clip/gelu/model.safetensors"), &Device::Cpu).unwrap();
    tensors(&mut all);
    safetensors::save(&all, folder.path().join("model.safetensors")).unwrap();
    let text = fs::read_to_string(golden("clip/gelu/config.json")).unwrap();
    fs::write(folder.path().join("config.json"), config(text)).unwrap();
    folder
}

/// What reading the folder is refused with, on one line.
fn refusal(folder: &TempDir) -> String {
    match Opened::read(folder.path(), &Device::Cpu) {
        Ok(_) => panic!("it was read"),
        Err(fault) => fault.to_string().replace("\n  ", " | "),
    }
}

fn refused_weights(change: impl FnOnce(&mut Tensors)) -> String {
    refusal(&changed(change, |text| text))
}

fn refused_config(from: &str, to: &str) -> String {
    refusal(&changed(
        |_| {},
        |text| {
            assert!(text.contains(from));
            text.replace(from, to)
        },
    ))
}

#[test]
fn every_tensor_too_few_too_many_of_another_shape_or_without_numbers_is_named_at_once() {
    let zeros = |dims: &[usize]| Tensor::zeros(dims, DType::F32, &Device::Cpu).unwrap();
    let message = refused_weights(|tensors| {
        tensors.remove("logit_scale");
        tensors.remove("visual_projection.weight");
        tensors.insert("extra.weight".to_owned(), zeros(&[2]));
        tensors.insert(BIAS.to_owned(), zeros(&[13]));
        tensors.insert(CLASS.to_owned(), (zeros(&[8]) / 0.0).unwrap());
    });
    let expected = [
        "missing: `visual_projection.weight`, `logit_scale`",
        "left over: `extra.weight`",
        &format!("`{CLASS}` holds values that are no numbers"),
        &format!("`{BIAS}` is [13], expected [12]"),
    ];
    assert_eq!(message, format!("the weights do not fit the configuration | {}", expected.join(" | ")));
}

#[test]
fn weights_of_half_precision_are_read() {
    let folder = changed(
        |tensors| tensors.values_mut().for_each(|tensor| *tensor = tensor.to_dtype(DType::BF16).unwrap()),
        |text| text,
    );
    let store = Opened::read(folder.path(), &Device::Cpu).unwrap().store;
    assert!(store.tensors().values().all(|tensor| tensor.dtype() == DType::F32));
}

#[test]
fn a_truncated_file_is_refused_by_name() {
    let folder = changed(|_| {}, |text| text);
    let path = folder.path().join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let message = refusal(&folder);
    assert!(message.contains("model.safetensors: cannot be read: "), "{message}");
}

#[test]
fn pickled_tensors_are_read_and_pickled_code_is_not_run() {
    let pickled = |name: &str| {
        let folder = changed(|_| {}, |text| text);
        fs::remove_file(folder.path().join("model.safetensors")).unwrap();
        fs::copy(golden("pickled").join(name), folder.path().join("pytorch_model.bin")).unwrap();
        folder
    };
    let read = |folder: &Path| Opened::read(folder, &Device::Cpu).unwrap().store.tensors();
    let (pickle, safe) = (read(pickled("weights.bin").path()), read(&golden("clip/gelu")));
    assert!(safe.iter().all(|(name, tensor)| {
        let flat = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        flat(tensor) == flat(&pickle[name])
    }));
    let message = refusal(&pickled("foreign.bin"));
    assert!(message.contains("pytorch_model.bin: "), "{message}");
    assert!(message.contains("without running its code"), "{message}");
}

#[test]
fn a_configuration_that_ours_cannot_express_is_refused_by_key() {
    let text = |from, to| refused_config(from, to);
    assert_eq!(
        text("\"num_channels\": 3", "\"num_channels\": 1"),
        "config.json: `vision_config.num_channels` is 1; only 3 is supported"
    );
    assert_eq!(
        text("\"hidden_size\": 12", "\"hidden_size\": \"wide\""),
        "config.json: `text_config.hidden_size` is \"wide\", expected a whole number"
    );
    assert!(
        text("\"hidden_size\": 12", "\"hidden_size\": 13")
            .contains("text.width 13 does not divide into 4 heads")
    );
    assert!(
        text("\"CLIPModel\"", "\"ClapModel\"").contains("no system here is a ClapModel; known are CLIPModel")
    );
    assert!(text("{\n  \"arch", "[\n  \"arch").contains("config.json: "));
}

#[test]
fn a_folder_without_weights_is_refused() {
    let folder = changed(|_| {}, |text| text);
    fs::remove_file(folder.path().join("model.safetensors")).unwrap();
    assert!(refusal(&folder).contains("holds neither model.safetensors nor"));
}
