//! `vlp caption`: a sentence about each picture.

use serde_json::{Value as Json, json};

use super::{Answer, Pictures, Subject};
use crate::experiments::failure::Result;
use crate::experiments::fault::Fault;
use crate::models::Ability;
use crate::models::decoding::Writer;

/// What was written about each picture.
pub struct Captions(Vec<(String, String, f64)>);

/// Writes a caption for each picture behind a prompt. Lengths of `writer` count the prompt and the token that begins a text,
/// as the released captioners do.
///
/// # Errors
/// When the model writes nothing, or the prompt leaves no room.
pub fn caption(
    subject: &Subject,
    pictures: &mut Pictures,
    prompt: &str,
    writer: &Writer,
) -> Result<Captions> {
    if !subject.can(Ability::Generate) {
        return Err(subject.refuse("caption", Ability::Generate));
    }
    let (_, length) = subject.prompt(prompt, 1)?;
    let most = writer.most.min(subject.inputs.words).saturating_sub(length);
    let writer = Writer { least: writer.least.saturating_sub(length).min(most), most, ..writer.clone() };
    let faults = writer.faults();
    if most == 0 {
        let fault = format!("a prompt of {length} tokens leaves no room for a caption");
        return Err(Fault::new(fault).into());
    }
    if !faults.is_empty() {
        return Err(Fault::new(faults.join("; ")).into());
    }
    let mut found = Vec::new();
    pictures.each(subject, |files, image| {
        let (prompts, _) = subject.prompt(prompt, files.len())?;
        let written = writer.write(subject.model.as_ref(), image, &prompts, found.len() as u64)?;
        subject.finite("caption", written.iter().map(|text| text.score))?;
        let texts = written.into_iter().map(|text| (subject.spell(&text.words), text.score));
        found.extend(files.iter().zip(texts).map(|(file, (text, score))| (file.clone(), text, score)));
        Ok(())
    })?;
    Ok(Captions(found))
}

impl Answer for Captions {
    fn table(&self) -> String {
        self.0.iter().map(|(image, text, _)| format!("{image}  {text}")).collect::<Vec<_>>().join("\n")
    }

    fn json(&self) -> Json {
        let caption = |(image, text, score): &(String, String, f64)| json!({"image": image, "caption": text, "score": score});
        self.0.iter().map(caption).collect()
    }
}
