use candle_core::{DType, Device, Tensor};
use proptest::prelude::*;
use vlp_bench::kernels::random::Key;
use vlp_bench::objectives::Step;
use vlp_bench::objectives::negatives::{Pair, Pool, draw};
use vlp_bench::objectives::pairing::{self, Pairing};

use super::given::Given;
use super::{WORDS, at, batch, with_tags};

const WHOLE: Pool = Pool { groups: 1, floor: 0.0 };

fn pairs(images: &[u64], captions: &[u64]) -> Vec<Pair> {
    images.iter().zip(captions).map(|(&image, &caption)| Pair { image, caption }).collect()
}

fn shares(scores: &[f32], images: &[u64], captions: &[u64], row: usize) -> Vec<f64> {
    shares_of(WHOLE, scores, images, captions, row)
}

fn shares_of(pool: Pool, scores: &[f32], images: &[u64], captions: &[u64], row: usize) -> Vec<f64> {
    let mut counts = vec![0.0; images.len()];
    let draws = 20_000;
    for seed in 0..draws {
        let chosen = draw(scores, &pairs(images, captions), pool, Key::new(seed, 0, "negatives"))[row];
        counts[chosen.unwrap() as usize] += 1.0 / draws as f64;
    }
    counts
}

#[track_caller]
fn assert_shares(got: &[f64], expected: &[f64]) {
    for (got, expected) in got.iter().zip(expected) {
        // Five standard deviations of 20,000 draws.
        let tolerance = 5.0 * (expected * (1.0 - expected) / 20_000.0f64).sqrt();
        assert!((got - expected).abs() <= tolerance + 1e-9, "{got} of the draws, expected {expected}");
    }
}

proptest! {
    #[test]
    fn negatives_share_neither_image_nor_caption_and_exist_where_they_can(
        batch in prop::collection::vec((0u64..4, 0u64..4, -1e3f32..1e3), 1..12), seed: u64,
    ) {
        let images: Vec<u64> = batch.iter().map(|pair| pair.0).collect();
        let captions: Vec<u64> = batch.iter().map(|pair| pair.1).collect();
        let scores: Vec<f32> = (0..batch.len()).flat_map(|row| batch.iter().map(move |pair| pair.2 * row as f32)).collect();
        let drawn = draw(&scores, &pairs(&images, &captions), WHOLE, Key::new(seed, 1, "negatives"));
        prop_assert_eq!(drawn.len(), batch.len());
        for (row, drawn) in drawn.iter().enumerate() {
            let apart = |column: usize| images[row] != images[column] && captions[row] != captions[column];
            match drawn {
                Some(column) => prop_assert!(apart(*column as usize)),
                None => prop_assert!(!(0..batch.len()).any(apart)),
            }
        }
    }
}

#[test]
fn hard_negatives_are_drawn_in_proportion_to_the_softmax_of_what_may_be_drawn() {
    let keys = [0, 1, 2, 3, 1];
    let scores: Vec<f32> = (0..25).map(|at| (at % 7) as f32 * 0.5).collect();
    // Row 1 may have columns 0, 2 and 3: column 4 shows the same image.
    let weights: Vec<f64> = (0..5)
        .map(|column| if column == 1 || column == 4 { 0.0 } else { f64::from(scores[5 + column]).exp() })
        .collect();
    let total: f64 = weights.iter().sum();
    let expected: Vec<f64> = weights.iter().map(|weight| weight / total).collect();
    assert_shares(&shares(&scores, &keys, &[0, 1, 2, 3, 4], 1), &expected);
}

#[test]
fn equal_scores_draw_uniformly() {
    let got = shares(&[0.0; 16], &[0, 1, 2, 3], &[0, 1, 2, 3], 2);
    assert_shares(&got, &[1.0 / 3.0, 1.0 / 3.0, 0.0, 1.0 / 3.0]);
}

#[test]
fn scores_too_far_apart_for_a_softmax_still_yield_a_negative() {
    // Without the own pair, whose score is the greatest, every weight of a plain softmax would underflow.
    let scores = [1000.0, 0.0, -1000.0, 0.0, 1000.0, -500.0, 3.0, 2.0, 1000.0];
    let keys = [0, 1, 2];
    let drawn = draw(&scores, &pairs(&keys, &keys), WHOLE, Key::new(1, 1, "negatives"));
    assert_eq!(drawn[..2], [Some(1), Some(0)]);
    assert!(drawn[2].is_some());
}

#[test]
fn a_pair_alone_has_no_negative() {
    let key = Key::new(1, 1, "negatives");
    assert_eq!(draw(&[0.0], &pairs(&[7], &[8]), WHOLE, key), [None]);
    assert_eq!(draw(&[0.0; 4], &pairs(&[7, 7], &[8, 9]), WHOLE, key), [None, None]);
    assert_eq!(draw(&[], &[], WHOLE, key), []);
}

#[test]
fn a_floor_is_added_to_the_softmax_of_the_whole_row_as_in_blips_released_code() {
    let scores: Vec<f32> = [1.0, 3.0, 0.0, -1.0].repeat(4);
    let keys = [0, 1, 2, 3];
    let exps = scores[..4].iter().map(|&score| f64::from(score).exp()).collect::<Vec<_>>();
    let total: f64 = exps.iter().sum();
    let mut expected: Vec<f64> = exps.iter().map(|exp| exp / total + 0.1).collect();
    expected[1] = 0.0;
    let total: f64 = expected.iter().sum();
    expected.iter_mut().for_each(|weight| *weight /= total);
    let pool = Pool { floor: 0.1, ..WHOLE };
    assert_shares(&shares_of(pool, &scores, &keys, &keys, 1), &expected);
}

#[test]
fn candidates_are_those_of_the_own_group_of_the_batch() {
    let keys = [0, 1, 2, 3, 4, 5];
    let scores = vec![0.0; 36];
    for (groups, row, expected) in [
        (2, 1, [0.5, 0.0, 0.5, 0.0, 0.0, 0.0]),
        (2, 4, [0.0, 0.0, 0.0, 0.5, 0.0, 0.5]),
        (3, 2, [0.0, 0.0, 0.0, 1.0, 0.0, 0.0]),
    ] {
        assert_shares(&shares_of(Pool { groups, floor: 1e-4 }, &scores, &keys, &keys, row), &expected);
    }
    let alone = Pool { groups: 6, ..WHOLE };
    assert_eq!(draw(&scores, &pairs(&keys, &keys), alone, Key::new(1, 1, "negatives")), [None; 6]);
}

#[test]
fn object_tags_go_where_their_image_goes() {
    let batch = with_tags(batch(6, 3));
    let words = Tensor::zeros((6, WORDS, 1), DType::F32, &Device::Cpu).unwrap();
    let student = Given { text_tokens: Some(words), ..Given::default() };
    let step = Step::new(&batch, &student, None, at(4), 1);
    let groups = pairing::groups(&step, &Pairing::VILT).unwrap();
    let [group] = groups.as_slice() else { panic!("{} groups", groups.len()) };
    group.fused(&step).unwrap();
    let rows = |ids: &[u32]| ids.chunks(WORDS).map(<[u32]>::to_vec).collect::<Vec<_>>();
    let own = rows(&batch.text.ids.flatten_all().unwrap().to_vec1::<u32>().unwrap());
    let shown = rows(&student.read.borrow()[0]);
    let segments = batch.text.segments.to_vec2::<u32>().unwrap();
    let caption = |row: &[u32], like: usize| {
        row[..segments[like].iter().position(|&tag| tag == 1).unwrap_or(row.len())].to_vec()
    };
    let mut exchanged = 0;
    for (row, (own, shown)) in own.iter().zip(&shown).enumerate() {
        assert_eq!(caption(own, row), caption(shown, row));
        assert_eq!(group.matches[row] == 1, own == shown, "row {row}");
        exchanged += 1 - group.matches[row];
    }
    assert_eq!(exchanged, 3);
}
