//! The figures of a report, each at two widths: for a page or a paper, and for a telephone.

mod arms;
mod axis;
mod curves;
mod effects;
mod forest;
mod rows;
mod sheet;
mod style;

pub use forest::figure as forest;
pub use sheet::{Anchor, FONT, Mark, Sheet, text_width};
pub use style::Look;

use super::Error;
use super::results::Results;

/// The width of a figure on paper or a screen, in points.
pub const WIDE: f64 = 720.0;
/// The width of a figure on a telephone.
pub const NARROW: f64 = 340.0;

/// The blank edge of a figure in a file of its own, in points.
const EDGE: f64 = 8.0;

/// A figure of a report.
#[derive(Clone, Debug)]
pub struct Figure {
    /// The name of its files, without an ending.
    pub name: String,
    /// What it shows, for those who see it.
    pub caption: String,
    /// What it says, for those who do not.
    pub alt: String,
    /// The figure at [`WIDE`].
    pub wide: Sheet,
    /// The figure at [`NARROW`].
    pub narrow: Sheet,
}

impl Figure {
    /// The figure at both widths.
    fn new(name: String, caption: String, alt: String, draw: impl Fn(f64) -> Sheet) -> Self {
        Self { name, caption, alt, wide: draw(WIDE), narrow: draw(NARROW) }
    }

    /// The wide figure as an SVG document that carries its font.
    ///
    /// # Errors
    /// When it cannot be drawn.
    pub fn svg_file(&self) -> Result<String, Error> {
        let svg = self.wide.framed(EDGE).svg(&self.alt)?;
        Ok(svg.replacen(">\n", &format!(">\n<style>{}</style>\n", font_face()), 1))
    }

    /// The wide figure as PNG.
    ///
    /// # Errors
    /// When it cannot be drawn.
    pub fn png_file(&self) -> Result<Vec<u8>, Error> {
        self.wide.framed(EDGE).png()
    }
}

/// The rule that gives a document the font of the figures.
pub fn font_face() -> String {
    use base64::Engine as _;
    let data = base64::engine::general_purpose::STANDARD.encode(FONT);
    format!("@font-face{{font-family:Roboto;src:url(data:font/ttf;base64,{data})}}")
}

/// A text as the name of a file: lower-case letters, digits and hyphens.
pub fn file_name(text: &str) -> String {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_lowercase).collect::<Vec<_>>().join("-")
}

/// The figures of one experiment.
#[derive(Clone, Debug)]
pub struct Figures {
    /// The effects; none where no two arms can be compared.
    pub effects: Option<Figure>,
    /// The arms, by one headline metric each.
    pub arms: Vec<Figure>,
    /// The learning curves; none where nothing was measured twice.
    pub curves: Option<Figure>,
}

impl Figures {
    /// Draws them; `prefix` stands before the names of their files.
    pub fn new(results: &Results, prefix: &str) -> Self {
        let arms = results.headlines().filter_map(|(index, metric)| arms::figure(results, index, metric));
        let mut figures =
            Self { effects: effects::figure(results), arms: arms.collect(), curves: curves::figure(results) };
        let all = figures.effects.iter_mut().chain(&mut figures.arms).chain(&mut figures.curves);
        all.for_each(|figure| figure.name.insert_str(0, prefix));
        figures
    }

    /// All of them in the order in which a report shows them.
    pub fn all(&self) -> impl Iterator<Item = &Figure> {
        self.effects.iter().chain(&self.arms).chain(&self.curves)
    }
}

/// The look of an arm, by its name.
fn look(results: &Results, arm: &str) -> Look {
    let about = &results.experiment.about;
    let position = |name: &str| about.arms.iter().position(|arm| arm == name);
    style::look(position(arm).unwrap_or_default(), about.control.as_deref().and_then(position))
}
