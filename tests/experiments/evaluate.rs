//! Evaluations of models whose answers are known.

use std::cell::Cell;
use std::collections::BTreeMap;

use candle_core::{Device, Result, Tensor};
use vlp_bench::data::{Dataset, Split};
use vlp_bench::experiments::evaluate::gallery::{Gallery, Matches};
use vlp_bench::experiments::evaluate::retrieval::By;
use vlp_bench::experiments::evaluate::{Measurement, Subject, examples::examples};
use vlp_bench::experiments::feed::Pairs;
use vlp_bench::experiments::{Run, evaluate, evaluate::retrieval};
use vlp_bench::kernels::l2_normalize;
use vlp_bench::models::{Image, Model, Store, Text, View};

use super::{albef_run, clip_run, scenes, words};

/// Knows the answers: image i is unit vector i, a caption is the sum of its images. Blocks are asked for in order.
struct Knowing {
    images_of: Vec<Vec<u32>>,
    images: usize,
    seen: [Cell<usize>; 2],
}

impl Model for Knowing {
    fn embed_image(&self, image: &View<Image>) -> Result<Tensor> {
        let (first, rows) = (self.seen[0].get(), image.rows()?);
        self.seen[0].set(first + rows);
        let ids = Tensor::arange(first as u32, (first + rows) as u32, &Device::Cpu)?;
        Tensor::eye(self.images, candle_core::DType::F32, &Device::Cpu)?.index_select(&ids, 0)
    }
    fn embed_text(&self, text: &View<Text>) -> Result<Tensor> {
        let (first, rows) = (self.seen[1].get(), text.rows()?);
        self.seen[1].set(first + rows);
        let mut embeds = vec![0f32; rows * self.images];
        for row in 0..rows {
            for image in &self.images_of[first + row] {
                embeds[row * self.images + *image as usize] = 1.0;
            }
        }
        l2_normalize(&Tensor::from_vec(embeds, (rows, self.images), &Device::Cpu)?, 1e-12)
    }
    fn similarity(&self, images: &Tensor, texts: &Tensor) -> Result<Tensor> {
        images.matmul(&texts.t()?)
    }
}

/// Cannot tell anything from anything.
struct Blind;

impl Model for Blind {
    fn embed_image(&self, image: &View<Image>) -> Result<Tensor> {
        Tensor::ones((image.rows()?, 2), candle_core::DType::F32, &Device::Cpu)
    }
    fn embed_text(&self, text: &View<Text>) -> Result<Tensor> {
        Tensor::ones((text.rows()?, 2), candle_core::DType::F32, &Device::Cpu)
    }
    fn similarity(&self, images: &Tensor, texts: &Tensor) -> Result<Tensor> {
        images.matmul(&texts.t()?)
    }
}

pub fn with_subject<T>(
    run: &Run,
    model: impl FnOnce(&Matches) -> Box<dyn Model>,
    judge: impl FnOnce(&Subject) -> T,
) -> T {
    let pairs = Pairs::open(&run.data, &words(), 0).unwrap();
    let gallery = Gallery::open(pairs.split(Split::Test).unwrap().as_ref(), &pairs, &Device::Cpu).unwrap();
    let store = Store::new(&Device::Cpu, 0, &[]);
    let dims = run.model.dims(&pairs.inputs);
    let model = model(&gallery.matches);
    judge(&Subject { run, store: &store, model, dims, pairs: &pairs, gallery: &gallery })
}

fn knowing(matches: &Matches) -> Box<dyn Model> {
    let (images_of, images) = (matches.images_of.clone(), matches.texts_of.len());
    Box::new(Knowing { images_of, images, seen: Default::default() })
}

fn measured(
    run: &Run,
    evaluate: &evaluate::Config,
    model: impl FnOnce(&Matches) -> Box<dyn Model>,
) -> Measurement {
    with_subject(run, model, |subject| {
        let shown = subject.show().unwrap();
        evaluate.measure(subject, &shown).unwrap()
    })
}

fn values(found: &Measurement) -> BTreeMap<&str, f64> {
    found.values.iter().map(|(name, measured)| (name.as_str(), measured.value)).collect()
}

const SIMILARITY: evaluate::Config =
    evaluate::Config::Retrieval(retrieval::Config { by: By::Similarity, rerank: None });

fn many() -> Run {
    let mut run = clip_run();
    run.data.test = Some(scenes(300));
    run
}

#[test]
fn a_model_that_knows_every_pair_finds_everything() {
    let found = measured(&many(), &SIMILARITY, knowing);
    assert_eq!(found.items, 300);
    for (name, value) in values(&found) {
        assert!(
            (value - if name == "retrieval.tie_rate" { 0.0 } else { 100.0 }).abs() < 1e-9,
            "{name} {value}"
        );
    }
}

#[test]
fn a_model_that_cannot_tell_finds_nothing_and_its_ties_are_told() {
    let found = measured(&many(), &SIMILARITY, |_| Box::new(Blind));
    for (name, value) in values(&found) {
        assert!(
            (value - if name == "retrieval.tie_rate" { 100.0 } else { 0.0 }).abs() < 1e-9,
            "{name} {value}"
        );
    }
}

#[test]
fn every_metric_that_is_promised_is_measured() {
    let zero_shot = evaluate::Config::ZeroShot(Default::default());
    let probe = evaluate::Config::LinearProbe(Default::default());
    for evaluate in [SIMILARITY, zero_shot, probe] {
        let found = measured(&clip_run(), &evaluate, |matches| {
            if evaluate.name() == "retrieval" { knowing(matches) } else { Box::new(Blind) }
        });
        let mut promised = evaluate.metrics();
        promised.sort();
        assert_eq!(found.values.keys().cloned().collect::<Vec<_>>(), promised);
    }
}

#[test]
fn means_of_recalls_are_those_that_papers_report() {
    let found =
        with_albef(4, |subject, evaluate| evaluate.measure(subject, &subject.show().unwrap()).unwrap());
    let values = values(&found);
    for prefix in ["retrieval", "rerank"] {
        let value = |name: &str| values[format!("{prefix}.{name}").as_str()];
        let mut both = 0.0;
        for to in ["image_to_text", "text_to_image"] {
            let mean = ["r1", "r5", "r10"].iter().map(|k| value(&format!("{to}_{k}"))).sum::<f64>() / 3.0;
            assert!((value(&format!("{to}_recall")) - mean).abs() < 1e-9);
            both += mean / 2.0;
        }
        assert!((value("mean_recall") - both).abs() < 1e-9);
        let r1 = (value("image_to_text_r1") + value("text_to_image_r1")) / 2.0;
        assert!((value("r1") - r1).abs() < 1e-9);
    }
}

/// A prompt's embedding is its length and its number of words, not of length one.
struct Counting;

impl Model for Counting {
    fn embed_image(&self, image: &View<Image>) -> Result<Tensor> {
        Tensor::ones((image.rows()?, 2), candle_core::DType::F32, &Device::Cpu)
    }
    fn embed_text(&self, text: &View<Text>) -> Result<Tensor> {
        let words = text.input()?.mask.sum_keepdim(1)?;
        l2_normalize(&Tensor::cat(&[&words, &words.ones_like()?], 1)?, 1e-12)
    }
}

#[test]
fn a_class_is_the_mean_of_its_unit_prompts_at_length_one_again() {
    use vlp_bench::experiments::evaluate::zero_shot::class_embeds;
    let templates = ["{}", "a picture of a {}"].map(str::to_owned);
    with_subject(
        &clip_run(),
        |_| Box::new(Counting),
        |subject| {
            let found =
                class_embeds(subject, &["star", "red star"], &templates).unwrap().to_vec2::<f32>().unwrap();
            // Words with [CLS] and [SEP]: 3 and 7, 4 and 8.
            for (found, words) in found.iter().zip([[3f32, 7.0], [4.0, 8.0]]) {
                let units = words.map(|n| [n / (n * n + 1.0).sqrt(), 1.0 / (n * n + 1.0).sqrt()]);
                let mean = [0, 1].map(|at| (units[0][at] + units[1][at]) / 2.0);
                let norm = (mean[0] * mean[0] + mean[1] * mean[1]).sqrt();
                for at in 0..2 {
                    assert!((found[at] - mean[at] / norm).abs() < 1e-6, "{found:?}");
                }
            }
        },
    );
}

#[test]
fn equal_captions_are_one_entry_that_several_images_answer() {
    let run = clip_run();
    let pairs = Pairs::open(&run.data, &words(), 0).unwrap();
    struct Repeated(std::sync::Arc<dyn Dataset>);
    impl Dataset for Repeated {
        fn name(&self) -> String {
            self.0.name()
        }
        fn len(&self) -> usize {
            4
        }
        fn get(&self, index: usize) -> vlp_bench::data::Result<vlp_bench::data::Example> {
            let mut example = self.0.get(index)?;
            example.captions = match index {
                0 => vec!["A red  star.".to_owned(), "a star".to_owned()],
                1 => vec!["a red star".to_owned()],
                2 => vec!["a blue star".to_owned(), "a blue star".to_owned()],
                _ => vec!["a star".to_owned()],
            };
            Ok(example)
        }
        fn fields(&self) -> std::collections::BTreeSet<vlp_bench::data::Field> {
            self.0.fields()
        }
        fn fingerprint(&self) -> String {
            self.0.fingerprint()
        }
        fn attribution(&self) -> Vec<String> {
            self.0.attribution()
        }
    }
    let matches = Matches::of(&Repeated(pairs.train)).unwrap();
    assert_eq!(matches.captions, ["A red  star.", "a star", "a blue star"]);
    assert_eq!(matches.texts_of, [vec![0, 1], vec![0], vec![2], vec![1]]);
    assert_eq!(matches.images_of, [vec![0, 1], vec![0, 3], vec![2]]);
}

/// A whole model with a matching head, untrained.
fn with_albef<T>(rerank: usize, judge: impl FnOnce(&Subject, evaluate::Config) -> T) -> T {
    let run = albef_run();
    let pairs = Pairs::open(&run.data, &words(), 0).unwrap();
    let gallery = Gallery::open(pairs.split(Split::Test).unwrap().as_ref(), &pairs, &Device::Cpu).unwrap();
    let store = Store::new(&Device::Cpu, 0, &[]);
    let dims = run.model.dims(&pairs.inputs);
    run.model.build(&store.student(), &pairs.inputs).unwrap();
    for config in &run.objectives {
        config.open(&store.student(), &dims).unwrap();
    }
    let subject = Subject::new(&run, &store, &pairs, &gallery).unwrap();
    judge(
        &subject,
        evaluate::Config::Retrieval(retrieval::Config { by: By::Similarity, rerank: Some(rerank) }),
    )
}

#[test]
fn ranking_one_answer_anew_changes_nothing_at_the_top() {
    with_albef(1, |subject, evaluate| {
        let shown = subject.show().unwrap();
        let found = evaluate.measure(subject, &shown).unwrap();
        let values = values(&found);
        for name in ["image_to_text_r1", "text_to_image_r1", "image_to_text_r10", "mean_recall"] {
            let [before, after] =
                ["retrieval", "rerank"].map(|prefix| values[format!("{prefix}.{name}").as_str()]);
            assert_eq!(before.to_bits(), after.to_bits(), "{name}");
        }
    });
}

#[test]
fn ranking_anew_follows_the_matching_head() {
    use vlp_bench::models::Attend;
    use vlp_bench::objectives::itm;
    with_albef(1000, |subject, evaluate| {
        let shown = subject.show().unwrap();
        let found = evaluate.measure(subject, &shown).unwrap();
        // With every candidate looked at, the rank of image 3's captions is that of their matching scores.
        let head = itm::Head::open(&subject.store.detached().at("itm"), &subject.dims).unwrap();
        let matches = &subject.gallery.matches;
        let texts = matches.captions.len();
        let mut hits = 0;
        for image in 0..matches.texts_of.len() {
            let rows = Tensor::full(image as u32, texts, &Device::Cpu).unwrap();
            let all = Tensor::arange(0, texts as u32, &Device::Cpu).unwrap();
            let (images, words) =
                (shown.images[0].select(&rows).unwrap(), shown.texts[0].select(&all).unwrap());
            let fused = subject.model.fuse(&images, &words, Attend::Both).unwrap();
            let scores = head.scores(&fused.pooled).unwrap().to_vec1::<f32>().unwrap();
            let own = |text: usize| matches.texts_of[image].contains(&(text as u32));
            let best = (0..texts).filter(|&text| own(text)).map(|text| scores[text]).fold(f32::MIN, f32::max);
            let ahead = (0..texts).filter(|&text| !own(text) && scores[text] >= best).count();
            hits += usize::from(ahead < 10);
        }
        let expected = 100.0 * hits as f64 / matches.texts_of.len() as f64;
        assert!((values(&found)["rerank.image_to_text_r10"] - expected).abs() < 1e-9);
    });
}

#[test]
fn retrieval_by_matching_is_ranking_every_answer_anew() {
    with_albef(1000, |subject, anew| {
        let by_matching = evaluate::Config::Retrieval(retrieval::Config { by: By::Matching, rerank: None });
        let shown = subject.show().unwrap();
        let (anew, found) =
            (anew.measure(subject, &shown).unwrap(), by_matching.measure(subject, &shown).unwrap());
        let (anew, found) = (values(&anew), values(&found));
        for name in ["image_to_text_r1", "text_to_image_r5", "image_to_text_r10", "mean_recall"] {
            let [anew, found] =
                [anew[format!("rerank.{name}").as_str()], found[format!("retrieval.{name}").as_str()]];
            assert_eq!(anew.to_bits(), found.to_bits(), "{name}");
        }
    });
}

#[test]
fn evaluation_leaves_no_trace_in_the_store() {
    with_albef(4, |subject, evaluate| {
        let before = subject.store.tensors().len();
        let shown = subject.show().unwrap();
        assert!(shown.embeds().unwrap().iter().all(|embeds| !embeds.track_op()));
        evaluate.measure(subject, &shown).unwrap();
        assert_eq!(subject.store.tensors().len(), before);
    });
}

#[test]
fn examples_show_the_picture_its_captions_and_what_was_found() {
    let run = many();
    with_subject(&run, knowing, |subject| {
        let shown = subject.show().unwrap();
        let dataset = subject.pairs.split(Split::Test).unwrap();
        let shown = examples(subject, &shown, dataset.as_ref(), 9).unwrap();
        assert_eq!(shown.len(), 8);
        for example in shown {
            assert!(example.png.starts_with("iVBOR") && !example.captions.is_empty() && example.step == 9);
            assert!(example.found[0].correct && example.captions.contains(&example.found[0].caption));
            assert!(example.found.windows(2).all(|pair| pair[0].score >= pair[1].score));
        }
    });
}
