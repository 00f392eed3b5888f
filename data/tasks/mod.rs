//! What systems are fine-tuned on, on procedural scenes with exact answers: questions, statements about two pictures,
//! hypotheses, and expressions that mean a region.
//!
//! An example is a pure function of (seed, split, index). Words are drawn apart from what is right, and the same words
//! occur with pictures of different answers, as VQA v2 (Goyal et al., arXiv:1612.00837) and NLVR2 (Suhr et al.,
//! arXiv:1811.00491) balance theirs: who does not look at the picture guesses.

mod expression;
mod hypothesis;
mod noun;
mod question;
mod statement;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::pack::hexadecimal;
use super::scenes::{self, Look, Scene};
use super::{Asked, Dataset, Error, Example, Field, Result, Split};
use crate::kernels::random::Key;
pub use hypothesis::Hypothesis;
pub use noun::{Attribute, Noun};
pub use question::Question;
pub use statement::Statement;

/// Raised whenever equal configurations would give other examples than before.
const VERSION: u32 = 1;
/// Draws after which a scene is taken not to exist; one in ten belongs to the rarest split.
const ATTEMPTS: u64 = 20_000;

/// `questions: {pairs: 4000}`; likewise `statements`, `hypotheses` and `expressions`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How many examples.
    pub pairs: usize,
    /// Width and height of a picture in pixels.
    pub size: u32,
    /// Which scenes.
    pub seed: u64,
    /// The least and the greatest number of objects, from 2 to 6; statements, of two scenes, may have 1 at the least.
    pub objects: [usize; 2],
    /// Only words of these kinds, of those that the task has; empty: of all.
    pub kinds: Vec<String>,
    /// The share of tags that are wrong.
    pub tag_noise: f32,
    /// The standard deviation of the detector's error; features vary by about 1 between objects.
    pub detector_noise: f32,
}

impl Default for Config {
    fn default() -> Self {
        let scenes::Config { size, seed, tag_noise, detector_noise, .. } = scenes::Config::default();
        let kinds = Vec::new();
        Self { pairs: 10_000, size, seed, objects: [2, 4], kinds, tag_noise, detector_noise }
    }
}

/// What is asked of the pictures.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Task {
    /// Questions with an answer from a closed list (VQA).
    Questions,
    /// Statements about two pictures that are true or false (NLVR2).
    Statements,
    /// Hypotheses that a picture entails, contradicts or leaves open (SNLI-VE).
    Hypotheses,
    /// Expressions that mean one of the regions (RefCOCO+).
    Expressions,
}

impl Task {
    /// The key under `data:`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Questions => "questions",
            Self::Statements => "statements",
            Self::Hypotheses => "hypotheses",
            Self::Expressions => "expressions",
        }
    }

    /// One line: what the examples are.
    pub fn description(self) -> &'static str {
        match self {
            Self::Questions => "Questions about scenes, each with two pictures of different answers (VQA)",
            Self::Statements => {
                "Statements about two scenes, each true of two pairs and false of two (NLVR2)"
            }
            Self::Hypotheses => "Hypotheses about scenes: entailed, contradicted or left open (SNLI-VE)",
            Self::Expressions => {
                "Expressions that mean one of the objects of a scene by its looks (RefCOCO+)"
            }
        }
    }

    /// The fewest objects that a scene may have: one alone leaves questions, hypotheses and expressions nothing to tell
    /// apart; a statement has two scenes. Not all scenes may have one: of those the smaller splits have too few.
    fn fewest(self) -> usize {
        match self {
            Self::Statements => 1,
            Self::Questions | Self::Hypotheses | Self::Expressions => 2,
        }
    }

    /// Every kind of words, as metrics name them; none where the words are of one kind.
    pub fn kinds(self) -> &'static [&'static str] {
        match self {
            Self::Questions => &question::KINDS,
            Self::Statements => &statement::KINDS,
            Self::Hypotheses => &hypothesis::KINDS,
            Self::Expressions => &[],
        }
    }

    /// The closed list of answers.
    pub fn answers(self) -> Vec<String> {
        match self {
            Self::Questions => question::answers(),
            Self::Statements => statement::TRUTHS.map(str::to_owned).to_vec(),
            Self::Hypotheses => hypothesis::VERDICTS.map(str::to_owned).to_vec(),
            Self::Expressions => Vec::new(),
        }
    }

    /// How many examples in a row have the same words.
    pub fn repeats(self) -> usize {
        match self {
            Self::Questions => 2,
            Self::Statements => 4,
            Self::Hypotheses => 3,
            Self::Expressions => 1,
        }
    }
}

impl Config {
    /// Opens one split.
    ///
    /// # Errors
    /// If a setting is outside its range.
    pub fn open(&self, task: Task, split: Split) -> Result<Tasks> {
        let [least, most] = self.objects;
        let fewest = task.fewest();
        if !(fewest <= least && least <= most && (2..=6).contains(&most)) {
            return Err(Error::setting(
                format!("{}.objects", task.name()),
                format!("is [{least}, {most}]"),
                format!(
                    "give the least number of objects, from {fewest}, and the greatest, from 2 to 6, e.g. [2, 4]"
                ),
            ));
        }
        if let Some(kind) = self.kinds.iter().find(|kind| !task.kinds().contains(&kind.as_str())) {
            let there = match task.kinds() {
                [] => "leave it out: they are all of one kind".to_owned(),
                kinds => format!("name some of {}", kinds.join(", ")),
            };
            return Err(Error::setting(format!("{}.kinds", task.name()), format!("has `{kind}`"), there));
        }
        self.scenes().check(task.name())?;
        Ok(Tasks { config: self.clone(), task, split })
    }

    /// The scenes that are asked about.
    fn scenes(&self) -> scenes::Config {
        let Self { pairs, size, seed, objects, tag_noise, detector_noise, .. } = *self;
        scenes::Config { pairs, size, seed, objects, tag_noise, detector_noise, ..Default::default() }
    }
}

/// One split of a task.
#[derive(Clone, Debug)]
pub struct Tasks {
    config: Config,
    task: Task,
    split: Split,
}

/// The first words of one of these kinds, of any kind if there are none.
fn of_kind<T>(kinds: &[String], mut draw: impl FnMut() -> T, kind: impl Fn(&T) -> &'static str) -> T {
    loop {
        let words = draw();
        if kinds.is_empty() || kinds.iter().any(|one| one == kind(&words)) {
            return words;
        }
    }
}

/// What is behind an example.
#[derive(Clone, Debug, PartialEq)]
pub enum Posed {
    /// A question, a scene and the answer.
    Question(Question, Scene, &'static str),
    /// A statement, the left and the right scene, and whether it is true.
    Statement(Statement, [Scene; 2], bool),
    /// A hypothesis, a scene and the verdict.
    Hypothesis(Hypothesis, Scene, &'static str),
    /// A description, a scene and the number of the object that is meant.
    Expression(Noun, Scene, usize),
}

impl Tasks {
    fn key(&self, index: usize, purpose: &str) -> Key {
        let task = self.task as u64;
        Key::new(self.config.seed, task, purpose).fold(self.split as u64).fold(index as u64)
    }

    /// A scene in which a question has this answer, if the draw gives one.
    fn answering(&self, key: Key, (question, answer): (Question, &'static str)) -> Option<Scene> {
        let plant = |objects: &mut [_], stream: &mut _| question.plant(answer, objects, stream);
        let scene = Scene::planted(&mut key.stream(), self.split, self.config.objects, &[], plant)?;
        (question.answer(&scene) == Some(answer)).then_some(scene)
    }

    /// The first outcome of many draws.
    fn search<T>(&self, index: usize, draw: impl Fn(Key) -> Option<T>) -> Result<T> {
        let key = self.key(index, "tasks.scene");
        (0..ATTEMPTS).find_map(|attempt| draw(key.fold(attempt))).ok_or_else(|| Error::Example {
            dataset: self.name(),
            index,
            problem: format!("no scene of the {} split suits its words", self.split),
        })
    }

    /// What is behind example `index`.
    ///
    /// # Errors
    /// If the index is not below the number of examples.
    pub fn posed(&self, index: usize) -> Result<Posed> {
        let Config { pairs, objects, ref kinds, .. } = self.config;
        if index >= pairs {
            return Err(Error::Index { dataset: self.name(), index, len: pairs });
        }
        let (most, repeats) = (objects[1], self.task.repeats());
        let words = self.key(index / repeats, "tasks.words");
        let (stream, member) = (&mut words.fold(0).stream(), index % repeats);
        // The answers of the members of a group: all different, in a random order.
        let turn = |answers: usize| words.fold(1).permutation(answers)[member % answers] as usize;
        match self.task {
            Task::Questions => {
                let question = of_kind(kinds, || Question::draw(stream), Question::kind);
                let answers = question.answers(most);
                let answer = answers[turn(answers.len())];
                let scene = self.search(index, |key| self.answering(key, (question, answer)))?;
                Ok(Posed::Question(question, scene, answer))
            }
            Task::Statements => {
                let statement = of_kind(kinds, || Statement::draw(most, stream), Statement::kind);
                let truth = turn(2) == 1;
                let scenes = self.search(index, |key| {
                    let plan = statement.plan(truth, most, &mut key.fold(0).stream());
                    let scenes = self.two(key, plan)?;
                    (statement.truth(&scenes) == truth).then_some(scenes)
                })?;
                Ok(Posed::Statement(statement, scenes, truth))
            }
            Task::Hypotheses => {
                let hypothesis = of_kind(kinds, || Hypothesis::draw(stream), Hypothesis::kind);
                let verdict = hypothesis::VERDICTS[turn(3)];
                let scene = self.search(index, |key| {
                    let plan = hypothesis.plan(verdict, &mut key.fold(0).stream());
                    let scene = self.answering(key.fold(1), plan)?;
                    (hypothesis.verdict(&scene) == Some(verdict)).then_some(scene)
                })?;
                Ok(Posed::Hypothesis(hypothesis, scene, verdict))
            }
            Task::Expressions => self.search(index, |key| {
                let stream = &mut key.stream();
                let scene = Scene::planted(stream, self.split, objects, &[], expression::plant)?;
                let target = stream.below(scene.objects.len() as u32) as usize;
                let noun = expression::expression(&scene, target, stream)?;
                Some(Posed::Expression(noun, scene, target))
            }),
        }
    }

    /// The left and the right scene of a plan.
    fn two(&self, key: Key, plan: [(Question, &'static str); 2]) -> Option<[Scene; 2]> {
        // Each scene has draws of its own: both would seldom suit at once.
        let one = |side: u64, plan| {
            (0..ATTEMPTS / 10).find_map(|attempt| self.answering(key.fold(1 + side).fold(attempt), plan))
        };
        let [left, right] = plan;
        Some([one(0, left)?, one(1, right)?])
    }

    /// A scene as a model sees it; `number` tells the two scenes of a statement apart.
    fn seen(&self, scene: &Scene, index: usize, number: u64, text: &str) -> Example {
        let look = Look::from(&self.config.scenes());
        let example = look.example(scene, |purpose| self.key(index, purpose).fold(number));
        let id = format!("{}/{}/{}/{index}", self.name(), self.config.seed, self.split);
        Example { id, captions: vec![text.to_owned()], ..example }
    }
}

impl Dataset for Tasks {
    fn name(&self) -> String {
        self.task.name().to_owned()
    }

    fn len(&self) -> usize {
        self.config.pairs
    }

    fn get(&self, index: usize) -> Result<Example> {
        let see = |scene: &Scene, number, text: &str| self.seen(scene, index, number, text);
        let (text, scene, asked) = match self.posed(index)? {
            Posed::Question(question, scene, answer) => {
                let (kind, answer) = (question.kind(), Some(answer.to_owned()));
                (question.text(), scene, Asked { kind, answer, ..Asked::default() })
            }
            Posed::Statement(statement, [left, right], truth) => {
                let (kind, text) = (statement.kind(), statement.text());
                let answer = Some(statement::TRUTHS[usize::from(truth)].to_owned());
                let second = Some(Box::new(see(&right, 1, &text)));
                (text, left, Asked { kind, answer, second, target: None })
            }
            Posed::Hypothesis(hypothesis, scene, verdict) => {
                let (kind, answer) = (hypothesis.kind(), Some(verdict.to_owned()));
                (hypothesis.text(), scene, Asked { kind, answer, ..Asked::default() })
            }
            Posed::Expression(noun, scene, target) => {
                (noun.text(), scene, Asked { target: Some(target), ..Asked::default() })
            }
        };
        Ok(Example { asked: Some(asked), ..see(&scene, 0, &text) })
    }

    fn fields(&self) -> BTreeSet<Field> {
        let mut fields = BTreeSet::from([Field::Pixels, Field::Words, Field::Tags, Field::Regions]);
        match self.task {
            Task::Questions => fields.extend([Field::Answer]),
            Task::Statements => fields.extend([Field::Answer, Field::SecondImage]),
            Task::Hypotheses => fields.extend([Field::Entailment]),
            Task::Expressions => fields.extend([Field::Target]),
        }
        fields
    }

    fn classes(&self) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn answers(&self) -> Vec<String> {
        self.task.answers()
    }

    fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        let versions = format!("{VERSION} of scenes {}", scenes::VERSION);
        hash.update(format!("{} {versions} {} {:?}", self.task.name(), self.split, self.config));
        hexadecimal(&hash.finalize()[..8])
    }

    fn attribution(&self) -> Vec<String> {
        vec!["Procedural scenes, generated by this program; no rights reserved.".to_owned()]
    }
}
