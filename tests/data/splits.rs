//! The splits of the packs: no near-equal picture, no concept, no title and no stem of a name on two sides.

use std::collections::BTreeMap;
use std::f64::consts::PI;
use std::path::Path;

use vlp_bench::data::pack::{Pack, Row};
use vlp_bench::data::{Picture, Split};

const NAMES: [&str; 2] = ["clipart", "emoji"];

fn pack(name: &str) -> Pack {
    Pack::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("data/packs/{name}.zip"))).expect("a pack")
}

fn stored_hash(row: &Row) -> u64 {
    u64::from_str_radix(&row.hash, 16).expect("16 hexadecimal digits")
}

/// Which of the 8 x 8 lowest frequencies of the grey picture, without the constant and the purely horizontal and
/// vertical ones, lie above their median.
fn perceptual_hash(picture: &Picture) -> u64 {
    let side = picture.width as usize;
    let grey: Vec<f64> = picture
        .rgb
        .chunks(3)
        .map(|rgb| 0.299 * f64::from(rgb[0]) + 0.587 * f64::from(rgb[1]) + 0.114 * f64::from(rgb[2]))
        .collect();
    let wave = |frequency: usize, place: usize| {
        (PI * frequency as f64 * (2 * place + 1) as f64 / (2 * side) as f64).cos()
    };
    let mut waves = Vec::new();
    for down in 1..9 {
        let folded: Vec<f64> =
            (0..side).map(|x| (0..side).map(|y| wave(down, y) * grey[y * side + x]).sum()).collect();
        waves.extend((1..9).map(|across| (0..side).map(|x| wave(across, x) * folded[x]).sum::<f64>()));
    }
    let mut sorted = waves.clone();
    sorted.sort_by(f64::total_cmp);
    let median = (sorted[31] + sorted[32]) / 2.0;
    waves.iter().fold(0, |hash, wave| hash << 1 | u64::from(*wave > median))
}

#[test]
fn no_two_splits_have_near_equal_pictures_not_even_of_different_packs() {
    let packs = NAMES.map(pack);
    let near = packs[0].manifest().near;
    assert!(packs.iter().all(|pack| pack.manifest().near == near) && near >= 8);
    let rows = || packs.iter().flat_map(Pack::rows);
    let hashes = |split| -> Vec<(u64, &Row)> {
        rows().filter(|row| row.split == split).map(|row| (stored_hash(row), row)).collect()
    };
    let [train, val, test] = [Split::Train, Split::Val, Split::Test].map(hashes);
    for (one, other) in [(&train, &val), (&train, &test), (&val, &test)] {
        for (hash, row) in one {
            for (other_hash, other_row) in other {
                let distance = (hash ^ other_hash).count_ones();
                assert!(distance > near, "{} and {} differ in {distance} bits", row.id, other_row.id);
            }
        }
    }
}

#[test]
fn the_stored_hashes_are_those_of_the_pictures() {
    for pack in NAMES.map(pack) {
        let (mut seen, mut different) = (0, 0);
        for (number, row) in pack.rows().iter().enumerate().step_by(5) {
            let picture = pack.picture(number).expect("a picture");
            assert_eq!((picture.width, picture.height), (64, 64));
            let distance = (perceptual_hash(&picture) ^ stored_hash(row)).count_ones();
            // Two decoders may differ by a grey level, which can turn waves at the median around.
            assert!(distance <= 4, "{} differs in {distance} bits", row.id);
            seen += 1;
            different += u32::from(distance > 0);
        }
        assert!(different * 20 < seen, "{different} of {seen} hashes differ");
    }
}

/// The split of each key; panics if two rows with the same key are in different ones.
fn assert_one_split_each<'a>(rows: &'a [Row], key: impl Fn(&'a Row) -> String) {
    let mut splits: BTreeMap<String, &Row> = BTreeMap::new();
    for row in rows {
        let first = splits.entry(key(row)).or_insert(row);
        assert_eq!(first.split, row.split, "{} and {} share `{}`", first.id, row.id, key(row));
    }
}

#[test]
fn equal_stems_titles_and_concepts_are_in_one_split() {
    for name in NAMES {
        assert_one_split_each(pack(name).rows(), |row| row.stem.clone());
        assert_one_split_each(pack(name).rows(), |row| row.captions[0].to_lowercase());
    }
    assert_one_split_each(pack("emoji").rows(), |row| {
        row.id.rsplit('/').next().expect("a concept").to_owned()
    });
}

#[test]
fn every_split_has_its_share_and_most_classes() {
    for pack in NAMES.map(pack) {
        for (split, share) in [(Split::Train, 0.8), (Split::Val, 0.1), (Split::Test, 0.1)] {
            let rows: Vec<&Row> = pack.rows().iter().filter(|row| row.split == split).collect();
            let actual = rows.len() as f64 / pack.rows().len() as f64;
            assert!((actual - share).abs() < 0.01, "{split} has {actual}");
            let classes = |rows: &mut dyn Iterator<Item = &Row>| {
                rows.map(|row| row.category.clone()).collect::<std::collections::BTreeSet<_>>().len()
            };
            let (own, all) = (classes(&mut rows.into_iter()), classes(&mut pack.rows().iter()));
            assert!(own * 10 >= all * 8, "{split} has {own} of {all} classes");
        }
    }
}

#[test]
fn the_first_pairs_of_a_pack_are_a_fair_sample_of_it() {
    let pack = pack("emoji");
    let of_style =
        |rows: &[Row], style: &str| rows.iter().filter(|row| row.style.as_deref() == Some(style)).count();
    for style in ["noto", "twemoji", "fluent"] {
        let expected = of_style(pack.rows(), style) as f64 / pack.rows().len() as f64;
        let actual = of_style(&pack.rows()[..500], style) as f64 / 500.0;
        assert!((actual - expected).abs() < 0.1, "{style}: {actual} instead of {expected}");
    }
}
