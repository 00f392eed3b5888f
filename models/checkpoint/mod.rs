//! Published weights: folders as `save_pretrained` writes them, `config.json` beside `model.safetensors`, read into our
//! models and written back.
//!
//! One file a system says what the reference's configuration means ([`Published::read`]), which of its tensors is which
//! of ours ([`Published::names`]) and what its inputs and outputs are called ([`Published::open`]). Nothing is guessed:
//! a key that our configuration cannot express is refused, and so is a checkpoint with a tensor too few, too many, of
//! another shape or with a value that is no number, all of them listed at once.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Device, Result, Tensor};
use serde_json::Value as Json;

use super::{Config, Inputs, ModelConfig, Store, Vars};

/// Refuses a checkpoint or an input. Unlike candle's own errors it carries no backtrace: the file is at fault.
macro_rules! refuse {
    ($($words:tt)*) => { return Err(candle_core::Error::Msg(format!($($words)*))) };
}

mod albef;
mod bert;
mod blip;
mod blip2;
mod clip;
mod coca;
mod file;
mod given;
pub mod hub;
mod language;
mod layout;
mod oscar;
mod settings;
mod uniter;
mod vilt;
mod vit;
mod vlmo;
mod weights;

pub use given::Given;
use hub::{Hub, Place};
pub use layout::Layout;
pub use settings::Settings;

/// One class of the reference whose checkpoints can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Class {
    /// Its name, as `architectures` in `config.json` has it.
    pub name: &'static str,
    /// Names of the tensors that its forward pass takes.
    pub inputs: &'static [&'static str],
    /// Names of the tensors that it gives.
    pub outputs: &'static [&'static str],
}

/// A system that others publish weights of.
pub trait Published: Sized {
    /// The classes of the reference.
    const CLASSES: &'static [Class];

    /// Our configuration for theirs.
    ///
    /// # Errors
    /// When ours cannot express theirs; the message names the key.
    fn read(theirs: &Settings) -> Result<(Self, Inputs)>;

    /// The `config.json` of a configuration of ours, without `architectures`.
    fn write(&self, inputs: &Inputs) -> Json;

    /// The class that a configuration of ours is saved as unless another is asked for.
    fn class(&self) -> &'static str {
        Self::CLASSES[0].name
    }

    /// Which of our tensors is which of a class's. What the class lacks is not named.
    fn names(&self, inputs: &Inputs, class: &str, layout: &mut Layout);

    /// The model with the heads of the class that `theirs` names.
    ///
    /// # Errors
    /// As [`Vars::get`].
    fn open(&self, inputs: &Inputs, theirs: &Settings, vars: &Vars) -> Result<Box<dyn Forward>>;
}

/// Tensors by the reference's names of outputs.
pub type Outputs = BTreeMap<String, Tensor>;

/// A class of the reference, ready to be asked.
pub trait Forward {
    /// What the class makes of inputs under its own names.
    ///
    /// # Errors
    /// When an input is missing or of another shape.
    fn forward(&self, given: &Given) -> Result<Outputs>;
}

/// A published model that has been read.
pub struct Opened {
    /// Our configuration.
    pub config: Config,
    /// The shape of its inputs.
    pub inputs: Inputs,
    /// The reference's class.
    pub class: Class,
    /// Its parameters under our names.
    pub store: Store,
    layout: Layout,
    forward: Box<dyn Forward>,
}

impl Opened {
    /// Reads a folder with `config.json` and weights.
    ///
    /// # Errors
    /// When a file is missing or damaged, the class is unknown, or configuration or weights do not fit ours.
    pub fn read(folder: &Path, device: &Device) -> Result<Self> {
        let theirs = Settings::read(&folder.join("config.json"))?;
        let tensors = file::tensors(folder, device)?;
        for (classes, open) in SYSTEMS {
            if let Some(class) = classes.iter().find(|class| theirs.class() == Some(class.name)) {
                return open(&theirs, *class, tensors, device);
            }
        }
        let known: Vec<&str> = classes().map(|class| class.name).collect();
        match theirs.class() {
            Some(class) => {
                refuse!("config.json: no system here is a {class}; known are {}", known.join(", "))
            }
            None => refuse!("config.json: `architectures` names no class; known are {}", known.join(", ")),
        }
    }

    /// The parameters of ours that the class has; the others are at their first values.
    pub fn named(&self) -> impl Iterator<Item = String> {
        self.layout.ours().into_iter().map(str::to_owned)
    }

    /// What the class makes of these inputs.
    ///
    /// # Errors
    /// When an input is missing or of another shape.
    pub fn forward(&self, given: &Given) -> Result<Outputs> {
        self.forward.forward(given)
    }
}

/// Every class that can be read, system by system.
pub fn classes() -> impl Iterator<Item = &'static Class> {
    SYSTEMS.iter().flat_map(|(classes, _)| *classes)
}

type Tensors = BTreeMap<String, Tensor>;
type Open = fn(&Settings, Class, Tensors, &Device) -> Result<Opened>;

fn open<C: Published + ModelConfig>(
    wrap: fn(C) -> Config,
    theirs: &Settings,
    class: Class,
    tensors: Tensors,
    device: &Device,
) -> Result<Opened> {
    let (config, inputs) = C::read(theirs)?;
    let faults = config.faults(&inputs);
    if !faults.is_empty() {
        refuse!("config.json: {}", faults.join("; "));
    }
    let store = Store::new(device, 0, &[]);
    let forward = config.open(&inputs, theirs, &store.student())?;
    let mut layout = Layout::default();
    config.names(&inputs, class.name, &mut layout);
    store.overwrite(&layout.read(&store, tensors)?)?;
    Ok(Opened { config: wrap(config), inputs, class, store, layout, forward })
}

/// Writes the closed list of systems with published weights: reading by class, writing by configuration.
macro_rules! systems {
    ($($Variant:ident($module:ident)),* $(,)?) => {
        const SYSTEMS: &[(&[Class], Open)] = &[$((
            <super::$module::Config as Published>::CLASSES,
            |theirs, class, tensors, device| open(Config::$Variant, theirs, class, tensors, device),
        )),*];

        /// A published checkpoint's values under our names, for a run that begins with them: those of the parameters that
        /// its class has, the heads of the class included. They lie on `device`, in f32.
        ///
        /// # Errors
        /// When the place holds no checkpoint of this model, its settings differ from `config` or `inputs` (every one is
        /// listed, with a configuration that fits), or tensors are missing, left over, of another shape or not finite.
        pub fn weights(
            config: &Config,
            inputs: &Inputs,
            place: &Place,
            hub: &Hub,
            device: &Device,
        ) -> Result<BTreeMap<String, Tensor>> {
            let source = weights::Source::open(place, hub)?;
            match config {
                $(Config::$Variant(own) => source.read(own, Config::$Variant, inputs, device),)*
            }
        }

        /// Writes the parameters of a model of ours as the reference's class for it, or as the class that is named.
        ///
        /// # Errors
        /// When the class is not one of the model's, or the folder cannot be written.
        pub fn save(
            config: &Config,
            inputs: &Inputs,
            class: Option<&str>,
            store: &Store,
            folder: &Path,
        ) -> Result<()> {
            match config {
                $(Config::$Variant(config) => save_as(config, inputs, class, store, folder),)*
            }
        }
    };
}

systems! {
    Clip(clip),
    Albef(albef),
    Blip(blip),
    Vilt(vilt),
    Vlmo(vlmo),
    Coca(coca),
    Blip2(blip2),
    Uniter(uniter),
    Oscar(oscar),
    Language(language),
}

fn save_as<C: Published>(
    config: &C,
    inputs: &Inputs,
    class: Option<&str>,
    store: &Store,
    folder: &Path,
) -> Result<()> {
    let names: Vec<&str> = C::CLASSES.iter().map(|class| class.name).collect();
    let class = match class {
        None => config.class(),
        Some(class) if names.contains(&class) => class,
        Some(class) => refuse!("this model can be saved as {}, not as {class}", names.join(" or ")),
    };
    let mut layout = Layout::default();
    config.names(inputs, class, &mut layout);
    let mut json = config.write(inputs);
    json["architectures"] = Json::from(vec![class]);
    file::write(folder, &json, &layout.write(store)?)
}
