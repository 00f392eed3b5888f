//! What a run leaves behind for reports: `records.jsonl`, one JSON object a line, written as the run goes.
//!
//! The first line is [`Record::Run`]; a finished run's last is [`Record::Done`], that of a run which stopped on a fault
//! [`Record::Failed`], and another attempt removes it. Reports read these lines and nothing else, so a record carries
//! all that a table or a plot says: what was asked, of what, on which data and machine. Everything but the fields named
//! `seconds`, [`Done`] and [`Header::machine`] is a function of configuration, seed and code.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use super::{Effect, Expect, PaperReference};

/// Raised when the meaning of a field changes; a reader refuses other versions.
pub const FORMAT: u32 = 1;

/// One line of `records.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
pub enum Record {
    /// What is run.
    Run(Box<Header>),
    /// Training figures of some steps, averaged.
    Train(TrainFigures),
    /// One evaluation.
    Evaluation(Evaluation),
    /// How pairs were made that the run learns from.
    Rewritten(Rewritten),
    /// One test pair and what the model makes of it.
    Example(Example),
    /// Why the run stopped before its end.
    Failed(Failed),
    /// The end of a finished run.
    Done(Done),
}

/// What is run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// [`FORMAT`].
    pub format: u32,
    /// The experiment this run is a part of.
    pub experiment: ExperimentRecord,
    /// The arm.
    pub arm: String,
    /// What the arm changes, key by key.
    pub overrides: BTreeMap<String, serde_json::Value>,
    /// The seed of initial weights, order, augmentation, masks and draws.
    pub seed: u64,
    /// The resolved configuration.
    pub config: serde_json::Value,
    /// The run's identity: a hash of configuration, seed, code and data.
    pub hash: String,
    /// The model's word.
    pub model: String,
    /// The objectives' words.
    pub objectives: Vec<String>,
    /// Trainable scalars.
    pub parameters: u64,
    /// Floating-point operations of the matrix products of the first update, forward and backward.
    pub flops_per_step: f64,
    /// Where the pairs come from.
    pub data: Vec<DataRecord>,
    /// The lines of credit and licence that the data asks for.
    pub attribution: Vec<String>,
    /// What differs from the papers on purpose, in model, objectives and data.
    pub deviations: Vec<String>,
    /// Version and revision of this program, in words.
    pub code: String,
    /// A hash of the program's file: equal programs do equal things, whatever lies beside them in the repository.
    #[serde(default)]
    pub program: String,
    /// Where it ran.
    pub machine: Machine,
    /// What it begins with beside its seed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub start: Vec<StageRecord>,
}

/// Something trained before, of which a run begins with the values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageRecord {
    /// The stage's name, or the directory of a run.
    pub name: String,
    /// The identity of its run.
    pub hash: String,
    /// Its updates.
    pub steps: u64,
    /// What it took, once for all the runs that begin with it.
    pub seconds: f64,
    /// How many parameters were taken.
    pub taken: usize,
    /// What it began with in its turn.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub before: Vec<StageRecord>,
}

impl StageRecord {
    /// Itself and all that was trained before it.
    pub fn chain(&self) -> Vec<&Self> {
        std::iter::once(self).chain(self.before.iter().flat_map(Self::chain)).collect()
    }
}

/// The experiment a run belongs to, the same in all of its runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ExperimentRecord {
    /// E.g. `albef/distillation-weight`.
    pub name: String,
    /// What is asked.
    pub question: String,
    /// How its settings were chosen, where the file says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chosen: Option<String>,
    /// The published table that is rerun.
    pub paper: Option<PaperReference>,
    /// The size of the question.
    pub profile: Option<String>,
    /// The arm that the others are compared with.
    pub control: Option<String>,
    /// Every arm, in the file's order.
    pub arms: Vec<String>,
    /// Every seed.
    pub seeds: Vec<u64>,
    /// What the runs are expected to show.
    pub claims: Vec<ClaimRecord>,
    /// Which step is reported, in words.
    pub select: String,
    /// The command that reruns it.
    pub command: String,
}

/// A claim with what was published about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClaimRecord {
    /// The difference.
    pub effect: Effect,
    /// Its expected sign.
    pub expect: Expect,
    /// The published difference, where the registry has one.
    pub published: Option<PublishedEffect>,
}

/// A difference as a paper states it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PublishedEffect {
    /// The registry's key.
    pub key: String,
    /// The difference, in the metric's own unit.
    pub value: Option<f64>,
    /// Its standard deviation over runs, where given.
    pub spread: Option<f64>,
    /// Over how many runs, where given.
    pub runs: Option<u32>,
    /// How the number was found.
    pub status: Status,
    /// What the paper says where it prints no numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stated: Option<String>,
    /// The sign that those words name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sign: Option<Sign>,
    /// The paper, table and rows.
    pub source: String,
    /// The metric, data and procedure behind it.
    pub protocol: String,
    /// In what this suite's rerun differs from that procedure in size or setting, e.g. `14M training pairs there, 20,000
    /// here`: the sign may still be compared, the size may not.
    pub differences: Vec<String>,
    /// In what it measures something else, e.g. `accuracy on VQA there, retrieval here`: nothing may be compared.
    pub incomparable: Vec<String>,
}

/// The sign of a published difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sign {
    /// Above zero.
    Positive,
    /// Below zero.
    Negative,
    /// No difference was found.
    None,
}

impl Sign {
    /// The sign of a number.
    pub fn of(value: f64) -> Self {
        match value {
            above if above > 0.0 => Self::Positive,
            below if below < 0.0 => Self::Negative,
            _ => Self::None,
        }
    }
}

/// How a published number was found, the surest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Read in the paper or in its authors' repository.
    Verified,
    /// Read in another's account of it.
    SecondHand,
    /// Remembered; never shown as a published number.
    Recalled,
}

/// One split of the data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DataRecord {
    /// train, val or test.
    pub split: String,
    /// The sources.
    pub name: String,
    /// How many pairs.
    pub pairs: usize,
    /// A hash of everything that decides the pairs.
    pub fingerprint: String,
}

/// Where a run ran.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// `cpu`, `cuda:0` or `cuda:0+tf32`.
    pub device: String,
    /// The processor's name, or the accelerator's.
    pub processor: String,
    /// Threads that computed.
    pub threads: usize,
    /// How many runs of the process went side by side, each on so many threads; none where this one was alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub side_by_side: Option<usize>,
    /// Operating system and architecture.
    pub system: String,
}

/// Training figures of some steps, averaged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainFigures {
    /// Updates made when the record was written.
    pub step: u64,
    /// Averages by name: `loss`, `itc.loss`, `itm.accuracy`, `gradient_norm`, `rate`.
    pub values: BTreeMap<String, f64>,
    /// Seconds of training until then.
    pub seconds: f64,
}

/// One evaluation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Updates made before it.
    pub step: u64,
    /// The evaluation's word: `retrieval`, `zero_shot`.
    pub name: String,
    /// Raised whenever equal weights would give other values.
    pub version: u32,
    /// The split it was measured on.
    pub split: String,
    /// Whether the selection rule reports this step.
    pub selected: bool,
    /// How many images or texts were judged.
    pub items: usize,
    /// By full name: `retrieval.mean_recall`.
    pub values: BTreeMap<String, Measured>,
    /// Seconds it took.
    pub seconds: f64,
}

/// A measured value.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// The value.
    pub value: f64,
    /// Whether it is a share, then in percent.
    pub percent: bool,
    /// What guessing gives.
    pub chance: Option<f64>,
    /// The standard error from the finite test set alone; says nothing about seeds.
    pub sampling_error: Option<f64>,
}

/// One test pair and what the model makes of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Example {
    /// Updates made before it.
    pub step: u64,
    /// The pair's identifier.
    pub id: String,
    /// The picture as PNG, in base64.
    pub png: String,
    /// Its captions.
    pub captions: Vec<String>,
    /// The captions that the model finds nearest, best first.
    pub found: Vec<Found>,
    /// The caption that the model writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written: Option<String>,
}

/// A caption that a model finds for a picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Found {
    /// The caption.
    pub caption: String,
    /// Its score.
    pub score: f64,
    /// Whether it is a caption of this picture.
    pub correct: bool,
}

/// How pairs were made out of web pairs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rewritten {
    /// The stage that made them.
    pub name: String,
    /// Their identity.
    pub hash: String,
    /// The stage that wrote a caption for each picture.
    pub captioner: Option<String>,
    /// The stage that judged the texts.
    pub filter: Option<String>,
    /// The probability of a match above which a text was kept.
    pub threshold: f64,
    /// How many pictures the web pairs have.
    pub pictures: usize,
    /// How many of them have a text that was kept.
    pub kept: usize,
    /// Their texts on the web.
    pub web: TextCount,
    /// The texts that the captioner wrote.
    pub written: TextCount,
    /// Some of the pictures.
    pub examples: Vec<RewrittenPicture>,
    /// What it took, once for all runs that learn from them.
    pub seconds: f64,
}

/// How many texts there were, and how many were kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextCount {
    /// All.
    pub read: usize,
    /// Those that were kept.
    pub kept: usize,
}

impl TextCount {
    /// The noise ratio in percent: the share that was dropped; none of no text.
    pub fn noise(&self) -> Option<f64> {
        (self.read > 0).then(|| 100.0 * (self.read - self.kept) as f64 / self.read as f64)
    }
}

impl std::fmt::Display for Rewritten {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {} pictures", self.kept, self.pictures)?;
        for (count, kind) in [(self.web, "web"), (self.written, "written")] {
            if count.read > 0 {
                write!(f, ", {} of {} {kind} texts", count.kept, count.read)?;
            }
        }
        f.write_str(" kept")
    }
}

/// A picture and what became of the texts about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RewrittenPicture {
    /// The pair's identifier.
    pub id: String,
    /// The picture as PNG, in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub png: Option<String>,
    /// Its texts: those on the web, then the written one.
    pub texts: Vec<JudgedText>,
}

/// A text about a picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JudgedText {
    /// The text.
    pub text: String,
    /// Whose it is.
    pub from: Author,
    /// The probability that it matches, by the filter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matching: Option<f64>,
    /// Whether it was kept.
    pub kept: bool,
}

/// Who wrote a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Author {
    /// Whoever put the picture on the web.
    Web,
    /// The captioner.
    Written,
}

/// Why a run stopped before its end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failed {
    /// Updates made before it.
    pub step: u64,
    /// The fault, as it was printed.
    pub reason: String,
}

/// The end of a finished run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// Updates made.
    pub steps: u64,
    /// Seconds of training and evaluation, over all attempts.
    pub seconds: f64,
    /// Training pairs a second.
    pub pairs_per_second: f64,
    /// The most memory of the device that the process has had at once, in bytes, where it can be known: of a processor what
    /// is resident.
    pub peak_memory: Option<u64>,
    /// SHA-256 of the final weights, name by name.
    pub weights: String,
}
