//! Procedural scenes: truth of captions, noise rates, disjoint splits.

use std::collections::HashSet;

use vlp_bench::data::scenes::{self, Colour, Fault, Material, Noise, Relation, Scene, Shape, Size};
use vlp_bench::data::{Dataset, Error, Split};

use super::opened;

#[derive(Debug, PartialEq)]
struct Mention {
    size: Option<Size>,
    material: Option<Material>,
    colour: Colour,
    shape: Shape,
}

fn named<T: Copy>(all: &[T], name: fn(T) -> &'static str, word: &str) -> Option<T> {
    all.iter().copied().find(|value| name(*value) == word)
}

/// The objects that a caption mentions one by one, each with the position of its last word.
fn mentions(caption: &str) -> Vec<(usize, Mention)> {
    let words: Vec<&str> = caption.split(' ').map(|word| word.trim_matches([',', ':'])).collect();
    let before = |at: usize, back: usize| at.checked_sub(back).and_then(|at| words.get(at)).copied();
    (1..words.len())
        .filter_map(|at| {
            let shape = named(Shape::ALL, Shape::word, words[at])?;
            let colour = named(Colour::ALL, Colour::word, words[at - 1])?;
            let material = before(at, 2).and_then(|word| named(Material::ALL, Material::word, word));
            let size = match before(at, if material.is_some() { 3 } else { 2 }) {
                Some("small" | "little") => Some(Size::Small),
                Some("large" | "big") => Some(Size::Large),
                _ => None,
            };
            Some((at, Mention { size, material, colour, shape }))
        })
        .collect()
}

fn fitting(scene: &Scene, mention: &Mention) -> Vec<usize> {
    let fits = |object: &scenes::Object| {
        object.colour == mention.colour
            && object.shape == mention.shape
            && mention.size.is_none_or(|size| size == object.size)
            && mention.material.is_none_or(|material| material == object.material)
    };
    (0..scene.objects.len()).filter(|index| fits(&scene.objects[*index])).collect()
}

fn stated_relation(between: &[&str]) -> Option<Relation> {
    let text = format!("{} ", between.join(" "));
    [
        ("left of", Relation::LeftOf),
        ("right of", Relation::RightOf),
        ("above", Relation::Above),
        (" over ", Relation::Above),
        ("below", Relation::Below),
        (" under ", Relation::Below),
        ("in front of", Relation::InFrontOf),
        ("partly covering", Relation::InFrontOf),
        ("behind", Relation::Behind),
        ("partly hidden by", Relation::Behind),
    ]
    .into_iter()
    .find_map(|(words, relation)| text.contains(words).then_some(relation))
}

#[test]
fn clean_captions_are_true_of_their_scene() {
    let config = scenes::Config { pairs: 600, objects: [1, 5], captions: 4, ..scenes::Config::default() };
    let set = opened(config, Split::Train);
    let (mut related, mut counted) = (0, 0);
    for index in 0..set.len() {
        let scene = set.scene(index).expect("a scene");
        for caption in set.clean_captions(index).expect("captions") {
            let mentions = mentions(&caption);
            for (_, mention) in &mentions {
                assert!(!fitting(&scene, mention).is_empty(), "{caption}: no {mention:?} in {scene:?}");
            }
            let words: Vec<&str> = caption.split(' ').collect();
            for pair in mentions.windows(2) {
                let Some(relation) = stated_relation(&words[pair[0].0..pair[1].0]) else { continue };
                related += 1;
                let (subjects, objects) = (fitting(&scene, &pair[0].1), fitting(&scene, &pair[1].1));
                let holds =
                    subjects.iter().any(|a| objects.iter().any(|b| scene.relation(*a, *b) == Some(relation)));
                assert!(holds, "{caption}: not {relation:?} in {scene:?}");
            }
            for (at, word) in words.iter().enumerate() {
                let Some(count) = ["two", "three", "four", "five"].iter().position(|number| number == word)
                else {
                    continue;
                };
                counted += 1;
                let noun = words[at + 1..].iter().map(|word| word.trim_matches([',', ':']));
                let noun =
                    noun.take(2).find(|word| word.ends_with('s') && *word != "cross").unwrap_or_default();
                let shape = Shape::ALL.iter().find(|shape| {
                    noun.trim_end_matches("es") == shape.word() || noun.trim_end_matches('s') == shape.word()
                });
                let actual = match shape {
                    Some(shape) => scene.objects.iter().filter(|object| object.shape == *shape).count(),
                    None => scene.objects.len(),
                };
                assert_eq!(actual, count + 2, "{caption}: {scene:?}");
            }
        }
    }
    assert!(related > 300 && counted > 150, "{related} relations and {counted} counts were checked");
}

#[test]
fn relations_have_their_opposites() {
    let set =
        opened(scenes::Config { pairs: 300, objects: [2, 4], ..scenes::Config::default() }, Split::Train);
    for index in 0..set.len() {
        let scene = set.scene(index).expect("a scene");
        for a in 0..scene.objects.len() {
            for b in 0..scene.objects.len() {
                let opposite = scene.relation(a, b).map(|relation| match relation {
                    Relation::LeftOf => Relation::RightOf,
                    Relation::RightOf => Relation::LeftOf,
                    Relation::Above => Relation::Below,
                    Relation::Below => Relation::Above,
                    Relation::InFrontOf => Relation::Behind,
                    Relation::Behind => Relation::InFrontOf,
                });
                assert_eq!(scene.relation(b, a), opposite);
            }
        }
    }
}

#[test]
fn a_scene_is_a_function_of_seed_split_and_index() {
    let open = |seed, split| opened(scenes::Config { pairs: 50, seed, ..scenes::Config::default() }, split);
    let (once, again) = (open(3, Split::Train), open(3, Split::Train));
    for index in [0, 49, 7] {
        assert_eq!(once.get(index).expect("a pair"), again.get(index).expect("a pair"));
    }
    assert_eq!(once.fingerprint(), again.fingerprint());
    for other in [open(4, Split::Train), open(3, Split::Test)] {
        assert_ne!(once.get(0).expect("a pair").picture, other.get(0).expect("a pair").picture);
        assert_ne!(once.fingerprint(), other.fingerprint());
    }
}

#[test]
fn more_pairs_leave_the_first_ones_alone() {
    let open = |pairs| opened(scenes::Config { pairs, ..scenes::Config::default() }, Split::Train);
    assert_eq!(open(10).get(9).expect("a pair"), open(1000).get(9).expect("a pair"));
}

#[test]
fn splits_share_no_attribute_identical_scene_whatever_the_seed() {
    let signatures = |split, seed| -> HashSet<Vec<u64>> {
        let config = scenes::Config { pairs: 3000, seed, objects: [1, 2], ..scenes::Config::default() };
        let set = opened(config, split);
        (0..set.len()).map(|index| set.scene(index).expect("a scene").signature()).collect()
    };
    let train = signatures(Split::Train, 0);
    let val = signatures(Split::Val, 1);
    let test = signatures(Split::Test, 2);
    assert!(train.is_disjoint(&val) && train.is_disjoint(&test) && val.is_disjoint(&test));
}

#[test]
fn held_out_combinations_occur_in_the_test_split_only_and_there_always() {
    let hold_out = vec![(Colour::Red, Shape::Star), (Colour::Blue, Shape::Heart)];
    let config = scenes::Config { pairs: 1500, hold_out: hold_out.clone(), ..scenes::Config::default() };
    for (split, expected) in [(Split::Train, false), (Split::Val, false), (Split::Test, true)] {
        let set = opened(config.clone(), split);
        for index in 0..set.len() {
            let scene = set.scene(index).expect("a scene");
            let held = scene.objects.iter().any(|object| hold_out.contains(&(object.colour, object.shape)));
            assert_eq!(held, expected, "{split} {index}");
        }
    }
}

#[test]
fn objects_lie_in_the_picture_and_boxes_in_the_unit_square() {
    let config =
        scenes::Config { pairs: 400, objects: [1, 6], detector_noise: 1.0, ..scenes::Config::default() };
    let set = opened(config, Split::Train);
    for index in 0..set.len() {
        for object in set.scene(index).expect("a scene").objects {
            assert!(object.x >= object.radius && object.x + object.radius <= 1.000_1, "{object:?}");
            assert!(object.y >= object.radius && object.y + object.radius <= 1.000_1, "{object:?}");
        }
        for region in set.get(index).expect("a pair").regions {
            let [left, top, right, bottom] = region.bounds;
            assert!(
                0.0 <= left && left <= right && right <= 1.0 && 0.0 <= top && top <= bottom && bottom <= 1.0
            );
            assert_eq!((region.features.len(), region.classes.len()), (scenes::FEATURES, scenes::CLASSES));
            assert!((region.classes.iter().sum::<f32>() - 1.0).abs() < 1e-5);
            assert!(region.classes.iter().chain(&region.features).all(|value| value.is_finite()));
        }
    }
}

#[test]
fn a_detector_without_noise_ranks_the_true_class_first() {
    let set =
        opened(scenes::Config { pairs: 50, detector_noise: 0.0, ..scenes::Config::default() }, Split::Val);
    for index in 0..set.len() {
        let scene = set.scene(index).expect("a scene");
        for (object, region) in scene.objects.iter().zip(set.get(index).expect("a pair").regions) {
            let best = (0..scenes::CLASSES).max_by(|a, b| region.classes[*a].total_cmp(&region.classes[*b]));
            assert_eq!(best, Some(scenes::class(object.colour, object.shape)));
            assert_eq!(region.bounds, object.bounds());
        }
    }
}

/// Whether `count` of `n` lies within five standard deviations of probability `p`.
fn plausible(count: usize, n: usize, p: f64) -> bool {
    let (n, count) = (n as f64, count as f64);
    (count - n * p).abs() <= 5.0 * (n * p * (1.0 - p)).sqrt()
}

#[test]
fn caption_noise_comes_at_the_chosen_rates_and_does_what_it_says() {
    let noise = Noise { replaced: 0.2, truncated: 0.15, generic: 0.05 };
    let config = scenes::Config { pairs: 3000, captions: 2, noise, ..scenes::Config::default() };
    let set = opened(config, Split::Train);
    let (mut replaced, mut truncated, mut generic) = (0, 0, 0);
    for index in 0..set.len() {
        let clean = set.clean_captions(index).expect("captions");
        let noisy = set.get(index).expect("a pair").captions;
        for ((fault, clean), noisy) in set.faults(index).into_iter().zip(clean).zip(noisy) {
            match fault {
                None => assert_eq!(noisy, clean),
                Some(Fault::Replaced) => {
                    replaced += 1;
                    assert!(noisy.split(' ').count() >= 3, "{noisy}");
                }
                Some(Fault::Truncated) => {
                    truncated += 1;
                    assert!(noisy.len() < clean.len() && clean.starts_with(&noisy), "{noisy} of {clean}");
                }
                Some(Fault::Generic) => {
                    generic += 1;
                    assert!(mentions(&noisy).is_empty(), "{noisy}");
                }
            }
        }
    }
    assert!(plausible(replaced, 6000, 0.2), "{replaced}");
    assert!(plausible(truncated, 6000, 0.15), "{truncated}");
    assert!(plausible(generic, 6000, 0.05), "{generic}");
}

#[test]
fn replaced_captions_are_mostly_false() {
    let noise = Noise { replaced: 1.0, ..Noise::default() };
    let set =
        opened(scenes::Config { pairs: 500, captions: 1, noise, ..scenes::Config::default() }, Split::Train);
    let accidentally_true = (0..set.len()).filter(|index| {
        let scene = set.scene(*index).expect("a scene");
        let caption = &set.get(*index).expect("a pair").captions[0];
        let mentions = mentions(caption);
        !mentions.is_empty() && mentions.iter().all(|(_, mention)| !fitting(&scene, mention).is_empty())
    });
    assert!(accidentally_true.count() < 25);
}

#[test]
fn tags_are_true_without_noise_and_wrong_at_the_chosen_rate_with_it() {
    let wrong = |tag_noise| {
        let config = scenes::Config { pairs: 2000, objects: [2, 2], tag_noise, ..scenes::Config::default() };
        let set = opened(config, Split::Train);
        let mut wrong = 0;
        for index in 0..set.len() {
            let scene = set.scene(index).expect("a scene");
            let mut tags = set.get(index).expect("a pair").tags;
            for object in scene.objects {
                let tag = format!("{} {}", object.colour.word(), object.shape.word());
                match tags.iter().position(|given| *given == tag) {
                    Some(place) => drop(tags.swap_remove(place)),
                    None => wrong += 1,
                }
            }
        }
        wrong
    };
    assert_eq!(wrong(0.0), 0);
    let count = wrong(0.3);
    assert!(plausible(count, 4000, 0.3), "{count}");
}

#[test]
fn the_class_is_the_shape_or_the_colour_of_the_largest_object() {
    let of = |class| opened(scenes::Config { pairs: 50, class, ..scenes::Config::default() }, Split::Test);
    let (shapes, colours) = (of(scenes::Class::Shape), of(scenes::Class::Colour));
    for index in 0..50 {
        let scene = shapes.scene(index).expect("a scene");
        let largest = scene.objects.iter().max_by(|a, b| a.radius.total_cmp(&b.radius)).expect("an object");
        let class = |set: &scenes::Scenes| set.get(index).expect("a pair").category.expect("a class");
        assert_eq!(class(&shapes), largest.shape.word());
        assert_eq!(class(&colours), largest.colour.word());
    }
    assert_eq!(shapes.classes().expect("classes").len(), Shape::ALL.len());
    assert!(colours.classes().expect("classes").contains(&"purple".to_owned()));
    assert_ne!(shapes.fingerprint(), colours.fingerprint());
}

#[test]
fn most_test_captions_name_one_picture() {
    let set = opened(scenes::Config { pairs: 1000, ..scenes::Config::default() }, Split::Test);
    let captions: HashSet<String> =
        (0..1000).map(|index| set.get(index).expect("a pair").captions[0].clone()).collect();
    assert!(captions.len() > 950, "{} different captions", captions.len());
}

#[test]
fn different_attributes_give_different_pictures() {
    let set = opened(scenes::Config { pairs: 300, ..scenes::Config::default() }, Split::Train);
    let pictures: HashSet<Vec<u8>> =
        (0..300).map(|index| set.get(index).expect("a pair").picture.rgb).collect();
    assert_eq!(pictures.len(), 300);
}

#[test]
fn settings_out_of_range_are_refused_with_their_key() {
    let default = scenes::Config::default;
    let noise = Noise { replaced: 0.7, truncated: 0.7, generic: 0.0 };
    for (config, key) in [
        (scenes::Config { objects: [0, 2], ..default() }, "scenes.objects"),
        (scenes::Config { objects: [3, 2], ..default() }, "scenes.objects"),
        (scenes::Config { pairs: 0, ..default() }, "scenes.pairs"),
        (scenes::Config { size: 4, ..default() }, "scenes.size"),
        (scenes::Config { captions: 0, ..default() }, "scenes.captions"),
        (scenes::Config { noise, ..default() }, "scenes.noise"),
        (scenes::Config { tag_noise: f32::NAN, ..default() }, "scenes.tag_noise"),
        (scenes::Config { detector_noise: -1.0, ..default() }, "scenes.detector_noise"),
        (scenes::Config { hold_out: vec![(Colour::Red, Shape::Star); 2], ..default() }, "scenes.hold_out"),
    ] {
        let error = config.open(Split::Train).expect_err("refused").to_string();
        assert!(error.contains(&format!("`{key}`")) && error.contains("help:"), "{error}");
    }
}

#[test]
fn a_pair_outside_the_dataset_is_an_error() {
    let set = opened(scenes::Config { pairs: 3, ..scenes::Config::default() }, Split::Train);
    assert!(matches!(set.get(3), Err(Error::Index { index: 3, len: 3, .. })));
}
