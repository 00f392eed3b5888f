//! Descriptions of objects by some of their attributes: "large red circle", "dotted object".

use crate::data::scenes::{Colour, Material, Object, Scene, Shape, Size};
use crate::kernels::random::Stream;

/// One of the four attributes of an object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Attribute {
    /// Small or large.
    Size,
    /// How the surface is drawn.
    Material,
    /// The main colour.
    Colour,
    /// The outline.
    Shape,
}

impl Attribute {
    /// All of them, in the order in which they are said.
    pub const ALL: [Self; 4] = [Self::Size, Self::Material, Self::Colour, Self::Shape];

    /// The word for it in this object.
    pub fn word(self, object: &Object) -> &'static str {
        match self {
            Self::Size => object.size.word(),
            Self::Material => object.material.word(),
            Self::Colour => object.colour.word(),
            Self::Shape => object.shape.word(),
        }
    }

    /// Every word for it.
    pub fn words(self) -> Vec<&'static str> {
        match self {
            Self::Size => Size::ALL.iter().map(|size| size.word()).collect(),
            Self::Material => Material::ALL.iter().map(|material| material.word()).collect(),
            Self::Colour => Colour::ALL.iter().map(|colour| colour.word()).collect(),
            Self::Shape => Shape::ALL.iter().map(|shape| shape.word()).collect(),
        }
    }
}

/// A description of objects: what is `None` is not said.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Noun {
    /// Small or large.
    pub size: Option<Size>,
    /// How the surface is drawn.
    pub material: Option<Material>,
    /// The main colour.
    pub colour: Option<Colour>,
    /// The outline.
    pub shape: Option<Shape>,
}

impl Noun {
    /// "circle".
    pub fn shape(shape: Shape) -> Self {
        Self { shape: Some(shape), ..Self::default() }
    }

    /// "red object".
    pub fn colour(colour: Colour) -> Self {
        Self { colour: Some(colour), ..Self::default() }
    }

    /// "red circle".
    pub fn coloured(colour: Colour, shape: Shape) -> Self {
        Self { shape: Some(shape), ..Self::colour(colour) }
    }

    /// What a word says, whichever attribute it is of.
    pub fn of_word(word: &str) -> Self {
        Self {
            size: Size::of_word(word),
            material: Material::of_word(word),
            colour: Colour::of_word(word),
            shape: Shape::of_word(word),
        }
    }

    /// A description of an object by some of its attributes.
    pub fn of(object: &Object, attributes: &[Attribute]) -> Self {
        attributes.iter().fold(Self::default(), |noun, attribute| noun.with(attribute.word(object)))
    }

    /// The same with what a word says.
    pub fn with(self, word: &str) -> Self {
        let said = Self::of_word(word);
        Self {
            size: said.size.or(self.size),
            material: said.material.or(self.material),
            colour: said.colour.or(self.colour),
            shape: said.shape.or(self.shape),
        }
    }

    /// A shape with one other attribute of it.
    pub fn draw(stream: &mut Stream) -> Self {
        let noun = Self::shape(Shape::draw(stream));
        match stream.below(4) {
            0 => Self { size: Some(Size::draw(stream)), ..noun },
            1 => Self { material: Some(Material::draw(stream)), ..noun },
            _ => Self { colour: Some(Colour::draw(stream)), ..noun },
        }
    }

    /// The same with another shape, where it names one.
    pub fn other_shape(self, stream: &mut Stream) -> Self {
        Self { shape: self.shape.map(|shape| shape.other(stream)), ..self }
    }

    /// The same with other values of all that it says but the shape.
    pub fn other_look(self, stream: &mut Stream) -> Self {
        Self {
            size: self.size.map(|size| size.other(stream)),
            material: self.material.map(|material| material.other(stream)),
            colour: self.colour.map(|colour| colour.other(stream)),
            ..self
        }
    }

    /// Whether it describes an object.
    pub fn fits(&self, object: &Object) -> bool {
        self.size.is_none_or(|size| size == object.size)
            && self.material.is_none_or(|material| material == object.material)
            && self.colour.is_none_or(|colour| colour == object.colour)
            && self.shape.is_none_or(|shape| shape == object.shape)
    }

    /// Makes an object one that it describes.
    pub fn give(&self, object: &mut Object) {
        object.size = self.size.unwrap_or(object.size);
        object.material = self.material.unwrap_or(object.material);
        object.colour = self.colour.unwrap_or(object.colour);
        object.shape = self.shape.unwrap_or(object.shape);
    }

    /// How many objects it describes.
    pub fn count(&self, scene: &Scene) -> usize {
        scene.objects.iter().filter(|object| self.fits(object)).count()
    }

    /// The number of the one object that it describes; `None` where there is none or several.
    pub fn only(&self, scene: &Scene) -> Option<usize> {
        let mut fitting = (0..).zip(&scene.objects).filter(|(_, object)| self.fits(object));
        let (first, _) = fitting.next()?;
        fitting.next().is_none().then_some(first)
    }

    /// "large red circle"; "object" stands for a shape that is not said.
    pub fn text(&self) -> String {
        let look = [
            self.size.map(Size::word),
            self.material.map(Material::word),
            self.colour.map(Colour::word),
            Some(self.shape.map_or("object", Shape::word)),
        ];
        look.into_iter().flatten().collect::<Vec<_>>().join(" ")
    }

    /// "a large red circle", "an orange circle".
    pub fn with_article(&self) -> String {
        let text = self.text();
        let article = if text.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
        format!("{article} {text}")
    }
}
