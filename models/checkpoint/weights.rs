//! Published weights as the start of a run: they are taken only where the run's model is the one they were made for.

use std::collections::BTreeMap;
use std::path::PathBuf;

use candle_core::{Device, Error, Result, Shape, Tensor};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use super::hub::{Hub, Part, Place};
use super::{Class, Layout, Published, Settings, file};
use crate::models::{Config, Inputs, ModelConfig, Store};

/// What a run is free to choose: no weight depends on it.
const FREE: [&str; 2] = ["dropout", "drop_path"];

/// A checkpoint that has been found.
pub struct Source {
    place: String,
    folder: PathBuf,
    settings: Settings,
}

impl Source {
    /// # Errors
    /// When there is none, or its `config.json` cannot be read.
    pub fn open(place: &Place, hub: &Hub) -> Result<Self> {
        let folder = hub.open(place, Part::Weights)?;
        let settings = Settings::read(&folder.join("config.json"))?;
        Ok(Self { place: place.to_string(), folder, settings })
    }

    /// The values under our names. `wrap` makes an experiment file's model of a configuration.
    pub fn read<C: Published + ModelConfig + Serialize + DeserializeOwned + PartialEq>(
        &self,
        config: &C,
        wrap: fn(C) -> Config,
        inputs: &Inputs,
        device: &Device,
    ) -> Result<BTreeMap<String, Tensor>> {
        let class = self.class::<C>()?;
        let (theirs, their_inputs) = C::read(&self.settings)?;
        let mut differences = settings(config, &theirs, inputs)?;
        let (vocabulary, others) = shapes(&theirs, inputs, &their_inputs)?;
        differences.extend(others);
        if !differences.is_empty() || vocabulary {
            let fitting = fitting(&wrap(theirs), &their_inputs)?;
            return Err(self.refusal(differences, vocabulary, inputs, &their_inputs, &fitting));
        }
        let store = Store::outline(&[]);
        config.open(inputs, &self.settings, &store.student())?;
        let mut layout = Layout::default();
        config.names(inputs, class.name, &mut layout);
        let values = layout.read(&store, file::tensors(&self.folder, device)?);
        values.map_err(|fault| Error::Msg(format!("{}: {fault}", self.place)))
    }

    /// The class of this system that the checkpoint is of.
    fn class<C: Published>(&self) -> Result<Class> {
        let known: Vec<&str> = C::CLASSES.iter().map(|class| class.name).collect();
        let named = self.settings.class().unwrap_or("no class");
        match C::CLASSES.iter().find(|class| class.name == named) {
            Some(class) => Ok(*class),
            None => refuse!(
                "{}: holds {named}, and the run's model reads {}\n  help: `vlp forward --help` lists each system's classes",
                self.place,
                known.join(", ")
            ),
        }
    }

    fn refusal(
        &self,
        differences: Vec<Difference>,
        vocabulary: bool,
        ours: &Inputs,
        theirs: &Inputs,
        fitting: &str,
    ) -> Error {
        let lines = differences.iter().map(|Difference { setting, ours, theirs }| {
            format!("\n  `{setting}` is {theirs} there and {ours} in this run")
        });
        let mut message = format!("{}: the weights are of another model", self.place);
        message.extend(lines);
        if vocabulary {
            let [rows, entries] = [theirs.vocabulary, ours.vocabulary];
            message += &format!(
                "\n  the word table has {rows} rows there and {entries} in this run\n  help: set `data.tokenizer` to the \
                 tokenizer that belongs to the weights, such as {}; where it is that and has fewer tokens, set \
                 `data.entries: {rows}`",
                self.place
            );
        }
        if !differences.is_empty() {
            message += &format!("\n  help: this fits the weights:\n{fitting}");
        }
        Error::Msg(message)
    }
}

/// A setting with two values.
struct Difference {
    setting: String,
    ours: String,
    theirs: String,
}

impl Difference {
    fn new(setting: impl Into<String>, ours: &impl ToString, theirs: &impl ToString) -> Self {
        Self { setting: setting.into(), ours: ours.to_string(), theirs: theirs.to_string() }
    }
}

/// Where two configurations differ. A setting that is left out in one may say the same as its default in the other, so a
/// difference counts only if the reference's own form of the configuration shows it.
fn settings<C: Published + Serialize + DeserializeOwned>(
    ours: &C,
    theirs: &C,
    inputs: &Inputs,
) -> Result<Vec<Difference>> {
    let (own, other) = (json(ours)?, json(theirs)?);
    let (own_leaves, other_leaves) = (leaves(&own), leaves(&other));
    let mut differences = Vec::new();
    let names = own_leaves.keys().chain(other_leaves.keys().filter(|name| !own_leaves.contains_key(*name)));
    for name in names {
        let [a, b] = [&own_leaves, &other_leaves].map(|leaves| leaves.get(name).unwrap_or(&Json::Null));
        if a == b || FREE.iter().any(|free| name.ends_with(free)) {
            continue;
        }
        let mut changed = own.clone();
        set(&mut changed, name, b.clone());
        let same = C::deserialize(changed).is_ok_and(|changed| changed.write(inputs) == ours.write(inputs));
        if !same {
            differences.push(Difference::new(name.trim_start_matches('/').replace('/', "."), a, b));
        }
    }
    Ok(differences)
}

/// Whether the vocabularies' lengths differ, and which other inputs do, where a parameter's shape depends on them.
fn shapes<C: ModelConfig>(config: &C, ours: &Inputs, theirs: &Inputs) -> Result<(bool, Vec<Difference>)> {
    let of = |inputs: &Inputs| -> Result<BTreeMap<String, Shape>> {
        let store = Store::outline(&[]);
        config.build(&store.student(), inputs)?;
        Ok(store.entries().into_iter().map(|(name, entry)| (name, entry.shape)).collect())
    };
    let known = of(theirs)?;
    let differs =
        |inputs: Inputs| Ok::<_, Error>(inputs != *theirs && of(&inputs).ok().as_ref() != Some(&known));
    let mut differences = Vec::new();
    for (setting, own, other, inputs) in [
        ("data.size", ours.size, theirs.size, Inputs { size: ours.size, ..theirs.clone() }),
        ("data.words + data.tags", ours.words, theirs.words, Inputs { words: ours.words, ..theirs.clone() }),
        (
            "the width of a region's features",
            ours.region_features,
            theirs.region_features,
            Inputs { region_features: ours.region_features, ..theirs.clone() },
        ),
    ] {
        if differs(inputs)? {
            differences.push(Difference::new(setting, &own, &other));
        }
    }
    Ok((differs(Inputs { vocabulary: ours.vocabulary, ..theirs.clone() })?, differences))
}

/// The part of an experiment file that fits.
fn fitting(config: &Config, inputs: &Inputs) -> Result<String> {
    #[derive(Serialize)]
    struct Data {
        size: usize,
        words: usize,
    }
    #[derive(Serialize)]
    struct Fitting<'a> {
        data: Data,
        model: &'a Config,
    }
    let data = Data { size: inputs.size, words: inputs.words };
    let text = serde_yaml::to_string(&Fitting { data, model: config }).map_err(Error::wrap)?;
    Ok(text.lines().map(|line| format!("    {line}\n")).collect::<String>().trim_end().to_owned())
}

fn json(config: &impl Serialize) -> Result<Json> {
    serde_json::to_value(config).map_err(Error::wrap)
}

/// Every value that is no table, by its place as a JSON pointer.
fn leaves(value: &Json) -> BTreeMap<String, Json> {
    fn walk(place: String, value: &Json, found: &mut BTreeMap<String, Json>) {
        match value {
            Json::Object(values) => {
                values.iter().for_each(|(key, value)| walk(format!("{place}/{key}"), value, found));
            }
            other => {
                found.insert(place, other.clone());
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(String::new(), value, &mut found);
    found
}

/// Puts a value at its place, below a table that is there.
fn set(whole: &mut Json, place: &str, value: Json) {
    let (table, key) = place.rsplit_once('/').unwrap_or(("", place));
    if let Some(Json::Object(values)) = whole.pointer_mut(table) {
        values.insert(key.to_owned(), value);
    }
}
