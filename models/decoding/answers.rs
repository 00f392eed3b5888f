//! Answers that are given, ranked by how likely a model is to say them: ALBEF, Li et al., arXiv:2107.07651, section 5, and
//! the released code.

use candle_core::{Device, Result, Tensor};

use super::{log_softmax, rows, words};
use crate::kernels;
use crate::models::{Image, Model, Text, View};

/// The log-likelihood of each answer `[CLS] .. [SEP]` as an answer to the question that `of` names: the sum over its words
/// and its end.
///
/// # Errors
/// As [`Model::answer`].
pub fn log_likelihoods(
    model: &dyn Model,
    image: &View<Image>,
    question: &View<Text>,
    answers: &View<Text>,
    of: &[u32],
) -> Result<Vec<f64>> {
    let hidden = model.answer(image, question, answers, of)?.hidden;
    let (_, length, _) = hidden.dims3()?;
    let mut sums = Vec::new();
    for (row, words) in (0u32..).zip(words(answers.input()?)?) {
        // The last word of an answer predicts nothing.
        let places = 0..words.len().saturating_sub(1) as u32;
        let places: Vec<u32> = places.map(|place| row * length as u32 + place).collect();
        let places = Tensor::new(places, &Device::Cpu)?;
        let logits = model.predict_answer(&kernels::gather_vectors(&hidden, &places)?)?.dense()?;
        let next = words.iter().skip(1);
        sums.push(
            self::rows(&logits)?.iter().zip(next).map(|(row, &word)| log_softmax(row)[word as usize]).sum(),
        );
    }
    Ok(sums)
}

/// The `k` best of the answers to each question, the best first, with probabilities among these k. As released: the k
/// whose first word is likeliest are scored by `log p(first word) + log p(answer)`, in which the first word counts twice.
///
/// # Errors
/// As [`Model::answer`], or when an answer has no word.
pub fn rank(
    model: &dyn Model,
    image: &View<Image>,
    question: &View<Text>,
    answers: &Text,
    k: usize,
) -> Result<Vec<Vec<(u32, f64)>>> {
    let (_, logits) = model.decode(image, question)?;
    let firsts: Vec<u32> =
        words(answers)?.iter().map(|words| words.get(1).copied().unwrap_or_default()).collect();
    let mut ranked: Vec<Vec<(u32, f64)>> = Vec::new();
    for scores in rows(&logits)? {
        let logs = log_softmax(&scores);
        let mut likely: Vec<(u32, f64)> =
            (0..).zip(&firsts).map(|(answer, &first)| (answer, logs[first as usize])).collect();
        likely.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        likely.truncate(k);
        ranked.push(likely);
    }
    let of: Vec<u32> = (0u32..).zip(&ranked).flat_map(|(row, likely)| vec![row; likely.len()]).collect();
    let chosen: Vec<u32> = ranked.iter().flatten().map(|(answer, _)| *answer).collect();
    let chosen = Tensor::new(chosen, &Device::Cpu)?;
    let chosen = View::new(answers.clone(), None).select(&chosen)?;
    let mut whole = log_likelihoods(model, image, question, &chosen, &of)?.into_iter();
    for likely in &mut ranked {
        let sums: Vec<f64> = likely.iter().zip(&mut whole).map(|((_, first), whole)| first + whole).collect();
        for ((_, score), log) in likely.iter_mut().zip(log_softmax(&sums)) {
            *score = log.exp();
        }
        likely.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    }
    Ok(ranked)
}
