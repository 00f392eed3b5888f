//! Making the pairs of a stage once, and what a run reads of them.

use std::collections::BTreeMap;
use std::time::Instant;

use super::place::{Place, place, write};
use super::readers::Reader;
use super::{Rewrite, Role};
use crate::data::combine::First;
use crate::data::made::{Packable, Stored};
use crate::data::{self, Dataset, Split};
use crate::experiments::beginning::trained;
use crate::experiments::evaluate::examples::png;
use crate::experiments::failure::{Failure, Result};
use crate::experiments::plan::{Memory, Probe};
use crate::experiments::progress::duration;
use crate::experiments::record::{Author, JudgedText, Rewritten, RewrittenPicture, TextCount};
use crate::experiments::run::Options;
use crate::experiments::{Arm, checkpoint, directory, machine};
use crate::kernels;

/// How many pictures of each outcome a report shows.
const SHOWN: usize = 3;
/// How many pictures are rewritten to find out how long one takes.
const PROBED: usize = 16;

/// The pairs of a run and how those that stages make were made; makes them where they are not there.
///
/// # Errors
/// When a stage fails, or keeps nothing.
pub fn resolve(arm: &Arm, seed: u64, options: &Options) -> Result<(data::Config, Vec<Rewritten>)> {
    let (mut packs, mut accounts) = (BTreeMap::new(), Vec::new());
    for (name, rewrite) in &arm.run.rewrites {
        let (place, account) = make(arm, name, rewrite, seed, options)?;
        packs.insert(name.as_str(), place.pack());
        accounts.push(account);
    }
    let data = arm.run.data.knowing(|name| packs.get(name).cloned().map(Stored::Pack));
    Ok((data, accounts))
}

/// Makes the pairs of a stage, or finds them made.
///
/// # Errors
/// When captioner or filter fail, no text is kept, or the directory cannot be written.
pub fn make(
    arm: &Arm,
    name: &str,
    rewrite: &Rewrite,
    seed: u64,
    options: &Options,
) -> Result<(Place, Rewritten)> {
    let place = place(name, rewrite, seed, options)?;
    let _lock = directory::enter(&place.directory)?;
    if let Some(account) = place.made()? {
        return Ok((place, account));
    }
    let mut readers = BTreeMap::new();
    for (_, stage) in rewrite.settings.needs() {
        let Some(run) = rewrite.stages.get(stage) else {
            return Err(arm.fault("stages", format!("there is no stage `{stage}`")).into());
        };
        if !readers.contains_key(stage) {
            let (directory, _) = trained(stage, run, seed, options)?;
            let (_, weights) = checkpoint::selected(&directory)?;
            readers.insert(stage, Reader::new(run, weights, &options.words, &options.device, seed)?);
        }
    }
    // Nothing is kept of half a rewriting.
    if options.until.as_ref().is_some_and(|until| until.lacks(until.pieces(&place.hash).whole)) {
        return Err(Failure::OutOfTime);
    }
    let begun = Instant::now();
    let web = web(name, rewrite)?;
    let texts = texts(rewrite, &readers, &web, seed)?;
    let account = Rewritten {
        seconds: begun.elapsed().as_secs_f64(),
        examples: examples(&web, &texts)?,
        ..account(name, &place.hash, rewrite, &texts)
    };
    if account.kept == 0 {
        return Err(arm.fault(&format!("stages.{name}"), nothing(&account, &texts)).into());
    }
    write(&place, &web, &texts, &account)?;
    options.show.line(&format!("stage {name}, seed {seed}: {account} in {}", duration(account.seconds)));
    Ok((place, account))
}

fn web(name: &str, rewrite: &Rewrite) -> Result<Packable> {
    Ok(Packable::new(name, rewrite.settings.web.open(Split::Train)?))
}

/// What becomes of the texts of each picture.
fn texts(
    rewrite: &Rewrite,
    readers: &BTreeMap<&str, Reader>,
    web: &dyn Dataset,
    seed: u64,
) -> Result<Vec<Vec<JudgedText>>> {
    let settings = &rewrite.settings;
    let reader = |role: Role| {
        let (_, stage) = settings.needs().find(|(is, _)| *is == role)?;
        readers.get(stage)
    };
    let text = |text: String, from| JudgedText { text, from, matching: None, kept: true };
    let mut all = Vec::new();
    for picture in 0..web.len() {
        let captions = web.get(picture)?.captions.into_iter();
        all.push(captions.map(|caption| text(caption, Author::Web)).collect::<Vec<_>>());
    }
    if let Some(captioner) = reader(Role::Captioner) {
        let written = captioner.write(settings, web, seed)?;
        for (texts, written) in all.iter_mut().zip(written) {
            // A text without a word says nothing about its picture.
            let kept = !written.is_empty();
            texts.push(JudgedText { kept, ..text(written, Author::Written) });
        }
    }
    if let Some(filter) = reader(Role::Filter) {
        let read: Vec<Vec<&str>> =
            all.iter().map(|texts| texts.iter().map(|text| text.text.as_str()).collect()).collect();
        let judged = filter.judge(web, &read)?;
        for (text, matching) in all.iter_mut().flatten().zip(judged.into_iter().flatten()) {
            text.matching = Some(matching);
            text.kept &= matching > settings.threshold;
        }
    }
    Ok(all)
}

fn account(name: &str, hash: &str, rewrite: &Rewrite, texts: &[Vec<JudgedText>]) -> Rewritten {
    let count = |from| {
        let own = || texts.iter().flatten().filter(move |text| text.from == from);
        TextCount { read: own().count(), kept: own().filter(|text| text.kept).count() }
    };
    let settings = &rewrite.settings;
    Rewritten {
        name: name.to_owned(),
        hash: hash.to_owned(),
        captioner: settings.captioner.clone(),
        filter: settings.filter.clone(),
        threshold: settings.threshold,
        pictures: texts.len(),
        kept: texts.iter().filter(|texts| texts.iter().any(|text| text.kept)).count(),
        web: count(Author::Web),
        written: count(Author::Written),
        examples: Vec::new(),
        seconds: 0.0,
    }
}

/// Why there are no pairs.
fn nothing(account: &Rewritten, texts: &[Vec<JudgedText>]) -> String {
    let surest = texts.iter().flatten().filter_map(|text| text.matching).fold(0.0, f64::max);
    format!(
        "stage `{}` keeps nothing: of {} web and {} written texts none matches with a probability above {}, the surest \
         with {surest:.3}",
        account.name, account.web.read, account.written.read, account.threshold
    )
}

/// The first pictures of each outcome: which of both kinds of text are kept.
fn examples(web: &dyn Dataset, texts: &[Vec<JudgedText>]) -> Result<Vec<RewrittenPicture>> {
    let mut shown: BTreeMap<[bool; 2], usize> = BTreeMap::new();
    let mut examples = Vec::new();
    for (picture, texts) in texts.iter().enumerate() {
        let keeps = |from| texts.iter().any(|text| text.from == from && text.kept);
        let so_far = shown.entry([Author::Web, Author::Written].map(keeps)).or_default();
        if *so_far < SHOWN {
            *so_far += 1;
            let example = web.get(picture)?;
            let png = Some(png(&example.picture)?);
            examples.push(RewrittenPicture { id: example.id, png, texts: texts.clone() });
        }
    }
    Ok(examples)
}

/// How many pictures are rewritten.
///
/// # Errors
/// When the web pairs cannot be opened.
pub fn pictures(rewrite: &Rewrite) -> Result<u64> {
    Ok(rewrite.settings.web.open(Split::Train)?.len() as u64)
}

/// What the rewriting takes, at most: untrained models write long texts. A step is a picture.
///
/// # Errors
/// As [`make`].
pub fn probe(rewrite: &Rewrite, seed: u64, options: &Options) -> Result<Probe> {
    let before = machine::peak_memory(&options.device);
    let mut readers = BTreeMap::new();
    for (stage, run) in &rewrite.stages {
        let reader = Reader::new(run, BTreeMap::new(), &options.words, &options.device, seed)?;
        readers.insert(stage.as_str(), reader);
    }
    let web = std::sync::Arc::new(web("probe", rewrite)?);
    let first = First::new(web.clone(), PROBED);
    let (begun, flops) = (Instant::now(), kernels::flops());
    texts(rewrite, &readers, &first, seed)?;
    let each = 1.0 / first.len().max(1) as f64;
    Ok(Probe {
        parameters: 0,
        flops_per_step: each * (kernels::flops() - flops),
        step_seconds: each * begun.elapsed().as_secs_f64(),
        opening_seconds: 0.0,
        evaluation_seconds: 0.0,
        // Before compression, if all pictures are as large as the first.
        disk: (first.get(0)?.picture.rgb.len() * web.len()) as u64,
        memory: Memory::since(before, &options.device),
    })
}
