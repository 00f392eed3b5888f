use std::cell::Cell;

use candle_core::{Device, Result, Tensor};
use vlp_bench::kernels::random::Key;
use vlp_bench::models::view::joint_noise;
use vlp_bench::models::{Image, Text, Tokens, View};

use super::pairs;

const ROWS: [u32; 4] = [2, 0, 2, 1];

fn rows(rows: &[u32]) -> Tensor {
    Tensor::new(rows, &Device::Cpu).unwrap()
}

fn text(noise: Option<Key>) -> View<Text> {
    View::new(pairs(&[7, 3, 5]).unwrap().1, noise)
}

fn image(noise: Option<Key>) -> View<Image> {
    View::new(pairs(&[7, 3, 5]).unwrap().0, noise)
}

/// Hidden states that tell the examples apart, and a count of how often they were computed.
fn compute(view: &View<Text>, times: &Cell<usize>) -> Result<Tokens> {
    times.set(times.get() + 1);
    let input = view.input()?;
    let hidden = input.ids.to_dtype(candle_core::DType::F32)?.unsqueeze(2)?;
    Ok(Tokens { hidden, mask: Some(input.mask.clone()) })
}

#[test]
fn a_memo_computes_once_for_the_view_its_clones_and_its_selections() {
    let (view, times) = (text(None), Cell::new(0));
    let whole = view.memo("text", |view| compute(view, &times)).unwrap();
    view.clone().memo("text", |view| compute(view, &times)).unwrap();
    let selected = view.select(&rows(&ROWS)).unwrap();
    let taken = selected.memo("text", |view| compute(view, &times)).unwrap();
    let again = selected.select(&rows(&[3, 3])).unwrap().memo("text", |view| compute(view, &times)).unwrap();
    assert_eq!(times.get(), 1);
    let ids = |tokens: &Tokens| tokens.hidden.squeeze(2).unwrap().to_vec2::<f32>().unwrap();
    let masks = |tokens: &Tokens| tokens.mask.as_ref().unwrap().to_vec2::<f32>().unwrap();
    for (place, &row) in ROWS.iter().enumerate() {
        assert_eq!(ids(&taken)[place], ids(&whole)[row as usize]);
        assert_eq!(masks(&taken)[place], masks(&whole)[row as usize]);
    }
    assert_eq!(ids(&again), [ids(&whole)[1].clone(), ids(&whole)[1].clone()]);
    view.memo("other", |view| compute(view, &times)).unwrap();
    assert_eq!(times.get(), 2, "another slot is another result");
}

#[test]
fn a_selection_that_is_asked_first_has_the_whole_view_encoded() {
    let (view, times) = (text(None), Cell::new(0));
    let encode = |view: &View<Text>| {
        assert_eq!(view.rows()?, 3);
        compute(view, &times)
    };
    let taken = view.select(&rows(&ROWS)).unwrap().memo("text", encode).unwrap();
    assert_eq!(taken.hidden.dim(0).unwrap(), 4);
    view.memo("text", encode).unwrap();
    assert_eq!(times.get(), 1);
}

#[test]
fn a_failure_is_not_remembered() {
    let (view, times) = (text(None), Cell::new(0));
    assert!(view.memo("text", |_| candle_core::bail!("no")).is_err());
    view.memo("text", |view| compute(view, &times)).unwrap();
    assert_eq!(times.get(), 1);
}

#[test]
fn a_selection_takes_rows_of_every_part_of_its_input() {
    let text = text(None);
    let column = |values: [u32; 3]| Tensor::new(&values, &Device::Cpu).unwrap().unsqueeze(1).unwrap();
    let (sizes, masked) = (column([4, 9, 7]), column([1, 0, 1]).to_dtype(candle_core::DType::F32).unwrap());
    let (given, _) = pairs(&[7, 3, 5]).unwrap();
    let image = View::new(Image { sizes: Some(sizes), masked: Some(masked), ..given }, None);
    let (texts, images) = (text.select(&rows(&ROWS)).unwrap(), image.select(&rows(&ROWS)).unwrap());
    assert_eq!((texts.rows().unwrap(), images.rows().unwrap()), (4, 4));
    let (whole, taken) = (text.input().unwrap(), texts.input().unwrap());
    let u32s = |x: &Tensor| x.to_vec2::<u32>().unwrap();
    let f32s = |x: &Tensor| x.flatten_from(1).unwrap().to_vec2::<f32>().unwrap();
    let pixels = |view: &View<Image>| f32s(view.input().unwrap().pixels().unwrap());
    for (place, &row) in ROWS.iter().enumerate() {
        let row = row as usize;
        assert_eq!(u32s(&taken.ids)[place], u32s(&whole.ids)[row]);
        assert_eq!(u32s(&taken.segments)[place], u32s(&whole.segments)[row]);
        assert_eq!(f32s(&taken.mask)[place], f32s(&whole.mask)[row]);
        assert_eq!(pixels(&images)[place], pixels(&image)[row]);
        let marks = |view: &View<Image>| f32s(view.input().unwrap().masked.as_ref().unwrap());
        assert_eq!(marks(&images)[place], marks(&image)[row]);
        let sizes = |view: &View<Image>| u32s(view.input().unwrap().sizes.as_ref().unwrap());
        assert_eq!(sizes(&images)[place], sizes(&image)[row]);
    }
    let beyond = text.select(&rows(&[3])).unwrap();
    assert!(beyond.input().is_err());
    assert!(text.select(&text.input().unwrap().ids).is_err(), "a matrix is not a list of rows");
}

#[test]
fn no_two_passes_of_a_step_drop_the_same_elements() {
    let key = |purpose| Some(Key::new(1, 1, purpose));
    let (image, text) = (image(key("image")), text(key("text")));
    let order = rows(&[1, 2, 0]);
    let (images, texts) = (image.select(&order).unwrap(), text.select(&order).unwrap());
    let more = text.select(&order).unwrap();
    let mut keys = vec![image.noise(), text.noise(), images.noise(), texts.noise(), more.noise()];
    for (image, text) in [(&image, &text), (&images, &text), (&image, &texts), (&image, &more)] {
        keys.push(joint_noise(image, text));
    }
    for (place, key) in keys.iter().enumerate() {
        assert!(key.is_some() && !keys[..place].contains(key), "{place}");
    }
    let silent = super::view::text(None);
    assert!(joint_noise(&image, &silent).is_none() && silent.select(&order).unwrap().noise().is_none());
}

#[test]
fn the_gradient_of_selected_rows_reaches_the_whole_view() {
    let view = text(None);
    let var = candle_core::Var::from_tensor(
        &Tensor::ones((3, 7, 2), candle_core::DType::F32, &Device::Cpu).unwrap(),
    );
    let var = var.unwrap();
    let tokens = |_: &View<Text>| Ok(Tokens { hidden: (var.as_tensor() * 2.0)?, mask: None });
    let selected = view.select(&rows(&ROWS)).unwrap().memo("text", tokens).unwrap();
    let grads = selected.hidden.sum_all().unwrap().backward().unwrap();
    let grad = grads.get(var.as_tensor()).unwrap().sum((1, 2)).unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(grad, [28.0, 28.0, 56.0]);
}
