//! A few test pairs and what the model makes of them, for a person to look at.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::{ImageEncoder, codecs::png::PngEncoder};

use super::asked::{self, Judged};
use super::gallery::Shown;
use super::ranking::top;
use super::{Config, Subject};
use crate::data::{Dataset, Picture};
use crate::experiments::failure::{Failure, Result};
use crate::experiments::record::{Example, Found};
use crate::models::Ability;

/// How many pairs are shown.
const PAIRS: usize = 8;
/// How many captions are shown for each.
const CAPTIONS: usize = 5;

/// Pairs at equal distances through the split, the same for every model: with the answers where something is asked, else
/// with the captions that it finds and writes; none from a model that is asked for neither.
///
/// # Errors
/// When a pair cannot be read or a score is not finite.
pub fn examples(subject: &Subject, shown: &Shown, dataset: &dyn Dataset, step: u64) -> Result<Vec<Example>> {
    let images = dataset.len();
    let pairs = PAIRS.min(images);
    let chosen = (0..pairs).map(|pair| pair * images / pairs);
    if !subject.gallery.asked.is_empty() {
        for objective in &subject.run.objectives {
            let Some(judged) = asked::judged(subject, objective)? else { continue };
            return chosen.map(|image| answered(subject, dataset, (image, &judged[image]), step)).collect();
        }
    }
    if ranks(subject, shown) || shown.caption(0).is_some() {
        return chosen.map(|image| example(subject, shown, dataset, image, step)).collect();
    }
    Ok(Vec::new())
}

/// A question with the answers that score most.
fn answered(
    subject: &Subject,
    dataset: &dyn Dataset,
    (image, judged): (usize, &Judged),
    step: u64,
) -> Result<Example> {
    let pair = dataset.get(image)?;
    let second = pair.asked.as_ref().and_then(|asked| asked.second.as_ref());
    let answers = &subject.pairs.answers;
    let right: Vec<u32> = judged.right.into_iter().collect();
    let found = top(&judged.scores, &right, CAPTIONS).into_iter().map(|choice| Found {
        caption: answers.get(choice as usize).cloned().unwrap_or_else(|| format!("region {choice}")),
        score: f64::from(judged.scores[choice as usize]),
        correct: right.contains(&choice),
    });
    let picture = second.map(|second| beside(&pair.picture, &second.picture));
    let png = png(picture.as_ref().unwrap_or(&pair.picture))?;
    Ok(Example { step, png, found: found.collect(), id: pair.id, captions: pair.captions, written: None })
}

/// Two pictures of equal height as one.
fn beside(left: &Picture, right: &Picture) -> Picture {
    let rows = |picture: &Picture| 3 * picture.width as usize;
    let lines = left.rgb.chunks(rows(left)).zip(right.rgb.chunks(rows(right)));
    let rgb = lines.flat_map(|(left, right)| [left, right].concat()).collect();
    Picture { width: left.width + right.width, height: left.height, rgb }
}

/// Whether captions are looked for: where the model can rank them, unless the run is about writing alone, whose embeddings
/// nothing may have trained.
fn ranks(subject: &Subject, shown: &Shown) -> bool {
    let ranking = |one: &Config| matches!(one, Config::Retrieval(_) | Config::ZeroShot(_));
    let embeds = subject.run.model.abilities().contains(&Ability::Embed);
    let able = embeds || subject.run.objectives.iter().any(|objective| objective.name() == "itm");
    able && (shown.caption(0).is_none() || subject.run.evaluate.iter().any(ranking))
}

fn example(
    subject: &Subject,
    shown: &Shown,
    dataset: &dyn Dataset,
    image: usize,
    step: u64,
) -> Result<Example> {
    let pair = dataset.get(image)?;
    let found = if ranks(subject, shown) { found(subject, shown, image)? } else { Vec::new() };
    Ok(Example {
        step,
        id: pair.id,
        png: png(&pair.picture)?,
        captions: pair.captions,
        found,
        written: shown.caption(image).map(str::to_owned),
    })
}

/// The captions that the model finds nearest to an image.
fn found(subject: &Subject, shown: &Shown, image: usize) -> Result<Vec<Found>> {
    let scores = shown.scores(subject, image..image + 1)?.flatten_all()?.to_vec1::<f32>()?;
    let own = &subject.gallery.matches.texts_of[image];
    let found = top(&scores, own, CAPTIONS).into_iter().map(|text| Found {
        caption: subject.gallery.matches.captions[text as usize].clone(),
        score: f64::from(scores[text as usize]),
        correct: own.contains(&text),
    });
    Ok(found.collect())
}

/// A picture as PNG, in base64.
///
/// # Errors
/// When it has no pixel.
pub fn png(picture: &Picture) -> Result<String> {
    let mut bytes = Vec::new();
    PngEncoder::new(&mut bytes)
        .write_image(&picture.rgb, picture.width, picture.height, image::ExtendedColorType::Rgb8)
        .map_err(|fault| {
            Failure::Compute(candle_core::Error::Msg(format!("a picture cannot be encoded: {fault}")))
        })?;
    Ok(STANDARD.encode(bytes))
}
