//! The files of a published model: `model.safetensors`, in one piece or several, or PyTorch's `pytorch_model.bin`, of
//! which only tensors are read; no code in it is run.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use candle_core::{Device, Error, Result, Tensor, pickle, safetensors};
use serde::Deserialize;
use serde_json::Value as Json;

/// Every tensor in one file.
pub const ONE: &str = "model.safetensors";
/// Which of several files holds which tensor.
pub const INDEX: &str = "model.safetensors.index.json";
/// Every tensor as PyTorch saves it.
pub const PICKLE: &str = "pytorch_model.bin";

/// What an index of several files says.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// Every tensor of a folder by the name it has there.
pub fn tensors(folder: &Path, device: &Device) -> Result<BTreeMap<String, Tensor>> {
    if folder.join(ONE).exists() {
        return safe(&folder.join(ONE), device);
    }
    if folder.join(INDEX).exists() {
        let mut all = BTreeMap::new();
        for file in shards(&folder.join(INDEX))? {
            all.extend(safe(&folder.join(file), device)?);
        }
        return Ok(all);
    }
    if folder.join(PICKLE).exists() {
        return pickled(&folder.join(PICKLE), device);
    }
    refuse!("{}: holds neither {ONE} nor {INDEX} nor {PICKLE}", folder.display())
}

/// The files that an index names.
pub fn shards(index: &Path) -> Result<BTreeSet<String>> {
    let text = fs::read_to_string(index).map_err(|fault| Error::msg(fault).with_path(index))?;
    let index: Index = serde_json::from_str(&text).map_err(|fault| damaged(index, &fault))?;
    Ok(index.weight_map.into_values().collect())
}

fn safe(path: &Path, device: &Device) -> Result<BTreeMap<String, Tensor>> {
    let tensors = safetensors::load(path, device).map_err(|fault| damaged(path, &fault))?;
    Ok(tensors.into_iter().collect())
}

fn pickled(path: &Path, device: &Device) -> Result<BTreeMap<String, Tensor>> {
    let tensors = pickle::read_all(path).map_err(|fault| damaged(path, &fault))?;
    if tensors.is_empty() {
        refuse!("{}: holds no tensors that can be read without running its code", path.display());
    }
    tensors.into_iter().map(|(name, tensor)| Ok((name, tensor.to_device(device)?))).collect()
}

fn damaged(path: &Path, fault: &impl std::fmt::Display) -> Error {
    let fault = fault.to_string();
    Error::Msg(format!("{}: cannot be read: {}", path.display(), fault.lines().next().unwrap_or_default()))
}

/// Writes `config.json` and `model.safetensors`.
pub fn write(folder: &Path, config: &Json, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
    let failed = |path: &Path, fault: String| Error::Msg(format!("{}: {fault}", path.display()));
    fs::create_dir_all(folder).map_err(|fault| failed(folder, fault.to_string()))?;
    let path = folder.join("config.json");
    let text = serde_json::to_string_pretty(config).map_err(Error::wrap)?;
    fs::write(&path, text + "\n").map_err(|fault| failed(&path, fault.to_string()))?;
    let path = folder.join(ONE);
    // transformers reads a file only if its header names the framework.
    let header = Some([("format".to_owned(), "pt".to_owned())].into());
    ::safetensors::serialize_to_file(tensors, header, &path).map_err(|fault| failed(&path, fault.to_string()))
}
