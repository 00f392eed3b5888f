use candle_core::{Device, Result, Tensor};
use vlp_bench::kernels::random::Key;
use vlp_bench::models::store::Role;
use vlp_bench::models::{Ability, Attend, Config, Image, Model, Store, Text, View};

use super::{INPUTS, pairs, weighed};

/// Everything that a model with such abilities computes, summed with random weights.
fn everything(config: &Config, model: &dyn Model, image: &View<Image>, text: &View<Text>) -> Result<Tensor> {
    let mut parts = Vec::new();
    for ability in config.abilities() {
        parts.push(match ability {
            Ability::ImageTokens => weighed(&model.image_tokens(image)?.hidden, "image")?,
            Ability::TextTokens => weighed(&model.text_tokens(text)?.hidden, "text")?,
            Ability::Embed => {
                weighed(&model.similarity(&model.embed_image(image)?, &model.embed_text(text)?)?, "logits")?
            }
            Ability::Fuse => weighed(&model.fuse(image, text, Attend::Both)?.pooled, "pooled")?,
            Ability::Generate => weighed(&model.fuse(image, text, Attend::Causal)?.text.hidden, "captions")?,
            Ability::PredictWords => {
                let both = config.abilities().contains(&Ability::Fuse);
                let fused = model.fuse(image, text, if both { Attend::Both } else { Attend::Causal })?;
                weighed(&model.predict_words(&fused.text.hidden)?.dense()?, "words")?
            }
            // The joint pass for the image does it.
            Ability::HidePatches => continue,
            Ability::FuseImage => match model.fuse(image, text, Attend::Both)?.image {
                Some(image) => weighed(&image.hidden, "fused_image")?,
                None => panic!("{} keeps its image tokens to itself", config.name()),
            },
            Ability::PredictRegions => match model.fuse(image, text, Attend::Both)?.image {
                Some(image) => weighed(&model.predict_regions(&image.hidden)?, "regions")?,
                None => panic!("{} keeps its image tokens to itself", config.name()),
            },
            Ability::Answer => {
                // A question without an answer, one with one and one with two.
                let answers = text.select(&Tensor::new(&[1u32, 0, 1], text.input()?.ids.device())?)?;
                let hidden = model.answer(image, text, &answers, &[1, 1, 0])?.hidden;
                weighed(&model.predict_answer(&hidden)?.dense()?, "answers")?
            }
        });
    }
    Tensor::stack(&parts, 0)?.sum_all()
}

/// Settings beside the defaults under which a model has other parameters or other ways to them.
const VARIANTS: [&str; 6] = [
    "albef: {answer: 2, dropout: 0.1}",
    "coca: {pool: {wiring: parallel, queries: 5}, classes: 8, multimodal: pairs, encoder: clip}",
    "coca: {pool: {wiring: shared, queries: 5}, class_mask: shifted}",
    "coca: {pool: {wiring: shared, queries: 0}, encoder: clip}",
    "coca: {pool: {wiring: cascade, queries: 0}, aggregate: sentence}",
    "coca: {image: {width: 36, depth: 1, heads: 3}, text: {width: 24, depth: 3, heads: 2}, unimodal: 1, classes: 2, \
     aggregate: sentence, dropout: 0.1}",
];

#[test]
fn every_parameter_of_every_model_gets_a_finite_gradient_that_is_not_zero() {
    let variants = VARIANTS.iter().map(|variant| serde_yaml::from_str(variant).unwrap());
    for config in Config::all().into_iter().chain(variants) {
        assert_eq!(config.faults(&INPUTS), [""; 0]);
        let store = Store::new(&Device::Cpu, 1, &[]);
        let model = config.build(&store.student(), &INPUTS).unwrap();
        let (image, text) = pairs(&[7, 3, 5]).unwrap();
        // Some patches and regions are hidden, so that what stands in for them is seen.
        let masked = [[0f32, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0; 4]];
        let image = Image { masked: Some(Tensor::new(&masked, &Device::Cpu).unwrap()), ..image };
        let noise = Some(Key::new(1, 0, "dropout"));
        let (image, text) = (View::new(image, noise), View::new(text, noise));
        let grads = everything(&config, model.as_ref(), &image, &text).unwrap().backward().unwrap();
        let parameters = store.of(Role::Trainable);
        assert_eq!(parameters.len(), store.entries().len());
        for (name, entry) in parameters {
            let grad = grads.get(entry.var.as_tensor()).unwrap_or_else(|| panic!("{name} gets no gradient"));
            let norm = grad.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
            assert!(norm.is_finite() && norm > 0.0, "{}: {name} has a gradient of {norm}", config.name());
        }
    }
}
