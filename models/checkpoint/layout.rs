//! Which of our tensors is which of a checkpoint's: a list of pairs that is read in both directions.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::{DType, Result, Shape, Tensor};

use crate::models::Store;
use crate::models::store::Entry;

/// The pairs of one class.
#[derive(Default)]
pub struct Layout {
    pairs: Vec<Pair>,
    skipped: BTreeSet<String>,
    /// What stands for a tensor that is not there.
    substitutes: BTreeMap<String, String>,
}

struct Pair {
    /// Our tensors, which stand one after another along the first axis.
    ours: Vec<String>,
    /// Their tensors, which do the same.
    theirs: Vec<String>,
    form: Form,
    /// Whether the value has a first name there.
    copy: bool,
}

/// How a tensor of theirs lies.
enum Form {
    /// As ours.
    Same,
    /// In another shape.
    Shaped(Vec<usize>),
    /// A matrix with rows for our columns.
    Turned,
}

impl Layout {
    /// The same tensor under another name.
    pub fn same(&mut self, ours: &str, theirs: &str) {
        self.pair(vec![ours.to_owned()], vec![theirs.to_owned()], Form::Same);
    }

    /// As [`Layout::same`]; where it is absent there, `substitute` is what the reference takes for it.
    pub fn same_or(&mut self, ours: &str, theirs: &str, substitute: &str) {
        self.same(ours, theirs);
        self.substitutes.insert(theirs.to_owned(), substitute.to_owned());
    }

    /// The same numbers in another shape.
    pub fn shaped(&mut self, ours: &str, theirs: &str, dims: &[usize]) {
        self.pair(vec![ours.to_owned()], vec![theirs.to_owned()], Form::Shaped(dims.to_vec()));
    }

    /// A matrix that stands there transposed.
    pub fn turned(&mut self, ours: &str, theirs: &str) {
        self.pair(vec![ours.to_owned()], vec![theirs.to_owned()], Form::Turned);
    }

    /// Tensors whose rows, one after another, are the same on both sides; theirs have equally many.
    pub fn rows<const M: usize, const N: usize>(&mut self, ours: [&str; M], theirs: [&str; N]) {
        self.pair(ours.map(str::to_owned).into(), theirs.map(str::to_owned).into(), Form::Same);
    }

    /// `weight` and, where ours has one, `bias` of a linear map.
    pub fn linear(&mut self, ours: &str, theirs: &str) {
        self.stacked(ours, [theirs]);
    }

    /// `gain` and `bias` of a layer normalisation.
    pub fn norm(&mut self, ours: &str, theirs: &str) {
        self.same(&format!("{ours}.gain"), &format!("{theirs}.weight"));
        self.same(&format!("{ours}.bias"), &format!("{theirs}.bias"));
    }

    /// Linear maps of equal width that are one map of ours.
    pub fn stacked<const N: usize>(&mut self, ours: &str, theirs: [&str; N]) {
        for part in ["weight", "bias"] {
            let theirs = theirs.iter().map(|theirs| format!("{theirs}.{part}")).collect();
            self.pair(vec![format!("{ours}.{part}")], theirs, Form::Same);
        }
    }

    /// Another name there for a tensor that is named already: equal to it if it is present, and not written, for the
    /// reference ties the two itself.
    pub fn tied(&mut self, ours: &str, theirs: &str) {
        self.copies(|layout| layout.same(ours, theirs));
    }

    /// Other names there, all that `name` gives, for tensors that are named already.
    pub fn copies(&mut self, name: impl FnOnce(&mut Self)) {
        let firsts = self.pairs.len();
        name(self);
        self.pairs[firsts..].iter_mut().for_each(|pair| pair.copy = true);
    }

    /// A tensor there that says nothing, such as a list of positions.
    pub fn skip(&mut self, theirs: &str) {
        self.skipped.insert(theirs.to_owned());
    }

    fn pair(&mut self, ours: Vec<String>, theirs: Vec<String>, form: Form) {
        self.pairs.push(Pair { ours, theirs, form, copy: false });
    }

    /// The names of ours that have a pair.
    pub fn ours(&self) -> BTreeSet<&str> {
        self.pairs.iter().flat_map(|pair| &pair.ours).map(String::as_str).collect()
    }

    /// A checkpoint's tensors under our names, in f32.
    ///
    /// # Errors
    /// When tensors are missing, left over, of another shape or not finite: all of them.
    pub fn read(
        &self,
        store: &Store,
        mut tensors: BTreeMap<String, Tensor>,
    ) -> Result<BTreeMap<String, Tensor>> {
        let (entries, mut faults, mut values) = (store.entries(), Faults::default(), BTreeMap::new());
        let given = tensors.clone();
        let substitute = |name: &String| given.get(self.substitutes.get(name)?).cloned();
        // A first name is read before its copies.
        let (firsts, copies): (Vec<_>, Vec<_>) = self.pairs.iter().partition(|pair| !pair.copy);
        for pair in firsts.into_iter().chain(copies) {
            let Some(shapes) = pair.shapes(&entries) else { continue };
            let mut parts = Vec::new();
            for name in &pair.theirs {
                match tensors.remove(name).or_else(|| substitute(name)) {
                    Some(tensor) => {
                        if let Some(part) = faults.checked(name, &tensor, &pair.part(&shapes))? {
                            parts.push(part);
                        }
                    }
                    None if pair.copy => {}
                    None => faults.missing.push(name.clone()),
                }
            }
            if parts.len() < pair.theirs.len() {
                continue;
            }
            let own = pair.own(&parts, &shapes)?;
            if pair.copy {
                faults.compare(&pair.theirs[0], &own[0], values.get(&pair.ours[0]))?;
            } else {
                values.extend(pair.ours.iter().cloned().zip(own));
            }
        }
        let left = tensors.into_keys().filter(|name| !self.skipped.contains(name));
        faults.left_over.extend(left);
        faults.none()?;
        Ok(values)
    }

    /// Our values under a checkpoint's names, each once: `save_pretrained` leaves copies out, too.
    ///
    /// # Errors
    /// When the device fails.
    pub fn write(&self, store: &Store) -> Result<BTreeMap<String, Tensor>> {
        let mut tensors = BTreeMap::new();
        let values = store.tensors();
        for pair in self.pairs.iter().filter(|pair| !pair.copy) {
            let own: Option<Vec<&Tensor>> = pair.ours.iter().map(|ours| values.get(ours)).collect();
            let Some(own) = own else { continue };
            let whole = if let [only] = own[..] { only.clone() } else { Tensor::cat(&own, 0)? };
            let parts =
                if pair.theirs.len() == 1 { vec![whole] } else { whole.chunk(pair.theirs.len(), 0)? };
            for (name, part) in pair.theirs.iter().zip(parts) {
                let part = match &pair.form {
                    Form::Same => part,
                    Form::Shaped(dims) => part.reshape(dims.as_slice())?,
                    Form::Turned => part.t()?,
                };
                tensors.insert(name.clone(), part.contiguous()?);
            }
        }
        Ok(tensors)
    }
}

impl Pair {
    /// The shapes of ours; none where one of them does not exist.
    fn shapes(&self, entries: &BTreeMap<String, Entry>) -> Option<Vec<Shape>> {
        self.ours.iter().map(|ours| Some(entries.get(ours)?.shape.clone())).collect()
    }

    /// The shape of each of their tensors.
    fn part(&self, ours: &[Shape]) -> Vec<usize> {
        let mut dims = ours[0].dims().to_vec();
        if let Some(first) = dims.first_mut() {
            *first = ours.iter().map(|shape| shape.dims()[0]).sum::<usize>() / self.theirs.len();
        }
        match &self.form {
            Form::Same => dims,
            Form::Shaped(dims) => dims.clone(),
            Form::Turned => dims.into_iter().rev().collect(),
        }
    }

    /// Ours, made of theirs.
    fn own(&self, parts: &[Tensor], ours: &[Shape]) -> Result<Vec<Tensor>> {
        let whole = Tensor::cat(parts, 0)?;
        let whole = if matches!(self.form, Form::Turned) { whole.t()?.contiguous()? } else { whole };
        if let [shape] = ours {
            return Ok(vec![whole.reshape(shape)?]);
        }
        let mut start = 0;
        let next = |shape: &Shape| {
            let own = whole.narrow(0, start, shape.dims()[0])?.contiguous();
            start += shape.dims()[0];
            own
        };
        ours.iter().map(next).collect()
    }
}

/// What is wrong with a checkpoint.
#[derive(Default)]
struct Faults {
    missing: Vec<String>,
    left_over: Vec<String>,
    others: Vec<String>,
}

impl Faults {
    /// The tensor in f32, if it has this shape and holds numbers.
    fn checked(&mut self, name: &str, tensor: &Tensor, dims: &[usize]) -> Result<Option<Tensor>> {
        if tensor.dims() != dims {
            self.others.push(format!("`{name}` is {:?}, expected {dims:?}", tensor.dims()));
            return Ok(None);
        }
        let tensor = tensor.to_dtype(DType::F32)?;
        let finite = tensor.abs()?.sum_all()?.to_scalar::<f32>()?.is_finite()
            || tensor.flatten_all()?.to_vec1::<f32>()?.iter().all(|value| value.is_finite());
        if !finite {
            self.others.push(format!("`{name}` holds values that are no numbers"));
            return Ok(None);
        }
        Ok(Some(if dims.is_empty() { tensor.reshape(1)? } else { tensor }))
    }

    fn compare(&mut self, name: &str, value: &Tensor, first: Option<&Tensor>) -> Result<()> {
        if let Some(first) = first
            && (value - first)?.abs()?.sum_all()?.to_scalar::<f32>()? != 0.0
        {
            self.others.push(format!("`{name}` differs from the tensor it is tied to"));
        }
        Ok(())
    }

    fn none(self) -> Result<()> {
        let list = |what: &str, names: &[String]| {
            let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
            (!names.is_empty()).then(|| format!("{what}: {}", names.join(", ")))
        };
        let mut faults: Vec<String> = [list("missing", &self.missing), list("left over", &self.left_over)]
            .into_iter()
            .flatten()
            .collect();
        faults.extend(self.others);
        if !faults.is_empty() {
            refuse!("the weights do not fit the configuration\n  {}", faults.join("\n  "));
        }
        Ok(())
    }
}
