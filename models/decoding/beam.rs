//! Beam search: of all texts so far the likeliest few go on, and of those that have ended the best is taken.
//!
//! The rules are those of `transformers` 5 (`GenerationMixin._beam_search`). With b beams, in each step the 2b likeliest
//! continuations of an image's texts are looked at. The b likeliest that have not ended go on. Those among the first b
//! that have ended, or are as long as a text may be, are finished, with
//!
//! `score = log p(text) / n^length_penalty`,
//!
//! n the words written, the end included and the prompt not; the best b finished ones are kept. The search ends when no
//! text may become better ([`EarlyStopping`]). Repeated words are made less likely after the softmax, so their penalty
//! acts on logarithms of probabilities, and what remains is not scaled again.

use candle_core::Result;
use serde::{Deserialize, Serialize};

use super::{Begun, Writer, Written, log_softmax, rows};

/// `{beams: 3, length_penalty: 1, early_stopping: heuristic}`
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Beam {
    /// How many texts go on.
    pub beams: usize,
    /// The power of the length by which a text's log-likelihood is divided: above 0 prefers longer texts.
    pub length_penalty: f64,
    /// When a search ends.
    pub early_stopping: EarlyStopping,
}

/// When a search ends before the longest text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EarlyStopping {
    /// As soon as b texts have ended (`True` there).
    First,
    /// When the likeliest text that goes on, were it to end now, would be no better than the worst of b finished ones
    /// (`False` there, and the default).
    Heuristic,
    /// The same, were it to end at the best length for it (`"never"` there).
    Never,
}

impl Default for Beam {
    fn default() -> Self {
        Self { beams: 3, length_penalty: 1.0, early_stopping: EarlyStopping::Heuristic }
    }
}

/// A text that goes on.
struct Running {
    words: Vec<u32>,
    log: f64,
}

/// The texts of one image.
struct Search<'a> {
    prompt: &'a [u32],
    running: Vec<Running>,
    /// The best first, at most b.
    finished: Vec<Written>,
    open: bool,
}

/// A text with one more word.
struct Candidate {
    parent: usize,
    word: u32,
    log: f64,
}

impl Beam {
    /// What is wrong with it, one sentence a fault.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.beams == 0 {
            faults.push("beams is 0: at least one text must go on".to_owned());
        }
        if !self.length_penalty.is_finite() {
            faults.push(format!("length_penalty {} is no number", self.length_penalty));
        }
        faults
    }

    /// The best text behind each prompt.
    pub(super) fn write(
        &self,
        writer: &Writer,
        (mut texts, mut logits): Begun,
        prompts: &[Vec<u32>],
    ) -> Result<Vec<Written>> {
        let begin = |prompt| Search {
            prompt,
            running: vec![Running { words: Vec::new(), log: 0.0 }],
            finished: Vec::new(),
            open: true,
        };
        let mut searches: Vec<Search> = prompts.iter().map(Vec::as_slice).map(begin).collect();
        for length in 1..=writer.most {
            let mut scores = rows(&logits)?.into_iter();
            let (mut parents, mut first) = (Vec::new(), 0);
            for search in searches.iter_mut().filter(|search| search.open) {
                let own: Vec<_> = scores.by_ref().take(search.running.len()).collect();
                let from = first + own.len();
                for parent in self.step(writer, search, own, length) {
                    parents.push((first + parent) as u32);
                }
                first = from;
            }
            if length == writer.most || parents.is_empty() {
                break;
            }
            texts.reorder(&parents)?;
            let open = searches.iter().filter(|search| search.open);
            let last = open.flat_map(|search| &search.running).filter_map(|text| text.words.last().copied());
            logits = texts.next(&last.collect::<Vec<_>>())?;
        }
        let best = |search: Search| search.finished.into_iter().next();
        // Every search finishes a text at the latest where texts may be no longer, unless its logits are no numbers.
        Ok(searches
            .into_iter()
            .map(|search| best(search).unwrap_or(Written { words: Vec::new(), score: f64::NEG_INFINITY }))
            .collect())
    }

    /// Takes the texts of an image, whose next words have these scores, to a length; the running texts that go on, by their
    /// number among those before.
    fn step(&self, writer: &Writer, search: &mut Search, scores: Vec<Vec<f64>>, length: usize) -> Vec<usize> {
        let candidates = self.candidates(writer, search, scores);
        let ends = |candidate: &Candidate| candidate.word == writer.end || length == writer.most;
        let power = |length: usize| (length as f64).powf(self.length_penalty);
        for candidate in candidates.iter().take(self.beams).filter(|candidate| ends(candidate)) {
            let mut words = search.running[candidate.parent].words.clone();
            if candidate.word != writer.end {
                words.push(candidate.word);
            }
            search.finished.push(Written { words, score: candidate.log / power(length) });
        }
        search.finished.sort_by(|a, b| b.score.total_cmp(&a.score));
        search.finished.truncate(self.beams);
        let going: Vec<_> =
            candidates.into_iter().filter(|candidate| !ends(candidate)).take(self.beams).collect();
        let parents = going.iter().map(|candidate| candidate.parent).collect();
        let grow = |Candidate { parent, word, log }: Candidate| {
            let words = [search.running[parent].words.as_slice(), &[word]].concat();
            Running { words, log }
        };
        search.running = going.into_iter().map(grow).collect();
        search.open = match (search.running.first(), search.finished.get(self.beams - 1)) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(best), Some(worst)) => match self.early_stopping {
                EarlyStopping::First => false,
                EarlyStopping::Never if self.length_penalty > 0.0 => {
                    best.log / power(writer.most) > worst.score
                }
                _ => best.log / power(length) > worst.score,
            },
        };
        if search.open { parents } else { Vec::new() }
    }

    /// The 2b likeliest continuations, the likeliest first.
    fn candidates(&self, writer: &Writer, search: &Search, scores: Vec<Vec<f64>>) -> Vec<Candidate> {
        let mut candidates = Vec::new();
        for (parent, (text, scores)) in search.running.iter().zip(scores).enumerate() {
            let mut logs = log_softmax(&scores);
            writer.adjust(&mut logs, search.prompt, &text.words);
            let possible = (0..).zip(logs).filter(|(_, log)| *log > f64::NEG_INFINITY);
            candidates.extend(possible.map(|(word, log)| Candidate { parent, word, log: text.log + log }));
        }
        let (count, falling) = (2 * self.beams, |a: &Candidate, b: &Candidate| b.log.total_cmp(&a.log));
        if candidates.len() > count {
            candidates.select_nth_unstable_by(count, falling);
            candidates.truncate(count);
        }
        candidates.sort_by(falling);
        candidates
    }
}
