//! Questions, statements, hypotheses and expressions: truth, balance, words.

use std::collections::{BTreeMap, BTreeSet};

use vlp_bench::data::collate::{Drawn, Encode, Layout, collate};
use vlp_bench::data::combine::Concat;
use vlp_bench::data::scenes::{self, Scene};
use vlp_bench::data::tasks::{Config, Posed, Task, Tasks};
use vlp_bench::data::vocabulary::Vocabulary;
use vlp_bench::data::{Asked, Dataset, Field, Source, Split, augment};
use vlp_bench::kernels::random::Key;

use super::{Hashing, LAYOUT};

const TASKS: [Task; 4] = [Task::Questions, Task::Statements, Task::Hypotheses, Task::Expressions];

fn opened(task: Task, split: Split, pairs: usize) -> Tasks {
    Config { pairs, ..Config::default() }.open(task, split).expect("a valid configuration")
}

/// Words and the right answer of every example, without its pictures.
fn answered(task: Task, split: Split, pairs: usize) -> Vec<(String, String)> {
    let set = opened(task, split, pairs);
    let answered = |index| match set.posed(index).expect("an example") {
        Posed::Question(question, _, answer) => (question.text(), answer.to_owned()),
        Posed::Statement(statement, _, truth) => (statement.text(), truth.to_string()),
        Posed::Hypothesis(hypothesis, _, verdict) => (hypothesis.text(), verdict.to_owned()),
        Posed::Expression(noun, _, target) => (noun.text(), target.to_string()),
    };
    (0..pairs).map(answered).collect()
}

fn asked(set: &Tasks, index: usize) -> Asked {
    set.get(index).expect("an example").asked.expect("something is asked")
}

/// What the words between two others are.
fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    text.strip_prefix(before)?.strip_suffix(after)
}

/// The numbers of the objects that have every attribute that a phrase names.
fn described(scene: &Scene, phrase: &str) -> Vec<usize> {
    let words: Vec<&str> =
        phrase.split(' ').filter(|word| !["a", "an", "the", "object"].contains(word)).collect();
    let has = |object: &scenes::Object, word: &&str| {
        [object.shape.word(), object.colour.word(), object.size.word(), object.material.word()].contains(word)
    };
    (0..scene.objects.len())
        .filter(|&number| words.iter().all(|word| has(&scene.objects[number], word)))
        .collect()
}

#[test]
fn an_example_is_a_function_of_seed_split_and_index() {
    for task in TASKS {
        let set = opened(task, Split::Test, 8);
        let all = |set: &Tasks| (0..8).map(|index| set.get(index).expect("an example")).collect::<Vec<_>>();
        assert_eq!(all(&set), all(&opened(task, Split::Test, 8)));
        let other =
            Config { seed: 1, pairs: 8, ..Config::default() }.open(task, Split::Test).expect("opened");
        assert_ne!(all(&set), all(&other));
        assert_ne!(set.fingerprint(), other.fingerprint());
        assert!(set.get(8).is_err());
    }
}

#[test]
fn answers_are_right_to_who_reads_the_words_and_looks_at_the_scene() {
    let set = opened(Task::Questions, Split::Train, 1500);
    let mut seen = BTreeMap::new();
    for index in 0..set.len() {
        let Posed::Question(question, scene, answer) = set.posed(index).expect("an example") else {
            panic!("a question");
        };
        let text = question.text();
        let only = |phrase: &str| match described(&scene, phrase)[..] {
            [number] => &scene.objects[number],
            _ => panic!("{text}: {phrase} is ambiguous"),
        };
        let right = if let Some(phrase) = between(&text, "is there ", "?") {
            let there = !described(&scene, phrase).is_empty();
            if there { "yes" } else { "no" }
        } else if let Some(shapes) = between(&text, "what is the amount of ", "?") {
            let shape =
                shapes.strip_suffix("es").filter(|_| shapes == "crosses").or(shapes.strip_suffix('s'));
            let count = described(&scene, shape.expect("a plural")).len();
            ["zero", "one", "two", "three", "four"][count]
        } else if let Some(phrase) = between(&text, "what color is the ", "?") {
            only(phrase).colour.word()
        } else if let Some(phrase) = between(&text, "what shape is the ", "?") {
            only(phrase).shape.word()
        } else if let Some(phrase) = between(&text, "is the ", " small or large?") {
            only(phrase).size.word()
        } else if let Some(phrase) = between(&text, "is the ", " plain, striped, dotted or shiny?") {
            only(phrase).material.word()
        } else if let Some(phrases) = between(&text, "where is the ", "?") {
            let (first, second) = phrases.split_once(", from the ").expect("two objects");
            let (first, second) = (only(first), only(second));
            match (first.x - second.x, first.y - second.y) {
                (x, y) if x.abs() > y.abs() => {
                    if x < 0.0 {
                        "left"
                    } else {
                        "right"
                    }
                }
                (_, y) => {
                    if y < 0.0 {
                        "above"
                    } else {
                        "below"
                    }
                }
            }
        } else if let Some(phrases) = between(&text, "do the ", " have one color?") {
            let (first, second) = phrases.split_once(" and the ").expect("two objects");
            if only(first).colour == only(second).colour { "yes" } else { "no" }
        } else {
            continue;
        };
        assert_eq!(answer, right, "{text}");
        *seen.entry(question.kind()).or_insert(0) += 1;
    }
    assert!(seen.len() == 8 && seen.values().all(|&count| count > 50), "{seen:?}");
}

#[test]
fn statements_are_true_of_two_pairs_and_false_of_two() {
    let few = Config { pairs: 400, objects: [1, 2], ..Config::default() };
    let few = few.open(Task::Statements, Split::Test).expect("a valid configuration");
    for set in [opened(Task::Statements, Split::Train, 400), few] {
        true_of_two_and_false_of_two(&set);
    }
}

fn true_of_two_and_false_of_two(set: &Tasks) {
    let mut kinds = BTreeSet::new();
    for group in 0..set.len() / 4 {
        let mut truths = Vec::new();
        let mut texts = BTreeSet::new();
        for index in 4 * group..4 * group + 4 {
            let Posed::Statement(statement, scenes, truth) = set.posed(index).expect("an example") else {
                panic!("a statement");
            };
            let text = statement.text();
            if let Some(phrase) = between(&text, "there is ", " in one picture, not in the other.") {
                let [left, right] = scenes.each_ref().map(|scene| !described(scene, phrase).is_empty());
                assert_eq!(truth, left != right, "{text}");
            }
            assert_eq!(statement.truth(&scenes), truth, "{text}");
            truths.push(truth);
            texts.insert(text);
            kinds.insert(statement.kind());
        }
        truths.sort_unstable();
        assert_eq!((truths, texts.len()), (vec![false, false, true, true], 1));
    }
    assert_eq!(kinds, Task::Statements.kinds().iter().copied().collect());
}

#[test]
fn an_expression_means_one_object_and_any_of_them() {
    let set = opened(Task::Expressions, Split::Train, 1000);
    let mut share = 0.0;
    for index in 0..set.len() {
        let Posed::Expression(noun, scene, target) = set.posed(index).expect("an example") else {
            panic!("an expression");
        };
        assert_eq!(described(&scene, &noun.text()), [target]);
        share += f64::from(u8::from(target == 0)) - 1.0 / scene.objects.len() as f64;
    }
    assert!(share.abs() < 50.0, "the first object is meant too often or too seldom: {share}");
}

/// Who has read the training examples without looking at a picture gains nothing in the test examples.
#[test]
fn words_alone_answer_no_better_than_chance() {
    for (task, train, test) in
        [(Task::Questions, 4000, 1600), (Task::Statements, 2000, 1600), (Task::Hypotheses, 2400, 1500)]
    {
        let mut known: BTreeMap<String, BTreeMap<String, u32>> = BTreeMap::new();
        for (text, answer) in answered(task, Split::Train, train) {
            *known.entry(text).or_default().entry(answer).or_default() += 1;
        }
        let majority = |counts: &BTreeMap<String, u32>| {
            counts.iter().max_by_key(|(_, count)| **count).map(|(answer, _)| answer.clone())
        };
        let (mut right, mut counted, mut chance) = (0.0, 0.0, 0.0);
        let set = opened(task, Split::Test, test);
        for (index, (text, answer)) in answered(task, Split::Test, test).into_iter().enumerate() {
            let Some(guess) = known.get(&text).and_then(majority) else { continue };
            let choices = match (task, asked(&set, index).kind) {
                (Task::Questions, "color") => 10,
                (Task::Questions, "shape") => 9,
                (Task::Questions, "material" | "where") => 4,
                (Task::Questions, "count") => 5,
                (Task::Hypotheses, _) => 3,
                _ => 2,
            };
            counted += 1.0;
            chance += 1.0 / f64::from(choices);
            right += f64::from(u8::from(guess == answer));
        }
        assert!(counted > 400.0, "{task:?}: {counted}");
        let (right, chance) = (100.0 * right / counted, 100.0 * chance / counted);
        println!("{task:?}: words alone {right:.1} %, chance {chance:.1} %, of {counted}");
        assert!(right <= chance + 3.0, "{task:?}: {right} % without pictures, chance is {chance} %");
    }
}

#[test]
fn equal_words_occur_with_different_answers() {
    for (task, pairs) in [(Task::Questions, 600), (Task::Statements, 400), (Task::Hypotheses, 600)] {
        let all = answered(task, Split::Train, pairs);
        for group in all.chunks(task.repeats()) {
            let answers: BTreeSet<&str> = group.iter().map(|(_, answer)| answer.as_str()).collect();
            assert!(group.iter().all(|(text, _)| *text == group[0].0));
            assert_eq!(answers.len(), if task == Task::Statements { 2 } else { group.len() }, "{group:?}");
        }
    }
}

#[test]
fn every_word_and_every_answer_is_one_piece_and_texts_fit() {
    let vocabulary = Vocabulary::shipped().expect("the vocabulary");
    let whole = |text: &str| {
        let encoding = vocabulary.encode(text, 64).expect("spelt");
        let pieces: Vec<String> = vocabulary.text(&encoding.ids).split(' ').map(str::to_owned).collect();
        let starts: usize = encoding.word_starts.iter().map(|start| usize::from(*start)).sum();
        assert_eq!(starts, encoding.ids.len() - 2, "{text}: {pieces:?}");
        encoding.ids.len()
    };
    for task in [Task::Questions, Task::Statements, Task::Hypotheses, Task::Expressions] {
        let most = answered(task, Split::Train, 900).iter().map(|(text, _)| whole(text)).max();
        assert!(most <= Some(24), "{task:?}: {most:?}");
    }
    Task::Questions.answers().iter().for_each(|answer| assert_eq!(whole(answer), 3));
}

#[test]
fn every_example_has_the_fields_and_an_answer_of_the_list() {
    for task in TASKS {
        let set = opened(task, Split::Val, 12);
        let (fields, answers) = (set.fields(), set.answers());
        assert_eq!(answers.iter().collect::<BTreeSet<_>>().len(), answers.len(), "an answer twice");
        for index in 0..set.len() {
            let example = set.get(index).expect("an example");
            let Asked { kind, answer, target, second } = example.asked.expect("something is asked");
            assert!(task.kinds().is_empty() || task.kinds().contains(&kind));
            assert_eq!(
                answer.is_some(),
                fields.contains(&Field::Answer) || fields.contains(&Field::Entailment)
            );
            assert!(answer.is_none_or(|answer| answers.contains(&answer)));
            assert_eq!(target.is_some(), fields.contains(&Field::Target));
            assert!(target.is_none_or(|target| target < example.regions.len()));
            assert_eq!(second.is_some(), fields.contains(&Field::SecondImage));
            assert!(
                second.is_none_or(|second| second.picture != example.picture && !second.regions.is_empty())
            );
        }
    }
}

#[test]
fn a_batch_has_what_was_asked_and_both_pictures_whole() {
    let set = opened(Task::Statements, Split::Train, 4);
    let augment = augment::Config { crop: Some([0.3, 0.5]), flip: true, ..augment::Config::none() };
    let draw = |index| {
        let mut example = set.get(index).expect("an example");
        let caption = example.captions[0].clone();
        let objects = example.regions.len();
        augment.view(&mut example, &caption, LAYOUT.size, Key::new(0, 0, "test")).expect("seen");
        assert_eq!(example.regions.len(), objects, "a crop took a region away");
        Drawn { index, example, caption }
    };
    let pairs: Vec<Drawn> = (0..4).map(draw).collect();
    let batch = collate(&pairs, &Hashing, Layout { words: 24, ..LAYOUT }).expect("a batch");
    let second = batch.second.as_ref().expect("second pictures");
    assert_eq!((second.size, &second.ids, &second.captions), (4, &batch.ids, &batch.captions));
    assert_ne!(second.pixels, batch.pixels);
    assert!(second.second.is_none() && second.regions.is_some());
    assert_eq!(batch.answers.iter().flatten().filter(|answer| *answer == "true").count(), 2);
    assert!(batch.kinds.iter().all(|kind| Task::Statements.kinds().contains(kind)));
}

#[test]
fn questions_beside_captions_lose_what_captions_have_not() {
    let scenes = Source::Scenes(scenes::Config { pairs: 3, ..Default::default() });
    let parts = vec![
        Source::Statements(Config { pairs: 4, ..Default::default() }).open(Split::Train).expect("statements"),
        Source::Questions(Config { pairs: 4, ..Default::default() }).open(Split::Train).expect("questions"),
    ];
    let both = Concat::new(parts.clone()).expect("two sources");
    assert!(both.fields().contains(&Field::Answer) && !both.fields().contains(&Field::SecondImage));
    let statement = both.get(0).expect("a statement").asked.expect("asked");
    assert!(statement.answer.is_some() && statement.second.is_none());
    assert_eq!(both.answers()[..2], ["false", "true"]);
    assert_eq!(both.answers().len(), 2 + Task::Questions.answers().len());
    let with_captions = Concat::new([parts, vec![scenes.open(Split::Train).expect("scenes")]].concat());
    let asked = with_captions.expect("three sources").get(0).expect("a pair").asked.expect("asked");
    assert_eq!((asked.answer, asked.second), (None, None));
}

#[test]
fn kinds_leave_only_words_of_these_kinds() {
    let kinds = |task: Task, kinds: &[&str]| {
        let kinds = kinds.iter().map(|kind| (*kind).to_owned()).collect();
        Config { pairs: 40, kinds, ..Config::default() }.open(task, Split::Train).expect("opened")
    };
    let seen = |set: &Tasks| -> BTreeSet<String> {
        let asked = (0..40).map(|index| set.get(index).expect("an example").asked.expect("asked"));
        asked.map(|asked| asked.kind.to_owned()).collect()
    };
    assert_eq!(seen(&kinds(Task::Statements, &["both"])), BTreeSet::from(["both".to_owned()]));
    assert_eq!(seen(&kinds(Task::Statements, &["both", "more"])).len(), 2);
    // Still true of two and false of two.
    let set = kinds(Task::Statements, &["apart"]);
    let truths = (0..4).filter(|index| matches!(set.posed(*index), Ok(Posed::Statement(_, _, true)))).count();
    assert_eq!(truths, 2);
    for task in [Task::Questions, Task::Hypotheses] {
        let first = task.kinds()[0];
        assert_eq!(seen(&kinds(task, &[first])), BTreeSet::from([first.to_owned()]));
    }
}

#[test]
fn settings_outside_their_range_are_refused_under_the_name_of_the_source() {
    for (config, words) in [
        (Config { kinds: vec!["bot".to_owned()], ..Config::default() }, "`hypotheses.kinds` has `bot`"),
        (Config { objects: [1, 3], ..Config::default() }, "`hypotheses.objects` is [1, 3]"),
        (Config { objects: [2, 7], ..Config::default() }, "`hypotheses.objects` is [2, 7]"),
        (Config { pairs: 0, ..Config::default() }, "`hypotheses.pairs` is 0"),
        (Config { tag_noise: 2.0, ..Config::default() }, "`hypotheses.tag_noise` is 2"),
    ] {
        let error = config.open(Task::Hypotheses, Split::Train).expect_err("refused").to_string();
        assert!(error.contains(words), "{error}");
    }
    let one = Config { objects: [1, 1], ..Config::default() }.open(Task::Statements, Split::Train);
    let error = one.expect_err("refused").to_string();
    assert!(error.contains("from 1, and the greatest, from 2 to 6"), "{error}");
}
