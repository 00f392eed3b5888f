//! `vlp match`: how well texts fit a picture, by similarity and by the matching head, where the model has them.

use serde_json::{Value as Json, json};

use super::embed::{checked, embed_texts};
use super::{Answer, Pictures, Subject};
use crate::experiments::failure::Result;
use crate::models::Ability;

/// The scores of pictures with texts.
pub struct Matches(Vec<Match>);

struct Match {
    image: String,
    text: String,
    /// The logit that contrast is made with, temperature included.
    similarity: Option<f64>,
    /// That the two match, by the matching head.
    probability: Option<f64>,
}

/// Scores every picture with every text.
///
/// # Errors
/// When the model neither embeds nor has a matching head.
pub fn matching(subject: &Subject, pictures: &mut Pictures, texts: &[String]) -> Result<Matches> {
    let embeds = subject.can(Ability::Embed);
    if !embeds && !subject.matches() {
        return Err(
            subject.refuse("match", if subject.can(Ability::Fuse) { Ability::Fuse } else { Ability::Embed })
        );
    }
    let (mut found, words) = (Vec::new(), subject.text(texts)?);
    let of_texts = embeds.then(|| embed_texts(subject, texts)).transpose()?;
    pictures.each(subject, |files, image| {
        let similarity = match &of_texts {
            None => None,
            Some(texts) => {
                let images = checked(subject, &subject.model.embed_image(image)?)?;
                Some(subject.similarity(&images, texts)?)
            }
        };
        let odds = subject.matches().then(|| subject.log_odds(image, &words)).transpose()?;
        for (row, file) in files.iter().enumerate() {
            for (column, text) in texts.iter().enumerate() {
                let of = |scores: &Vec<Vec<f64>>| scores[row][column];
                let probability = odds.as_ref().map(of).map(|odds| 1.0 / (1.0 + (-odds).exp()));
                let similarity = similarity.as_ref().map(of);
                subject.finite("match", similarity.into_iter().chain(probability))?;
                found.push(Match { image: file.clone(), text: text.clone(), similarity, probability });
            }
        }
        Ok(())
    })?;
    Ok(Matches(found))
}

impl Answer for Matches {
    fn table(&self) -> String {
        let number = |number: Option<f64>| number.map_or("-".to_owned(), |number| format!("{number:.4}"));
        let mut table = format!("{:>10}  {:>11}  image  text", "similarity", "probability");
        for Match { image, text, similarity, probability } in &self.0 {
            let (similarity, probability) = (number(*similarity), number(*probability));
            table += &format!("\n{similarity:>10}  {probability:>11}  {image}  {text}");
        }
        table
    }

    fn json(&self) -> Json {
        let pair = |found: &Match| {
            let Match { image, text, similarity, probability } = found;
            json!({"image": image, "text": text, "similarity": similarity, "probability": probability})
        };
        self.0.iter().map(pair).collect()
    }
}
