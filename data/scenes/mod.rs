//! Procedural scenes: pictures of a few coloured shapes whose captions, tags, boxes and noise are known exactly.
//!
//! A pair is a pure function of (seed, split, index). The three splits never share an attribute-identical scene, also
//! between configurations with different seeds; `hold_out` keeps chosen colour-and-shape pairs for the test split.

mod caption;
mod detector;
mod draw;
mod scene;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::pack::hexadecimal;
use super::{Dataset, Error, Example, Field, Result, Split};
use crate::kernels::random::Key;
pub(super) use caption::plural;
pub use caption::{Fault, Noise};
pub use detector::{CLASSES, FEATURES, class};
pub use scene::{Colour, Material, Object, Relation, Scene, Shape, Size};

/// One line: what the pairs are.
pub(super) const DESCRIPTION: &str =
    "Procedural scenes of coloured shapes: any number, with exact captions, tags, regions and chosen noise";
/// Raised whenever equal configurations would give other pairs than before.
pub(super) const VERSION: u32 = 1;
/// Draws after which a split is taken to be empty; one in ten belongs to the rarest split.
const ATTEMPTS: u64 = 2_000;

/// What the class of a picture is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// The shape of its largest object; few updates at 32 pixels do not teach it.
    #[default]
    Shape,
    /// The colour of its largest object, which is learnt first.
    Colour,
}

impl Class {
    /// The class of a picture whose largest object is this one.
    fn of(self, object: &Object) -> &'static str {
        match self {
            Self::Shape => object.shape.word(),
            Self::Colour => object.colour.word(),
        }
    }

    /// Every class.
    fn all(self) -> Vec<&'static str> {
        match self {
            Self::Shape => Shape::ALL.iter().map(|shape| shape.word()).collect(),
            Self::Colour => Colour::ALL.iter().map(|colour| colour.word()).collect(),
        }
    }
}

/// `scenes: {pairs: 20000, noise: 0.4}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How many pairs.
    pub pairs: usize,
    /// Width and height in pixels.
    pub size: u32,
    /// Which scenes.
    pub seed: u64,
    /// The least and the greatest number of objects, from 1 to 6.
    pub objects: [usize; 2],
    /// What a zero-shot classifier names.
    pub class: Class,
    /// How many captions each picture has.
    pub captions: usize,
    /// The share of captions that do not describe their picture.
    pub noise: Noise,
    /// The share of tags that are wrong.
    pub tag_noise: f32,
    /// The standard deviation of the detector's error; features vary by about 1 between objects.
    pub detector_noise: f32,
    /// Pairs of colour and shape that only the test split has, and every test scene.
    pub hold_out: Vec<(Colour, Shape)>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            pairs: 10_000,
            size: 32,
            seed: 0,
            objects: [2, 3],
            class: Class::default(),
            captions: 3,
            noise: Noise::default(),
            tag_noise: 0.0,
            detector_noise: 0.1,
            hold_out: Vec::new(),
        }
    }
}

impl Config {
    /// Opens one split.
    ///
    /// # Errors
    /// If a setting is outside its range.
    pub fn open(&self, split: Split) -> Result<Scenes> {
        self.check("scenes")?;
        let scenes = Scenes { config: self.clone(), split };
        if self.pairs > 0 {
            scenes.scene(0)?;
        }
        Ok(scenes)
    }

    /// Refuses settings outside their ranges; `name` is the key that they are written under.
    pub(super) fn check(&self, name: &str) -> Result<()> {
        let [least, most] = self.objects;
        if !(1 <= least && least <= most && most <= 6) {
            return Err(Error::setting(
                format!("{name}.objects"),
                format!("is [{least}, {most}]"),
                "give the least and the greatest number of objects, between 1 and 6, e.g. [2, 3]",
            ));
        }
        if self.pairs == 0 || self.pairs > u32::MAX as usize {
            return Err(Error::setting(
                format!("{name}.pairs"),
                format!("is {}", self.pairs),
                "ask for at least one pair and at most 2^32 - 1",
            ));
        }
        if !(8..=1024).contains(&self.size) {
            return Err(Error::setting(
                format!("{name}.size"),
                format!("is {}", self.size),
                "give a side between 8 and 1024 pixels",
            ));
        }
        if !(1..=32).contains(&self.captions) {
            return Err(Error::setting(
                format!("{name}.captions"),
                format!("is {}", self.captions),
                "give each picture between 1 and 32 captions",
            ));
        }
        let Noise { replaced, truncated, generic } = self.noise;
        for (key, share) in [
            ("noise.replaced", replaced),
            ("noise.truncated", truncated),
            ("noise.generic", generic),
            ("noise", self.noise.total()),
            ("tag_noise", self.tag_noise),
        ] {
            // Three thirds of 1 may add up to a little more than 1.
            if !(0.0..=1.000_001).contains(&share) {
                let key = format!("{name}.{key}");
                return Err(Error::setting(key, format!("is {share}"), "give a share between 0 and 1"));
            }
        }
        if !(0.0..=10.0).contains(&self.detector_noise) {
            return Err(Error::setting(
                format!("{name}.detector_noise"),
                format!("is {}", self.detector_noise),
                "give a standard deviation between 0 and 10",
            ));
        }
        let distinct: BTreeSet<_> = self.hold_out.iter().collect();
        if distinct.len() != self.hold_out.len() || distinct.len() * 2 > CLASSES {
            return Err(Error::setting(
                format!("{name}.hold_out"),
                "repeats a pair or takes more than half of all pairs",
                format!("name each pair of colour and shape once, at most {}", CLASSES / 2),
            ));
        }
        Ok(())
    }
}

/// How a scene becomes what models see of it.
pub(super) struct Look {
    /// Width and height in pixels.
    pub size: u32,
    /// As [`Config::tag_noise`].
    pub tag_noise: f32,
    /// As [`Config::detector_noise`].
    pub detector_noise: f32,
}

impl From<&Config> for Look {
    fn from(config: &Config) -> Self {
        let Config { size, tag_noise, detector_noise, .. } = *config;
        Self { size, tag_noise, detector_noise }
    }
}

impl Look {
    /// Picture, tags and regions of a scene, of which nothing is said yet; `key` decides the draws for a purpose.
    pub(super) fn example(&self, scene: &Scene, key: impl Fn(&str) -> Key) -> Example {
        let detector = key("scenes.region");
        let regions = scene
            .objects
            .iter()
            .zip(0..)
            .map(|(object, number)| detector::detect(object, self.detector_noise, detector.fold(number)));
        Example {
            id: String::new(),
            picture: draw::draw(scene, self.size, &mut key("scenes.picture").stream()),
            captions: Vec::new(),
            tags: detector::tags(&scene.objects, self.tag_noise, &mut key("scenes.tags").stream()),
            category: None,
            regions: regions.collect(),
            style: None,
            asked: None,
        }
    }
}

/// One split of procedural scenes.
#[derive(Clone, Debug)]
pub struct Scenes {
    config: Config,
    split: Split,
}

impl Scenes {
    fn key(&self, index: usize, attempt: u64, purpose: &str) -> Key {
        Key::new(self.config.seed, attempt, purpose).fold(self.split as u64).fold(index as u64)
    }

    fn draw_scene(&self, index: usize, purpose: &str) -> Result<Scene> {
        let Config { objects, hold_out, .. } = &self.config;
        (0..ATTEMPTS)
            .find_map(|attempt| {
                let mut stream = self.key(index, attempt, purpose).stream();
                Scene::draw(&mut stream, self.split, *objects, hold_out)
            })
            .ok_or_else(|| Error::Example {
                dataset: self.name(),
                index,
                problem: format!("no scene of the {} split has the configured objects", self.split),
            })
    }

    fn describe(&self, scene: &Scene, index: usize, number: usize, purpose: &str) -> String {
        caption::describe(scene, &mut self.key(index, number as u64, purpose).stream())
    }

    /// What is really in picture `index`.
    ///
    /// # Errors
    /// If the index is not below the number of pairs.
    pub fn scene(&self, index: usize) -> Result<Scene> {
        if index >= self.config.pairs {
            return Err(Error::Index { dataset: self.name(), index, len: self.config.pairs });
        }
        self.draw_scene(index, "scenes.scene")
    }

    /// The captions of picture `index` before any noise.
    ///
    /// # Errors
    /// As [`Scenes::scene`].
    pub fn clean_captions(&self, index: usize) -> Result<Vec<String>> {
        let scene = self.scene(index)?;
        Ok((0..self.config.captions)
            .map(|number| self.describe(&scene, index, number, "scenes.caption"))
            .collect())
    }

    /// What was done to each caption of picture `index`.
    pub fn faults(&self, index: usize) -> Vec<Option<Fault>> {
        (0..self.config.captions)
            .map(|number| {
                let mut stream = self.key(index, number as u64, "scenes.noise").stream();
                Fault::draw(self.config.noise, &mut stream)
            })
            .collect()
    }

    fn captions(&self, scene: &Scene, index: usize) -> Result<Vec<String>> {
        (0..self.config.captions)
            .zip(self.faults(index))
            .map(|(number, fault)| {
                let mut stream = self.key(index, number as u64, "scenes.fault").stream();
                Ok(match fault {
                    None => self.describe(scene, index, number, "scenes.caption"),
                    Some(Fault::Generic) => caption::generic(&mut stream),
                    Some(Fault::Truncated) => caption::truncated(
                        &self.describe(scene, index, number, "scenes.caption"),
                        &mut stream,
                    ),
                    Some(Fault::Replaced) => {
                        let place = index * self.config.captions + number;
                        let other = self.draw_scene(place, "scenes.other")?;
                        self.describe(&other, place, number, "scenes.other caption")
                    }
                })
            })
            .collect()
    }
}

impl Dataset for Scenes {
    fn name(&self) -> String {
        "scenes".to_owned()
    }

    fn len(&self) -> usize {
        self.config.pairs
    }

    fn get(&self, index: usize) -> Result<Example> {
        let scene = self.scene(index)?;
        let largest = scene.objects.iter().max_by(|a, b| a.radius.total_cmp(&b.radius));
        let look = Look::from(&self.config);
        let example = look.example(&scene, |purpose| self.key(index, 0, purpose));
        Ok(Example {
            id: format!("scenes/{}/{}/{index}", self.config.seed, self.split),
            captions: self.captions(&scene, index)?,
            category: largest.map(|object| self.config.class.of(object).to_owned()),
            ..example
        })
    }

    fn fields(&self) -> BTreeSet<Field> {
        BTreeSet::from([Field::Pixels, Field::Words, Field::Tags, Field::Regions, Field::Category])
    }

    fn classes(&self) -> Result<Vec<String>> {
        let classes = BTreeSet::from_iter(self.config.class.all());
        Ok(classes.into_iter().map(str::to_owned).collect())
    }

    fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(format!("scenes {VERSION} {} {:?}", self.split, self.config));
        hexadecimal(&hash.finalize()[..8])
    }

    fn attribution(&self) -> Vec<String> {
        vec!["Procedural scenes, generated by this program; no rights reserved.".to_owned()]
    }
}
