//! `vlp retrieve`: the pictures that fit a text best, or the texts that fit a picture best. By similarity where the model
//! embeds, else by the matching head.

use serde_json::{Value as Json, json};

use super::embed::{checked, embed_texts};
use super::subject::BATCH;
use super::{Answer, Pictures, Subject};
use crate::experiments::failure::Result;
use crate::models::Ability;

/// What is looked for.
pub enum Wanted<'a> {
    /// Pictures that fit this text.
    Text(&'a str),
    /// Texts that fit the picture.
    Image(&'a [String]),
}

/// The best first.
pub struct Ranking {
    by: &'static str,
    found: Vec<(String, f64)>,
}

/// The `top` best of the pictures for a text, or of the texts for the one picture.
///
/// # Errors
/// When the model neither embeds nor has a matching head.
pub fn retrieve(subject: &Subject, pictures: &mut Pictures, asked: &Wanted, top: usize) -> Result<Ranking> {
    let embeds = subject.can(Ability::Embed);
    if !embeds && !subject.matches() {
        return Err(subject
            .refuse("retrieve", if subject.can(Ability::Fuse) { Ability::Fuse } else { Ability::Embed }));
    }
    let query;
    let texts = match asked {
        Wanted::Text(text) => {
            query = [(*text).to_owned()];
            &query[..]
        }
        Wanted::Image(texts) => texts,
    };
    let parts = texts.chunks(BATCH).filter(|_| embeds).map(|texts| embed_texts(subject, texts));
    let of_texts = parts.collect::<Result<Vec<_>>>()?;
    let mut found: Vec<(String, f64)> = Vec::new();
    pictures.each(subject, |files, image| {
        let scores = if embeds {
            let images = checked(subject, &subject.model.embed_image(image)?)?;
            let texts = candle_core::Tensor::cat(&of_texts, 0)?;
            subject.similarity(&images, &texts)?
        } else {
            subject.log_odds(image, &subject.text(texts)?)?
        };
        subject.finite("retrieve", scores.iter().flatten().copied())?;
        for (file, scores) in files.iter().zip(scores) {
            match asked {
                Wanted::Text(_) => found.extend(scores.into_iter().map(|score| (file.clone(), score))),
                Wanted::Image(texts) => found.extend(texts.iter().cloned().zip(scores)),
            }
        }
        // No more is kept than can still be asked for.
        found.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        found.truncate(top);
        Ok(())
    })?;
    Ok(Ranking { by: if embeds { "similarity" } else { "log-odds of a match" }, found })
}

impl Answer for Ranking {
    fn table(&self) -> String {
        let row = |(rank, (what, score)): (usize, &(String, f64))| {
            format!("\n{:>4}  {score:>9.4}  {what}", rank + 1)
        };
        format!("rank  by {}{}", self.by, self.found.iter().enumerate().map(row).collect::<String>())
    }

    fn json(&self) -> Json {
        let row = |(what, score): &(String, f64)| json!({"found": what, "score": score});
        json!({"by": self.by, "found": self.found.iter().map(row).collect::<Vec<_>>()})
    }
}
