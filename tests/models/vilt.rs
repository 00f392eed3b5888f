//! ViLT's images: of any size, sampled in training, with patches masked.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Device, Tensor, safetensors};
use vlp_bench::kernels::random::Key;
use vlp_bench::models::checkpoint::{Given, Opened};
use vlp_bench::models::{Attend, Config, Fused, Image, Model, Store, Text, View};

use super::passes::close;
use super::{INPUTS, pairs};

const LENGTHS: [usize; 3] = [7, 3, 5];

fn model(more: &str) -> Box<dyn Model> {
    let config = format!("vilt: {{trunk: {{width: 12, depth: 2, heads: 3}}, patch: 4{more}}}");
    let config: Config = serde_yaml::from_str(&config).unwrap();
    assert_eq!(config.faults(&INPUTS), [""; 0]);
    config.build(&Store::new(&Device::Cpu, 1, &[]).detached(), &INPUTS).unwrap()
}

/// Pixels of three images.
fn pixels(height: usize, width: usize) -> Tensor {
    let values = Key::new(7, 0, "pixels").normal(3 * 3 * height * width);
    Tensor::from_vec(values, (3, 3, height, width), &Device::Cpu).unwrap()
}

fn image(pixels: Tensor) -> Image {
    Image { pixels: Some(pixels), ..Image::default() }
}

fn sized(pixels: Tensor, sizes: [[u32; 2]; 3]) -> Image {
    Image { sizes: Some(Tensor::new(&sizes, &Device::Cpu).unwrap()), ..image(pixels) }
}

fn fuse(model: &dyn Model, image: Image, noise: Option<Key>) -> Fused {
    let text = View::new(pairs(&LENGTHS).unwrap().1, noise);
    model.fuse(&View::new(image, noise), &text, Attend::Both).unwrap()
}

/// The mask of the image tokens, row by row.
fn mask(fused: &Fused) -> Vec<Vec<f32>> {
    fused.image.as_ref().unwrap().mask.as_ref().unwrap().to_vec2().unwrap()
}

#[test]
fn an_image_is_the_same_alone_and_among_larger_ones() {
    let model = model("");
    let large = pixels(16, 24);
    let small = large.narrow(2, 0, 8).unwrap().narrow(3, 0, 20).unwrap();
    let among = fuse(model.as_ref(), sized(large.clone(), [[8, 20]; 3]), None);
    let alone = fuse(model.as_ref(), image(small), None);
    close(&among.pooled, &alone.pooled);
    close(&among.text.hidden, &alone.text.hidden);
    assert!(alone.image.unwrap().mask.is_none());
    // Two rows of five patches on a canvas of four rows of six.
    let expected: Vec<f32> =
        (0..24).map(|patch| if patch / 6 < 2 && patch % 6 < 5 { 1.0 } else { 0.0 }).collect();
    for row in mask(&among) {
        assert_eq!((row[0], &row[1..]), (1.0, expected.as_slice()));
    }
    // A pixel of a patch is enough.
    let grazed = fuse(model.as_ref(), sized(large.clone(), [[5, 17], [8, 20], [16, 24]]), None);
    close(&grazed.pooled.narrow(0, 0, 2).unwrap(), &alone.pooled.narrow(0, 0, 2).unwrap());
    let whole = fuse(model.as_ref(), image(large), None);
    close(&grazed.pooled.narrow(0, 2, 1).unwrap(), &whole.pooled.narrow(0, 2, 1).unwrap());
}

#[test]
fn an_image_of_the_learned_size_needs_no_interpolation() {
    let model = model("");
    let (pixels, sizes) = (pixels(16, 16), [[16, 16]; 3]);
    let plain = fuse(model.as_ref(), image(pixels.clone()), None);
    close(&fuse(model.as_ref(), sized(pixels.clone(), sizes), None).pooled, &plain.pooled);
    // Beside a smaller one, positions are computed image by image.
    let mixed = fuse(model.as_ref(), sized(pixels, [[16, 16], [16, 16], [4, 8]]), None);
    close(&mixed.pooled.narrow(0, 0, 2).unwrap(), &plain.pooled.narrow(0, 0, 2).unwrap());
}

#[test]
fn training_sees_a_sample_of_the_patches_and_evaluation_all() {
    let (sampled, whole) = (model(", sample: 5, dropout: 0"), model(", dropout: 0"));
    let noise = |seed| Some(Key::new(seed, 0, "noise"));
    let seen = |seed| mask(&fuse(sampled.as_ref(), image(pixels(16, 16)), noise(seed)));
    for row in seen(1) {
        assert_eq!((row[0], row.iter().sum::<f32>()), (1.0, 6.0));
    }
    assert_eq!(seen(1), seen(1));
    assert_ne!(seen(1), seen(2));
    assert_ne!(seen(1)[0], seen(1)[1]);
    // Of a small image all patches are there.
    let small = mask(&fuse(sampled.as_ref(), sized(pixels(16, 16), [[16, 16], [8, 8], [4, 16]]), noise(1)));
    assert_eq!(small.iter().map(|row| row.iter().sum()).collect::<Vec<f32>>(), [6.0, 5.0, 5.0]);
    for (noise, model) in [(None, &sampled), (noise(1), &whole)] {
        let fused = fuse(model.as_ref(), image(pixels(16, 16)), noise);
        assert!(fused.image.unwrap().mask.is_none());
    }
}

/// Pixels whose patch of this row and column, of four by four, is another in each image.
fn changed(pixels: &Tensor, [row, column]: [usize; 2]) -> Tensor {
    let change = Tensor::ones((3, 3, 4, 4), pixels.dtype(), &Device::Cpu).unwrap();
    let change = change.pad_with_zeros(2, 4 * row, 12 - 4 * row).unwrap();
    (pixels + change.pad_with_zeros(3, 4 * column, 12 - 4 * column).unwrap()).unwrap()
}

fn difference(a: &Tensor, b: &Tensor) -> f32 {
    (a - b).unwrap().abs().unwrap().max_all().unwrap().to_scalar().unwrap()
}

#[test]
fn a_masked_patch_keeps_its_place_and_loses_its_pixels() {
    let (model, pixels) = (model(""), pixels(16, 16));
    let pooled = |pixels: &Tensor, masked: Option<usize>| {
        let marks = |patch| (0..3 * 16).map(move |at| if at % 16 == patch { 1f32 } else { 0.0 });
        let masked = masked.map(|patch| Tensor::from_iter(marks(patch), &Device::Cpu).unwrap());
        let masked = masked.map(|masked| masked.reshape((3, 16)).unwrap());
        fuse(model.as_ref(), Image { masked, ..image(pixels.clone()) }, None).pooled
    };
    let here = changed(&pixels, [1, 2]);
    assert!(difference(&pooled(&pixels, None), &pooled(&here, None)) > 1e-3);
    close(&pooled(&pixels, Some(6)), &pooled(&here, Some(6)));
    assert!(difference(&pooled(&pixels, Some(6)), &pooled(&pixels, None)) > 1e-3);
    let elsewhere = pooled(&changed(&pixels, [3, 0]), Some(6));
    assert!(difference(&pooled(&pixels, Some(6)), &elsewhere) > 1e-3);
    assert!(difference(&pooled(&pixels, Some(6)), &pooled(&pixels, Some(7))) > 1e-3);
    // With nothing masked, a mask changes nothing.
    close(&pooled(&pixels, Some(16)), &pooled(&pixels, None));
}

#[test]
fn words_and_patches_see_each_other() {
    let model = model("");
    let (pixels, (_, words)) = (pixels(16, 16), pairs(&LENGTHS).unwrap());
    let before = fuse(model.as_ref(), image(pixels.clone()), None);
    let after = fuse(model.as_ref(), image(changed(&pixels, [0, 3])), None);
    for place in 0..3 {
        let word = |fused: &Fused| fused.text.hidden.narrow(1, place, 1).unwrap().narrow(0, 0, 1).unwrap();
        assert!(difference(&word(&before), &word(&after)) > 1e-5, "word {place}");
    }
    let mut ids = words.ids.to_vec2::<u32>().unwrap();
    ids[0][2] = 39 - ids[0][2] % 30;
    let text = View::new(Text { ids: Tensor::new(ids, &Device::Cpu).unwrap(), ..words }, None);
    let other = model.fuse(&View::new(image(pixels), None), &text, Attend::Both).unwrap();
    let patches = |fused: &Fused| fused.image.as_ref().unwrap().hidden.clone();
    let change = (patches(&before) - patches(&other)).unwrap().abs().unwrap().sum(2).unwrap();
    let change = change.to_vec2::<f32>().unwrap();
    assert!(change[0].iter().all(|&change| change > 1e-5), "{change:?}");
    assert!(change[1..].iter().flatten().all(|&change| change < 1e-5), "{change:?}");
}

#[test]
fn pooling_alone_gives_what_the_whole_joint_pass_pools() {
    let model = model("");
    for image in [image(pixels(16, 16)), sized(pixels(16, 24), [[16, 24], [8, 8], [4, 20]])] {
        let (image, text) = (View::new(image, None), View::new(pairs(&LENGTHS).unwrap().1, None));
        let fused = model.fuse(&image, &text, Attend::Both).unwrap();
        close(&model.pool(&image, &text).unwrap(), &fused.pooled);
    }
}

#[test]
fn a_word_decoder_of_its_own_has_a_table_of_its_own() {
    let table = |tied| {
        let config: Config = serde_yaml::from_str(&format!("vilt: {{tied: {tied}}}")).unwrap();
        let store = Store::outline(&[]);
        config.build(&store.student(), &INPUTS).unwrap();
        store.entries().get("decoder.table").map(|entry| entry.shape.dims().to_vec())
    };
    assert_eq!((table(true), table(false)), (None, Some(vec![INPUTS.vocabulary, 128])));
}

#[test]
fn images_that_do_not_lie_in_their_batch_are_refused() {
    let model = model("");
    let refused = |image| {
        let text = View::new(pairs(&LENGTHS).unwrap().1, None);
        model.pool(&View::new(image, None), &text).unwrap_err().to_string()
    };
    let said = refused(sized(pixels(16, 16), [[16, 16], [8, 20], [8, 8]]));
    assert!(said.contains("an image of 8 x 20 pixels outside its batch"), "{said}");
    assert!(refused(sized(pixels(16, 16), [[16, 0]; 3])).contains("outside its batch"));
    let said = refused(image(pixels(16, 18)));
    assert!(said.contains("patches of 4 in images of 16 x 18"), "{said}");
    let two = View::new(pairs(&LENGTHS[..2]).unwrap().1, None);
    let said = model.pool(&View::new(image(pixels(16, 16)), None), &two).unwrap_err().to_string();
    assert!(said.contains("2 examples joined with 3"), "{said}");
}

#[test]
fn a_pixel_mask_that_is_no_rectangle_is_refused() {
    let case = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/vilt/unequal");
    let opened = Opened::read(&case, &Device::Cpu).unwrap();
    let given = safetensors::load(case.join("inputs.safetensors"), &Device::Cpu).unwrap();
    let refused = |mask: Tensor| {
        let mut given: BTreeMap<String, Tensor> = given.clone().into_iter().collect();
        given.insert("pixel_mask".to_owned(), mask);
        opened.forward(&Given::new(given)).unwrap_err().to_string()
    };
    let mask = &given["pixel_mask"];
    let flipped = mask.flip(&[2]).unwrap();
    assert!(refused(flipped).contains("no rectangle in the upper left"));
    let said = refused(mask.narrow(2, 0, 9).unwrap());
    assert!(said.contains("`pixel_mask` is [4, 6, 9], expected [4, 6, 10]"), "{said}");
}
