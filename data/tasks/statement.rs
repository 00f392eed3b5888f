//! Statements about two pictures that are true or false: neither the words nor one of the pictures tells which.
//!
//! As NLVR2 (Suhr et al., arXiv:1811.00491), each statement is made about four pairs of pictures and true of two.

use super::noun::Noun;
use super::question::{NO, NUMBERS, Question, YES};
use crate::data::scenes::{Scene, Shape, plural};
use crate::kernels::random::Stream;

/// The kinds of statements.
pub const KINDS: [&str; 5] = ["both", "one", "apart", "more", "together"];

/// The answers.
pub(super) const TRUTHS: [&str; 2] = ["false", "true"];

/// The words for the pictures.
const PICTURES: [&str; 2] = ["left", "right"];

/// One statement; pictures are numbered from 0, the left one.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Statement {
    /// "there is a red circle in the left picture and in the right picture."
    Both(Noun),
    /// "there is a red circle in one picture, not in the other."
    One(Noun),
    /// "there is a red circle in the left picture and a blue star in the right picture."
    Apart([Noun; 2]),
    /// "there are more circles in the left picture."
    More(Shape, usize),
    /// "there are three circles in the two pictures all together."
    Together(Shape, usize),
}

impl Statement {
    /// Any statement; scenes have at most `most` objects.
    pub(super) fn draw(most: usize, stream: &mut Stream) -> Self {
        match stream.below(KINDS.len() as u32) {
            0 => Self::Both(Noun::draw(stream)),
            1 => Self::One(Noun::draw(stream)),
            2 => {
                let noun = Noun::draw(stream);
                Self::Apart([noun, noun.other_look(stream).other_shape(stream)])
            }
            3 => Self::More(Shape::draw(stream), stream.below(2) as usize),
            _ => Self::Together(Shape::draw(stream), 1 + stream.below(most as u32) as usize),
        }
    }

    /// One of [`KINDS`].
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Both(_) => "both",
            Self::One(_) => "one",
            Self::Apart(_) => "apart",
            Self::More(..) => "more",
            Self::Together(..) => "together",
        }
    }

    /// The words, all of them in the shipped vocabulary.
    pub fn text(&self) -> String {
        let [left, right] = PICTURES;
        match self {
            Self::Both(noun) => {
                format!("there is {} in the {left} picture and in the {right} picture.", noun.with_article())
            }
            Self::One(noun) => format!("there is {} in one picture, not in the other.", noun.with_article()),
            Self::Apart([first, second]) => format!(
                "there is {} in the {left} picture and {} in the {right} picture.",
                first.with_article(),
                second.with_article()
            ),
            Self::More(shape, picture) => {
                format!("there are more {} in the {} picture.", plural(shape.word()), PICTURES[*picture])
            }
            Self::Together(shape, 1) => {
                format!("there is one {} in the {left} and the {right} picture together.", shape.word())
            }
            Self::Together(shape, count) => format!(
                "there are {} {} in the {left} and the {right} picture together.",
                NUMBERS[*count],
                plural(shape.word())
            ),
        }
    }

    /// A question about each picture, and its answer, of which the statement's truth is likely to follow.
    pub(super) fn plan(
        &self,
        truth: bool,
        most: usize,
        stream: &mut Stream,
    ) -> [(Question, &'static str); 2] {
        let side = stream.below(2) as usize;
        let exist = |noun: Noun, there: [bool; 2]| {
            there.map(|there| (Question::Exists(noun), if there { YES } else { NO }))
        };
        let counts = |shape: Shape, counts: [usize; 2]| {
            counts.map(|count| (Question::Count(shape), NUMBERS[count.min(most)]))
        };
        match self {
            Self::Both(noun) => exist(*noun, if truth { [true; 2] } else { [side == 0, side == 1] }),
            Self::One(noun) => exist(*noun, if truth { [side == 0, side == 1] } else { [side == 0; 2] }),
            Self::Apart([first, second]) => {
                let nouns = if truth { [first, second] } else { [second, first] };
                nouns.map(|noun| (Question::Exists(*noun), YES))
            }
            Self::More(shape, picture) => {
                let few = stream.below(most as u32) as usize;
                let many = few + 1 + stream.below((most - few) as u32) as usize;
                counts(*shape, if truth == (*picture == 0) { [many, few] } else { [few, many] })
            }
            Self::Together(shape, count) => {
                let total = if truth { *count } else { count + 1 - 2 * side };
                let left = stream.below(total as u32 + 1) as usize;
                counts(*shape, [left, total - left])
            }
        }
    }

    /// Whether it is true of two scenes.
    pub fn truth(&self, scenes: &[Scene; 2]) -> bool {
        let there = |noun: &Noun| scenes.each_ref().map(|scene| noun.count(scene) > 0);
        let [left, right] = match self {
            Self::Both(noun) => return there(noun) == [true; 2],
            Self::One(noun) => {
                let [left, right] = there(noun);
                return left != right;
            }
            Self::Apart([first, second]) => return there(first)[0] && there(second)[1],
            Self::More(shape, _) | Self::Together(shape, _) => {
                scenes.each_ref().map(|scene| Noun::shape(*shape).count(scene))
            }
        };
        match self {
            Self::More(_, 0) => left > right,
            Self::More(..) => right > left,
            Self::Together(_, count) => left + right == *count,
            Self::Both(_) | Self::One(_) | Self::Apart(_) => false,
        }
    }
}
