//! A few test pairs and what the model makes of them, for a person to look at.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::{ImageEncoder, codecs::png::PngEncoder};

use super::Subject;
use super::gallery::Shown;
use super::ranking::top;
use crate::data::{Dataset, Picture};
use crate::experiments::failure::{Failure, Result};
use crate::experiments::record::{Example, Found};

/// How many pairs are shown.
const PAIRS: usize = 8;
/// How many captions are shown for each.
const CAPTIONS: usize = 5;

/// Pairs at equal distances through the split, the same for every model.
///
/// # Errors
/// When a pair cannot be read, or the model neither embeds nor matches.
pub fn examples(subject: &Subject, shown: &Shown, dataset: &dyn Dataset, step: u64) -> Result<Vec<Example>> {
    let images = dataset.len();
    let pairs = PAIRS.min(images);
    (0..pairs).map(|pair| example(subject, shown, dataset, pair * images / pairs, step)).collect()
}

fn example(
    subject: &Subject,
    shown: &Shown,
    dataset: &dyn Dataset,
    image: usize,
    step: u64,
) -> Result<Example> {
    let pair = dataset.get(image)?;
    let scores = shown.scores(subject, image..image + 1)?.flatten_all()?.to_vec1::<f32>()?;
    let own = &subject.gallery.matches.texts_of[image];
    let found = top(&scores, own, CAPTIONS).into_iter().map(|text| Found {
        caption: subject.gallery.matches.captions[text as usize].clone(),
        score: f64::from(scores[text as usize]),
        correct: own.contains(&text),
    });
    Ok(Example {
        step,
        id: pair.id,
        png: png(&pair.picture)?,
        captions: pair.captions,
        found: found.collect(),
    })
}

fn png(picture: &Picture) -> Result<String> {
    let mut bytes = Vec::new();
    PngEncoder::new(&mut bytes)
        .write_image(&picture.rgb, picture.width, picture.height, image::ExtendedColorType::Rgb8)
        .map_err(|fault| {
            Failure::Compute(candle_core::Error::Msg(format!("a picture cannot be encoded: {fault}")))
        })?;
    Ok(STANDARD.encode(bytes))
}
