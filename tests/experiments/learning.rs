//! Every recipe learns simple scenes in a few seconds, and cannot learn captions that belong to other pictures.

use std::collections::BTreeMap;

use vlp_bench::data::{Source, Sources, scenes};
use vlp_bench::experiments::record::Record;
use vlp_bench::experiments::{Run, Train, evaluate, journal};
use vlp_bench::models::{self, blip2, clip};
use vlp_bench::objectives::{Config, itc, itc_sigmoid};

use super::{albef_run, experiment, finished, tower};

/// The last means of training, and the test metrics.
fn learnt(run: Run) -> BTreeMap<String, f64> {
    let out = tempfile::tempdir().unwrap();
    let records = journal::read(&finished(&experiment(run), out.path())).unwrap();
    let mut values = BTreeMap::new();
    for record in records {
        match record {
            Record::Train(figures) => values.extend(figures.values),
            Record::Evaluation(found) => {
                values.extend(found.values.into_iter().map(|(name, measured)| (name, measured.value)));
            }
            _ => {}
        }
    }
    values
}

/// Scenes of one object with one caption.
fn simple(pairs: usize) -> Sources {
    let config = scenes::Config { pairs, size: 24, objects: [1, 1], captions: 1, ..Default::default() };
    Sources(vec![Source::Scenes(config)])
}

fn recipe(model: &models::Config, objective: &Config, rate: f64, shuffled: bool) -> Run {
    let mut run = albef_run();
    run.data.train = simple(1024);
    run.data.test = Some(simple(64));
    run.data.size = 24;
    run.data.augment.crop = None;
    run.data.shuffled_captions = shuffled;
    run.model = model.clone();
    run.objectives = vec![objective.clone()];
    run.evaluate = vec![evaluate::Config::Retrieval(Default::default())];
    run.train = Train { steps: 200, batch: 64, log: 30, rate, warmup: 20.0, ..run.train };
    run
}

fn small_clip() -> models::Config {
    models::Config::Clip(clip::Config { image: tower(2), text: tower(2), embed: 32, ..Default::default() })
}

/// Chance is a loss of ln 64 = 4.16 and a mean recall of 8.4 %.
#[test]
fn clip_learns_by_contrast() {
    let objective = Config::Itc(itc::Config::default());
    let [right, shuffled] =
        [false, true].map(|shuffled| learnt(recipe(&small_clip(), &objective, 4e-3, shuffled)));
    assert!(right["itc.loss"] < 3.2 && right["retrieval.mean_recall"] > 25.0, "{right:?}");
    assert!(shuffled["itc.loss"] > 3.8 && shuffled["retrieval.mean_recall"] < 15.0, "{shuffled:?}");
}

#[test]
fn clip_learns_by_sigmoid_contrast() {
    let objective = Config::ItcSigmoid(itc_sigmoid::Config::default());
    let [right, shuffled] =
        [false, true].map(|shuffled| learnt(recipe(&small_clip(), &objective, 2e-3, shuffled)));
    assert!(right["itc_sigmoid.loss"] < 4.75 && right["retrieval.mean_recall"] > 16.0, "{right:?}");
    assert!(shuffled["itc_sigmoid.loss"] > 4.85 && shuffled["retrieval.mean_recall"] < 13.0, "{shuffled:?}");
}

#[test]
fn blip2_learns_by_contrast_of_its_nearest_query() {
    let model = models::Config::Blip2(blip2::Config {
        image: tower(1),
        feature_layer: -1,
        qformer: tower(2),
        queries: 4,
        embed: 32,
        dropout: 0.0,
        ..Default::default()
    });
    let objective = Config::Itc(itc::Config::default());
    let [right, shuffled] = [false, true].map(|shuffled| learnt(recipe(&model, &objective, 4e-3, shuffled)));
    assert!(right["itc.loss"] < 3.9 && right["retrieval.mean_recall"] > 12.5, "{right:?}");
    assert!(shuffled["itc.loss"] > 4.0 && shuffled["retrieval.mean_recall"] < 11.5, "{shuffled:?}");
}
