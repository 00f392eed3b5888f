//! The state of a run on disk: everything that a later process needs to go on as if nothing had happened.
//!
//! One safetensors file holds the store, the optimiser's moments and, in its header, what is not a tensor. It is
//! written beside the old one, synchronised and renamed over it, so that at every moment one whole checkpoint exists.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::failure::{Failure, Result};
use super::meter::Sums;
use crate::data::pack::hexadecimal;

/// Raised when the meaning of a file changes.
const FORMAT: u32 = 1;
/// The key under which [`State`] lies in the header.
const STATE: &str = "state";
const STORE: &str = "store/";
const MOMENTS: &str = "moments/";

/// What a checkpoint holds beside tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    format: u32,
    digest: String,
    /// The run's identity.
    pub run: String,
    /// Updates made.
    pub step: u64,
    /// Bytes of the records until then.
    pub records: u64,
    /// Seconds of training until then, over all attempts.
    pub trained: f64,
    /// Seconds of evaluation until then, over all attempts.
    pub evaluated: f64,
    /// How many of the updates each trainable parameter took part in.
    #[serde(default)]
    pub counts: BTreeMap<String, u64>,
    /// Figures of the interval that is not over.
    pub sums: Sums,
    /// The step with the best value of the selection rule's metric until then.
    pub best: Option<(u64, f64)>,
}

impl State {
    /// The state of run `run` after `step` updates.
    pub fn new(run: &str, step: u64) -> Self {
        Self {
            format: FORMAT,
            digest: String::new(),
            run: run.to_owned(),
            step,
            records: 0,
            trained: 0.0,
            evaluated: 0.0,
            counts: BTreeMap::new(),
            sums: Sums::default(),
            best: None,
        }
    }
}

/// Tensors by name.
pub type Tensors = BTreeMap<String, Tensor>;

/// Where the checkpoint of a run lies.
pub fn path(directory: &Path) -> PathBuf {
    directory.join("checkpoint").join("last.safetensors")
}

/// Replaces the checkpoint at `path` by this state.
///
/// # Errors
/// When it cannot be written; the old one is untouched then.
pub fn save(path: &Path, mut state: State, store: &Tensors, moments: &Tensors) -> Result<()> {
    let named = |prefix: &'static str| {
        move |(name, value): (&String, &Tensor)| (format!("{prefix}{name}"), value.clone())
    };
    let tensors: Tensors = store.iter().map(named(STORE)).chain(moments.iter().map(named(MOMENTS))).collect();
    state.digest = digest(&tensors)?;
    let state = serde_json::to_string(&state).map_err(|fault| damaged(path, fault))?;
    let header = HashMap::from([(STATE.to_owned(), state)]);
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(Failure::storage(directory))?;
    }
    replace(path, |temporary| {
        safetensors::serialize_to_file(&tensors, Some(header), temporary).map_err(|fault| match fault {
            safetensors::SafeTensorError::IoError(source) => source,
            fault => std::io::Error::other(fault),
        })
    })
}

/// Writes a file beside `path`, waits until it is on the disk, and renames it to `path`.
///
/// # Errors
/// When the disk is full or fails; what was at `path` is untouched then.
pub fn replace(path: &Path, write: impl FnOnce(&Path) -> std::io::Result<()>) -> Result<()> {
    let temporary = path.with_extension("new");
    let written = write(&temporary)
        .and_then(|()| File::open(&temporary)?.sync_all())
        .and_then(|()| fs::rename(&temporary, path));
    if let Err(source) = written {
        // The room that half a file takes may be what is missing; it is of no use to anybody.
        drop(fs::remove_file(&temporary));
        return Err(Failure::Storage { path: path.to_owned(), source });
    }
    // The rename itself is on the disk only when the directory is; Windows has no such call.
    #[cfg(unix)]
    if let Some(directory) = path.parent() {
        let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
        File::open(directory)
            .and_then(|directory| directory.sync_all())
            .map_err(Failure::storage(directory))?;
    }
    Ok(())
}

/// The state at `path` without its tensors, or nothing where there is no file.
///
/// # Errors
/// When the file is damaged.
pub fn peek(path: &Path) -> Result<Option<State>> {
    open(path)?.map(|mut file| state(path, &mut file)).transpose()
}

fn open(path: &Path) -> Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(fault) if fault.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Failure::Storage { path: path.to_owned(), source }),
    }
}

/// The part of a safetensors header that holds what is not a tensor.
#[derive(Deserialize)]
struct Header {
    #[serde(rename = "__metadata__")]
    metadata: BTreeMap<String, String>,
}

/// The state in the header of a file: eight bytes tell its length.
fn state(path: &Path, file: &mut impl Read) -> Result<State> {
    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(|fault| damaged(path, fault))?;
    let mut header = Vec::new();
    let mut file = file.take(u64::from_le_bytes(length));
    file.read_to_end(&mut header).map_err(Failure::storage(path))?;
    let header: Header = serde_json::from_slice(&header).map_err(|fault| damaged(path, fault))?;
    let state = header.metadata.get(STATE).ok_or_else(|| damaged(path, "its header holds no state"))?;
    let state: State = serde_json::from_str(state).map_err(|fault| damaged(path, fault))?;
    if state.format != FORMAT {
        return Err(damaged(path, format!("it has format {}, this program reads {FORMAT}", state.format)));
    }
    Ok(state)
}

/// The state at `path` with store and moments, or nothing where there is no file.
///
/// # Errors
/// When the file is damaged or belongs to another run than `run`.
pub fn load(path: &Path, run: &str, device: &Device) -> Result<Option<(State, Tensors, Tensors)>> {
    let Some(mut file) = open(path)? else { return Ok(None) };
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(Failure::storage(path))?;
    let state = state(path, &mut bytes.as_slice())?;
    if state.run != run {
        let problem = format!("belongs to another configuration ({}, this run is {run})", state.run);
        return Err(Failure::Checkpoint { path: path.to_owned(), problem });
    }
    let tensors: Tensors = candle_core::safetensors::load_buffer(&bytes, device)
        .map_err(|fault| damaged(path, fault))?
        .into_iter()
        .collect();
    if digest(&tensors)? != state.digest {
        return Err(damaged(path, "its values differ from those that were written"));
    }
    let (mut store, mut moments) = (Tensors::new(), Tensors::new());
    for (name, value) in tensors {
        if let Some(name) = name.strip_prefix(STORE) {
            store.insert(name.to_owned(), value);
        } else if let Some(name) = name.strip_prefix(MOMENTS) {
            moments.insert(name.to_owned(), value);
        }
    }
    Ok(Some((state, store, moments)))
}

/// The state and the weights that a run reports: those of the selected step where it selected one, else the last.
///
/// # Errors
/// When the directory holds no checkpoint, or a damaged one.
pub fn selected(directory: &Path) -> Result<(State, Tensors)> {
    let (path, state) = reported(directory)?;
    let (state, store, _) = load(&path, &state.run, &Device::Cpu)?.ok_or_else(|| none(directory))?;
    Ok((state, store))
}

/// The digest of what [`selected`] reads, as the header tells it: no tensor is read, and one that is damaged is refused when
/// it is.
///
/// # Errors
/// When the directory holds no checkpoint, or one with a damaged header.
pub fn selected_digest(directory: &Path) -> Result<String> {
    Ok(reported(directory)?.1.digest)
}

/// The file with what a run reports, and its state.
fn reported(directory: &Path) -> Result<(PathBuf, State)> {
    let last = path(directory);
    let best = last.with_file_name("best.safetensors");
    for path in [best, last] {
        if let Some(state) = peek(&path)? {
            return Ok((path, state));
        }
    }
    Err(none(directory))
}

fn none(directory: &Path) -> Failure {
    Failure::Weights { path: directory.to_owned(), problem: "holds no checkpoint".to_owned() }
}

fn damaged(path: &Path, fault: impl std::fmt::Display) -> Failure {
    Failure::Checkpoint { path: path.to_owned(), problem: format!("is damaged: {fault}") }
}

/// SHA-256 of tensors, name by name: name, shape and little-endian values.
///
/// # Errors
/// When the device fails.
pub fn digest(tensors: &Tensors) -> Result<String> {
    use safetensors::View;
    let mut hash = Sha256::new();
    for (name, value) in tensors {
        hash.update(name.as_bytes());
        hash.update(format!("{:?}{:?}", value.dtype(), value.dims()).as_bytes());
        hash.update(value.data());
    }
    Ok(hexadecimal(&hash.finalize()))
}
