//! Hypotheses about a scene of which a picture is seen: the picture entails them, contradicts them or leaves them open.
//!
//! As SNLI-VE (Xie et al., arXiv:1901.06706) has it, a hypothesis is neutral where the picture does not tell: it speaks of
//! something that the picture does not show. Each hypothesis occurs with three pictures, once with each verdict, so that
//! its words tell nothing.

use super::noun::{Attribute, Noun};
use super::question::{NO, NUMBERS, Question, YES, stands};
use crate::data::scenes::{Scene, Shape};
use crate::kernels::random::Stream;

/// The kinds of hypotheses.
pub const KINDS: [&str; 4] = ["color", "size", "material", "relation"];

/// The verdicts.
pub(super) const VERDICTS: [&str; 3] = ["entailment", "neutral", "contradiction"];

/// One hypothesis: an answer to a question, as a sentence.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Hypothesis {
    question: Question,
    answer: &'static str,
}

impl Hypothesis {
    /// Any hypothesis; the four kinds are equally frequent.
    pub(super) fn draw(stream: &mut Stream) -> Self {
        let attribute = match stream.below(KINDS.len() as u32) {
            0 => Attribute::Colour,
            1 => Attribute::Size,
            2 => Attribute::Material,
            _ => return Self { question: Question::related(stream), answer: YES },
        };
        let words = attribute.words();
        let answer = words[stream.below(words.len() as u32) as usize];
        Self { question: Question::Asks(attribute, Noun::shape(Shape::draw(stream))), answer }
    }

    /// One of [`KINDS`].
    pub fn kind(&self) -> &'static str {
        self.question.kind()
    }

    /// The words, all of them in the shipped vocabulary.
    pub fn text(&self) -> String {
        match self.question {
            Question::Relation(first, relation, second) => {
                format!("the {} is {} the {}.", first.text(), stands(relation), second.text())
            }
            Question::Asks(_, noun) => format!("the {} is {}.", noun.text(), self.answer),
            other => format!("{} {}.", other.text(), self.answer),
        }
    }

    /// A question about the picture, and its answer, of which a verdict is likely to follow.
    pub(super) fn plan(&self, verdict: &str, stream: &mut Stream) -> (Question, &'static str) {
        match (verdict, self.question) {
            ("entailment", question) => (question, self.answer),
            ("neutral", Question::Asks(_, Noun { shape: Some(shape), .. })) => {
                (Question::Count(shape), NUMBERS[0])
            }
            ("neutral", Question::Relation(first, _, second)) => {
                (Question::Exists(if stream.below(2) == 0 { first } else { second }), NO)
            }
            (_, question) => {
                let mut others = question.answers(0);
                others.retain(|other| *other != self.answer);
                (question, others[stream.below(others.len() as u32) as usize])
            }
        }
    }

    /// The verdict on a scene; `None` where it shows what is spoken of and yet a person would hesitate.
    pub fn verdict(&self, scene: &Scene) -> Option<&'static str> {
        let [entailment, neutral, contradiction] = VERDICTS;
        if let Some(answer) = self.question.answer(scene) {
            return Some(if answer == self.answer { entailment } else { contradiction });
        }
        let absent = |noun: &Noun| noun.count(scene) == 0;
        let open = match &self.question {
            Question::Asks(_, noun) => absent(noun),
            Question::Relation(first, _, second) => absent(first) || absent(second),
            _ => false,
        };
        open.then_some(neutral)
    }
}
