//! A trained stage that writes captions for pictures, or judges texts about them.

use candle_core::{Device, Tensor};

use super::Settings;
use crate::data::{Dataset, loader::Evaluation};
use crate::experiments::Run;
use crate::experiments::beginning::filled;
use crate::experiments::checkpoint::Tensors;
use crate::experiments::evaluate::gallery::BLOCK;
use crate::experiments::failure::{Failure, Result};
use crate::experiments::feed::{self, Pairs, Words};
use crate::models::{Image, Model, Store, View};
use crate::objectives::{Config, itm};

/// A stage's model with its weights.
pub struct Reader {
    pairs: Pairs,
    store: Store,
    model: Box<dyn Model>,
    head: Option<itm::Head>,
}

impl Reader {
    /// The model of a run with these weights; `seed` is that of its data.
    ///
    /// # Errors
    /// When the weights do not fit the run.
    pub fn new(
        run: &Run,
        weights: Tensors,
        words: &Words,
        device: &candle_core::Device,
        seed: u64,
    ) -> Result<Self> {
        let pairs = Pairs::open(&run.expected(), words, seed)?;
        let store = filled(run, &pairs.inputs, weights, device)?;
        let model = run.model.build(&store.detached(), &pairs.inputs)?;
        let matching = run.objectives.iter().find(|objective| matches!(objective, Config::Itm(_)));
        let open =
            |itm: &Config| itm::Head::open(&store.detached().at(itm.name()), &run.model.dims(&pairs.inputs));
        let head = matching.map(open).transpose()?;
        Ok(Self { pairs, store, model, head })
    }

    /// The pictures of a dataset in blocks of [`BLOCK`].
    fn blocks<'a>(&'a self, web: &'a dyn Dataset) -> impl Iterator<Item = Result<View<Image>>> + 'a {
        Evaluation::new(web, self.pairs.encoder(), self.pairs.layout(), BLOCK).map(|host| {
            let image = feed::image(&host?, self.pairs.inputs.size, self.store.device())?;
            Ok(View::new(image, None))
        })
    }

    /// A caption for each picture; draws depend on the seed and on the number of the picture.
    ///
    /// # Errors
    /// When the model does not write, or its scores are no numbers.
    pub fn write(&self, settings: &Settings, web: &dyn Dataset, seed: u64) -> Result<Vec<String>> {
        let captioning = settings.captioning();
        let mut captions = Vec::new();
        for block in self.blocks(web) {
            let first = captions.len() as u64;
            captions.extend(captioning.about(&block?, self.model.as_ref(), &self.pairs, (seed, first))?);
        }
        Ok(captions)
    }

    /// The probability that each of the texts about each picture matches it.
    ///
    /// # Errors
    /// When the run has no matching head, or a score is no number.
    pub fn judge(&self, web: &dyn Dataset, texts: &[Vec<&str>]) -> Result<Vec<Vec<f64>>> {
        let Some(head) = &self.head else {
            return Err(
                candle_core::Error::Msg("texts are judged by the head that `itm` trains".to_owned()).into()
            );
        };
        let mut judged = Vec::new();
        for (block, texts) in self.blocks(web).zip(texts.chunks(BLOCK)) {
            let block = block?;
            let pairs: Vec<(u32, &str)> = (0..)
                .zip(texts)
                .flat_map(|(row, texts)| texts.iter().map(move |text| (row, *text)))
                .collect();
            let mut odds = Vec::new();
            for pairs in pairs.chunks(BLOCK) {
                let (rows, texts): (Vec<u32>, Vec<&str>) = pairs.iter().copied().unzip();
                let image = block.select(&Tensor::new(rows, &Device::Cpu)?)?;
                let text = View::new(feed::text(&texts, &self.pairs)?, None);
                odds.extend(head.scores(&self.model.pool(&image, &text)?)?.to_vec1::<f32>()?);
            }
            if odds.iter().any(|odds| !odds.is_finite()) {
                return Err(Failure::Compute(candle_core::Error::Msg(
                    "a matching score is not finite".to_owned(),
                )));
            }
            let mut matching = odds.into_iter().map(|odds| 1.0 / (1.0 + (-f64::from(odds)).exp()));
            judged
                .extend(texts.iter().map(|texts| matching.by_ref().take(texts.len()).collect::<Vec<f64>>()));
        }
        Ok(judged)
    }
}
