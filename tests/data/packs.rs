//! The packs: what they hold, how they are split, and what happens to a damaged one.

use std::collections::BTreeSet;

use vlp_bench::data::emoji::{self, Concepts};
use vlp_bench::data::{Dataset, Field, Split};

const SPLITS: [Split; 3] = [Split::Train, Split::Val, Split::Test];

#[test]
fn emoji_of_an_unseen_style_have_the_captions_of_the_seen_ones() {
    let open = |style: &str, split| {
        let config = emoji::Config {
            styles: vec![style.to_owned()],
            concepts: Concepts::All,
            pairs: Some(300),
            ..emoji::Config::default()
        };
        config.open(split).expect("emoji")
    };
    let all =
        emoji::Config { styles: vec!["noto".to_owned()], concepts: Concepts::All, ..Default::default() };
    let all = all.open(Split::Train).expect("emoji");
    let seen: BTreeSet<String> =
        (0..all.len()).map(|index| all.get(index).expect("a pair").captions.remove(0)).collect();
    let unseen = open("fluent", Split::Test);
    assert_eq!(unseen.len(), 300);
    let known = (0..300).filter(|index| {
        let pair = unseen.get(*index).expect("a pair");
        assert_eq!(pair.style.as_deref(), Some("fluent"));
        assert_eq!((pair.picture.width, pair.picture.height), (64, 64));
        seen.contains(&pair.captions[0])
    });
    assert!(known.count() > 290);
}

#[test]
fn emoji_offer_what_every_one_of_them_has() {
    for split in SPLITS {
        let set = emoji::Config::default().open(split).expect("emoji");
        assert_eq!(set.fields(), BTreeSet::from([Field::Pixels, Field::Words, Field::Tags, Field::Category]));
        assert_eq!(set.classes().expect("classes").len(), 9);
    }
}
