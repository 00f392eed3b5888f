//! The layout of batches and evaluation in a fixed order.

use vlp_bench::data::collate::{Drawn, HostBatch, Layout, collate, key, plain};
use vlp_bench::data::loader::Evaluation;
use vlp_bench::data::{Dataset, Example, Split, augment, scenes};

use super::{Hashing, LAYOUT, opened};

fn drawn(example: Example, index: usize) -> Drawn {
    Drawn { index, caption: example.captions[0].clone(), example }
}

#[test]
fn a_batch_has_the_layout_it_was_asked_for() {
    let set = opened(scenes::Config { pairs: 6, size: 16, ..scenes::Config::default() }, Split::Train);
    let pairs: Vec<Drawn> = (0..6).map(|index| drawn(set.get(index).expect("a pair"), index)).collect();
    let batch = collate(&pairs, &Hashing, Layout { tags: 6, ..LAYOUT }).expect("a batch");
    assert_eq!((batch.size, batch.words), (6, 18));
    assert_eq!(batch.pixels.len(), 6 * 3 * 16 * 16);
    for column in [batch.ids.len(), batch.mask.len(), batch.segments.len(), batch.word_starts.len()] {
        assert_eq!(column, 6 * 18);
    }
    for row in 0..6 {
        let at = row * 18..(row + 1) * 18;
        let (ids, mask, segments) = (&batch.ids[at.clone()], &batch.mask[at.clone()], &batch.segments[at]);
        assert_eq!(ids[0], 2);
        assert_eq!(ids.iter().filter(|id| **id == 3).count(), 2, "the caption and the tags each end");
        assert!(ids.iter().zip(mask).all(|(id, mask)| (*id != 0) == (*mask == 1.0)));
        assert!(segments.contains(&1));
        let first_tag = segments.iter().position(|segment| *segment == 1).expect("tags");
        assert_eq!(ids[first_tag - 1], 3, "tags follow the caption's end");
    }
    let regions = batch.regions.expect("regions");
    assert_eq!(regions.features.len(), 6 * regions.count * scenes::FEATURES);
    assert_eq!(regions.boxes.len(), 6 * regions.count * 7);
    let expected: usize = pairs.iter().map(|pair| pair.example.regions.len()).sum();
    assert_eq!(regions.mask.iter().sum::<f32>(), expected as f32);
}

#[test]
fn pixels_are_normalised_channel_by_channel() {
    let set = opened(scenes::Config { pairs: 1, size: 16, ..scenes::Config::default() }, Split::Train);
    let pair = drawn(set.get(0).expect("a pair"), 0);
    let batch = collate(std::slice::from_ref(&pair), &Hashing, LAYOUT).expect("a batch");
    for (channel, y, x) in [(0, 0, 0), (1, 7, 3), (2, 15, 15)] {
        let byte = pair.example.picture.rgb[(y * 16 + x) * 3 + channel];
        let expected = (f32::from(byte) / 255.0 - augment::MEAN[channel]) / augment::DEVIATION[channel];
        assert!((batch.pixels[channel * 256 + y * 16 + x] - expected).abs() < 1e-5);
    }
}

#[test]
fn equal_captions_have_equal_keys() {
    assert_eq!(plain("  A  red Star. "), "a red star");
    assert_eq!(key(&plain("A red star.")), key(&plain("a red  star")));
    assert_ne!(key("a red star"), key("a red moon"));
}

#[test]
fn evaluation_gives_every_pair_once_in_order() {
    let set = opened(scenes::Config { pairs: 23, ..scenes::Config::default() }, Split::Test);
    let batches: Vec<HostBatch> =
        Evaluation::new(&set, &Hashing, LAYOUT, 8).map(|batch| batch.expect("a batch")).collect();
    assert_eq!(batches.iter().map(|batch| batch.size).collect::<Vec<_>>(), [8, 8, 7]);
    let indices: Vec<usize> = batches.iter().flat_map(|batch| batch.indices.clone()).collect();
    assert_eq!(indices, (0..23).collect::<Vec<_>>());
    assert_eq!(batches[0].captions[0], set.get(0).expect("a pair").captions[0]);
}
