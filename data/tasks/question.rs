//! Questions about a scene with one right answer, drawn apart from it: no question tells its answer.
//!
//! A question is drawn first, then an answer, then a scene in which it is right ([`Question::plant`] makes that likely,
//! [`Question::answer`] decides). Where something is asked for that is not there, what comes near it is: a circle of
//! another colour and something else that is red, where the answer to "is there a red circle?" is no.

use super::noun::{Attribute, Noun};
use crate::data::scenes::{Colour, Object, Relation, Scene, Shape, plural};
use crate::kernels::random::Stream;

/// The kinds of questions.
pub const KINDS: [&str; 9] =
    ["exists", "count", "color", "shape", "size", "material", "relation", "where", "comparison"];

pub(super) const NO: &str = "no";
pub(super) const YES: &str = "yes";
pub(super) const NUMBERS: [&str; 7] = ["zero", "one", "two", "three", "four", "five", "six"];
const SIDES: [Relation; 4] = [Relation::LeftOf, Relation::RightOf, Relation::Above, Relation::Below];

/// One question.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Question {
    /// "is there a red circle?"
    Exists(Noun),
    /// "what is the amount of circles?"
    Count(Shape),
    /// "what color is the circle?"
    Asks(Attribute, Noun),
    /// "is the red circle above the blue star?"
    Relation(Noun, Relation, Noun),
    /// "where is the red circle, from the blue star?"
    Where(Noun, Noun),
    /// "do the circle and the star have one color?"
    Comparison(Attribute, Noun, Noun),
}

/// Every answer that any question has, in a fixed order.
pub(super) fn answers() -> Vec<String> {
    let attributes = Attribute::ALL.into_iter().flat_map(Attribute::words);
    let all = [NO, YES].into_iter().chain(NUMBERS).chain(attributes).chain(SIDES.map(side));
    all.map(str::to_owned).collect()
}

fn side(relation: Relation) -> &'static str {
    match relation {
        Relation::LeftOf => "left",
        Relation::RightOf => "right",
        Relation::Above => "above",
        Relation::Below => "below",
        Relation::InFrontOf => "front",
        Relation::Behind => "behind",
    }
}

fn yes(truth: bool) -> &'static str {
    if truth { YES } else { NO }
}

/// Two different descriptions by colour and shape.
fn pair(stream: &mut Stream) -> (Noun, Noun) {
    let [first, second] = [(); 2].map(|()| Noun::coloured(Colour::draw(stream), Shape::draw(stream)));
    (first, if first == second { second.other_look(stream) } else { second })
}

impl Question {
    /// Any question; the nine kinds are equally frequent.
    pub(super) fn draw(stream: &mut Stream) -> Self {
        match stream.below(KINDS.len() as u32) {
            0 => Self::Exists(Noun::draw(stream)),
            1 => Self::Count(Shape::draw(stream)),
            2 => Self::Asks(Attribute::Colour, Noun::shape(Shape::draw(stream))),
            3 => Self::Asks(Attribute::Shape, Noun::colour(Colour::draw(stream))),
            4 => Self::Asks(Attribute::Size, Noun::shape(Shape::draw(stream))),
            5 => Self::Asks(Attribute::Material, Noun::shape(Shape::draw(stream))),
            6 => Self::related(stream),
            7 => {
                let (first, second) = pair(stream);
                Self::Where(first, second)
            }
            _ if stream.below(2) == 0 => {
                let shape = Shape::draw(stream);
                Self::Comparison(Attribute::Colour, Noun::shape(shape), Noun::shape(shape.other(stream)))
            }
            _ => {
                let colour = Colour::draw(stream);
                Self::Comparison(Attribute::Shape, Noun::colour(colour), Noun::colour(colour.other(stream)))
            }
        }
    }

    /// A question whether one object stands on a side of another.
    pub(super) fn related(stream: &mut Stream) -> Self {
        let (first, second) = pair(stream);
        Self::Relation(first, SIDES[stream.below(4) as usize], second)
    }

    /// One of [`KINDS`].
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Exists(_) => "exists",
            Self::Count(_) => "count",
            Self::Asks(Attribute::Colour, _) => "color",
            Self::Asks(Attribute::Shape, _) => "shape",
            Self::Asks(Attribute::Size, _) => "size",
            Self::Asks(Attribute::Material, _) => "material",
            Self::Relation(..) => "relation",
            Self::Where(..) => "where",
            Self::Comparison(..) => "comparison",
        }
    }

    /// The words, all of them in the shipped vocabulary.
    pub fn text(&self) -> String {
        match self {
            Self::Exists(noun) => format!("is there {}?", noun.with_article()),
            Self::Count(shape) => format!("what is the amount of {}?", plural(shape.word())),
            Self::Asks(Attribute::Colour, of) => format!("what color is the {}?", of.text()),
            Self::Asks(Attribute::Shape, of) => format!("what shape is the {}?", of.text()),
            Self::Asks(Attribute::Size, of) => format!("is the {} small or large?", of.text()),
            Self::Asks(Attribute::Material, of) => {
                format!("is the {} plain, striped, dotted or shiny?", of.text())
            }
            Self::Relation(first, relation, second) => {
                format!("is the {} {} the {}?", first.text(), stands(*relation), second.text())
            }
            Self::Where(first, second) => {
                format!("where is the {}, from the {}?", first.text(), second.text())
            }
            Self::Comparison(attribute, first, second) => {
                let what = if *attribute == Attribute::Colour { "color" } else { "shape" };
                format!("do the {} and the {} have one {what}?", first.text(), second.text())
            }
        }
    }

    /// The answers that it can have, each as probable as the others; scenes have at most `most` objects.
    pub(super) fn answers(&self, most: usize) -> Vec<&'static str> {
        match self {
            Self::Exists(_) | Self::Relation(..) | Self::Comparison(..) => vec![NO, YES],
            Self::Count(_) => NUMBERS[..=most].to_vec(),
            Self::Asks(attribute, _) => attribute.words(),
            Self::Where(..) => SIDES.map(side).to_vec(),
        }
    }

    /// The right answer; `None` where a person would hesitate, as an object asked for is not there or not the only one.
    pub fn answer(&self, scene: &Scene) -> Option<&'static str> {
        let stand = |first: &Noun, second: &Noun| {
            let relation = scene.relation(first.only(scene)?, second.only(scene)?)?;
            SIDES.contains(&relation).then_some(relation)
        };
        match self {
            Self::Exists(noun) => Some(yes(noun.count(scene) > 0)),
            Self::Count(shape) => NUMBERS.get(Noun::shape(*shape).count(scene)).copied(),
            Self::Asks(attribute, of) => Some(attribute.word(&scene.objects[of.only(scene)?])),
            Self::Relation(first, asked, second) => Some(yes(stand(first, second)? == *asked)),
            Self::Where(first, second) => Some(side(stand(first, second)?)),
            Self::Comparison(attribute, first, second) => {
                let [first, second] = [first, second].map(|noun| noun.only(scene));
                let word = |object: usize| attribute.word(&scene.objects[object]);
                Some(yes(word(first?) == word(second?)))
            }
        }
    }

    /// Changes attributes so that `answer` is likely to be right, and not for want of anything like what is asked for.
    pub(super) fn plant(&self, answer: &str, objects: &mut [Object], stream: &mut Stream) {
        self.change(answer, objects, stream);
        // The objects that matter are no further back and no further in front than others.
        for last in (1..objects.len()).rev() {
            objects.swap(last, stream.below(last as u32 + 1) as usize);
        }
    }

    fn change(&self, answer: &str, objects: &mut [Object], stream: &mut Stream) {
        let [first, second, rest @ ..] = objects else { return };
        match self {
            Self::Exists(noun) => {
                noun.other_look(stream).give(first);
                let second_is = if answer == YES { *noun } else { noun.other_shape(stream) };
                second_is.give(second);
            }
            Self::Count(shape) => {
                let wanted = NUMBERS.iter().position(|number| *number == answer).unwrap_or_default();
                for (number, object) in objects.iter_mut().enumerate() {
                    if number < wanted {
                        object.shape = *shape;
                    } else if object.shape == *shape {
                        object.shape = shape.other(stream);
                    }
                }
            }
            Self::Asks(_, of) => {
                of.with(answer).give(first);
                // One that is like it in what tells them apart would make the question ambiguous.
                for object in std::iter::once(second).chain(rest).filter(|object| of.fits(object)) {
                    of.other_shape(stream).other_look(stream).give(object);
                }
            }
            Self::Relation(one, _, other) | Self::Where(one, other) => {
                one.give(first);
                other.give(second);
            }
            Self::Comparison(attribute, one, other) => {
                one.give(first);
                other.give(second);
                let shared = Noun::of(first, &[*attribute]);
                if answer == YES {
                    shared.give(second);
                } else if shared.fits(second) {
                    shared.other_shape(stream).other_look(stream).give(second);
                }
            }
        }
    }
}

/// "above", "to the left of".
pub(super) fn stands(relation: Relation) -> &'static str {
    match relation {
        Relation::LeftOf => "to the left of",
        Relation::RightOf => "to the right of",
        Relation::Above => "above",
        Relation::Below => "below",
        Relation::InFrontOf => "in front of",
        Relation::Behind => "behind",
    }
}
