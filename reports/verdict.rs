//! Verdicts on effects: what runs say about the difference between two arms, beside what was expected and published.
//!
//! Effects are judged, not values: a small rerun cannot reach a paper's values, it can show whether a change helps. The
//! rule below is printed under every table of effects. An interval that covers zero never confirms a claim of no effect,
//! since few seeds would then confirm anything; it bounds the effect.
//!
//! Several claims of one experiment get several chances. The strongest verdict, that a published effect was reproduced, is
//! therefore read off the interval that is corrected for them; the others are read off the plain interval, the one that
//! is drawn, and say so where the corrected one covers zero.

use std::fmt::Write as _;

use super::number;
use super::statistics::{Interval, Paired, seeds_needed};
use crate::experiments::record::{ClaimRecord, Expect, PublishedEffect, Sign, Status};

/// What the runs say about a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Resolved, of the expected sign and, at the published scale, of the published size.
    Reproduced,
    /// Resolved and of the expected sign.
    SignOnly,
    /// Not resolved.
    Inconclusive,
    /// Resolved and of the other sign.
    Contradicted,
    /// Nothing can be said, whatever the numbers are.
    NotComparable,
}

impl Verdict {
    /// Every verdict, from the strongest.
    pub const ALL: [Self; 5] =
        [Self::Reproduced, Self::SignOnly, Self::Inconclusive, Self::Contradicted, Self::NotComparable];

    /// Its words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Reproduced => "REPRODUCED",
            Self::SignOnly => "SIGN ONLY",
            Self::Inconclusive => "INCONCLUSIVE",
            Self::Contradicted => "CONTRADICTED",
            Self::NotComparable => "NOT COMPARABLE",
        }
    }

    /// When it is given.
    pub fn rule(self) -> &'static str {
        match self {
            Self::Reproduced => {
                "the 95 % interval of the difference excludes zero on the expected side, also when it is corrected for the \
                 number of claims of the experiment, reaches the published difference uncorrected or lies beyond it, and \
                 the rerun follows the published procedure at its size"
            }
            Self::SignOnly => {
                "the uncorrected interval excludes zero on the expected side, but the corrected one does not, the rerun is \
                 smaller or otherwise set up than the published one, finds a smaller difference, or there is no published \
                 number to compare: a claim without one is judged on its sign alone"
            }
            Self::Inconclusive => {
                "the uncorrected interval covers zero, or there is none because fewer than two seeds are in both arms; the seeds that \
                 would resolve a difference of this size with 80 % power are stated; where no effect was expected, the \
                 interval bounds it but cannot show that there is none"
            }
            Self::Contradicted => {
                "the uncorrected interval excludes zero on the side that was not expected, or on any side where no effect was \
                 expected"
            }
            Self::NotComparable => {
                "the two arms differ in a setting that neither of them names, were measured in different ways, or the \
                 published effect is of something else; the fields that differ are stated"
            }
        }
    }
}

/// A verdict and its grounds.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// Why, as one clause.
    pub because: String,
    /// How many seeds, in all, would resolve a difference of the observed size; where the interval covers zero.
    pub seeds: Option<usize>,
}

/// What a claim's difference comes to beside the other claims of its experiment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Correction {
    /// How many claims were judged together.
    pub claims: usize,
    /// Holm's adjusted p.
    pub p: f64,
    /// The interval at the confidence of Holm's step.
    pub interval: Interval,
}

/// Judges one claim. `differing` names the fields in which the two arms differ although neither names them.
pub fn judge(
    claim: &ClaimRecord,
    paired: Option<&Paired>,
    correction: Option<&Correction>,
    differing: &[String],
) -> Judgement {
    let plain = |verdict, because: String| Judgement { verdict, because, seeds: None };
    let incomparable = incomparable(claim, differing);
    if !incomparable.is_empty() {
        return plain(Verdict::NotComparable, incomparable.join("; "));
    }
    let Some(paired) = paired else {
        return plain(
            Verdict::Inconclusive,
            "no seed has this metric in finished runs of both arms".to_owned(),
        );
    };
    let Some(interval) = paired.summary.interval else {
        let because = "one seed gives no interval; it takes at least 2 to judge".to_owned();
        return plain(Verdict::Inconclusive, because);
    };
    if interval.covers(0.0) {
        return inconclusive(claim, paired, interval);
    }
    let mut judgement = match (claim.expect, interval.low > 0.0) {
        (Expect::Positive, true) | (Expect::Negative, false) => confirmed(claim, interval, correction),
        (Expect::None, _) => {
            plain(Verdict::Contradicted, "the interval excludes zero; no effect was expected".to_owned())
        }
        (Expect::Positive, false) => {
            plain(Verdict::Contradicted, "the interval lies below zero; above was expected".to_owned())
        }
        (Expect::Negative, true) => {
            plain(Verdict::Contradicted, "the interval lies above zero; below was expected".to_owned())
        }
    };
    if let Some(Correction { claims, .. }) = correction.filter(|correction| correction.interval.covers(0.0)) {
        let _ = write!(judgement.because, "; corrected for {claims} claims, the interval covers zero");
    }
    judgement
}

/// The published difference, unless it is only remembered.
pub fn published(effect: &PublishedEffect) -> Option<f64> {
    effect.value.filter(|_| effect.status != Status::Recalled)
}

/// The published sign, unless it is only remembered.
pub fn sign(effect: &PublishedEffect) -> Option<Sign> {
    let known = (effect.status != Status::Recalled).then_some(effect.sign).flatten();
    known.or_else(|| published(effect).map(Sign::of))
}

/// What makes the claim impossible to judge.
pub fn incomparable(claim: &ClaimRecord, differing: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    if !differing.is_empty() {
        found.push(format!("the arms also differ in {}", differing.join(", ")));
    }
    if let Some(effect) = &claim.published {
        found.extend(effect.incomparable.iter().cloned());
        let other_side = match (claim.expect, sign(effect)) {
            (Expect::Positive, Some(Sign::Negative)) | (Expect::Negative, Some(Sign::Positive)) => true,
            (Expect::Positive | Expect::Negative | Expect::None, _) => false,
        };
        if other_side {
            found.push("the claim expects the other sign than the published effect has".to_owned());
        }
    }
    found
}

fn inconclusive(claim: &ClaimRecord, paired: &Paired, interval: Interval) -> Judgement {
    let sd = paired.summary.sd.unwrap_or_default();
    let seeds = seeds_needed(paired.summary.mean, sd);
    let have = paired.summary.n;
    let because = if claim.expect == Expect::None {
        let bounds = number::bounds(interval, number::spread(Some(interval)));
        format!(
            "the interval covers zero, which bounds the effect to {bounds} but cannot show that there is none"
        )
    } else {
        let ours = match seeds {
            Some(seeds) => {
                let more = seeds.saturating_sub(have);
                format!("it would take {seeds} seeds ({more} more) to resolve a difference of this size")
            }
            None => "no practicable number of seeds would resolve a difference of this size".to_owned(),
        };
        let size = claim.published.as_ref().and_then(published);
        match size.and_then(|size| seeds_needed(size, sd)) {
            Some(seeds) => {
                format!("the interval covers zero; {ours}, {seeds} to resolve one of the published size")
            }
            None => format!("the interval covers zero; {ours}"),
        }
    };
    Judgement { verdict: Verdict::Inconclusive, because, seeds }
}

/// The verdict on a difference that is resolved and has the expected sign.
fn confirmed(claim: &ClaimRecord, interval: Interval, correction: Option<&Correction>) -> Judgement {
    let sign_only = |because: String| Judgement { verdict: Verdict::SignOnly, because, seeds: None };
    let Some(effect) = &claim.published else {
        return sign_only(
            "no published number belongs to this claim, so its sign alone is judged".to_owned(),
        );
    };
    let Some(value) = published(effect) else {
        let why = match (effect.status, effect.sign) {
            (Status::Recalled, _) => "the published number is recalled, unverified",
            (_, Some(_)) => "the paper states a sign and no number",
            (_, None) => "the published number has no value",
        };
        return sign_only(format!("{why}, so the sign alone is judged"));
    };
    if !effect.differences.is_empty() {
        return sign_only(format!("not at the published size: {}", effect.differences.join("; ")));
    }
    if correction.is_some_and(|correction| correction.interval.covers(0.0)) {
        return sign_only("the interval has the expected sign".to_owned());
    }
    let reaches = if value > 0.0 { interval.high >= value } else { interval.low <= value };
    if reaches {
        let because = "the interval has the expected sign and reaches the published difference".to_owned();
        Judgement { verdict: Verdict::Reproduced, because, seeds: None }
    } else {
        sign_only("the difference is smaller than the published one".to_owned())
    }
}
