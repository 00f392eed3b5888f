//! UNITER and Oscar: words, tags and regions in one sequence, who sees whom, and what hides a region.

use candle_core::{Device, Tensor};
use vlp_bench::models::{Attend, Config, Fused, Image, Model, Store, Text, View};

use super::passes::close;
use super::{INPUTS, pairs};

const LENGTHS: [usize; 3] = [7, 3, 5];
const TRUNK: &str = "trunk: {width: 12, depth: 2, heads: 3}";
/// How many words of each text precede its tags.
const WORDS: [usize; 3] = [4, 2, 5];

fn store(config: &str) -> (Store, Box<dyn Model>) {
    let config: Config = serde_yaml::from_str(config).unwrap();
    assert_eq!(config.faults(&INPUTS), [""; 0]);
    let store = Store::new(&Device::Cpu, 1, &[]);
    let model = config.build(&store.detached(), &INPUTS).unwrap();
    (store, model)
}

fn model(name: &str, more: &str) -> Box<dyn Model> {
    store(&format!("{name}: {{{TRUNK}{more}}}")).1
}

/// Three pairs whose texts end in tags, but for the last.
fn tagged() -> (Image, Text) {
    let (image, text) = pairs(&LENGTHS).unwrap();
    let segments = |example: usize| {
        (0..INPUTS.words).map(move |place| u32::from((WORDS[example]..LENGTHS[example]).contains(&place)))
    };
    let segments = Tensor::from_iter((0..3).flat_map(segments), &Device::Cpu).unwrap();
    (image, Text { segments: segments.reshape((3, INPUTS.words)).unwrap(), ..text })
}

fn fuse(model: &dyn Model, image: &Image, text: &Text) -> Fused {
    let views = (View::new(image.clone(), None), View::new(text.clone(), None));
    model.fuse(&views.0, &views.1, Attend::Both).unwrap()
}

/// The image with other features of one region of each example.
fn with_another_region(image: &Image, place: usize) -> Image {
    let mut regions = image.regions.clone().unwrap();
    let change = regions.features.narrow(1, place, 1).unwrap().ones_like().unwrap();
    let behind = regions.features.dim(1).unwrap() - place - 1;
    regions.features = (&regions.features + change.pad_with_zeros(1, place, behind).unwrap()).unwrap();
    Image { regions: Some(regions), ..image.clone() }
}

/// The text with another entry at one place of the first example.
fn with_another_word(text: &Text, place: usize) -> Text {
    let mut ids = text.ids.to_vec2::<u32>().unwrap();
    ids[0][place] = 39 - ids[0][place] % 30;
    Text { ids: Tensor::new(ids, &Device::Cpu).unwrap(), ..text.clone() }
}

fn differ_somewhere(a: &Tensor, b: &Tensor) -> bool {
    (a - b).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap() > 1e-4
}

/// Whether [CLS], the last tag and the last region of the first example differ.
fn differ(before: &Fused, after: &Fused) -> [bool; 3] {
    let at = |fused: &Fused, image: bool, place: usize| {
        let tokens = if image { fused.image.as_ref().unwrap() } else { &fused.text };
        tokens.hidden.get(0).unwrap().get(place).unwrap()
    };
    [(false, 0), (false, LENGTHS[0] - 1), (true, 3)]
        .map(|(image, place)| differ_somewhere(&at(before, image, place), &at(after, image, place)))
}

#[test]
fn the_parts_of_oscars_text_and_image_see_each_other_as_the_pattern_says() {
    let (image, text) = tagged();
    // A word, a tag and a region are changed in turn.
    for (attend, word, tag, region) in [
        ("full", [true; 3], [true; 3], [true; 3]),
        ("words_regions", [true, false, true], [false, true, false], [true, false, true]),
        ("words_tags", [true, true, false], [true, true, false], [false, false, true]),
        ("tags_regions", [true, false, false], [false, true, true], [false, true, true]),
    ] {
        let model = model("oscar", &format!(", attend: {attend}"));
        let before = fuse(model.as_ref(), &image, &text);
        let seen = |image: &Image, text: &Text| differ(&before, &fuse(model.as_ref(), image, text));
        assert_eq!(seen(&image, &with_another_word(&text, 1)), word, "{attend}: a word");
        assert_eq!(seen(&image, &with_another_word(&text, WORDS[0])), tag, "{attend}: a tag");
        assert_eq!(seen(&with_another_region(&image, 0), &text), region, "{attend}: a region");
    }
}

#[test]
fn pooling_alone_gives_what_the_whole_joint_pass_pools() {
    let (image, text) = tagged();
    let patterns = ["full", "words_regions", "words_tags", "tags_regions"];
    let oscars = patterns.map(|attend| model("oscar", &format!(", attend: {attend}, image_norm: true")));
    for model in oscars.into_iter().chain([model("uniter", "")]) {
        let pooled = model.pool(&View::new(image.clone(), None), &View::new(text.clone(), None)).unwrap();
        close(&pooled, &fuse(model.as_ref(), &image, &text).pooled);
    }
}

#[test]
fn a_region_that_is_not_there_changes_nothing() {
    let (image, text) = tagged();
    let other = with_another_region(&image, 3);
    for model in [model("uniter", ""), model("oscar", "")] {
        let (before, after) = (fuse(model.as_ref(), &image, &text), fuse(model.as_ref(), &other, &text));
        // The second image has three regions.
        close(&before.pooled.get(1).unwrap(), &after.pooled.get(1).unwrap());
        let absent = before.image.unwrap().hidden.get(1).unwrap().get(3).unwrap();
        assert_eq!(absent.to_vec1::<f32>().unwrap(), [0.0; 12]);
        assert!(differ_somewhere(&before.pooled, &after.pooled));
    }
}

#[test]
fn a_hidden_region_keeps_its_place_and_loses_its_features() {
    let (image, text) = tagged();
    let masked = Tensor::new(&[[1f32, 0.0, 0.0, 0.0]; 3], &Device::Cpu).unwrap();
    let hide = |image: Image| Image { masked: Some(masked.clone()), ..image };
    for model in [model("uniter", ""), model("oscar", "")] {
        let pooled = |image: &Image| fuse(model.as_ref(), image, &text).pooled;
        let other = with_another_region(&image, 0);
        assert!(differ_somewhere(&pooled(&image), &pooled(&other)));
        close(&pooled(&hide(image.clone())), &pooled(&hide(other)));
        assert!(differ_somewhere(&pooled(&image), &pooled(&hide(image.clone()))));
        let seen = with_another_region(&image, 1);
        assert!(differ_somewhere(&pooled(&hide(image.clone())), &pooled(&hide(seen))));
        // Its box is still read.
        let mut moved = image.clone();
        moved.regions.as_mut().unwrap().boxes = (&moved.regions.as_ref().unwrap().boxes + 1.0).unwrap();
        assert!(differ_somewhere(&pooled(&hide(image.clone())), &pooled(&hide(moved))));
    }
}

#[test]
fn region_features_are_predicted_with_the_map_that_reads_them() {
    let (store, model) = store(&format!("uniter: {{{TRUNK}}}"));
    let names: Vec<String> = store.entries().into_keys().collect();
    let own: Vec<&String> = names.iter().filter(|name| name.starts_with("region_decoder.")).collect();
    assert_eq!(own.len(), 5, "{own:?}");
    let (image, text) = tagged();
    let hidden = fuse(model.as_ref(), &image, &text).image.unwrap().hidden;
    let before = model.predict_regions(&hidden).unwrap();
    assert_eq!(before.dims(), [3, 4, INPUTS.region_features]);
    let weight = &store.entries()["regions.visual.weight"].var;
    weight.set(&weight.affine(2.0, 0.0).unwrap()).unwrap();
    // The bias begins at zero.
    close(&(before * 2.0).unwrap(), &model.predict_regions(&hidden).unwrap());
}

#[test]
fn normalising_regions_is_a_setting_of_oscar() {
    let has_norm = |setting: &str| {
        let (store, _) = store(&format!("oscar: {{{TRUNK}{setting}}}"));
        store.entries().contains_key("regions.norm.gain")
    };
    assert!(has_norm(", image_norm: true"));
    assert!(!has_norm(", image_norm: false") && !has_norm(""));
}

#[test]
fn an_image_without_regions_is_refused() {
    let (image, text) = tagged();
    let image = View::new(Image { regions: None, ..image }, None);
    for model in [model("uniter", ""), model("oscar", "")] {
        let said = model.pool(&image, &View::new(text.clone(), None)).unwrap_err().to_string();
        assert!(said.contains("holds no regions"), "{said}");
    }
}
