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
            Ability::Generate => weighed(&model.fuse(image, text, Attend::Causal)?.text.hidden, "generated")?,
            Ability::PredictWords => {
                let fused = model.fuse(image, text, Attend::Both)?;
                weighed(&model.predict_words(&fused.text.hidden)?, "words")?
            }
            other => panic!("no model here offers {other} yet"),
        });
    }
    Tensor::stack(&parts, 0)?.sum_all()
}

#[test]
fn every_parameter_of_every_model_gets_a_finite_gradient_that_is_not_zero() {
    for config in Config::all() {
        let store = Store::new(&Device::Cpu, 1, &[]);
        let model = config.build(&store.student(), &INPUTS).unwrap();
        let (image, text) = pairs(&[7, 3, 5]).unwrap();
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
