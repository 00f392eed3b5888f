//! Rewritten pairs: web pictures with what became of their texts, so that a person sees what captioner and filter did.

use maud::{Markup, html};

use crate::experiments::record::{Author, JudgedText, Rewritten, RewrittenPicture};
use crate::reports::number;
use crate::reports::results::{Arm, Results};

/// The section; empty where no run learnt from rewritten pairs.
pub fn section(results: &Results) -> Markup {
    // Arms differ in what they leave out: the one with the most to show stands for all.
    let told = |made: &Rewritten| made.examples.iter().flat_map(|picture| &picture.texts).count();
    let most = results
        .arms
        .iter()
        .filter_map(|arm| Some((arm, shown(arm)?)))
        .max_by_key(|(_, made)| (made.captioner.is_some() && made.filter.is_some(), told(made)));
    let Some((arm, made)) = most else { return html! {} };
    html! {
        section {
            h2 { "What became of the web pairs" }
            p {
                "Web pictures with their texts in arm " (arm.name) ": " (made) ". "
                "Texts that were kept are marked \u{2713}; written texts stand in quotation marks"
                @if made.filter.is_some() { ", and behind each is the probability of a match" }
                "."
            }
            div.examples { @for picture in &made.examples { (card(picture)) } }
        }
    }
}

/// How the pairs of an arm's first run were made.
fn shown<'a>(arm: &Arm<'a>) -> Option<&'a Rewritten> {
    arm.runs.first()?.rewritten.first()
}

fn card(picture: &RewrittenPicture) -> Markup {
    let first = picture.texts.first().map_or("", |text| text.text.as_str());
    html! {
        div.example {
            @if let Some(png) = &picture.png {
                img src={ "data:image/png;base64," (png) } alt={ "Web picture: " (first) };
            }
            div.found { ol { @for text in &picture.texts { (judged(text)) } } }
        }
    }
}

fn judged(text: &JudgedText) -> Markup {
    html! {
        li.correct[text.kept] {
            @match text.from {
                Author::Web => (text.text),
                Author::Written => { "\u{201c}" (text.text) "\u{201d}" }
            }
            @if let Some(matching) = text.matching { " " (number::value(matching, 0.01)) }
            @if text.kept { span.mark aria-label="kept" { "\u{00a0}\u{2713}" } }
        }
    }
}
