//! Writing word by word equals reading the whole text at once.

use candle_core::{Device, Tensor};
use vlp_bench::models::{Attend, Config, Image, Model, Store, Text, View};
use vlp_bench::token::PAD;

use super::passes::close;
use super::{INPUTS, pairs};

const LENGTHS: [usize; 3] = [7, 7, 7];

/// Every way of writing, with parts of several sizes.
const WRITERS: [&str; 9] = [
    "blip: {sharing: all_but_self_attention}",
    "blip: {sharing: all}",
    "coca: {}",
    "coca: {encoder: clip, multimodal: pairs, class_mask: shifted}",
    "blip2: {}",
    "blip2: {cross_attention_frequency: 1, queries: 3}",
    "blip2: {language: {opt: {}}}",
    "blip2: {language: {t5: {}}}",
    "blip2: {language: {t5: {buckets: 4, distance: 3}}}",
];

fn writer(text: &str) -> Box<dyn Model> {
    let config: Config = serde_yaml::from_str(text).unwrap();
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
        let mask = Tensor::ones((2, 5), candle_core::DType::F32, &Device::Cpu).unwrap();
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
