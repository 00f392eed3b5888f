//! Writing word by word equals reading the whole text at once.

use std::fs;
use std::path::Path;

use candle_core::{DType, Device, Result, Tensor, safetensors};
use serde::Deserialize;
use serde_json::Value as Json;
use vlp_bench::models::checkpoint::Opened;
use vlp_bench::models::decoding::{Beam, Begun, Decoding, EarlyStopping, Nucleus, Strategy, Writer};
use vlp_bench::models::{Attend, Config, Image, Model, Store, Text, View};
use vlp_bench::token::{CLS, PAD};

use super::passes::close;
use super::{INPUTS, pairs};

const LENGTHS: [usize; 3] = [7, 7, 7];

/// Every way of writing, with parts of several sizes.
const WRITERS: [&str; 11] = [
    "blip: {SMALL, sharing: all_but_self_attention}",
    "blip: {SMALL, sharing: all}",
    "coca: {SMALL, unimodal: 1, pool: {queries: 3, heads: 2}}",
    "coca: {SMALL, unimodal: 1, pool: {heads: 2}, encoder: clip, multimodal: pairs, class_mask: shifted}",
    "blip2: {QUERIES, cross_attention_frequency: 2}",
    "blip2: {QUERIES, cross_attention_frequency: 1}",
    "blip2: {QUERIES, language: {opt: {layers: {width: 8, depth: 2, heads: 2}}}}",
    "blip2: {QUERIES, language: {t5: {layers: {width: 8, depth: 2, heads: 2}}}}",
    "blip2: {QUERIES, language: {t5: {layers: {width: 8, depth: 1, heads: 1}, buckets: 4, distance: 3}}}",
    "language: {opt: {layers: {width: 8, depth: 2, heads: 2}}}",
    "language: {t5: {layers: {width: 8, depth: 2, heads: 2}}}",
];
const SMALL: &str = "image: {width: 6, depth: 1, heads: 2}, text: {width: 8, depth: 3, heads: 2}";
const QUERIES: &str =
    "image: {width: 6, depth: 2, heads: 2}, qformer: {width: 8, depth: 3, heads: 2}, queries: 3";

fn writer(text: &str) -> Box<dyn Model> {
    let text = text.replace("SMALL", SMALL).replace("QUERIES", QUERIES);
    let config: Config = serde_yaml::from_str(&text).unwrap();
    config.build(&Store::new(&Device::Cpu, 1, &[]).detached(), &INPUTS).unwrap()
}

fn views() -> (View<Image>, Text) {
    let (image, text) = pairs(&LENGTHS).unwrap();
    (View::new(image, None), text)
}

/// The first `lengths` words of each text.
fn beginnings(text: &Text, lengths: &[usize]) -> View<Text> {
    let length = *lengths.iter().max().unwrap();
    let mask: Vec<Vec<f32>> =
        lengths.iter().map(|&own| (0..length).map(|place| f32::from(place < own)).collect()).collect();
    let cut = |tensor: &Tensor| tensor.narrow(1, 0, length).unwrap().contiguous().unwrap();
    let mask = Tensor::new(mask, &Device::Cpu).unwrap();
    View::new(Text { ids: cut(&text.ids), segments: cut(&text.segments), mask }, None)
}

/// The logits (B,T,V) of a pass over whole texts.
fn at_once(model: &dyn Model, image: &View<Image>, text: &Text) -> Tensor {
    let fused = model.fuse(image, &View::new(text.clone(), None), Attend::Causal).unwrap();
    model.predict_words(&fused.text.hidden).unwrap().dense().unwrap()
}

fn place(logits: &Tensor, place: usize) -> Tensor {
    logits.narrow(1, place, 1).unwrap().squeeze(1).unwrap()
}

#[test]
fn what_is_predicted_word_by_word_is_what_a_pass_over_the_whole_text_predicts() {
    for name in WRITERS {
        let (model, (image, text)) = (writer(name), views());
        let (expected, ids) = (at_once(&*model, &image, &text), text.ids.to_vec2::<u32>().unwrap());
        let (mut texts, mut logits) = model.decode(&image, &beginnings(&text, &[1, 1, 1])).unwrap();
        for next in 1..6 {
            close(&logits, &place(&expected, next - 1));
            logits = texts.next(&ids.iter().map(|ids| ids[next]).collect::<Vec<_>>()).unwrap();
        }
        close(&logits, &place(&expected, 5));
    }
}

#[test]
fn texts_go_on_from_prompts_of_unequal_length() {
    // An encoder-decoder reads a prompt with its encoder, which a pass over a whole text never does.
    for name in WRITERS.into_iter().filter(|name| !name.contains("t5")) {
        let (model, (image, text)) = (writer(name), views());
        let (expected, ids) = (at_once(&*model, &image, &text), text.ids.to_vec2::<u32>().unwrap());
        let lengths = [2, 4, 1];
        let (mut texts, mut logits) = model.decode(&image, &beginnings(&text, &lengths)).unwrap();
        for step in 0..3 {
            for (row, length) in lengths.into_iter().enumerate() {
                close(&logits.get(row).unwrap(), &expected.get(row).unwrap().get(length + step - 1).unwrap());
            }
            let words: Vec<u32> = ids.iter().zip(lengths).map(|(ids, length)| ids[length + step]).collect();
            logits = texts.next(&words).unwrap();
        }
    }
}

#[test]
fn texts_may_be_continued_in_another_order_and_several_times() {
    for name in WRITERS {
        let (model, (image, text)) = (writer(name), views());
        let rows = [2u32, 0, 0, 2, 1];
        let order = Tensor::new(&rows, &Device::Cpu).unwrap();
        let ids = text.ids.to_vec2::<u32>().unwrap();
        let (mut texts, _) = model.decode(&image, &beginnings(&text, &[1, 1, 1])).unwrap();
        texts.next(&[ids[0][1], ids[1][1], ids[2][1]]).unwrap();
        texts.reorder(&rows).unwrap();
        texts.next(&[8, 9, 10, 11, 12]).unwrap();
        // Of five texts the third and the second go on.
        texts.reorder(&[3, 1]).unwrap();
        let logits = texts.next(&[13, 14]).unwrap();

        let selected =
            image.select(&order).unwrap().select(&Tensor::new(&[3u32, 1], &Device::Cpu).unwrap()).unwrap();
        let whole = [[ids[2][0], ids[2][1], 11, 13, 5], [ids[0][0], ids[0][1], 9, 14, 5]];
        let ids = Tensor::new(&whole, &Device::Cpu).unwrap();
        let mask = Tensor::ones((2, 5), DType::F32, &Device::Cpu).unwrap();
        let text = Text { segments: ids.zeros_like().unwrap(), ids, mask };
        close(&logits, &place(&at_once(&*model, &selected, &text), 3));
    }
}

#[test]
fn published_coca_hides_words_behind_the_padding_entry_also_word_by_word() {
    let (model, (image, mut text)) = (writer(WRITERS[3]), views());
    let mut ids = text.ids.to_vec2::<u32>().unwrap();
    ids[0][2] = PAD;
    ids[1][1] = PAD;
    ids[1][2] = PAD;
    text.ids = Tensor::new(ids.clone(), &Device::Cpu).unwrap();
    let expected = at_once(&*model, &image, &text);
    let (mut texts, mut logits) = model.decode(&image, &beginnings(&text, &[4, 2, 1])).unwrap();
    for step in 0..3 {
        for (row, length) in [4, 2, 1].into_iter().enumerate() {
            close(&logits.get(row).unwrap(), &expected.get(row).unwrap().get(length + step - 1).unwrap());
        }
        let next = [ids[0][4 + step], ids[1][2 + step], ids[2][1 + step]];
        logits = texts.next(&next).unwrap();
    }
}

#[test]
fn a_text_longer_than_the_positions_and_a_wrong_number_of_words_are_refused() {
    let (model, (image, text)) = (writer(WRITERS[0]), views());
    let (mut texts, _) = model.decode(&image, &beginnings(&text, &[7, 7, 7])).unwrap();
    let fault = texts.next(&[5, 5]).unwrap_err().to_string();
    assert!(fault.contains("2 words for 3 texts"), "{fault}");
    let fault = texts.next(&[5, 5, 5]).unwrap_err().to_string();
    assert!(fault.contains("a text of 8 tokens for 7 positions"), "{fault}");
}

/// A line of `tests/golden/decoding.json`.
#[derive(Deserialize)]
struct Case {
    checkpoint: String,
    prompts: Vec<Vec<u32>>,
    end: u32,
    least: usize,
    most: usize,
    penalty: f64,
    num_beams: usize,
    length_penalty: f64,
    early_stopping: Json,
    words: Vec<Vec<u32>>,
    scores: Option<Vec<f64>>,
}

impl Case {
    fn writer(&self) -> Writer {
        let early_stopping = match &self.early_stopping {
            Json::Bool(true) => EarlyStopping::First,
            Json::Bool(false) => EarlyStopping::Heuristic,
            _ => EarlyStopping::Never,
        };
        let (beams, length_penalty) = (self.num_beams, self.length_penalty);
        let strategy = match beams {
            1 => Strategy::Greedy,
            _ => Strategy::Beam(Beam { beams, length_penalty, early_stopping }),
        };
        let (least, most, repetition_penalty) = (self.least, self.most, self.penalty);
        Writer { strategy, least, most, repetition_penalty, end: self.end, seed: 0 }
    }

    /// The prompts; BLIP's have a word before them in whose place the model puts [DEC].
    fn prompt(&self) -> View<Text> {
        let begin = self.checkpoint.starts_with("blip/").then_some(CLS);
        let ids: Vec<Vec<u32>> = self
            .prompts
            .iter()
            .map(|prompt| begin.into_iter().chain(prompt.iter().copied()).collect())
            .collect();
        let ids = Tensor::new(ids, &Device::Cpu).unwrap();
        let mask = ids.ones_like().unwrap().to_dtype(DType::F32).unwrap();
        View::new(Text { segments: ids.zeros_like().unwrap(), ids, mask }, None)
    }
}

#[test]
fn greedy_and_beam_search_write_what_transformers_writes() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let cases: Vec<Case> =
        serde_json::from_str(&fs::read_to_string(golden.join("decoding.json")).unwrap()).unwrap();
    assert!(cases.len() > 100);
    for case in &cases {
        let folder = golden.join(&case.checkpoint);
        let opened = Opened::read(&folder, &Device::Cpu).unwrap();
        let model = opened.config.build(&opened.store.detached(), &opened.inputs).unwrap();
        let inputs = safetensors::load(folder.join("inputs.safetensors"), &Device::Cpu).unwrap();
        let pixels = inputs["pixel_values"].narrow(0, 0, case.prompts.len()).unwrap();
        let image = View::new(Image { pixels: Some(pixels), ..Image::default() }, None);
        let written = case.writer().write(&*model, &image, &case.prompt(), 0).unwrap();
        let what =
            format!("{} {:?} end {} penalty {}", case.checkpoint, case.writer(), case.end, case.penalty);
        let words: Vec<_> = written.iter().map(|text| text.words.clone()).collect();
        assert_eq!(words, case.words, "{what}");
        for (got, expected) in written.iter().zip(case.scores.iter().flatten()) {
            assert!((got.score - expected).abs() < 2e-5 * expected.abs().max(1.0), "{what}: {}", got.score);
        }
    }
}

/// Predicts the same whatever was read, and the word that was read a little less.
struct Fixed(usize);

impl Fixed {
    fn begin(texts: usize) -> Begun<'static> {
        let mut fixed = Self(texts);
        let logits = fixed.next(&vec![0; texts]).unwrap();
        (Box::new(fixed), logits)
    }
}

const PROBABILITIES: [f32; 5] = [0.1, 0.4, 0.05, 0.3, 0.15];

impl Decoding for Fixed {
    fn next(&mut self, words: &[u32]) -> Result<Tensor> {
        assert_eq!(words.len(), self.0);
        Tensor::new(&PROBABILITIES, &Device::Cpu)?.log()?.unsqueeze(0)?.repeat((self.0, 1))
    }

    fn reorder(&mut self, rows: &[u32]) -> Result<()> {
        self.0 = rows.len();
        Ok(())
    }
}

/// A model that is nothing but [`Fixed`].
struct Unmoved;

impl Model for Unmoved {
    fn decode<'a>(&'a self, _: &View<Image>, prompt: &View<Text>) -> Result<Begun<'a>> {
        Ok(Fixed::begin(prompt.rows()?))
    }
}

fn drawn(nucleus: Nucleus, most: usize, texts: usize, first: u64) -> Vec<Vec<u32>> {
    let strategy = Strategy::Nucleus(nucleus);
    let writer = Writer { strategy, least: 0, most, repetition_penalty: 1.0, end: 9, seed: 3 };
    let ids = Tensor::zeros((texts, 1), DType::U32, &Device::Cpu).unwrap();
    let mask = Tensor::ones((texts, 1), DType::F32, &Device::Cpu).unwrap();
    let prompt = View::new(Text { ids: ids.clone(), segments: ids, mask }, None);
    let written = writer.write(&Unmoved, &View::new(Image::default(), None), &prompt, first).unwrap();
    written.into_iter().map(|text| text.words).collect()
}

#[test]
fn a_nucleus_is_the_smallest_set_of_likeliest_words_that_reaches_p_and_is_drawn_from_in_proportion() {
    // Words 1, 3, 4, 0, 2 by falling probability, together 0.4, 0.7, 0.85, 0.95, 1.
    for (top_p, expected) in [
        (0.3, vec![1]),
        (0.41, vec![1, 3]),
        (0.69, vec![1, 3]),
        (0.71, vec![1, 3, 4]),
        (1.0, vec![1, 3, 4, 0, 2]),
    ] {
        let counts = drawn(Nucleus { top_p, ..Nucleus::default() }, 40, 100, 0).concat().into_iter().fold(
            [0f32; 5],
            |mut counts, word| {
                counts[word as usize] += 1.0;
                counts
            },
        );
        let sum: f32 = expected.iter().map(|&word| PROBABILITIES[word]).sum();
        for (word, count) in counts.into_iter().enumerate() {
            let share = if expected.contains(&word) { PROBABILITIES[word] / sum } else { 0.0 };
            // Four standard deviations of the share in 4000 draws.
            let slack = 4.0 * (share * (1.0 - share) / 4000.0).sqrt();
            assert!((count / 4000.0 - share).abs() <= slack, "{top_p}: word {word} drawn {count} times");
            assert_eq!(count == 0.0, share == 0.0, "{top_p}: word {word}");
        }
    }
}

#[test]
fn a_temperature_sharpens_before_the_nucleus_is_taken_and_top_k_cuts_before_it() {
    let scores: Vec<f64> = PROBABILITIES.iter().map(|p| f64::from(p.ln())).collect();
    let support = |nucleus: Nucleus| -> Vec<usize> {
        nucleus.support(&scores).into_iter().map(|(word, _)| word).collect()
    };
    // At half the temperature probabilities are squares: 0.16 and 0.09 of 0.285.
    assert_eq!(support(Nucleus { top_p: 0.56, temperature: 0.5, top_k: 0 }), [1]);
    assert_eq!(support(Nucleus { top_p: 0.57, temperature: 0.5, top_k: 0 }), [1, 3]);
    // Of 0.4 and 0.3 alone the first has 0.571.
    assert_eq!(support(Nucleus { top_p: 0.56, temperature: 1.0, top_k: 2 }), [1]);
    assert_eq!(support(Nucleus { top_p: 1.0, temperature: 1.0, top_k: 2 }), [1, 3]);
    assert_eq!(Nucleus::default().support(&[f64::NEG_INFINITY, 0.0]), [(1, 1.0)]);
}

#[test]
fn what_is_drawn_depends_on_the_number_of_a_text_and_not_on_those_beside_it() {
    let all = drawn(Nucleus::default(), 12, 6, 0);
    assert_eq!(all[2..], drawn(Nucleus::default(), 12, 4, 2));
    assert_ne!(all[0], all[1]);
}

#[test]
fn texts_do_not_end_before_their_time_and_are_no_longer_than_allowed() {
    let (model, (image, text)) = (writer(WRITERS[0]), views());
    let prompt = beginnings(&text, &[1, 1, 1]);
    let logits = model.decode(&image, &prompt).unwrap().1.to_vec2::<f32>().unwrap();
    let likeliest = (0..logits[0].len()).max_by(|&a, &b| logits[0][a].total_cmp(&logits[0][b])).unwrap();
    let write = |strategy: Strategy, least, most| {
        let end = likeliest as u32;
        let writer = Writer { strategy, least, most, repetition_penalty: 1.0, end, seed: 1 };
        writer.write(&*model, &image, &prompt, 0).unwrap()
    };
    assert!(write(Strategy::Greedy, 0, 5)[0].words.is_empty());
    for strategy in [Strategy::Greedy, Strategy::Beam(Beam::default()), Strategy::Nucleus(Nucleus::default())]
    {
        for text in write(strategy, 4, 5) {
            assert!((4..=5).contains(&text.words.len()) && !text.words.contains(&(likeliest as u32)));
            assert!(text.score < 0.0 && text.score.is_finite());
        }
    }
}

#[test]
fn one_beam_writes_what_greedy_decoding_writes_and_more_beams_never_a_less_likely_text() {
    let (model, (image, text)) = (writer(WRITERS[2]), views());
    let prompt = beginnings(&text, &[1, 1, 1]);
    let write = |strategy| {
        let writer = Writer { strategy, least: 0, most: 6, repetition_penalty: 1.0, end: 3, seed: 1 };
        writer.write(&*model, &image, &prompt, 0).unwrap()
    };
    let early_stopping = EarlyStopping::Never;
    let beams = |beams| write(Strategy::Beam(Beam { beams, length_penalty: 0.0, early_stopping }));
    let (greedy, one, many) = (write(Strategy::Greedy), beams(1), beams(30));
    for ((greedy, one), many) in greedy.iter().zip(&one).zip(&many) {
        assert_eq!(greedy.words, one.words);
        assert!((greedy.score - one.score).abs() < 1e-6);
        assert!(many.score >= one.score - 1e-6);
    }
}

#[test]
fn a_writer_that_can_write_nothing_says_so() {
    let strategy = Strategy::Beam(Beam { beams: 0, length_penalty: f64::NAN, ..Beam::default() });
    let writer = Writer { strategy, least: 3, most: 2, repetition_penalty: 0.0, end: 3, seed: 0 };
    let expected = [
        "texts of 3 to 2 words: nothing can be written",
        "repetition_penalty 0 is not above 0",
        "beams is 0: at least one text must go on",
        "length_penalty NaN is no number",
    ];
    assert_eq!(writer.faults(), expected);
    let nucleus = Nucleus { top_p: 1.5, temperature: 0.0, top_k: 0 };
    assert_eq!(nucleus.faults(), ["top_p 1.5 is not above 0 and at most 1", "temperature 0 is not above 0"]);
}
