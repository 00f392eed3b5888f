//! Making a pack, in the form that `pack.rs` reads: equal pairs give equal files.

use std::io::{Cursor, Write};

use image::{ExtendedColorType, codecs::webp::WebPEncoder};
use sha2::{Digest, Sha256};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::pack::{FORMAT, Manifest, Row, hexadecimal};
use super::{Error, Picture, Result};

/// A pack to which pairs are added.
pub struct Packing {
    zip: ZipWriter<Cursor<Vec<u8>>>,
    rows: Vec<u8>,
    pairs: usize,
}

/// The two files of a pack.
pub struct Packed {
    /// `NAME.zip`
    pub pack: Vec<u8>,
    /// `NAME.json`
    pub manifest: Vec<u8>,
}

impl Default for Packing {
    fn default() -> Self {
        Self { zip: ZipWriter::new(Cursor::new(Vec::new())), rows: Vec::new(), pairs: 0 }
    }
}

impl Packing {
    /// Adds a pair; its picture is kept without loss.
    ///
    /// # Errors
    /// When the picture has no pixel, or the pack has a pair of that name.
    pub fn add(&mut self, row: &Row, picture: &Picture) -> Result<()> {
        let mut bytes = Vec::new();
        WebPEncoder::new_lossless(&mut bytes)
            .encode(&picture.rgb, picture.width, picture.height, ExtendedColorType::Rgb8)
            .map_err(|error| self.fault(&error))?;
        self.entry(&format!("{}.webp", row.id), &bytes)?;
        serde_json::to_writer(&mut self.rows, row).map_err(|error| self.fault(&error))?;
        self.rows.push(b'\n');
        self.pairs += 1;
        Ok(())
    }

    /// Ends the pack; `title` is one line, the others as in [`Manifest`].
    ///
    /// # Errors
    /// When the pack is larger than a zip file can be.
    pub fn finish(mut self, title: &str, licence: &str, attribution: Vec<String>) -> Result<Packed> {
        let rows = std::mem::take(&mut self.rows);
        self.entry("pairs.jsonl", &rows)?;
        let pairs = self.pairs;
        let fault = |error: &dyn std::fmt::Display| fault(pairs, error);
        let pack = self.zip.finish().map_err(|error| fault(&error))?.into_inner();
        let manifest = Manifest {
            format: FORMAT,
            pairs,
            bytes: pack.len(),
            sha256: hexadecimal(&Sha256::digest(&pack)),
            near: 0,
            title: title.to_owned(),
            licence: licence.to_owned(),
            attribution,
            packages: Vec::new(),
        };
        let manifest = serde_json::to_vec_pretty(&manifest).map_err(|error| fault(&error))?;
        Ok(Packed { pack, manifest })
    }

    fn entry(&mut self, name: &str, content: &[u8]) -> Result<()> {
        // Without a time of its own an entry has the same one always.
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        self.zip.start_file(name, options).map_err(|error| self.fault(&error))?;
        self.zip.write_all(content).map_err(|error| self.fault(&error))
    }

    fn fault(&self, error: &dyn std::fmt::Display) -> Error {
        fault(self.pairs, error)
    }
}

fn fault(index: usize, error: &dyn std::fmt::Display) -> Error {
    Error::Example { dataset: "a pack".to_owned(), index, problem: format!("it cannot be packed: {error}") }
}
