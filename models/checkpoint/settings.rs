//! A reference's `config.json`, key by key. A key that is not there has the reference's default: `save_pretrained`
//! leaves out what is at its default.

use std::fs;
use std::path::Path;

use candle_core::{Error, Result};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value as Json};

use crate::kernels::Activation;
use crate::models::nn::Tower;

/// The keys of a configuration, or of one part of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// What precedes a key in messages.
    place: String,
    values: Map<String, Json>,
}

impl Settings {
    /// Reads a file.
    ///
    /// # Errors
    /// When it is missing or no JSON object.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).map_err(|fault| Error::msg(fault).with_path(path))?;
        match serde_json::from_str(&text) {
            Ok(Json::Object(values)) => Ok(Self { place: String::new(), values }),
            Ok(_) => refuse!("{}: is no object of settings", path.display()),
            Err(fault) => refuse!("{}: {fault}", path.display()),
        }
    }

    /// The class that the weights belong to.
    pub fn class(&self) -> Option<&str> {
        self.values.get("architectures")?.get(0)?.as_str()
    }

    /// The settings below `key`; none where it is absent.
    ///
    /// # Errors
    /// When something else stands there.
    pub fn part(&self, key: &str) -> Result<Self> {
        let place = format!("{}{key}.", self.place);
        match self.values.get(key) {
            Some(Json::Object(values)) => Ok(Self { place, values: values.clone() }),
            None | Some(Json::Null) => Ok(Self { place, values: Map::new() }),
            Some(other) => refuse!("config.json: `{}{key}` is {other}, expected settings", self.place),
        }
    }

    /// A whole number.
    ///
    /// # Errors
    /// When something else stands there.
    pub fn usize(&self, key: &str, default: usize) -> Result<usize> {
        self.get(key, default, "a whole number", |value| value.as_u64().map(|value| value as usize))
    }

    /// A whole number, or none where there is none or `null`.
    ///
    /// # Errors
    /// When something else stands there.
    pub fn usize_or_none(&self, key: &str) -> Result<Option<usize>> {
        match self.values.get(key) {
            None | Some(Json::Null) => Ok(None),
            Some(_) => self.usize(key, 0).map(Some),
        }
    }

    /// A number.
    ///
    /// # Errors
    /// When something else stands there.
    pub fn f64(&self, key: &str, default: f64) -> Result<f64> {
        self.get(key, default, "a number", Json::as_f64)
    }

    /// Yes or no.
    ///
    /// # Errors
    /// When something else stands there.
    pub fn flag(&self, key: &str, default: bool) -> Result<bool> {
        self.get(key, default, "true or false", Json::as_bool)
    }

    /// A word.
    ///
    /// # Errors
    /// When something else stands there.
    pub fn text(&self, key: &str, default: &str) -> Result<String> {
        self.get(key, default.to_owned(), "a text", |value| value.as_str().map(str::to_owned))
    }

    /// What reads as a `T`: `kind` says in words what that is.
    ///
    /// # Errors
    /// When something else stands there.
    pub fn typed<T: DeserializeOwned>(&self, key: &str, default: T, kind: &str) -> Result<T> {
        self.get(key, default, kind, |value| T::deserialize(value).ok())
    }

    /// A transformer's size under transformers' keys; `defaults` are width, depth, heads and feed-forward width.
    ///
    /// # Errors
    /// When one of them is no whole number.
    pub fn tower(&self, [width, depth, heads, mlp]: [usize; 4]) -> Result<Tower> {
        Ok(Tower {
            width: self.usize("hidden_size", width)?,
            depth: self.usize("num_hidden_layers", depth)?,
            heads: self.usize("num_attention_heads", heads)?,
            mlp: Some(self.usize("intermediate_size", mlp)?),
        })
    }

    /// A non-linearity by its name in transformers.
    ///
    /// # Errors
    /// When it is not one of ours.
    pub fn activation(&self, key: &str, default: &str) -> Result<Activation> {
        match self.text(key, default)?.as_str() {
            "gelu" => Ok(Activation::Gelu),
            "gelu_new" | "gelu_pytorch_tanh" => Ok(Activation::GeluTanh),
            "quick_gelu" => Ok(Activation::QuickGelu),
            "relu" => Ok(Activation::Relu),
            other => refuse!("config.json: `{}{key}` is {other}, which no kernel computes", self.place),
        }
    }

    /// Refuses every value but this one, which is the default: ours computes nothing else.
    ///
    /// # Errors
    /// When another value stands there.
    pub fn must_be(&self, key: &str, value: impl Into<Json>) -> Result<()> {
        let wanted = value.into();
        match self.values.get(key) {
            None => Ok(()),
            Some(found) if *found == wanted || found.as_f64().is_some_and(|x| wanted.as_f64() == Some(x)) => {
                Ok(())
            }
            Some(found) => {
                refuse!("config.json: `{}{key}` is {found}; only {wanted} is supported", self.place)
            }
        }
    }

    fn get<T>(&self, key: &str, default: T, kind: &str, read: impl Fn(&Json) -> Option<T>) -> Result<T> {
        match self.values.get(key) {
            None => Ok(default),
            Some(value) => match read(value) {
                Some(value) => Ok(value),
                None => refuse!("config.json: `{}{key}` is {value}, expected {kind}", self.place),
            },
        }
    }
}

/// The name of a non-linearity in transformers.
pub fn activation_name(activation: Activation) -> &'static str {
    match activation {
        Activation::Gelu => "gelu",
        Activation::GeluTanh => "gelu_pytorch_tanh",
        Activation::QuickGelu => "quick_gelu",
        Activation::Relu => "relu",
    }
}
