//! A pack: pictures with their texts in one zip file, checked as a whole before anything of it is used.
//!
//! `NAME.zip` is an ordinary zip file whose entries are stored without compression: `pairs.jsonl`, one [`Row`] a line
//! in random order, and for each row its picture `ID.webp`. `NAME.json` beside it is the [`Manifest`]. The packs of
//! `data/packs/` are part of the program; `data/packs/make.py` makes them, `packing.rs` makes others, and any file of the
//! same form can be read.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Cursor;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use image::{ImageFormat, ImageReader, Limits};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zip::{CompressionMethod, ZipArchive};

use super::{Error, Picture, Result, Split};

/// The version of the layout that this program reads.
pub(super) const FORMAT: u32 = 1;
/// No picture is decoded that is wider or higher, whatever its file says.
const LARGEST: u32 = 4096;

/// What a pack is and how to tell that it is whole.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The version of the layout.
    pub format: u32,
    /// How many pairs there are.
    pub pairs: usize,
    /// The length of the zip file.
    pub bytes: usize,
    /// The SHA-256 of the zip file, as 64 hexadecimal digits.
    pub sha256: String,
    /// Pictures whose hashes differ in at most so many bits are in one split.
    pub near: u32,
    /// One line: what the pairs are.
    pub title: String,
    /// The licences of the content, as SPDX identifiers where there are.
    pub licence: String,
    /// The lines of credit that a publication owes.
    pub attribution: Vec<String>,
    /// The packages that the content comes from, with their versions.
    pub packages: Vec<String>,
}

/// What a pack says about one picture.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// Unique in the pack; the picture's entry is `ID.webp`.
    pub id: String,
    /// The captions, the best one first.
    pub captions: Vec<String>,
    /// Names of what is in the picture.
    pub tags: Vec<String>,
    /// The class of the picture.
    pub category: String,
    /// The drawing style, where the pack has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub style: Option<String>,
    /// What is left of the name without numbers and the like; equal stems are in one split.
    /// Empty where all pairs are.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub stem: String,
    /// The perceptual hash of the picture, 64 bits as 16 hexadecimal digits, likewise.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hash: String,
    /// The split to which the picture belongs.
    pub split: Split,
}

/// A pack that was found whole.
pub struct Pack {
    file: PathBuf,
    bytes: Cow<'static, [u8]>,
    manifest: Manifest,
    rows: Vec<Row>,
    /// Where the picture of each row lies.
    pictures: Vec<Range<usize>>,
}

/// A pack that is part of the program: its path in the repository, the file, the manifest.
pub(super) struct Embedded {
    file: &'static str,
    bytes: &'static [u8],
    manifest: &'static [u8],
    pack: OnceLock<Arc<Pack>>,
}

impl Embedded {
    pub(super) const fn new(file: &'static str, bytes: &'static [u8], manifest: &'static [u8]) -> Self {
        Self { file, bytes, manifest, pack: OnceLock::new() }
    }

    /// The pack, or the one at `file` in its place. The embedded one is checked once.
    pub(super) fn open(&self, file: Option<&Path>) -> Result<Arc<Pack>> {
        if let Some(file) = file {
            return Pack::read(file).map(Arc::new);
        }
        if let Some(pack) = self.pack.get() {
            return Ok(pack.clone());
        }
        let pack = Pack::new(PathBuf::from(self.file), Cow::Borrowed(self.bytes), self.manifest)?;
        Ok(self.pack.get_or_init(|| Arc::new(pack)).clone())
    }
}

impl Pack {
    /// Reads a pack and the manifest beside it.
    ///
    /// # Errors
    /// If a file cannot be read or is not what the manifest says.
    pub fn read(file: &Path) -> Result<Self> {
        let bytes =
            |path: &Path| std::fs::read(path).map_err(|source| Error::Read { file: path.to_owned(), source });
        Self::new(file.to_owned(), Cow::Owned(bytes(file)?), &bytes(&file.with_extension("json"))?)
    }

    fn new(file: PathBuf, bytes: Cow<'static, [u8]>, manifest: &[u8]) -> Result<Self> {
        let fault = |problem: String| fault(&file, problem);
        let manifest: Manifest = serde_json::from_slice(manifest)
            .map_err(|error| fault(format!("its manifest (the .json beside it) cannot be used: {error}")))?;
        if manifest.format != FORMAT {
            return Err(fault(format!("has format {}, this program reads format {FORMAT}", manifest.format)));
        }
        if bytes.len() != manifest.bytes {
            return Err(fault(format!(
                "is truncated or another file: it has {} of {} bytes",
                bytes.len(),
                manifest.bytes
            )));
        }
        let sum = hexadecimal(&Sha256::digest(&bytes));
        if sum != manifest.sha256 {
            return Err(fault(format!("its SHA-256 is {sum}, its manifest says {}", manifest.sha256)));
        }
        let entries = entries(&bytes).map_err(|error| fault(format!("is not a pack: {error}")))?;
        let entry = |name: &str| {
            entries.get(name).cloned().ok_or_else(|| fault(format!("is not a pack: it has no `{name}`")))
        };
        let text = bytes.get(entry("pairs.jsonl")?).unwrap_or_default();
        let rows = serde_json::Deserializer::from_slice(text)
            .into_iter::<Row>()
            .collect::<std::result::Result<Vec<_>, _>>()
            .map_err(|error| fault(format!("is not a pack: `pairs.jsonl`: {error}")))?;
        if rows.len() != manifest.pairs {
            return Err(fault(format!("has {} pairs, its manifest says {}", rows.len(), manifest.pairs)));
        }
        if let Some(row) = rows.iter().find(|row| row.captions.is_empty()) {
            return Err(fault(format!("is not a pack: `{}` has no caption", row.id)));
        }
        let pictures =
            rows.iter().map(|row| entry(&format!("{}.webp", row.id))).collect::<Result<Vec<_>>>()?;
        Ok(Self { file, bytes, manifest, rows, pictures })
    }

    /// What the pack says about itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// What it says about each picture.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The picture of row `number`.
    ///
    /// # Errors
    /// If there is no such row or its picture cannot be decoded.
    pub fn picture(&self, number: usize) -> Result<Picture> {
        let place = self.pictures.get(number).and_then(|place| self.bytes.get(place.clone()));
        let mut reader = ImageReader::with_format(Cursor::new(place.unwrap_or_default()), ImageFormat::WebP);
        let mut limits = Limits::default();
        (limits.max_image_width, limits.max_image_height) = (Some(LARGEST), Some(LARGEST));
        reader.limits(limits);
        let image = reader.decode().map_err(|error| Error::Example {
            dataset: self.file.display().to_string(),
            index: number,
            problem: format!("its picture cannot be decoded: {error}"),
        })?;
        let image = image.into_rgb8();
        Ok(Picture { width: image.width(), height: image.height(), rgb: image.into_raw() })
    }
}

/// Where the content of each entry lies in a zip file of stored entries.
fn entries(bytes: &[u8]) -> zip::result::ZipResult<BTreeMap<String, Range<usize>>> {
    let mut archive = ZipArchive::new(Cursor::new(bytes))?;
    let mut entries = BTreeMap::new();
    for number in 0..archive.len() {
        let entry = archive.by_index(number)?;
        if entry.compression() != CompressionMethod::Stored {
            return Err(zip::result::ZipError::UnsupportedArchive("an entry is compressed"));
        }
        let start = entry.data_start().unwrap_or_default() as usize;
        entries.insert(entry.name()?.into_owned(), start..start + entry.size() as usize);
    }
    Ok(entries)
}

/// Two digits a byte.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn fault(file: &Path, problem: String) -> Error {
    Error::Pack {
        file: file.to_owned(),
        problem,
        help: "restore the file and the .json beside it from the repository, or make both again with \
               data/packs/make.py"
            .to_owned(),
    }
}
