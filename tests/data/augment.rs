//! What augmentation may and may not do to a picture.

use std::collections::HashSet;

use vlp_bench::data::augment::{self, RandAugment, names_colour, names_side};
use vlp_bench::data::{Dataset, Picture, Split, scenes};
use vlp_bench::kernels::random::Key;

use super::{loading, opened};

fn gradient(width: u32, height: u32) -> Picture {
    let rgb =
        (0..height).flat_map(|y| (0..width).flat_map(move |x| [(x * 7) as u8, (y * 5) as u8, 90])).collect();
    Picture { width, height, rgb }
}

fn augmented(config: &augment::Config, caption: &str, index: u64) -> Picture {
    let key = Key::new(1, 0, "test").fold(index);
    config.apply(gradient(20, 20), &mut Vec::new(), caption, 20, key).expect("a picture")
}

#[test]
fn flips_spare_captions_that_name_a_side() {
    let config = augment::Config { flip: true, ..augment::Config::none() };
    let flipped = |caption: &str| {
        (0..100).filter(|index| augmented(&config, caption, *index) != gradient(20, 20)).count()
    };
    assert_eq!(flipped("a cat left of a dog"), 0);
    assert_eq!(flipped("Right arrow"), 0);
    let count = flipped("a bright cat");
    assert!((30..70).contains(&count), "{count}");
}

#[test]
fn nothing_is_flipped_unless_asked() {
    assert!(!augment::Config::default().flip);
}

#[test]
fn sides_and_colours_are_recognised_as_words() {
    for side in ["left of", "the rightmost one", "backhand index pointing left", "leftwards arrow", "Right!"]
    {
        assert!(names_side(side), "{side}");
    }
    for none in ["bright light", "copyright", "leftover food", "righteous"] {
        assert!(!names_side(none), "{none}");
    }
    assert!(names_colour("a Red star") && names_colour("grey-haired") && !names_colour("covered bored"));
}

#[test]
fn captions_that_name_a_colour_keep_grey_pictures_grey_and_flat_ones_flat() {
    // Equalising or stretching would change the one colour of this picture's half.
    let config = augment::Config {
        rand_augment: Some(RandAugment { ops: 10, magnitude: 5.0 }),
        ..augment::Config::none()
    };
    let rgb: Vec<u8> =
        (0..400).flat_map(|at| if at % 20 < 10 { [200, 40, 40] } else { [100, 20, 20] }).collect();
    for index in 0..200 {
        let picture = Picture { width: 20, height: 20, rgb: rgb.clone() };
        let key = Key::new(1, 0, "test").fold(index);
        let out = config.apply(picture, &mut Vec::new(), "a red square", 20, key).expect("a picture");
        for pixel in out.rgb.chunks(3) {
            assert!(pixel[0].abs_diff(pixel[1]) < 2 || pixel[0] > pixel[1], "{pixel:?}");
            assert!(pixel[1].abs_diff(pixel[2]) < 2, "{pixel:?}");
        }
    }
}

#[test]
fn augmentation_is_a_function_of_its_key() {
    let config = loading(4, 1).augment;
    let distinct: HashSet<Vec<u8>> = (0..50).map(|index| augmented(&config, "a cat", index).rgb).collect();
    assert!(distinct.len() > 45);
    assert_eq!(augmented(&config, "a cat", 3), augmented(&config, "a cat", 3));
}

#[test]
fn crops_keep_the_shape_of_the_batch_and_move_boxes_with_the_picture() {
    let set =
        opened(scenes::Config { pairs: 200, detector_noise: 0.0, ..scenes::Config::default() }, Split::Train);
    let config =
        augment::Config { crop: Some([0.1, 0.5]), flip: true, rand_augment: Some(RandAugment::default()) };
    let mut lost = 0;
    for index in 0..set.len() {
        let mut example = set.get(index).expect("a pair");
        let before = example.regions.len();
        let key = Key::new(0, 0, "test").fold(index as u64);
        let out = config.apply(example.picture, &mut example.regions, "", 24, key).expect("a picture");
        assert_eq!((out.width, out.height, out.rgb.len()), (24, 24, 24 * 24 * 3));
        assert!(!example.regions.is_empty());
        lost += before - example.regions.len();
        for region in &example.regions {
            let [left, top, right, bottom] = region.bounds;
            assert!(
                0.0 <= left && left < right && right <= 1.0 && 0.0 <= top && top < bottom && bottom <= 1.0
            );
        }
    }
    assert!(lost > 20, "{lost} regions were cut off");
}

#[test]
fn pictures_of_any_proportion_are_resized_whole() {
    for (width, height) in [(1, 1), (3, 50), (64, 64), (200, 31)] {
        let key = Key::new(0, 0, "test");
        for config in [augment::Config::none(), loading(4, 1).augment] {
            let out = config.apply(gradient(width, height), &mut Vec::new(), "", 32, key).expect("a picture");
            assert_eq!(out.rgb.len(), 32 * 32 * 3);
        }
    }
}

#[test]
fn a_picture_with_a_wrong_buffer_is_an_error() {
    let picture = Picture { width: 4, height: 4, rgb: vec![0; 5] };
    let error = augment::Config::none().apply(picture, &mut Vec::new(), "", 4, Key::new(0, 0, "test"));
    assert!(error.expect_err("refused").to_string().contains("5 bytes"));
}
