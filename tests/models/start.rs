//! How the weights of each model begin, as in its released code.

use candle_core::Device;
use vlp_bench::models::{Config, Store};

use super::INPUTS;

/// The standard deviation of the values of one parameter.
fn deviation(store: &Store, name: &str) -> f64 {
    let values = store.entries()[name].var.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let count = values.len() as f64;
    let mean = values.iter().map(|&x| f64::from(x)).sum::<f64>() / count;
    (values.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / count).sqrt()
}

#[track_caller]
fn begins(config: &str, expected: &[(&str, f64)]) {
    let config: Config = serde_yaml::from_str(config).unwrap();
    let store = Store::new(&Device::Cpu, 1, &[]);
    config.build(&store.student(), &INPUTS).unwrap();
    for &(name, expected) in expected {
        let got = deviation(&store, name);
        let count = store.entries()[name].var.elem_count() as f64;
        // Four standard errors of a standard deviation.
        let error = 4.0 * expected / (2.0 * count).sqrt();
        assert!((got - expected).abs() <= error, "{name}: {got}, expected {expected} within {error}");
    }
}

fn uniform(inputs: f64) -> f64 {
    (3.0 * inputs).powf(-0.5)
}

#[test]
fn clip_begins_as_its_released_code() {
    let config =
        "clip: {image: {width: 64, depth: 2, heads: 2}, text: {width: 64, depth: 3, heads: 2}, embed: 48}";
    begins(
        config,
        &[
            ("text.embed.words", 0.02),
            ("text.embed.positions", 0.01),
            ("text.layers.2.attention.qkv.weight", 64f64.powf(-0.5)),
            ("text.layers.2.attention.out.weight", (6.0 * 64f64).powf(-0.5)),
            ("text.layers.2.mlp.up.weight", 128f64.powf(-0.5)),
            ("text.layers.2.mlp.up.bias", 0.0),
            ("text.layers.2.mlp.down.weight", (6.0 * 64f64).powf(-0.5)),
            ("text.project.weight", 64f64.powf(-0.5)),
            ("image.patches.weight", uniform(192.0)),
            ("image.patches.class", 64f64.powf(-0.5)),
            ("image.patches.positions", 64f64.powf(-0.5)),
            ("image.layers.1.attention.qkv.weight", (2.0 / 256f64).sqrt()),
            ("image.layers.1.attention.qkv.bias", 0.0),
            ("image.layers.1.attention.out.weight", uniform(64.0)),
            ("image.layers.1.mlp.up.weight", uniform(64.0)),
            ("image.layers.1.mlp.up.bias", uniform(64.0)),
            ("image.layers.1.mlp.down.weight", uniform(256.0)),
            ("image.layers.1.mlp.down.bias", uniform(256.0)),
            ("image.project.weight", 64f64.powf(-0.5)),
        ],
    );
}

#[test]
fn albef_begins_as_its_released_code_at_the_published_width_and_wider_in_narrow_layers() {
    let (image, text) = (0.02 * 12f64.sqrt(), 0.02 * 24f64.sqrt());
    let config =
        "albef: {image: {width: 64, depth: 2, heads: 2}, text: {width: 32, depth: 2, heads: 2}, fusion: 1}";
    begins(
        config,
        &[
            ("image.patches.weight", uniform(192.0)),
            ("image.patches.bias", uniform(192.0)),
            ("image.patches.class", image),
            ("image.layers.1.attention.qkv.weight", image),
            ("image.layers.1.mlp.up.bias", 0.0),
            ("text.embed.words", text),
            ("text.embed.segments", text),
            ("text.layers.1.cross.kv.weight", text),
            ("text.layers.1.mlp.down.weight", text),
            ("project_image.weight", uniform(64.0)),
            ("project_text.weight", uniform(32.0)),
            ("decoder.transform.weight", text),
            ("decoder.bias", 0.0),
        ],
    );
    assert!((vlp_bench::models::nn::deviation(768) - 0.02).abs() < 1e-12);
}

#[test]
fn blip_begins_as_its_released_code_at_the_published_width_and_wider_in_narrow_layers() {
    let (image, text) = (0.02 * 12f64.sqrt(), 0.02 * 24f64.sqrt());
    let config = "blip: {image: {width: 64, depth: 1, heads: 2}, text: {width: 32, depth: 1, heads: 2}}";
    begins(
        config,
        &[
            ("image.patches.positions", image),
            ("image.layers.0.attention.out.weight", image),
            ("text.embed.words", text),
            ("text.embed.positions", text),
            ("text.layers.0.cross.kv.weight", text),
            ("decoder.layers.0.attention.qkv.weight", text),
            ("decoder.layers.0.attention.qkv.bias", 0.0),
            ("decoder.head.transform.weight", text),
            ("project_image.weight", uniform(64.0)),
            ("project_text.bias", uniform(32.0)),
        ],
    );
}

#[test]
fn vilt_begins_as_its_released_code_at_the_published_width_and_wider_in_narrow_layers() {
    let normal = 0.02 * 12f64.sqrt();
    begins(
        "vilt: {trunk: {width: 64, depth: 2, heads: 2}}",
        &[
            ("words.words", normal),
            ("words.segments", normal),
            ("types", normal),
            ("patches.weight", uniform(192.0)),
            ("patches.bias", uniform(192.0)),
            ("patches.class", normal),
            ("patches.mask", normal),
            ("patches.positions", normal),
            ("layers.1.attention.qkv.weight", normal),
            ("layers.1.mlp.down.weight", normal),
            ("layers.1.mlp.up.bias", 0.0),
            ("pooler.weight", normal),
            ("pooler.bias", 0.0),
            ("decoder.transform.weight", normal),
        ],
    );
}

#[test]
fn vlmo_begins_as_its_released_code_at_the_published_width_and_wider_in_narrow_layers() {
    let start = 0.02 * 12f64.sqrt();
    begins(
        "vlmo: {trunk: {width: 64, depth: 3, heads: 2}, vl_contrast: true, mask_token: true}",
        &[
            ("patches.weight", uniform(192.0)),
            ("patches.bias", uniform(192.0)),
            ("patches.class", start),
            ("patches.mask", start),
            ("words.words", start),
            ("types", start),
            ("relative.table", 0.0),
            ("blocks.2.attention.qkv", start),
            ("blocks.2.attention.q_bias", 0.0),
            ("blocks.2.attention_gain", 0.0),
            ("blocks.2.experts.vl.mlp.down.weight", start),
            ("blocks.0.experts.text.mlp.up.weight", start),
            ("pooler.weight", start),
            ("contrast.image.weight", start),
            ("vl_contrast.text.weight", start),
            ("decoder.table", start),
        ],
    );
}

#[test]
fn coca_begins_as_open_clip_means_to() {
    let config = "coca: {image: {width: 64, depth: 2, heads: 2}, text: {width: 64, depth: 5, heads: 2}, unimodal: 2, \
                  embed: 48}";
    begins(
        config,
        &[
            ("text.embed.words", 0.02),
            ("text.embed.positions", 0.01),
            ("text.classes", 0.01),
            ("text.layers.1.attention.out.weight", (4.0 * 64f64).powf(-0.5)),
            ("decoder.layers.2.attention.qkv.weight", 64f64.powf(-0.5)),
            ("decoder.layers.2.cross.kv.weight", 64f64.powf(-0.5)),
            ("decoder.layers.2.cross.out.weight", (6.0 * 64f64).powf(-0.5)),
            ("decoder.layers.2.mlp.up.weight", 128f64.powf(-0.5)),
            ("words", 64f64.powf(-0.5)),
            ("project_text.weight", 64f64.powf(-0.5)),
            ("project_image.weight", 64f64.powf(-0.5)),
            ("image.patches.weight", uniform(192.0)),
            ("image.patches.positions", 64f64.powf(-0.5)),
            ("image.layers.1.mlp.down.weight", uniform(256.0)),
            ("image.captioning.queries", 1.0),
            ("image.captioning.q.weight", (2.0 / 128f64).sqrt()),
            ("image.captioning.out.weight", uniform(64.0)),
        ],
    );
}

#[test]
fn uniter_and_oscar_begin_as_their_released_code_at_the_published_width_and_wider_in_narrow_layers() {
    let normal = 0.02 * 12f64.sqrt();
    let trunk = "{trunk: {width: 64, depth: 2, heads: 2}}";
    let joined = [
        ("words.words", normal),
        ("words.segments", normal),
        ("layers.1.attention.qkv.weight", normal),
        ("layers.1.mlp.down.weight", normal),
        ("layers.1.mlp.up.bias", 0.0),
        ("pooler.weight", normal),
        ("pooler.bias", 0.0),
        ("decoder.transform.weight", normal),
    ];
    let uniter = [
        ("regions.visual.weight", normal),
        ("regions.visual.bias", 0.0),
        ("regions.position.weight", normal),
        ("regions.masks", normal),
        ("region_decoder.transform.weight", normal),
        ("region_decoder.bias", 0.0),
    ];
    let oscar = [("regions.map.weight", normal), ("regions.map.bias", 0.0)];
    begins(&format!("uniter: {trunk}"), &[&joined[..], &uniter].concat());
    begins(&format!("oscar: {trunk}"), &[&joined[..], &oscar].concat());
}
