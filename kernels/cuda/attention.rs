//! Attention on a GPU. Between the passes only the log-sum-exp of each query's scores is kept.

use candle_core::{Result, Shape, bail};

use super::{Heads, Place};
use crate::kernels::bias::{self, Places};
use crate::kernels::cuda::body::dropout_arguments;
use crate::kernels::cuda::machine::{Address, Arg, Buffer, Family, Machine, Words, family};
use crate::kernels::cuda::{Body, Operand, Slot};
use crate::kernels::{Precision, Spans};

static F32: Family = family!("attention", "attention.cuh");
static BF16: Family = family!("attention_bf16", "attention.cuh");

/// Threads of a block.
const THREADS: u32 = 128;
/// Rows of the other side that a block meets at a time.
const OTHERS: usize = 32;

/// What the kernels of one operation share, in the machine's memory.
pub(super) struct Shared {
    lse: Buffer,
    queries: Words,
    keys: Words,
    hidden: Option<Words>,
    added: Option<Words>,
    places: Option<bias::Shared>,
    /// Whose products attention is made of, in both passes.
    products: Precision,
}

/// Beginning and length of each example.
fn pairs<'a>(ranges: impl IntoIterator<Item = &'a std::ops::Range<usize>>) -> Vec<u32> {
    ranges.into_iter().flat_map(|range| [range.start as u32, range.len() as u32]).collect()
}

impl Heads {
    fn shared(&self, on: &dyn Machine) -> Result<Shared> {
        let (hidden, added) = self.visible.words();
        Ok(Shared {
            lse: on.scratch(self.heads * self.rows())?,
            queries: on.upload(&pairs(self.queries.ranges()))?,
            keys: on.upload(&pairs(self.keys.ranges()))?,
            hidden: hidden.map(|words| on.upload(&words)).transpose()?,
            added: added.map(|words| on.upload(&words)).transpose()?,
            places: self.bias.as_ref().map(|places| places.share(on)).transpose()?,
            products: Precision::current(),
        })
    }

    /// Rows of queries.
    fn rows(&self) -> usize {
        self.dims.iter().product::<usize>() / self.width
    }

    /// The kernel of a pass that is made for heads as wide, and the rows of a block of it.
    fn kernel(&self, products: Precision, pass: &str) -> Result<(&'static Family, String, usize)> {
        let (width, rows) = match self.columns() {
            0..=64 => (64, 16),
            65..=128 => (128, 8),
            wider => bail!("attention: heads of {wider} columns; a GPU takes up to 128"),
        };
        Ok(match products {
            Precision::F32 => (&F32, format!("attention{pass}_{width}"), rows),
            Precision::Bf16 => (&BF16, format!("attention_bf16{pass}_{width}"), 64),
        })
    }

    /// Launches a pass for each piece of `longest` rows, each head and each of `examples`; the bias is the last of
    /// `data` if there is one.
    fn launch(
        &self,
        on: &dyn Machine,
        (pass, products): (&str, Precision),
        (longest, examples): (usize, usize),
        data: &[Address],
        shared: &Shared,
        more: &[Arg],
    ) -> Result<()> {
        let (family, kernel, rows) = self.kernel(products, pass)?;
        let places = self.places_of(data.len());
        let mut all: Vec<Arg> = places.map(|place| Arg::At(begin(place, data))).to_vec();
        for place in places {
            all.push(Arg::size(place.stride)?);
        }
        all.extend([Arg::size(self.heads)?, Arg::size(self.columns())?, Arg::Real(self.scale())]);
        all.extend([&shared.queries, &shared.keys].map(|words| Arg::At(words.at())));
        all.extend(
            [&shared.hidden, &shared.added]
                .map(|words| Arg::At(words.as_ref().map_or(Address::NULL, Words::at))),
        );
        all.extend(self.visible.arguments()?);
        let places = self.bias.as_ref().zip(shared.places.as_ref());
        all.extend(bias::arguments(places.map(|(places, shared)| (places, shared, data[data.len() - 1])))?);
        all.extend(more);
        all.extend([Arg::size(self.rows())?, Arg::size(self.keys.longest().next_multiple_of(4))?]);
        all.extend(dropout_arguments(self.dropout));
        let grid = [longest.div_ceil(rows), self.heads, examples];
        on.launch(family, &kernel, grid, THREADS, &all)
    }

    fn places_of(&self, operands: usize) -> [Place; 3] {
        match operands {
            1 => self.places::<1>(),
            2 => self.places::<2>(),
            _ => self.places::<3>(),
        }
    }

    /// Clears the slots that are to be written over, since kernels add: what no example sees has no gradient.
    fn clear(&self, on: &dyn Machine, counts: &[usize], into: &[Option<Slot>]) -> Result<()> {
        for (slot, &count) in into.iter().zip(counts) {
            if let Some(slot) = slot
                && !slot.adds
            {
                on.clear(slot.at, count)?;
            }
        }
        Ok(())
    }

    fn keys_backward(
        &self,
        on: &dyn Machine,
        data: &[Address],
        shared: &Shared,
        [delta, grad, dk, dv]: [Address; 4],
    ) -> Result<()> {
        let rows = self.keys.ranges().iter().map(|range| range.end).max().unwrap_or(0);
        let groups = self.keys.groups(rows)?;
        let (mut bounds, mut members) = (vec![0], Vec::new());
        for (_, examples) in &groups {
            members.extend(examples.iter().map(|&example| example as u32));
            bounds.push(members.len() as u32);
        }
        let ranges = on.upload(&pairs(groups.iter().map(|(range, _)| range)))?;
        let (bounds, members) = (on.upload(&bounds)?, on.upload(&members)?);
        let more =
            [ranges.at(), bounds.at(), members.at(), shared.lse.at(), delta, grad, dk, dv].map(Arg::At);
        let size = (Spans::longest(&self.keys), groups.len());
        self.launch(on, ("_keys", shared.products), size, data, shared, &more)
    }

    fn bias_backward(
        &self,
        on: &dyn Machine,
        places: &Places,
        data: &[Address],
        shared: &Shared,
        [delta, grad]: [Address; 2],
        into: Slot,
    ) -> Result<()> {
        let gathered = places.gathered(on, [&self.queries, &self.keys])?;
        let mut more = gathered.arguments()?.to_vec();
        more.extend([shared.lse.at(), delta, grad].map(Arg::At));
        more.extend(into.arguments());
        let [places, others] = places.dims();
        let size = (places, others.div_ceil(OTHERS));
        self.launch(on, ("_bias", Precision::F32), size, data, shared, &more)
    }
}

/// Where the first row of q, k or v begins.
fn begin(place: Place, data: &[Address]) -> Address {
    data[place.operand].after(place.column)
}

impl<const N: usize> Body<N> for Heads {
    fn forward(&self, on: &dyn Machine, inputs: [Operand<'_>; N]) -> Result<(Buffer, Shape)> {
        self.count(2);
        let data = inputs.map(|input| input.at);
        let out = on.room(Precision::kept(), self.dims.iter().product())?;
        let shared = self.shared(on)?;
        let size = (self.queries.longest(), self.queries.ranges().len());
        let more = [out.at(), shared.lse.at()].map(Arg::At);
        self.launch(on, ("", shared.products), size, &data, &shared, &more)?;
        // A second forward pass of the same operation saves the same.
        drop(self.saved.set(shared));
        Ok((out, self.dims.clone().into()))
    }

    fn backward(
        &self,
        on: &dyn Machine,
        inputs: [Operand<'_>; N],
        output: Address,
        grad: Address,
        into: [Option<Slot>; N],
    ) -> Result<()> {
        let Some(shared) = self.saved.get() else {
            bail!("attention: a backward pass before the forward one")
        };
        let (data, rows, mut into) = (inputs.map(|input| input.at), self.rows(), into);
        let bias = self.bias.as_ref().and_then(|places| Some((places, into[N - 1].take()?)));
        self.clear(on, &inputs.map(|input| input.count()), &into)?;
        let targets = into.map(|slot| slot.map_or(Address::NULL, |slot| slot.at));
        let [dq, dk, dv] = self.places::<N>().map(|place| begin(place, &targets));
        let wanted = [dq, dk, dv].iter().filter(|at| !at.is_null()).count();
        self.count(1 + usize::from(!dq.is_null() || !dk.is_null() || bias.is_some()) + wanted);
        let delta = on.scratch(self.heads * rows)?;
        let mut all = vec![Arg::size(rows)?, Arg::size(self.heads)?, Arg::size(self.columns())?];
        all.extend([output, grad, delta.at()].map(Arg::At));
        let blocks = (self.heads * rows).div_ceil(THREADS as usize / 32);
        on.launch(&F32, "attention_delta", [blocks, 1, 1], THREADS, &all)?;
        if !dq.is_null() {
            let size = (self.queries.longest(), self.queries.ranges().len());
            let more = [shared.lse.at(), delta.at(), grad, dq].map(Arg::At);
            self.launch(on, ("_queries", shared.products), size, &data, shared, &more)?;
        }
        if !dk.is_null() || !dv.is_null() {
            self.keys_backward(on, &data, shared, [delta.at(), grad, dk, dv])?;
        }
        match bias {
            Some((places, into)) => self.bias_backward(on, places, &data, shared, [delta.at(), grad], into),
            None => Ok(()),
        }
    }
}
