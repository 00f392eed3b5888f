//! Where the pairs of a stage lie, and what lies there.
//!
//! `<out>/stages/full/<name>/seed-<seed>-<hash>/` holds `pairs.zip` with its manifest `pairs.json` (a pack), `texts.jsonl`
//! with what became of every text, and `made.json`, which is written last: without it all is made again.

use std::fs;
use std::path::{Path, PathBuf};

use candle_core::Device;
use sha2::{Digest, Sha256};

use super::Rewrite;
use crate::data::pack::{Row, hexadecimal};
use crate::data::packing::Packing;
use crate::data::{Dataset, Field, Split};
use crate::experiments::directory::Status;
use crate::experiments::failure::{Failure, Result};
use crate::experiments::feed::{Pairs, Words};
use crate::experiments::record::{Done, JudgedText, Rewritten, RewrittenPicture};
use crate::experiments::run::Options;
use crate::experiments::{checkpoint, directory, machine};

/// Where the pairs of a stage are, or will be.
pub struct Place {
    /// Their identity.
    pub hash: String,
    /// Their directory.
    pub directory: PathBuf,
}

impl Place {
    /// What was made, if it was.
    ///
    /// # Errors
    /// When the account of it cannot be read.
    pub fn made(&self) -> Result<Option<Rewritten>> {
        let path = self.directory.join("made.json");
        match fs::read(&path) {
            Ok(text) => {
                serde_json::from_slice(&text).map(Some).map_err(|fault| Failure::storage(&path)(fault.into()))
            }
            Err(fault) if fault.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(fault) => Err(Failure::storage(&path)(fault)),
        }
    }

    /// How far it has come, and how many pictures are rewritten.
    ///
    /// # Errors
    /// As [`Place::made`].
    pub fn status(&self) -> Result<(Status, u64)> {
        let Some(made) = self.made()? else { return Ok((Status::New, 0)) };
        let steps = made.pictures as u64;
        let pairs_per_second = made.pictures as f64 / made.seconds.max(1e-9);
        let weights = String::new();
        Ok((
            Status::Done(Done { steps, seconds: made.seconds, pairs_per_second, peak_memory: None, weights }),
            steps,
        ))
    }

    /// The pack.
    pub fn pack(&self) -> PathBuf {
        self.directory.join("pairs.zip")
    }
}

/// The identity of pairs: SHA-256 of what [`directory::identity`] covers of a run, of the stages and of the web pairs.
///
/// # Errors
/// When the pairs of the web or of a stage cannot be read.
pub fn identity(rewrite: &Rewrite, seed: u64, device: &Device, words: &Words) -> Result<String> {
    let mut before = Vec::new();
    for stage in rewrite.stages.values() {
        let pairs = Pairs::open(&stage.expected(), words, seed)?;
        before.push(directory::identity(stage, seed, device, &pairs)?);
    }
    let web = rewrite.settings.web.open(Split::Train)?.fingerprint();
    let all = (&rewrite.settings, seed, machine::program(), directory::arithmetic(device), web, before);
    let text = serde_json::to_string(&all)
        .map_err(|fault| candle_core::Error::Msg(format!("a configuration cannot be written: {fault}")))?;
    Ok(hexadecimal(&Sha256::digest(text)))
}

/// Where the pairs of a stage belong below `out`.
///
/// # Errors
/// As [`identity`].
pub fn place(name: &str, rewrite: &Rewrite, seed: u64, options: &Options) -> Result<Place> {
    let hash = identity(rewrite, seed, &options.device, &options.words)?;
    Ok(Place { directory: directory::of_stage(&options.out, name, seed, &hash), hash })
}

/// Writes everything, each file whole or not at all and the account last.
pub(super) fn write(
    place: &Place,
    web: &dyn Dataset,
    texts: &[Vec<JudgedText>],
    account: &Rewritten,
) -> Result<()> {
    let tagged = web.fields().contains(&Field::Tags);
    let (mut packing, mut lines) = (Packing::default(), Vec::new());
    for (picture, texts) in texts.iter().enumerate() {
        let example = web.get(picture)?;
        let of_picture = RewrittenPicture { id: example.id, png: None, texts: texts.clone() };
        lines.extend(json(&place.directory, &of_picture)?);
        lines.push(b'\n');
        let kept = texts.iter().filter(|text| text.kept).map(|text| text.text.clone());
        let row = Row {
            id: of_picture.id,
            captions: kept.collect(),
            tags: if tagged { example.tags } else { Vec::new() },
            category: example.category.unwrap_or_default(),
            style: example.style,
            stem: String::new(),
            hash: String::new(),
            split: Split::Train,
        };
        if !row.captions.is_empty() {
            packing.add(&row, &example.picture)?;
        }
    }
    let title = format!("{}: {account}", account.name);
    let packed = packing.finish(&title, "as credited", web.attribution())?;
    let account = json(&place.directory, account)?;
    for (name, content) in [
        ("pairs.zip", packed.pack),
        ("pairs.json", packed.manifest),
        ("texts.jsonl", lines),
        ("made.json", account),
    ] {
        let path = place.directory.join(name);
        checkpoint::replace(&path, |temporary| fs::write(temporary, content))?;
    }
    Ok(())
}

fn json(directory: &Path, value: &impl serde::Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|fault| Failure::storage(directory)(fault.into()))
}
