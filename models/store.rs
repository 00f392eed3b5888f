//! All state of a run in one named, ordered place: parameters, teachers, queues.
//!
//! A parameter's first value depends on the seed and its own name alone, so adding a head moves no other weight. What a
//! name stands for is decided once: trainable, frozen (the same values, detached), teacher (a shadow that follows) or
//! buffer (state that no gradient touches, such as a queue).

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::rc::Rc;

use candle_core::{DType, Device, Result, Shape, Tensor, Var, bail};

use super::Init;
use crate::kernels::{optim, random::Key};

/// What becomes of an entry in a training step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Follows its gradient.
    Trainable,
    /// Keeps its value.
    Frozen,
    /// Follows a trainable entry by an exponential moving average.
    Teacher,
    /// Changed by an objective, never by a gradient.
    Buffer,
}

/// One named tensor.
#[derive(Clone)]
pub struct Entry {
    /// The value; shared with every tensor handed out for it. In an outline a single zero.
    pub var: Var,
    /// Its extents, in an outline too.
    pub shape: Shape,
    /// What a step does with it.
    pub role: Role,
    /// Whether weight decay applies: to matrices, never to gains, biases, single vectors and the temperature.
    pub decays: bool,
    /// Bounds enforced after every update.
    pub bounds: Option<(f64, f64)>,
}

struct Inner {
    device: Device,
    seed: u64,
    freeze: Vec<String>,
    outline: bool,
    entries: RefCell<BTreeMap<String, Entry>>,
}

/// The state of a run.
#[derive(Clone)]
pub struct Store(Rc<Inner>);

const TEACHER: &str = "teacher.";

impl Store {
    /// An empty store. Parameters whose name matches a pattern of `freeze` (`*` stands for any run of characters) will
    /// be frozen.
    pub fn new(device: &Device, seed: u64, freeze: &[String]) -> Self {
        Self::with(device, seed, freeze, false)
    }

    /// A store of names and shapes alone, in which parts of any size are built at once and can be counted: every value
    /// is one zero, seen through the whole shape.
    pub fn outline(freeze: &[String]) -> Self {
        Self::with(&Device::Cpu, 0, freeze, true)
    }

    fn with(device: &Device, seed: u64, freeze: &[String], outline: bool) -> Self {
        let (device, freeze) = (device.clone(), freeze.to_vec());
        Self(Rc::new(Inner { device, seed, freeze, outline, entries: RefCell::default() }))
    }

    /// The parameters as the student sees them: trainable, or frozen by pattern.
    pub fn student(&self) -> Vars {
        self.vars(Reader::Student)
    }

    /// The same values without a gradient, for evaluation.
    pub fn detached(&self) -> Vars {
        self.vars(Reader::Detached)
    }

    /// The shadows that follow the student; each begins as a copy of its student, which must exist.
    pub fn teacher(&self) -> Vars {
        self.vars(Reader::Teacher)
    }

    fn vars(&self, reader: Reader) -> Vars {
        Vars { store: self.clone(), prefix: String::new(), reader }
    }

    /// The device that holds the values.
    pub fn device(&self) -> &Device {
        &self.0.device
    }

    /// Every entry in order of name.
    pub fn entries(&self) -> BTreeMap<String, Entry> {
        self.0.entries.borrow().clone()
    }

    /// Entries of one role in order of name.
    pub fn of(&self, role: Role) -> BTreeMap<String, Entry> {
        let entries = self.0.entries.borrow();
        entries
            .iter()
            .filter(|(_, entry)| entry.role == role)
            .map(|(name, entry)| (name.clone(), entry.clone()))
            .collect()
    }

    /// Number of scalars in the entries of one role.
    pub fn count(&self, role: Role) -> usize {
        self.of(role).values().map(|entry| entry.shape.elem_count()).sum()
    }

    /// Patterns of `freeze` that freeze nothing: a typing error, which the caller reports.
    pub fn idle_patterns(&self) -> Vec<String> {
        let frozen = self.of(Role::Frozen);
        let idle = |pattern: &&String| !frozen.keys().any(|name| matches(pattern, name));
        self.0.freeze.iter().filter(idle).cloned().collect()
    }

    /// Every value by name, as a checkpoint holds it.
    pub fn tensors(&self) -> BTreeMap<String, Tensor> {
        let entries = self.0.entries.borrow();
        entries.iter().map(|(name, entry)| (name.clone(), entry.var.as_detached_tensor())).collect()
    }

    /// Overwrites every value.
    ///
    /// # Errors
    /// When a name is missing or unknown or a shape differs: the values belong to another configuration. Nothing is
    /// overwritten then.
    pub fn load(&self, values: &BTreeMap<String, Tensor>) -> Result<()> {
        let entries = self.0.entries.borrow();
        if let Some(name) = values.keys().find(|name| !entries.contains_key(*name)) {
            bail!("holds `{name}`, which this configuration does not have");
        }
        if let Some(name) = entries.keys().find(|name| !values.contains_key(*name)) {
            bail!("lacks `{name}`, which this configuration has");
        }
        drop(entries);
        self.overwrite(values)
    }

    /// Overwrites the values that are given; the others stay.
    ///
    /// # Errors
    /// When a name is unknown or a shape differs. Nothing is overwritten then.
    pub fn overwrite(&self, values: &BTreeMap<String, Tensor>) -> Result<()> {
        let entries = self.0.entries.borrow();
        let mut updates = Vec::with_capacity(values.len());
        for (name, value) in values {
            match entries.get(name) {
                None => bail!("holds `{name}`, which this configuration does not have"),
                Some(entry) if value.shape() != entry.var.shape() || value.dtype() != entry.var.dtype() => {
                    bail!(
                        "`{name}` is {:?} {:?} there and {:?} {:?} in this configuration",
                        value.dims(),
                        value.dtype(),
                        entry.var.dims(),
                        entry.var.dtype()
                    )
                }
                Some(entry) => updates.push((&entry.var, value)),
            }
        }
        for (var, value) in updates {
            var.set(&value.to_device(&self.0.device)?)?;
        }
        Ok(())
    }

    /// Moves every shadow towards its student: t <- momentum t + (1 - momentum) s (He et al. 2020, equation 2).
    ///
    /// # Errors
    /// When the device fails.
    pub fn follow(&self, momentum: f64) -> Result<()> {
        let entries = self.0.entries.borrow();
        for (name, shadow) in entries.iter().filter(|(_, entry)| entry.role == Role::Teacher) {
            if let Some(student) = name.strip_prefix(TEACHER).and_then(|name| entries.get(name)) {
                optim::follow_(&shadow.var, &student.var.as_detached_tensor(), momentum)?;
            }
        }
        Ok(())
    }

    /// Brings bounded parameters back within their bounds.
    ///
    /// # Errors
    /// When the device fails.
    pub fn enforce_bounds(&self) -> Result<()> {
        for entry in self.0.entries.borrow().values() {
            if let Some((low, high)) = entry.bounds {
                entry.var.set(&entry.var.as_detached_tensor().clamp(low as f32, high as f32)?)?;
            }
        }
        Ok(())
    }

    fn open(
        &self,
        name: &str,
        shape: Shape,
        init: Init,
        role: Role,
        bounds: Option<(f64, f64)>,
    ) -> Result<Entry> {
        let known = self.0.entries.borrow().get(name).cloned();
        if let Some(entry) = known {
            return entry.of_shape(name, &shape);
        }
        let decays = role == Role::Trainable && shape.rank() >= 2;
        let var = match self.0.outline {
            true => Var::zeros((), DType::F32, &self.0.device)?,
            false => init.draw(&shape, Key::new(self.0.seed, 0, name), &self.0.device)?,
        };
        Ok(self.insert(name, Entry { var, shape, role, decays, bounds }))
    }

    fn insert(&self, name: &str, entry: Entry) -> Entry {
        self.0.entries.borrow_mut().insert(name.to_string(), entry.clone());
        entry
    }

    /// What the teacher reads as `name`. What is frozen needs no shadow.
    fn shadow(&self, name: &str, shape: &Shape) -> Result<Entry> {
        let shadow = format!("{TEACHER}{name}");
        let (known, student) = {
            let entries = self.0.entries.borrow();
            (entries.get(&shadow).cloned(), entries.get(name).cloned())
        };
        let entry = match (known, student) {
            (Some(known), _) => known,
            (None, None) => bail!("the teacher asks for `{name}`, which no student has"),
            (None, Some(student)) if student.role == Role::Frozen => student,
            (None, Some(student)) => {
                let var = Var::from_tensor(&student.var.as_detached_tensor())?;
                let entry = Entry { var, role: Role::Teacher, decays: false, bounds: None, ..student };
                self.insert(&shadow, entry)
            }
        };
        entry.of_shape(name, shape)
    }
}

impl Entry {
    fn of_shape(self, name: &str, shape: &Shape) -> Result<Self> {
        if &self.shape != shape {
            bail!("`{name}` is {:?}, asked for as {:?}", self.shape.dims(), shape.dims());
        }
        Ok(self)
    }

    /// The value, with or without a gradient.
    fn tensor(&self, trains: bool) -> Result<Tensor> {
        let tensor = if trains { self.var.as_tensor().clone() } else { self.var.as_detached_tensor() };
        // Only the single value of an outline has another shape.
        if tensor.shape() == &self.shape { Ok(tensor) } else { tensor.broadcast_as(&self.shape) }
    }
}

/// Whether `name` matches `pattern`, in which `*` stands for any run of characters.
pub fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((head, rest)) => name.strip_prefix(head).is_some_and(|tail| {
            (0..=tail.len()).filter(|&at| tail.is_char_boundary(at)).any(|at| matches(rest, &tail[at..]))
        }),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reader {
    Student,
    Detached,
    Teacher,
}

/// A place in the store, from which a part opens its parameters by name.
#[derive(Clone)]
pub struct Vars {
    store: Store,
    prefix: String,
    reader: Reader,
}

impl Vars {
    /// The place `part` below this one.
    pub fn at(&self, part: impl Display) -> Self {
        let prefix =
            if self.prefix.is_empty() { part.to_string() } else { format!("{}.{part}", self.prefix) };
        Self { prefix, ..self.clone() }
    }

    /// The place `part` of another owner, counted from the top, whose values are read without a gradient.
    pub fn observed(&self, part: &str) -> Self {
        Self { prefix: part.to_owned(), reader: Reader::Detached, ..self.clone() }
    }

    /// The device that holds the values.
    pub fn device(&self) -> &Device {
        self.store.device()
    }

    /// The parameter `name` here, begun by `init` the first time it is opened.
    ///
    /// # Errors
    /// When it exists with another shape, or a teacher asks for one that no student has.
    pub fn get(&self, shape: impl Into<Shape>, name: &str, init: Init) -> Result<Tensor> {
        self.open(shape.into(), name, init, None)
    }

    /// A parameter that every update brings back within `low..=high`.
    ///
    /// # Errors
    /// As [`Vars::get`].
    pub fn bounded(&self, name: &str, value: f64, low: f64, high: f64) -> Result<Tensor> {
        self.open(().into(), name, Init::Constant(value), Some((low, high)))
    }

    /// State that no gradient touches: the variable itself, to be read detached and written in place.
    ///
    /// # Errors
    /// When it exists with another shape.
    pub fn buffer(&self, shape: impl Into<Shape>, name: &str, init: Init) -> Result<Var> {
        let name = self.at(name).prefix;
        Ok(self.store.open(&name, shape.into(), init, Role::Buffer, None)?.var)
    }

    fn open(&self, shape: Shape, name: &str, init: Init, bounds: Option<(f64, f64)>) -> Result<Tensor> {
        let name = self.at(name).prefix;
        if self.reader == Reader::Teacher {
            return self.store.shadow(&name, &shape)?.tensor(false);
        }
        let frozen = self.store.0.freeze.iter().any(|pattern| matches(pattern, &name));
        let role = if frozen { Role::Frozen } else { Role::Trainable };
        let entry = self.store.open(&name, shape, init, role, bounds.filter(|_| !frozen))?;
        let trains = self.reader == Reader::Student && entry.role == Role::Trainable;
        entry.tensor(trains)
    }
}
