//! `vlp embed`, `match`, `caption` and `retrieve`: what a trained model makes of pictures and texts; `vlp score`: how
//! good captions are.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use vlp_bench::experiments::failure::Result;
use vlp_bench::experiments::fault::Fault;
use vlp_bench::experiments::inference::{self, Answer, Pictures, Subject, Wanted};
use vlp_bench::experiments::machine;
use vlp_bench::experiments::progress::Show;
use vlp_bench::models::decoding::{Beam, Nucleus, Strategy, Writer};

use super::say;

/// A trained model, and how it is asked.
#[derive(Args)]
struct Shown {
    /// The directory of a run, or a folder with published weights and their vocabulary
    model: PathBuf,
    /// What computes: auto, cpu or cuda:N
    #[arg(long, default_value = "auto", value_name = "DEVICE")]
    device: String,
    /// As JSON, for programs
    #[arg(long)]
    json: bool,
    /// Show no progress
    #[arg(long)]
    quiet: bool,
}

impl Shown {
    fn open(&self) -> Result<Subject> {
        Subject::open(&self.model, &machine::device(&self.device)?)
    }

    fn find(&self, places: &[PathBuf]) -> Result<Pictures> {
        Pictures::find(places, Show::fitting(self.quiet))
    }

    /// Prints what was found; 1 where a picture could not be read.
    fn answer(&self, found: &dyn Answer, pictures: Option<&Pictures>) -> u8 {
        say(&if self.json { found.json().to_string() } else { found.table() });
        u8::from(pictures.is_some_and(|pictures| !pictures.skipped.is_empty()))
    }
}

/// What is embedded.
#[derive(Args)]
pub struct Embed {
    #[command(flatten)]
    shown: Shown,
    /// Pictures, or folders of them
    #[arg(long, num_args = 1.., value_name = "FILE|FOLDER")]
    images: Vec<PathBuf>,
    /// A file of texts, one a line
    #[arg(long, value_name = "FILE")]
    texts: Option<PathBuf>,
    /// The file to write
    #[arg(long, default_value = "embeds.safetensors", value_name = "FILE")]
    out: PathBuf,
}

impl Embed {
    /// Writes the vectors.
    pub fn act(&self) -> Result<u8> {
        let Self { shown, images, texts, out } = self;
        let mut pictures = (!images.is_empty()).then(|| shown.find(images)).transpose()?;
        let texts = texts.as_deref().map(inference::lines).transpose()?.unwrap_or_default();
        if pictures.is_none() && texts.is_empty() {
            let fault = Fault::new("nothing to embed");
            return Err(fault.help("name pictures with --images or texts with --texts").into());
        }
        let found = inference::embed(&shown.open()?, pictures.as_mut(), &texts, out)?;
        Ok(shown.answer(&found, pictures.as_ref()))
    }
}

/// What is matched.
#[derive(Args)]
pub struct Match {
    #[command(flatten)]
    shown: Shown,
    /// Pictures, or folders of them
    #[arg(long = "image", required = true, num_args = 1.., value_name = "FILE|FOLDER")]
    images: Vec<PathBuf>,
    /// Texts
    #[arg(long = "text", required = true, num_args = 1.., value_name = "TEXT")]
    texts: Vec<String>,
}

impl Match {
    /// Prints how well each text fits each picture.
    pub fn act(&self) -> Result<u8> {
        let Self { shown, images, texts } = self;
        let mut pictures = shown.find(images)?;
        let found = inference::matching(&shown.open()?, &mut pictures, texts)?;
        Ok(shown.answer(&found, Some(&pictures)))
    }
}

/// What is captioned.
#[derive(Args)]
pub struct Caption {
    #[command(flatten)]
    shown: Shown,
    /// Pictures, or folders of them
    #[arg(long, required = true, num_args = 1.., value_name = "FILE|FOLDER")]
    images: Vec<PathBuf>,
    #[command(flatten)]
    how: How,
}

impl Caption {
    /// Prints a caption for each picture.
    pub fn act(&self) -> Result<u8> {
        let Self { shown, images, how } = self;
        let (mut pictures, subject) = (shown.find(images)?, shown.open()?);
        let found = inference::caption(&subject, &mut pictures, &how.prompt, &how.writer(subject.end()))?;
        Ok(shown.answer(&found, Some(&pictures)))
    }
}

/// How captions are written.
#[derive(Args)]
struct How {
    /// How the next word is taken
    #[arg(long, default_value = "beam")]
    decode: Decode,
    /// What a caption goes on from
    #[arg(long, default_value = "", value_name = "TEXT")]
    prompt: String,
    /// Tokens of the shortest caption, prompt and beginning included
    #[arg(long, default_value_t = 5, value_name = "N")]
    min_length: usize,
    /// Tokens of the longest
    #[arg(long, default_value_t = 20, value_name = "N")]
    max_length: usize,
    /// Beams that are searched
    #[arg(long, default_value_t = 3, value_name = "N")]
    beams: usize,
    /// The power of its length by which the score of a beam is divided
    #[arg(long, default_value_t = 1.0, value_name = "X", allow_negative_numbers = true)]
    length_penalty: f64,
    /// The probability that the words of the nucleus reach together
    #[arg(long, default_value_t = 0.9, value_name = "P")]
    top_p: f64,
    /// Words that may be drawn at most; 0: all
    #[arg(long, default_value_t = 0, value_name = "K")]
    top_k: usize,
    /// What logits are divided by before a word is drawn
    #[arg(long, default_value_t = 1.0, value_name = "X")]
    temperature: f64,
    /// What makes words less likely that are there already; 1.1 where words are drawn, else 1, unless it is given
    #[arg(long, value_name = "X")]
    repetition_penalty: Option<f64>,
    /// Where draws come from
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Decode {
    Greedy,
    Beam,
    Nucleus,
}

impl How {
    fn writer(&self, end: u32) -> Writer {
        let Self { beams, length_penalty, top_p, top_k, temperature, .. } = *self;
        let strategy = match self.decode {
            Decode::Greedy => Strategy::Greedy,
            Decode::Beam => Strategy::Beam(Beam { beams, length_penalty, ..Beam::default() }),
            Decode::Nucleus => Strategy::Nucleus(Nucleus { top_p, temperature, top_k }),
        };
        let usual = if self.decode == Decode::Nucleus { 1.1 } else { 1.0 };
        Writer {
            strategy,
            least: self.min_length,
            most: self.max_length,
            repetition_penalty: self.repetition_penalty.unwrap_or(usual),
            end,
            seed: self.seed,
        }
    }
}

/// What is retrieved, and what for.
#[derive(Args)]
pub struct Retrieve {
    #[command(flatten)]
    shown: Shown,
    /// Pictures, or folders of them, to be found
    #[arg(long, num_args = 1.., requires = "query", conflicts_with_all = ["image", "texts"], value_name = "FILE|FOLDER")]
    images: Vec<PathBuf>,
    /// The text that they should fit
    #[arg(long, requires = "images", value_name = "TEXT")]
    query: Option<String>,
    /// A picture
    #[arg(long, requires = "texts", required_unless_present = "images", value_name = "FILE")]
    image: Option<PathBuf>,
    /// A file of texts to be found, one a line
    #[arg(long, requires = "image", value_name = "FILE")]
    texts: Option<PathBuf>,
    /// How many are named
    #[arg(long, default_value_t = 10, value_name = "K")]
    top: usize,
}

impl Retrieve {
    /// Prints what fits best.
    pub fn act(&self) -> Result<u8> {
        let Self { shown, images, query, image, texts, top } = self;
        let mut pictures = shown.find(image.as_ref().map_or(images.as_slice(), std::slice::from_ref))?;
        let texts = texts.as_deref().map(inference::lines).transpose()?.unwrap_or_default();
        let asked = query.as_deref().map_or(Wanted::Image(&texts), Wanted::Text);
        let found = inference::retrieve(&shown.open()?, &mut pictures, &asked, *top)?;
        Ok(shown.answer(&found, Some(&pictures)))
    }
}

/// What is scored.
#[derive(Args)]
pub struct Score {
    /// COCO's file of annotations: {"annotations": [{"image_id": 1, "caption": "a cat"}, ..]}
    references: PathBuf,
    /// COCO's file of results: [{"image_id": 1, "caption": "a small cat"}, ..]
    results: PathBuf,
    /// As JSON, for programs
    #[arg(long)]
    json: bool,
}

impl Score {
    /// Prints the metrics of the results.
    pub fn act(&self) -> Result<u8> {
        let found = inference::score(&self.references, &self.results)?;
        say(&if self.json { found.json().to_string() } else { found.table() });
        Ok(0)
    }
}
