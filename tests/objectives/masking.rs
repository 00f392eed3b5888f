use proptest::prelude::*;
use vlp_bench::kernels::random::Key;
use vlp_bench::objectives::masking::{Masked, Rule, mask};
use vlp_bench::objectives::patches;
use vlp_bench::token::{MASK, SPECIAL, Specials};

const VOCABULARY: u32 = 30;
const FIRST_WORD: u32 = SPECIAL.len() as u32;

fn rule(probability: f64, whole_word: bool) -> Rule {
    Rule { probability, whole_word, vocabulary: VOCABULARY as usize, every_text: false }
}

/// What is hidden in texts of the program's own vocabulary.
fn hide(ids: &[u32], starts: &[u8], rule: Rule, key: Key) -> Masked {
    mask(ids, starts, ids.len(), rule, &Specials::SHIPPED, key).expect("a vocabulary with [MASK]")
}

/// Tokens of which about one in six is special, and where words begin.
fn texts() -> impl Strategy<Value = Vec<(u32, u8)>> {
    prop::collection::vec((0..VOCABULARY, 0u8..2), 1..60)
}

fn hidden(masked: &Masked, position: usize) -> bool {
    masked.positions.contains(&(position as u32))
}

proptest! {
    #[test]
    fn masks_touch_no_special_token_and_nothing_but_what_they_report(
        text in texts(), probability in 0.01f64..=1.0, whole_word: bool, seed: u64,
    ) {
        let (ids, starts): (Vec<u32>, Vec<u8>) = text.into_iter().unzip();
        let masked = hide(&ids, &starts, rule(probability, whole_word), Key::new(seed, 3, "mask"));
        prop_assert_eq!(masked.positions.len(), masked.targets.len());
        prop_assert!(masked.positions.is_sorted());
        for (position, &id) in ids.iter().enumerate() {
            let now = masked.ids[position];
            if hidden(&masked, position) {
                prop_assert!(id >= FIRST_WORD && (now == MASK || (FIRST_WORD..VOCABULARY).contains(&now)));
            } else {
                prop_assert_eq!(now, id);
            }
        }
        for (position, target) in masked.positions.iter().zip(&masked.targets) {
            prop_assert_eq!(ids[*position as usize], *target);
        }
    }

    #[test]
    fn something_is_hidden_wherever_there_is_a_word(text in texts(), seed: u64) {
        let (ids, starts): (Vec<u32>, Vec<u8>) = text.into_iter().unzip();
        let masked = hide(&ids, &starts, rule(1e-9, false), Key::new(seed, 3, "mask"));
        let words = ids.iter().filter(|&&id| id >= FIRST_WORD).count();
        prop_assert_eq!(masked.positions.len(), words.min(1));
        prop_assert!(masked.positions.iter().all(|&position| masked.ids[position as usize] == MASK));
    }

    #[test]
    fn whole_words_are_hidden_whole(words in prop::collection::vec(1usize..5, 1..30), probability in 1e-9f64..0.9, seed: u64) {
        let ids = vec![FIRST_WORD; words.iter().sum()];
        let starts: Vec<u8> = words.iter().flat_map(|&pieces| (0..pieces).map(|piece| u8::from(piece == 0))).collect();
        let masked = hide(&ids, &starts, rule(probability, true), Key::new(seed, 3, "mask"));
        for position in (1..ids.len()).filter(|&position| starts[position] == 0) {
            prop_assert_eq!(hidden(&masked, position), hidden(&masked, position - 1));
        }
    }
}

/// Whether `count` of `n` lies within five standard deviations of probability `p`.
#[track_caller]
fn assert_share(count: usize, n: usize, p: f64) {
    let (n, deviation) = (n as f64, (n as f64 * p * (1.0 - p)).sqrt());
    assert!((count as f64 - n * p).abs() < 5.0 * deviation, "{count} of {n}, expected a share of {p}");
}

#[test]
fn fifteen_percent_are_hidden_of_which_four_fifths_are_masks_and_a_tenth_stays() {
    // No replacement can equal the original, which is not a word of this vocabulary.
    let ids = vec![VOCABULARY; 200_000];
    for whole_word in [false, true] {
        let starts = vec![1; ids.len()];
        let masked = hide(&ids, &starts, rule(0.15, whole_word), Key::new(1, 2, "mask"));
        let n = masked.positions.len();
        assert_share(n, ids.len(), 0.15);
        let becomes =
            |token: u32| masked.positions.iter().filter(|&&at| masked.ids[at as usize] == token).count();
        assert_share(becomes(MASK), n, 0.8);
        assert_share(becomes(VOCABULARY), n, 0.1);
        for word in FIRST_WORD..VOCABULARY {
            assert_share(becomes(word), n, 0.1 / f64::from(VOCABULARY - FIRST_WORD));
        }
    }
}

#[test]
fn a_mask_is_a_function_of_its_key() {
    let (ids, starts) = (vec![FIRST_WORD; 200], vec![1; 200]);
    let at = |step| hide(&ids, &starts, rule(0.15, false), Key::new(1, step, "mask"));
    assert_eq!(at(5), at(5));
    assert_ne!(at(5), at(6));
}

#[test]
fn special_tokens_are_where_the_vocabulary_has_them() {
    let specials = Specials {
        pad: 9,
        begin: Some(29),
        end: None,
        mask: Some(0),
        unknown: Some(9),
        others: vec![14, 28],
    };
    let special = [0, 9, 14, 28, 29];
    assert_eq!(specials.all(), special);
    let ids: Vec<u32> = (0..20_000).map(|at| at % VOCABULARY).collect();
    let masked =
        mask(&ids, &vec![1; ids.len()], 30, rule(1.0, false), &specials, Key::new(1, 2, "mask")).unwrap();
    assert!(masked.targets.iter().all(|target| !special.contains(target)));
    assert_eq!(masked.targets.len(), ids.iter().filter(|id| !special.contains(id)).count());
    let becomes =
        |token: u32| masked.positions.iter().filter(|&&at| masked.ids[at as usize] == token).count();
    assert_share(becomes(0), masked.targets.len(), 0.8);
    for word in (0..VOCABULARY).filter(|word| !special.contains(word)) {
        assert!(becomes(word) > 0, "{word} replaces nothing");
    }
    for at in &masked.positions {
        assert!(!special[1..].contains(&masked.ids[*at as usize]));
    }
}

#[test]
fn nothing_is_hidden_where_the_vocabulary_has_nothing_to_hide_it_behind() {
    let specials = Specials { mask: None, ..Specials::SHIPPED };
    assert_eq!(mask(&[7, 8], &[1, 1], 2, rule(1.0, false), &specials, Key::new(1, 2, "mask")), None);
}

proptest! {
    #[test]
    fn blocks_hide_at_least_one_patch_and_at_most_their_share(rows in 1usize..20, columns in 1usize..20, share in 0.01f64..1.0, seed: u64) {
        let hidden = patches::blocks([rows, columns], share, Key::new(seed, 0, "blocks"));
        prop_assert_eq!(hidden.len(), rows * columns);
        let count = hidden.iter().filter(|&&hidden| hidden).count();
        prop_assert!(count >= 1 && count <= ((share * (rows * columns) as f64) as usize).max(1));
    }

    #[test]
    fn scattered_patches_are_exactly_their_share(patches in 1usize..300, share in 0.01f64..1.0, seed: u64) {
        let hidden = patches::some(patches, share, Key::new(seed, 0, "some"));
        let count = hidden.iter().filter(|&&hidden| hidden).count();
        prop_assert_eq!(count, ((share * patches as f64) as usize).max(1));
    }
}
