//! Which of our tensors is which of a checkpoint's: a list of pairs that is read in both directions.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::{DType, Result, Shape, Tensor, bail};

use crate::models::Store;

/// The pairs of one class.
#[derive(Default)]
pub struct Layout {
    pairs: Vec<Pair>,
    skipped: BTreeSet<String>,
}

struct Pair {
    ours: String,
    /// Their tensors, which stand one after another along our first axis.
    theirs: Vec<String>,
    /// Their shape, where it is another than ours.
    dims: Option<Vec<usize>>,
    /// Whether the value has a first name there.
    copy: bool,
}

impl Layout {
    /// The same tensor under another name.
    pub fn same(&mut self, ours: &str, theirs: &str) {
        self.pair(ours.to_owned(), vec![theirs.to_owned()], None);
    }

    /// The same numbers in another shape.
    pub fn shaped(&mut self, ours: &str, theirs: &str, dims: &[usize]) {
        self.pair(ours.to_owned(), vec![theirs.to_owned()], Some(dims.to_vec()));
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
            self.pair(format!("{ours}.{part}"), theirs, None);
        }
    }

    /// Another name there for a tensor that is named already: equal to it if it is present.
    pub fn tied(&mut self, ours: &str, theirs: &str) {
        self.pairs.push(Pair {
            ours: ours.to_owned(),
            theirs: vec![theirs.to_owned()],
            dims: None,
            copy: true,
        });
    }

    /// A tensor there that says nothing, such as a list of positions.
    pub fn skip(&mut self, theirs: &str) {
        self.skipped.insert(theirs.to_owned());
    }

    fn pair(&mut self, ours: String, theirs: Vec<String>, dims: Option<Vec<usize>>) {
        self.pairs.push(Pair { ours, theirs, dims, copy: false });
    }

    /// The names of ours that have a pair.
    pub fn ours(&self) -> BTreeSet<&str> {
        self.pairs.iter().map(|pair| pair.ours.as_str()).collect()
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
        // A first name is read before its copies.
        let (firsts, copies): (Vec<_>, Vec<_>) = self.pairs.iter().partition(|pair| !pair.copy);
        for pair in firsts.into_iter().chain(copies) {
            let Some(entry) = entries.get(&pair.ours) else { continue };
            let mut parts = Vec::new();
            for name in &pair.theirs {
                match tensors.remove(name) {
                    Some(tensor) => {
                        if let Some(part) = faults.checked(name, &tensor, &pair.part(&entry.shape))? {
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
            let value = Tensor::cat(&parts, 0)?.reshape(&entry.shape)?;
            if pair.copy {
                faults.compare(&pair.theirs[0], &value, values.get(&pair.ours))?;
            } else {
                values.insert(pair.ours.clone(), value);
            }
        }
        let left = tensors.into_keys().filter(|name| !self.skipped.contains(name));
        faults.left_over.extend(left);
        faults.none()?;
        Ok(values)
    }

    /// Our values under a checkpoint's names.
    ///
    /// # Errors
    /// When the device fails.
    pub fn write(&self, store: &Store) -> Result<BTreeMap<String, Tensor>> {
        let mut tensors = BTreeMap::new();
        let values = store.tensors();
        for pair in &self.pairs {
            let Some(value) = values.get(&pair.ours) else { continue };
            let parts = if pair.theirs.len() == 1 {
                vec![value.clone()]
            } else {
                value.chunk(pair.theirs.len(), 0)?
            };
            for (name, part) in pair.theirs.iter().zip(parts) {
                let part = match &pair.dims {
                    Some(dims) => part.reshape(dims.as_slice())?,
                    None => part,
                };
                tensors.insert(name.clone(), part.contiguous()?);
            }
        }
        Ok(tensors)
    }
}

impl Pair {
    /// The shape of each of their tensors.
    fn part(&self, ours: &Shape) -> Vec<usize> {
        let mut dims = self.dims.clone().unwrap_or_else(|| ours.dims().to_vec());
        if let Some(first) = dims.first_mut() {
            *first /= self.theirs.len();
        }
        dims
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
            bail!("the weights do not fit the configuration\n  {}", faults.join("\n  "));
        }
        Ok(())
    }
}
