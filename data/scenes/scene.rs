//! What is in a scene: objects with shape, colour, size, material and place, drawn from a stream of random numbers.
//!
//! A scene belongs to the split that a hash of its attributes names, whatever the seed: no two splits of any two
//! configurations share an attribute-identical scene.

use serde::{Deserialize, Serialize};

use crate::data::Split;
use crate::kernels::random::{Key, Stream};

/// An enum of words with its list and its spelling.
macro_rules! attribute {
    ($(#[$doc:meta])* $name:ident: $($variant:ident $word:literal),+) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        #[allow(missing_docs)]
        pub enum $name { $($variant),+ }

        impl $name {
            /// Every value, in a fixed order.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The word that captions use.
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            pub(in crate::data) fn draw(stream: &mut Stream) -> Self {
                Self::ALL[stream.below(Self::ALL.len() as u32) as usize]
            }

            /// Another value than this one.
            pub(in crate::data) fn other(self, stream: &mut Stream) -> Self {
                let step = 1 + stream.below(Self::ALL.len() as u32 - 1) as usize;
                Self::ALL[(self as usize + step) % Self::ALL.len()]
            }

            /// The value of this word.
            pub(in crate::data) fn of_word(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.word() == word)
            }
        }
    };
}

attribute!(
    /// The outline of an object.
    Shape: Circle "circle", Square "square", Triangle "triangle", Diamond "diamond", Star "star", Cross "cross",
    Ring "ring", Heart "heart", Moon "moon"
);
attribute!(
    /// The main colour of an object.
    Colour: Red "red", Orange "orange", Yellow "yellow", Green "green", Blue "blue", Purple "purple", Pink "pink",
    Brown "brown", Black "black", White "white"
);
attribute!(
    /// How much of the picture an object takes.
    Size: Small "small", Large "large"
);
attribute!(
    /// How the surface of an object is drawn.
    Material: Plain "plain", Striped "striped", Dotted "dotted", Shiny "shiny"
);

/// One object. Lengths are fractions of the picture's side, y grows downwards.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Object {
    /// Its outline.
    pub shape: Shape,
    /// Its main colour.
    pub colour: Colour,
    /// Its size class.
    pub size: Size,
    /// Its surface.
    pub material: Material,
    /// The centre, horizontally.
    pub x: f32,
    /// The centre, vertically.
    pub y: f32,
    /// The radius of the circle around it.
    pub radius: f32,
    /// Rotation in radians.
    pub angle: f32,
}

impl Object {
    /// The four attributes as one number.
    fn code(&self) -> u64 {
        let [shapes, colours, sizes] = [Shape::ALL.len(), Colour::ALL.len(), Size::ALL.len()];
        let code = self.shape as usize
            + shapes
                * (self.colour as usize + colours * (self.size as usize + sizes * self.material as usize));
        code as u64
    }

    /// Left, top, right, bottom of the circle around it, clipped to the picture.
    pub fn bounds(&self) -> [f32; 4] {
        [self.x - self.radius, self.y - self.radius, self.x + self.radius, self.y + self.radius]
            .map(|side| side.clamp(0.0, 1.0))
    }
}

/// How one object stands to another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Relation {
    /// Further left, and more so than higher or lower.
    LeftOf,
    /// Further right, and more so than higher or lower.
    RightOf,
    /// Higher, and more so than left or right.
    Above,
    /// Lower, and more so than left or right.
    Below,
    /// Covering a part of it.
    InFrontOf,
    /// Covered by it in part.
    Behind,
}

/// The ground truth of one picture; objects are ordered from back to front.
#[derive(Clone, PartialEq, Debug)]
pub struct Scene {
    /// The objects from back to front.
    pub objects: Vec<Object>,
}

/// How far centres must lie apart along an axis for a caption to name the side.
const MARGIN: f32 = 0.12;

impl Scene {
    /// Draws a scene of the given split, or `None` if the draw belongs to another split or breaks a rule.
    ///
    /// `held_out` pairs never occur in training and validation; where there are any, every test scene has one.
    pub(super) fn draw(
        stream: &mut Stream,
        split: Split,
        objects: [usize; 2],
        held_out: &[(Colour, Shape)],
    ) -> Option<Self> {
        Self::planted(stream, split, objects, held_out, |_, _| {})
    }

    /// As [`Scene::draw`], with the attributes changed by `plant` before it is asked which split they belong to.
    pub(in crate::data) fn planted(
        stream: &mut Stream,
        split: Split,
        [least, most]: [usize; 2],
        held_out: &[(Colour, Shape)],
        plant: impl FnOnce(&mut [Object], &mut Stream),
    ) -> Option<Self> {
        let count = least + stream.below((most - least + 1) as u32) as usize;
        let mut objects: Vec<Object> = Vec::with_capacity(count);
        for _ in 0..count {
            let mut object = Object {
                shape: Shape::draw(stream),
                colour: Colour::draw(stream),
                size: Size::draw(stream),
                material: Material::draw(stream),
                x: 0.5,
                y: 0.5,
                radius: 0.1,
                angle: 0.0,
            };
            if let Some(before) = objects.last() {
                // Scenes that share a shape or a colour make counting and naming the attribute worthwhile.
                match stream.below(8) {
                    0 | 1 => object.shape = before.shape,
                    2 => object.colour = before.colour,
                    _ => {}
                }
            } else if split == Split::Test && !held_out.is_empty() {
                (object.colour, object.shape) = held_out[stream.below(held_out.len() as u32) as usize];
            }
            objects.push(object);
        }
        plant(&mut objects, stream);
        let scene = Self { objects };
        if !scene.belongs_to(split, held_out) {
            return None;
        }
        Some(scene.arranged(stream))
    }

    fn belongs_to(&self, split: Split, held_out: &[(Colour, Shape)]) -> bool {
        let signature = self.signature();
        if signature.windows(2).any(|pair| pair[0] == pair[1]) {
            return false;
        }
        let novel = self.objects.iter().any(|object| held_out.contains(&(object.colour, object.shape)));
        if split == Split::Test && !held_out.is_empty() {
            return novel;
        }
        !novel && split_of(&signature) == split
    }

    /// The attributes of all objects, sorted: equal for attribute-identical scenes.
    pub fn signature(&self) -> Vec<u64> {
        let mut codes: Vec<u64> = self.objects.iter().map(Object::code).collect();
        codes.sort_unstable();
        codes
    }

    /// Places the objects without overlap, except that one in four scenes has its last object partly cover another.
    fn arranged(mut self, stream: &mut Stream) -> Self {
        let mut scale = if self.objects.len() <= 2 { 1.15 } else { 1.0 };
        loop {
            if self.try_arrange(stream, scale) {
                return self;
            }
            scale *= 0.93;
        }
    }

    fn try_arrange(&mut self, stream: &mut Stream, scale: f32) -> bool {
        let count = self.objects.len();
        let covering = count > 1 && stream.below(4) == 0;
        for index in 0..count {
            let (before, rest) = self.objects.split_at_mut(index);
            let object = &mut rest[0];
            let (base, spread) = match object.size {
                Size::Small => (0.115, 0.02),
                Size::Large => (0.2, 0.04),
            };
            object.radius = scale * (base + spread * stream.f32());
            object.angle = (stream.f32() - 0.5) * 0.5;
            let cover = (covering && index + 1 == count).then(|| stream.below(index as u32) as usize);
            let placed = (0..24).any(|_| {
                let room = 1.0 - 2.0 * object.radius;
                (object.x, object.y) =
                    (object.radius + room * stream.f32(), object.radius + room * stream.f32());
                if let Some(target) = cover.and_then(|target| before.get(target)) {
                    let turn = stream.f32() * std::f32::consts::TAU;
                    let reach =
                        0.72 * (target.radius + object.radius).min(1.6 * target.radius.max(object.radius));
                    (object.x, object.y) = (target.x + reach * turn.cos(), target.y + reach * turn.sin());
                }
                let inside = |centre: f32| centre >= object.radius && centre <= 1.0 - object.radius;
                inside(object.x)
                    && inside(object.y)
                    && before
                        .iter()
                        .enumerate()
                        .all(|(other, placed)| cover == Some(other) || gap(object, placed) > 0.01)
            });
            if !placed {
                return false;
            }
        }
        true
    }

    /// How object `a` stands to object `b`, if a person would say so without hesitation.
    pub fn relation(&self, a: usize, b: usize) -> Option<Relation> {
        let (first, second) = (self.objects.get(a)?, self.objects.get(b)?);
        if a == b {
            return None;
        }
        if gap(first, second) < -0.03 {
            return Some(if a > b { Relation::InFrontOf } else { Relation::Behind });
        }
        let (dx, dy) = (first.x - second.x, first.y - second.y);
        if dx.abs() > MARGIN && dx.abs() > 1.3 * dy.abs() {
            return Some(if dx < 0.0 { Relation::LeftOf } else { Relation::RightOf });
        }
        if dy.abs() > MARGIN && dy.abs() > 1.3 * dx.abs() {
            return Some(if dy < 0.0 { Relation::Above } else { Relation::Below });
        }
        None
    }
}

/// The distance between the circles around two objects; negative where they overlap.
fn gap(a: &Object, b: &Object) -> f32 {
    (a.x - b.x).hypot(a.y - b.y) - a.radius - b.radius
}

/// The split that owns a signature: 80 % of signatures are for training, 10 % each for validation and test.
fn split_of(signature: &[u64]) -> Split {
    let key = signature.iter().fold(Key::new(0, 0, "scenes.signature"), |key, code| key.fold(*code));
    match key.block(0)[0] % 10 {
        0..8 => Split::Train,
        8 => Split::Val,
        _ => Split::Test,
    }
}
