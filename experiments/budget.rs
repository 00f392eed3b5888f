//! Time that must not be exceeded: how it is written, and when work has to be broken off to keep to it.
//!
//! Work is a row of pieces that cannot be broken off (an update, an evaluation, a rewriting of pairs, saving). A piece is
//! begun only if it ends in time by the longest of its kind so far, or by what was planned where there was none.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Train;

/// By how much a piece may take longer than those before it.
const CAUTION: f64 = 1.5;

/// The part of a budget that is kept for the last report while none was written, and its bounds in seconds.
const RESERVE: f64 = 0.02;
const RESERVES: [f64; 2] = [3.0, 60.0];
/// The part of a budget in which configurations may be probed.
const PLANNING: f64 = 0.25;

/// Time for everything that a command does.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    begun: Instant,
    time: Duration,
}

impl Budget {
    /// So much time from now on.
    pub fn new(time: Duration) -> Self {
        Self { begun: Instant::now(), time }
    }

    /// When planning must be over.
    pub fn planning(&self) -> Instant {
        self.begun + self.time.mul_f64(PLANNING)
    }

    /// When runs must be over, so that a report can still be written: the longest so far took `report` seconds, none of no
    /// report; `pieces` as for [`Until::new`].
    pub fn until(&self, report: f64, pieces: BTreeMap<String, Pieces>) -> Until {
        let [least, most] = RESERVES;
        let reserve = (RESERVE * self.time.as_secs_f64()).clamp(least, most).max(CAUTION * report);
        Until::new(self.begun + self.time.saturating_sub(Duration::from_secs_f64(reserve)), pieces)
    }
}

/// When work must be over.
#[derive(Clone)]
pub struct Until {
    left: Arc<dyn Fn() -> Duration + Send + Sync>,
    pieces: Arc<BTreeMap<String, Pieces>>,
}

/// Seconds of the pieces of a run, or of a rewriting of pairs, as planned.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pieces {
    /// One update.
    pub update: f64,
    /// All evaluations of one step, or the whole rewriting.
    pub whole: f64,
}

impl Until {
    /// Work that must be over at `at`; `pieces` has what was planned, by the identities of runs and rewritings.
    pub fn new(at: Instant, pieces: BTreeMap<String, Pieces>) -> Self {
        Self::by(move || at.saturating_duration_since(Instant::now()), pieces)
    }

    /// The same by a clock of its own, which says how much time is left.
    pub fn by(left: impl Fn() -> Duration + Send + Sync + 'static, pieces: BTreeMap<String, Pieces>) -> Self {
        Self { left: Arc::new(left), pieces: Arc::new(pieces) }
    }

    /// What was planned for a run or a rewriting; nothing if it was not.
    pub fn pieces(&self, hash: &str) -> Pieces {
        self.pieces.get(hash).copied().unwrap_or_default()
    }

    /// Whether a piece of so many seconds might not end in time.
    pub fn lacks(&self, seconds: f64) -> bool {
        let left = (self.left)();
        left.is_zero() || left.as_secs_f64() < CAUTION * seconds
    }
}

/// How long the pieces of a run take, and when it must be over.
pub struct Pace {
    until: Option<Until>,
    /// The longest of each so far, or what was planned; in seconds.
    pieces: Pieces,
    saving: f64,
}

impl Pace {
    /// The pace of the run with identity `hash`.
    pub fn new(until: Option<&Until>, hash: &str) -> Self {
        let pieces = until.map(|until| until.pieces(hash)).unwrap_or_default();
        Self { until: until.cloned(), pieces, saving: 0.0 }
    }

    /// An update took so many seconds.
    pub fn updated(&mut self, seconds: f64) {
        self.pieces.update = self.pieces.update.max(seconds);
    }

    /// All evaluations of one step did.
    pub fn evaluated(&mut self, seconds: f64) {
        self.pieces.whole = self.pieces.whole.max(seconds);
    }

    /// Saving the state did.
    pub fn saved(&mut self, seconds: f64) {
        self.saving = self.saving.max(seconds);
    }

    /// Whether what comes after `made` updates may take longer than there is time: an update with the evaluation that
    /// follows it, or the last evaluation; and saving.
    pub fn lacks_time(&self, train: &Train, made: u64) -> bool {
        let Some(until) = &self.until else { return false };
        let update = if made < train.steps { self.pieces.update } else { 0.0 };
        let looks = train.evaluate_every.is_some_and(|every| (made + 1).is_multiple_of(every.max(1)));
        let evaluation = if looks || made >= train.steps { self.pieces.whole } else { 0.0 };
        until.lacks(update + evaluation + self.saving)
    }
}

/// The time that `4h`, `30m`, `90s`, `1.5h` or `1h30m` says.
///
/// # Errors
/// What is wrong with it, and what may be written.
pub fn parse(typed: &str) -> Result<Duration, String> {
    let wrong = || format!("`{typed}` is no time; write e.g. 4h, 30m, 90s or 1h30m");
    let (mut seconds, mut rest) = (0.0, typed);
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| letter.is_ascii_lowercase()).ok_or_else(wrong)?;
        let (number, after) = rest.split_at(digits);
        let (unit, after) = after.split_at(1);
        let each = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            _ => return Err(wrong()),
        };
        seconds += each * number.parse::<f64>().map_err(|_| wrong())?;
        rest = after;
    }
    match Duration::try_from_secs_f64(seconds) {
        Ok(time) if !time.is_zero() => Ok(time),
        _ => Err(wrong()),
    }
}

/// A time as [`parse`] reads it.
pub fn spelt(time: Duration) -> String {
    match time.as_secs() {
        hours if hours.is_multiple_of(3600) && time.subsec_nanos() == 0 => format!("{}h", hours / 3600),
        minutes if minutes.is_multiple_of(60) && time.subsec_nanos() == 0 => format!("{}m", minutes / 60),
        _ => format!("{}s", time.as_secs_f64()),
    }
}
