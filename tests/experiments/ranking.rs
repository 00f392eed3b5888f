//! Ranks, chance and sampling error against their definitions.

use proptest::prelude::*;
use vlp_bench::experiments::evaluate::ranking::{Place, Places, place, sampling_error, top};

fn placed(scores: &[f32], right: &[u32]) -> Place {
    place((0..).zip(scores.iter().copied()), right)
}

fn places(ranks: &[usize], candidates: usize) -> Places {
    Places {
        places: ranks.iter().map(|&rank| Place { rank, tied: false }).collect(),
        right: vec![1; ranks.len()],
        owners: (0..ranks.len() as u32).collect(),
        candidates,
    }
}

#[test]
fn a_tied_competitor_ranks_ahead() {
    assert_eq!(placed(&[0.3, 0.3, 0.1], &[0]), Place { rank: 2, tied: true });
    assert_eq!(placed(&[0.3, 0.2, 0.1], &[0]), Place { rank: 1, tied: false });
    assert_eq!(placed(&[0.5; 40], &[7]), Place { rank: 40, tied: true });
}

#[test]
fn the_best_of_several_right_answers_counts_and_the_others_do_not_stand_in_its_way() {
    assert_eq!(placed(&[0.1, 0.9, 0.8, 0.7], &[0, 2, 3]), Place { rank: 2, tied: false });
    assert_eq!(placed(&[0.9, 0.9, 0.1], &[0, 1]), Place { rank: 1, tied: false });
}

proptest! {
    #[test]
    fn the_rank_is_the_place_in_the_order_that_favours_competitors(
        scores in prop::collection::vec((0u8..6).prop_map(f32::from), 2..30),
        right in prop::collection::btree_set(0u32..30, 1..4),
    ) {
        let right: Vec<u32> = right.into_iter().map(|at| at % scores.len() as u32).collect();
        let order = top(&scores, &right, scores.len());
        let first = order.iter().position(|candidate| right.contains(candidate)).unwrap();
        prop_assert_eq!(placed(&scores, &right).rank, first + 1);
        for count in 0..scores.len() {
            prop_assert_eq!(&top(&scores, &right, count), &order[..count]);
        }
    }
}

#[test]
fn chance_is_the_share_of_random_orders_that_hit() {
    // All subsets of size k among n candidates, r of which are right.
    for (n, r, k) in [(6u32, 1u32, 1u32), (6, 2, 3), (7, 3, 2), (5, 2, 4), (4, 1, 10)] {
        let drawn = k.min(n);
        let (mut all, mut hits) = (0, 0);
        for set in 0u32..1 << n {
            if set.count_ones() == drawn {
                all += 1;
                hits += u32::from(set & ((1 << r) - 1) != 0);
            }
        }
        let places = Places { right: vec![r as usize], ..places(&[1], n as usize) };
        let exact = f64::from(hits) / f64::from(all);
        assert!((places.chance(k as usize) - exact).abs() < 1e-12, "{n} {r} {k}");
    }
}

#[test]
fn the_sampling_error_of_single_queries_is_binomial() {
    let ranks: Vec<usize> = (0..50).map(|query| if query % 5 == 0 { 1 } else { 9 }).collect();
    let places = places(&ranks, 50);
    let error = sampling_error(&places.pulls(1, 50));
    assert!((error - (0.2f64 * 0.8 / 50.0).sqrt()).abs() < 1e-12);
}

#[test]
fn captions_that_always_agree_count_as_one_draw() {
    let one = places(&[1, 9, 9, 1, 9], 5);
    let ranks: Vec<usize> = [1, 9, 9, 1, 9].into_iter().flat_map(|rank| [rank; 4]).collect();
    let owners = (0..20).map(|query| query / 4).collect();
    let four = Places { owners, ..places(&ranks, 5) };
    let [one, four] = [one, four].map(|places| sampling_error(&places.pulls(1, 5)));
    assert!((one - four).abs() < 1e-12);
}
