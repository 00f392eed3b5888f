//! Captions of a model that recites what people wrote, and of one that always says the same.

use std::cell::Cell;

use candle_core::{Device, Result, Tensor};
use vlp_bench::data::Split;
use vlp_bench::experiments::evaluate::gallery::Gallery;
use vlp_bench::experiments::evaluate::{Config, Subject, captioning, examples::examples};
use vlp_bench::experiments::feed::{Pairs, Words};
use vlp_bench::experiments::record::Example;
use vlp_bench::models::decoding::{Begun, Decoding, Strategy};
use vlp_bench::models::{Image, Model, Store, Text, View};
use vlp_bench::token::SEP;

use super::clip_run;

/// Writes a text for each image that it is shown, in order.
struct Reciting {
    texts: Vec<Vec<u32>>,
    entries: usize,
    seen: Cell<usize>,
}

struct Recital {
    texts: Vec<Vec<u32>>,
    entries: usize,
    place: usize,
}

impl Recital {
    fn logits(&self) -> Result<Tensor> {
        let row = |text: &Vec<u32>| {
            let word = text.get(self.place).copied().unwrap_or(SEP);
            (0..self.entries).map(|entry| if entry == word as usize { 9f32 } else { 0.0 }).collect::<Vec<_>>()
        };
        Tensor::new(self.texts.iter().map(row).collect::<Vec<_>>(), &Device::Cpu)
    }
}

impl Decoding for Recital {
    fn next(&mut self, _: &[u32]) -> Result<Tensor> {
        self.place += 1;
        self.logits()
    }
    fn reorder(&mut self, rows: &[u32]) -> Result<()> {
        self.texts = rows.iter().map(|row| self.texts[*row as usize].clone()).collect();
        Ok(())
    }
}

impl Model for Reciting {
    fn decode<'a>(&'a self, image: &View<Image>, _: &View<Text>) -> Result<Begun<'a>> {
        let (first, rows) = (self.seen.get(), image.rows()?);
        self.seen.set(first + rows);
        let recital =
            Recital { texts: self.texts[first..first + rows].to_vec(), entries: self.entries, place: 0 };
        let logits = recital.logits()?;
        Ok((Box::new(recital), logits))
    }
}

/// The values, then the examples, where the model writes `say` of an image's first caption.
fn recited(say: impl Fn(&str) -> String, prompt: &str) -> (Vec<(String, f64)>, Vec<Example>) {
    let mut run = clip_run();
    // The longest scene's caption fits, and so does the end.
    run.data.words = 48;
    run.model = vlp_bench::models::Config::Blip(Default::default());
    run.objectives = vec![vlp_bench::objectives::Config::Lm(Default::default())];
    let words = Words::shipped().unwrap();
    let pairs = Pairs::open(&run.data, &words, 0).unwrap();
    let dataset = pairs.split(Split::Test).unwrap();
    let gallery = Gallery::open(dataset.as_ref(), &pairs, &Device::Cpu).unwrap();
    let tokens = |text: &str| {
        let ids = words.encoder.encode(text, 48).unwrap().ids;
        ids[1..ids.len() - 1].to_vec()
    };
    let matches = &gallery.matches;
    let texts =
        matches.texts_of.iter().map(|texts| tokens(&say(&matches.captions[texts[0] as usize]))).collect();
    let model = Box::new(Reciting { texts, entries: words.entries, seen: Cell::new(0) });
    let config =
        captioning::Config { decode: Strategy::Greedy, prompt: prompt.to_owned(), ..Default::default() };
    run.evaluate = vec![Config::Captioning(config)];
    let store = Store::new(&Device::Cpu, 0, &[]);
    let dims = run.model.dims(&pairs.inputs);
    let subject = Subject { run: &run, store: &store, model, dims, pairs: &pairs, gallery: &gallery };
    let shown = gallery.show(subject.model.as_ref(), &[].into()).unwrap();
    let found = run.evaluate[0].measure(&subject, &shown).unwrap();
    assert_eq!(found.items, 40);
    let mut promised = run.evaluate[0].metrics();
    promised.sort();
    assert_eq!(found.values.keys().cloned().collect::<Vec<_>>(), promised);
    let values = found.values.into_iter().map(|(name, measured)| (name, measured.value)).collect();
    (values, examples(&subject, &shown, dataset.as_ref(), 3).unwrap())
}

#[test]
fn a_model_that_recites_a_reference_is_right_and_its_captions_are_shown() {
    let (values, shown) = recited(str::to_owned, "");
    for (name, value) in values.iter().filter(|(name, _)| name != "captioning.cider") {
        assert!((value - 100.0).abs() < 1e-6, "{name} {value}");
    }
    assert_eq!(shown.len(), 8);
    for example in shown {
        assert!(example.found.is_empty(), "nothing trained a search");
        let written = example.written.expect("a caption");
        assert!(written.len() > 5 && !written.contains('['), "{written}");
    }
}

#[test]
fn a_prompt_is_no_part_of_the_caption() {
    assert_eq!(recited(str::to_owned, "a picture of").0, recited(str::to_owned, "").0);
}

#[test]
fn a_model_that_says_the_same_of_every_image_is_worth_less() {
    let (right, wrong) = (recited(str::to_owned, "").0, recited(|_| "a red square".to_owned(), "").0);
    for ((name, right), (_, wrong)) in right.iter().zip(&wrong) {
        assert!(wrong < &(0.8 * right), "{name}: {wrong} {right}");
    }
}
