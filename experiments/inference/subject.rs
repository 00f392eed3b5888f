//! A trained model with everything that plain pictures and texts need on their way to it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use serde::Deserialize;

use crate::data::augment::{self, DEVIATION, MEAN};
use crate::data::collate::Encode;
use crate::data::vocabulary::Vocabulary;
use crate::data::{Picture, Result as Read};
use crate::experiments::beginning::filled;
use crate::experiments::checkpoint;
use crate::experiments::export::configuration;
use crate::experiments::failure::{Failure, Result};
use crate::experiments::fault::Fault;
use crate::experiments::feed::{Pairs, Words};
use crate::kernels::random::Key;
use crate::models::checkpoint::Opened;
use crate::models::checkpoint::hub::{self, Part};
use crate::models::{Ability, Config, Field, Image, Inputs, Model, Store, Text, View};
use crate::objectives::itm;

/// How many pictures or texts are shown to a model at once.
pub const BATCH: usize = 16;

/// What to do to a picture before a model sees it.
struct Preprocessing {
    /// The side of the square picture.
    size: u32,
    /// The middle square is cut out, of this share of the shorter side; without it the whole picture is squeezed.
    middle: Option<f64>,
    mean: [f32; 3],
    deviation: [f32; 3],
}

/// A model that can be asked.
pub struct Subject {
    /// What it is called.
    pub name: String,
    /// Its configuration.
    pub config: Config,
    /// The shape of its inputs.
    pub inputs: Inputs,
    /// Reads its weights without a gradient.
    pub model: Box<dyn Model>,
    /// The matching head, where one was trained.
    pub head: Option<itm::Head>,
    vocabulary: Arc<dyn Encode>,
    preprocessing: Preprocessing,
    device: Device,
}

/// `preprocessor_config.json`, as far as it is heeded.
#[derive(Deserialize, Default)]
struct Published {
    image_mean: Option<[f32; 3]>,
    image_std: Option<[f32; 3]>,
    size: Option<Size>,
    crop_size: Option<Size>,
    do_center_crop: Option<bool>,
}

/// A side, or sides by name.
#[derive(Deserialize, Default)]
#[serde(from = "serde_json::Value")]
struct Size {
    side: Option<f64>,
    shortest: bool,
}

impl From<serde_json::Value> for Size {
    fn from(value: serde_json::Value) -> Self {
        let side =
            value.as_f64().or_else(|| value["shortest_edge"].as_f64()).or_else(|| value["height"].as_f64());
        Self { side, shortest: value["shortest_edge"].is_number() || value.is_number() }
    }
}

impl Preprocessing {
    fn trained(size: usize) -> Self {
        Self { size: size as u32, middle: None, mean: MEAN, deviation: DEVIATION }
    }

    /// As published beside weights; without a file as we train.
    fn published(folder: &Path, size: usize) -> Result<Self> {
        let (path, ours) = (folder.join("preprocessor_config.json"), Self::trained(size));
        let Ok(text) = fs::read_to_string(&path) else { return Ok(ours) };
        let theirs: Published = serde_json::from_str(&text)
            .map_err(|fault| Failure::Weights { path, problem: format!("cannot be read: {fault}") })?;
        let resized = theirs.size.unwrap_or_default();
        let middle = (theirs.do_center_crop == Some(true)).then(|| {
            let cut = theirs.crop_size.and_then(|size| size.side).unwrap_or(size as f64);
            // Where the picture is squeezed first, all of its middle is cut out.
            if resized.shortest { (cut / resized.side.unwrap_or(cut)).min(1.0) } else { 1.0 }
        });
        Ok(Self {
            middle: middle.filter(|_| resized.shortest),
            mean: theirs.image_mean.unwrap_or(MEAN),
            deviation: theirs.image_std.unwrap_or(DEVIATION),
            ..ours
        })
    }

    /// (3,S,S) normalised numbers.
    fn apply(&self, picture: Picture) -> Read<Vec<f32>> {
        let picture = match self.middle {
            None => picture,
            Some(share) => middle(&picture, share),
        };
        let key = Key::new(0, 0, "inference");
        let small = augment::Config::none().apply(picture, &mut Vec::new(), "", self.size, key)?;
        let channel = |channel: usize| {
            let (mean, deviation) = (self.mean[channel], self.deviation[channel]);
            let values = small.rgb.iter().skip(channel).step_by(3);
            values.map(move |value| (f32::from(*value) / 255.0 - mean) / deviation)
        };
        Ok((0..3).flat_map(channel).collect())
    }
}

/// The square in the middle of a picture, of this share of its shorter side.
fn middle(picture: &Picture, share: f64) -> Picture {
    let side = ((f64::from(picture.width.min(picture.height)) * share).round() as u32).max(1);
    let (left, top) = ((picture.width - side) / 2, (picture.height - side) / 2);
    let row = |row: u32| {
        let start = 3 * ((top + row) * picture.width + left) as usize;
        &picture.rgb[start..start + 3 * side as usize]
    };
    Picture { width: side, height: side, rgb: (0..side).flat_map(row).copied().collect() }
}

impl Subject {
    /// Opens a run's directory, or a folder with `config.json`, weights and a vocabulary, or a repository of the hub.
    ///
    /// # Errors
    /// When there is neither, a file is damaged, or the model reads no plain pictures.
    pub fn open(path: &Path, device: &Device) -> Result<Self> {
        let path = &hub::find(path, Part::Weights)?;
        let subject = if path.join("config.json").exists() {
            Self::published(path, device)?
        } else {
            Self::trained(path, device)?
        };
        let reads = subject.config.reads();
        let instead = match (reads.contains(&Field::Regions), reads.contains(&Field::Pixels)) {
            (true, _) => "regions that a detector has found, not plain pictures",
            (false, false) => "words alone and no pictures",
            (false, true) => return Ok(subject),
        };
        Err(Fault::new(format!("{} reads {instead}: no verb can show it a file", subject.name)).into())
    }

    fn trained(directory: &Path, device: &Device) -> Result<Self> {
        let run = configuration(directory)?;
        let (_, weights) = checkpoint::selected(directory)?;
        let pairs = Pairs::open(&run.expected(), &Words::shipped()?, 0)?;
        let store = filled(&run, &pairs.inputs, weights, device).map_err(Failure::weights(directory))?;
        let preprocessing = Preprocessing::trained(pairs.inputs.size);
        let (name, vocabulary) = (run.model.name().to_owned(), pairs.words().encoder.clone());
        Self::of(name, (run.model, pairs.inputs), &store, vocabulary, preprocessing)
    }

    fn published(folder: &Path, device: &Device) -> Result<Self> {
        let mut opened = Opened::read(folder, device).map_err(Failure::weights(folder))?;
        let vocabulary = Vocabulary::read(folder)?;
        opened.inputs.specials = vocabulary.specials().clone();
        let preprocessing = Preprocessing::published(folder, opened.inputs.size)?;
        // What the class does not hold must not be computed with: whatever it touches is no number, and is refused.
        opened.config.build(&opened.store.student(), &opened.inputs)?;
        let named: BTreeSet<String> = opened.named().collect();
        let mut absent = checkpoint::Tensors::new();
        for (name, entry) in opened.store.entries() {
            if !named.contains(&name) {
                absent.insert(name, Tensor::full(f32::NAN, entry.shape, device)?);
            }
        }
        opened.store.overwrite(&absent).map_err(Failure::weights(folder))?;
        let name = opened.class.name.to_owned();
        let head = named.contains("itm.head.weight");
        let mut subject = Self::of(
            name,
            (opened.config, opened.inputs),
            &opened.store,
            Arc::new(vocabulary),
            preprocessing,
        )?;
        subject.head = subject.head.filter(|_| head);
        Ok(subject)
    }

    fn of(
        name: String,
        (config, inputs): (Config, Inputs),
        store: &Store,
        vocabulary: Arc<dyn Encode>,
        preprocessing: Preprocessing,
    ) -> Result<Self> {
        let model = config.build(&store.detached(), &inputs)?;
        let head = match store.entries().contains_key("itm.head.weight") {
            false => None,
            true => Some(itm::Head::open(&store.detached().at("itm"), &config.dims(&inputs))?),
        };
        let device = store.device().clone();
        Ok(Self { name, config, inputs, model, head, vocabulary, preprocessing, device })
    }

    /// Whether the model has an ability.
    pub fn can(&self, ability: Ability) -> bool {
        self.config.abilities().contains(&ability)
    }

    /// Whether pairs can be scored by the matching head.
    pub fn matches(&self) -> bool {
        self.head.is_some() && self.can(Ability::Fuse)
    }

    /// Refuses a verb, and names those that the model can serve.
    pub fn refuse(&self, verb: &str, lacking: Ability) -> Failure {
        let scores = self.can(Ability::Embed) || self.matches();
        let verbs = [
            ("embed", self.can(Ability::Embed)),
            ("match", scores),
            ("retrieve", scores),
            ("caption", self.can(Ability::Generate)),
        ];
        let verbs: Vec<&str> = verbs.into_iter().filter_map(|(verb, can)| can.then_some(verb)).collect();
        let verbs = if verbs.is_empty() { "none of these verbs".to_owned() } else { verbs.join(", ") };
        let why = match self.can(lacking) {
            true => "no matching head was trained (`itm`)",
            false => self.config.lacks(lacking),
        };
        Fault::new(format!("{} cannot {verb}, which takes `{lacking}`: {why}; it can {verbs}", self.name))
            .into()
    }

    /// Refuses numbers that are none: what the folder's class has no weights for.
    ///
    /// # Errors
    /// When one of the numbers is not finite.
    pub fn finite(&self, verb: &str, mut numbers: impl Iterator<Item = f64>) -> Result<()> {
        if numbers.all(f64::is_finite) {
            return Ok(());
        }
        let problem = format!(
            "{} cannot {verb}: it holds no weights for what that takes, or weights that overflow",
            self.name
        );
        Err(Fault::new(problem).into())
    }

    /// Pictures as the model sees them.
    ///
    /// # Errors
    /// When the device is full.
    pub fn image(&self, pictures: Vec<Picture>) -> Result<View<Image>> {
        let (count, side) = (pictures.len(), self.preprocessing.size as usize);
        let mut pixels = Vec::with_capacity(count * 3 * side * side);
        for picture in pictures {
            pixels.extend(self.preprocessing.apply(picture)?);
        }
        let pixels = Some(Tensor::from_vec(pixels, (count, 3, side, side), &self.device)?);
        Ok(View::new(Image { pixels, ..Image::default() }, None))
    }

    /// Texts as the model sees them.
    ///
    /// # Errors
    /// When one cannot be spelt.
    pub fn text<S: AsRef<str>>(&self, texts: &[S]) -> Result<View<Text>> {
        let spell = |text: &S| Ok(self.vocabulary.encode(text.as_ref(), self.inputs.words)?.ids);
        self.words(&texts.iter().map(spell).collect::<Result<Vec<_>>>()?)
    }

    /// A prompt, which does not end, in front of so many texts, and how many tokens it has.
    ///
    /// # Errors
    /// When it cannot be spelt.
    pub fn prompt(&self, prompt: &str, texts: usize) -> Result<(View<Text>, usize)> {
        let mut ids = self.vocabulary.encode(prompt, usize::MAX)?.ids;
        if ids.last() == Some(&self.end()) {
            ids.pop();
        }
        let length = ids.len();
        Ok((self.words(&vec![ids; texts])?, length))
    }

    fn words(&self, texts: &[Vec<u32>]) -> Result<View<Text>> {
        let longest = texts.iter().map(Vec::len).max().unwrap_or(0);
        let row = |ids: &Vec<u32>| {
            (0..longest).map(|place| ids.get(place).copied().unwrap_or(self.inputs.specials.pad)).collect()
        };
        let seen = |ids: &Vec<u32>| (0..longest).map(|place| f32::from(place < ids.len())).collect();
        let ids = Tensor::new(texts.iter().map(row).collect::<Vec<Vec<u32>>>(), &Device::Cpu)?;
        let mask = Tensor::new(texts.iter().map(seen).collect::<Vec<Vec<f32>>>(), &Device::Cpu)?;
        Ok(View::new(Text { segments: ids.zeros_like()?, ids, mask }, None))
    }

    /// The word that ends a text.
    pub fn end(&self) -> u32 {
        self.inputs.specials.last()
    }

    /// What words spell.
    pub fn spell(&self, words: &[u32]) -> String {
        self.vocabulary.text(words)
    }

    /// Logits (images, texts) of embeddings, temperature included.
    ///
    /// # Errors
    /// When the device is full.
    pub fn similarity(&self, images: &Tensor, texts: &Tensor) -> Result<Vec<Vec<f64>>> {
        let [images, texts] = [images.to_device(&self.device)?, texts.to_device(&self.device)?];
        let rows = self.model.similarity(&images, &texts)?.to_vec2::<f32>()?;
        Ok(rows.into_iter().map(|row| row.into_iter().map(f64::from).collect()).collect())
    }

    /// The log-odds that each image matches each text (images, texts), by the matching head.
    ///
    /// # Errors
    /// When there is none.
    pub fn log_odds(&self, image: &View<Image>, text: &View<Text>) -> Result<Vec<Vec<f64>>> {
        let Some(head) = &self.head else { return Err(self.refuse("match", Ability::Fuse)) };
        let (images, texts) = (image.rows()? as u32, text.rows()? as u32);
        let mut odds = Vec::new();
        for row in 0..images {
            let mut of_row = Vec::new();
            for texts in (0..texts).collect::<Vec<_>>().chunks(BATCH) {
                let own = image.select(&Tensor::new(vec![row; texts.len()], &Device::Cpu)?)?;
                let text = text.select(&Tensor::new(texts, &Device::Cpu)?)?;
                let scores = head.scores(&self.model.pool(&own, &text)?)?.to_vec1::<f32>()?;
                of_row.extend(scores.into_iter().map(f64::from));
            }
            odds.push(of_row);
        }
        Ok(odds)
    }
}
