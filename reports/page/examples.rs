//! Examples: test pictures with what the arms find for them, so that a person sees what the model does.

use maud::{Markup, html};

use crate::experiments::record::{Example, Found};
use crate::reports::read::Run;
use crate::reports::results::{Arm, Results};

/// More pictures than this are not shown.
const PICTURES: usize = 12;
/// More arms than this are not shown beside each other.
const ARMS: usize = 3;
/// More captions than this are not shown of each arm.
const CAPTIONS: usize = 5;

/// The section; empty where no run recorded examples.
pub fn section(results: &Results) -> Markup {
    let arms = shown(results);
    let Some(first) = arms.first() else { return html! {} };
    let pictures = examples(first);
    if pictures.is_empty() {
        return html! {};
    }
    let named: Vec<String> = arms.iter().filter_map(|arm| Some(named(arm, arm.runs.first()?))).collect();
    html! {
        section {
            h2 { "What the model does" }
            p {
                "Test pictures"
                @if any(&arms, |example| !example.found.is_empty()) {
                    ", and the captions that an arm finds nearest, best first; captions of the picture are marked \u{2713}"
                }
                @if any(&arms, |example| example.written.is_some()) {
                    ", and in quotation marks the caption that an arm writes"
                }
                ". Shown: " (named.join(", ")) "."
            }
            div.examples {
                @for example in pictures.iter().take(PICTURES) { (card(example, &arms)) }
            }
        }
    }
}

fn named(arm: &Arm, run: &Run) -> String {
    format!("{} (seed {})", arm.name, run.header.seed)
}

/// The arms that are shown: all if they are few, else the control and the best.
fn shown<'r, 'a>(results: &'r Results<'a>) -> Vec<&'r Arm<'a>> {
    let with_examples = || results.arms.iter().filter(|arm| !examples(arm).is_empty());
    if with_examples().count() <= ARMS {
        return with_examples().collect();
    }
    let headline = results.headlines().next().map_or(0, |(index, _)| index);
    let mean = |arm: &Arm| {
        arm.values
            .get(headline)
            .and_then(Option::as_ref)
            .map_or(f64::NEG_INFINITY, |value| value.summary.mean)
    };
    let control = results.experiment.about.control.as_deref();
    let best = with_examples().max_by(|one, other| mean(one).total_cmp(&mean(other)));
    let chosen = |arm: &&Arm| Some(arm.name) == control || Some(arm.name) == best.map(|best| best.name);
    with_examples().filter(chosen).collect()
}

/// What the arm's first run recorded last.
fn examples<'a>(arm: &Arm<'a>) -> Vec<&'a Example> {
    let Some(run) = arm.runs.first() else { return Vec::new() };
    let last = run.examples.iter().map(|example| example.step).max();
    run.examples.iter().filter(|example| Some(example.step) == last).collect()
}

fn any(arms: &[&Arm], is: impl Fn(&Example) -> bool) -> bool {
    arms.iter().flat_map(|arm| examples(arm)).any(is)
}

fn card(example: &Example, arms: &[&Arm]) -> Markup {
    let caption = example.captions.first().map_or("", String::as_str);
    let others: Vec<&str> = example.captions.iter().skip(1).map(String::as_str).collect();
    html! {
        div.example {
            img src={ "data:image/png;base64," (example.png) } alt={ "Test picture: " (caption) };
            div {
                p.caption { (caption) }
                @if !others.is_empty() { p.others { "also: " (others.join("; ")) } }
            }
            @for arm in arms {
                @if let Some(same) = examples(arm).into_iter().find(|other| other.id == example.id) {
                    div.found {
                        h3 { (arm.name) }
                        @if let Some(written) = &same.written { p.caption { "\u{201c}" (written) "\u{201d}" } }
                        @if !same.found.is_empty() {
                            ol { @for found in same.found.iter().take(CAPTIONS) { (retrieved(found)) } }
                        }
                    }
                }
            }
        }
    }
}

fn retrieved(found: &Found) -> Markup {
    html! {
        li.correct[found.correct] {
            (found.caption)
            @if found.correct { span.mark aria-label="correct" { "\u{00a0}\u{2713}" } }
        }
    }
}
