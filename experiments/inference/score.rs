//! `vlp score`: captions of any system, judged by the metrics of COCO captions.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value as Json, json};

use super::{Answer, text};
use crate::experiments::evaluate::caption::Judged;
use crate::experiments::evaluate::caption::tokens::Tokenizer;
use crate::experiments::evaluate::captioning;
use crate::experiments::failure::{Failure, Result};
use crate::experiments::fault::{Fault, Faults};
use crate::experiments::record::Measured;

/// The values of the metrics over so many images.
pub struct Scores {
    images: usize,
    values: BTreeMap<String, Measured>,
}

/// COCO's file of annotations; what else it holds is passed over.
#[derive(Deserialize)]
struct References {
    annotations: Vec<Caption>,
}

/// One entry of COCO's files of annotations and of results.
#[derive(Deserialize)]
struct Caption {
    image_id: u64,
    caption: String,
}

/// Judges the captions of a file of results, `[{"image_id": 1, "caption": "a cat"}, ..]`, by what people wrote about
/// the same images, `{"annotations": [{"image_id": 1, "caption": "a small cat"}, ..]}`: COCO's two formats. Images without a
/// result are left out, as by `pycocoevalcap` with `params['image_id']` set to those of the results.
///
/// # Errors
/// When a file cannot be read, an image has two results, or one has no reference.
pub fn score(references: &Path, results: &Path) -> Result<Scores> {
    let tokenizer = Tokenizer::new()?;
    let mut faults = Faults::default();
    let mut judged: BTreeMap<u64, Judged> = BTreeMap::new();
    for Caption { image_id, caption } in read::<Vec<Caption>>(results)? {
        let one = Judged { written: tokenizer.tokenize(&caption), references: Vec::new() };
        if judged.insert(image_id, one).is_some() {
            faults.push(Fault::new(format!("{}: image {image_id} has two captions", results.display())));
        }
    }
    if judged.is_empty() {
        faults.push(Fault::new(format!("{}: holds no captions", results.display())));
    }
    for Caption { image_id, caption } in read::<References>(references)?.annotations {
        if let Some(one) = judged.get_mut(&image_id) {
            one.references.push(tokenizer.tokenize(&caption));
        }
    }
    let missing: Vec<String> = judged
        .iter()
        .filter(|(_, judged)| judged.references.is_empty())
        .map(|(image, _)| image.to_string())
        .collect();
    if let Some(first) = missing.first() {
        let (file, count) = (references.display(), missing.len());
        let fault = format!("{file}: says nothing about {count} images that have a caption, e.g. {first}");
        faults.push(Fault::new(fault));
    }
    if !faults.is_empty() {
        return Err(Failure::Refused(faults.sorted()));
    }
    let judged: Vec<Judged> = judged.into_values().collect();
    Ok(Scores { images: judged.len(), values: captioning::judge(&judged) })
}

fn read<T: DeserializeOwned>(file: &Path) -> Result<T> {
    Ok(serde_json::from_str(&text(file)?).map_err(|fault| {
        Fault::new(format!("{}: is not one of COCO's files of captions: {fault}", file.display()))
    })?)
}

impl Answer for Scores {
    fn table(&self) -> String {
        let row = |(name, measured): (&String, &Measured)| {
            let name = name.trim_start_matches("captioning.");
            let error = measured.sampling_error.map_or(String::new(), |error| format!(" ± {error:.2}"));
            format!("\n{name:<8} {:>7.2}{error}", measured.value)
        };
        let rows: String = self.values.iter().map(row).collect();
        format!(
            "{} images; BLEU and ROUGE-L in percent, CIDEr-D times 100; ± of so few images{rows}",
            self.images
        )
    }

    fn json(&self) -> Json {
        json!({"images": self.images, "metrics": self.values})
    }
}
