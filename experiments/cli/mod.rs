//! The verbs of `vlp`: a file for those that belong together, each with its arguments and what it does with them.
//!
//! Results go to standard output, progress and faults to standard error.

mod check;
mod doctor;
mod inference;
mod list;
mod meant;
mod plan;
mod report;
mod run;
mod verify;
mod weights;

use std::io::{self, IsTerminal, Write};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use vlp_bench::experiments::agenda::Refused;
use vlp_bench::experiments::failure::{Failure, Result};
use vlp_bench::experiments::fault::{Fault, Paint};
use vlp_bench::experiments::forward;

/// A reproducible benchmark suite for vision-language pretraining
#[derive(Parser)]
#[command(
    version,
    after_help = "\
Examples:
  vlp run experiments/quickstart.yaml                     train every arm, then report
  vlp run experiments/quickstart.yaml --profile smoke     the same question in seconds
  vlp run experiments --profile cpu --budget 4h           what tells most in four hours
  vlp plan experiments/albef/distillation-weight.yaml     what it will take
  vlp check my.yaml --set train.batch=128                 everything that is wrong with it
  vlp report runs/quickstart --out report                 report on runs that are done
  vlp report --all runs --out report                      every published ablation beside its reruns"
)]
pub struct Command {
    #[command(subcommand)]
    verb: Verb,
    /// Threads that compute; 0: one per core
    #[arg(long, global = true, default_value_t = 0, value_name = "N")]
    pub threads: usize,
}

#[derive(Subcommand)]
enum Verb {
    /// Tell everything that is wrong with an experiment file, or with one of the published registry
    Check(meant::Asked),
    /// Show the grid of runs, what is done, and what the rest will take; of several files, a line an experiment
    Plan(plan::Plan),
    /// Train and evaluate what is not done yet, then report
    Run(run::Run),
    /// Report on runs that are done
    Report(report::Report),
    /// List what there is to choose from
    List(list::List),
    /// Show which objective can train which model, and why not
    Matrix(list::Table),
    /// Look whether this machine can run experiments
    Doctor(doctor::Doctor),
    /// Run a published checkpoint on given tensors, to compare with its reference
    Forward(weights::Forward),
    /// Save what a run has learnt as its model's reference saves it
    Export(weights::Export),
    /// Write unit vectors of pictures and texts to a safetensors file
    Embed(inference::Embed),
    /// Tell how well texts fit pictures
    Match(inference::Match),
    /// Write a caption for each picture
    Caption(inference::Caption),
    /// Find the pictures that fit a text best, or the texts that fit a picture best
    Retrieve(inference::Retrieve),
    /// Score captions in COCO's formats: BLEU, ROUGE-L, CIDEr-D
    Score(inference::Score),
    /// Prove that a killed run goes on to bit-equal weights; the first seed of each arm, unless `--only` says more
    VerifyResume(meant::Meant),
}

/// The command that was typed; ends the process where it is none.
pub fn parsed() -> Command {
    let command = Command::command().mut_subcommand("forward", |verb| verb.after_help(forward::manual()));
    Command::from_arg_matches(&command.get_matches()).unwrap_or_else(|fault| fault.exit())
}

impl Command {
    /// Does what was asked; the exit code.
    pub fn act(&self) -> Result<u8> {
        match &self.verb {
            Verb::Check(asked) => check::check(asked),
            Verb::Plan(plan) => plan.act(),
            Verb::Run(run) => run.act(),
            Verb::Report(report) => report.act(),
            Verb::List(list) => list.act(),
            Verb::Matrix(table) => table.act(),
            Verb::Doctor(doctor) => Ok(doctor.act()),
            Verb::Forward(forward) => forward.act(),
            Verb::Export(export) => export.act(),
            Verb::Embed(embed) => embed.act(),
            Verb::Match(matching) => matching.act(),
            Verb::Caption(caption) => caption.act(),
            Verb::Retrieve(retrieve) => retrieve.act(),
            Verb::Score(score) => score.act(),
            Verb::VerifyResume(meant) => verify::prove(meant, self.threads),
        }
    }
}

/// Prints a result. Whoever reads it may have heard enough: a closed pipe is no failure.
fn say(text: &str) {
    drop(writeln!(io::stdout(), "{text}"));
}

/// Prints why something was not done.
pub fn complain(failure: &Failure) {
    drop(writeln!(io::stderr(), "{}", rendered(failure)));
}

/// Prints what became of places, and why.
fn refuse(what: &str, refused: &[Refused]) {
    for Refused { place, failure } in refused {
        drop(writeln!(io::stderr(), "{} {what}:\n{}\n", place.display(), rendered(failure)));
    }
}

/// A failure as it is printed.
fn rendered(failure: &Failure) -> String {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let paint = if io::stderr().is_terminal() && !plain { Paint::Colour } else { Paint::Plain };
    match failure {
        Failure::Refused(faults) => {
            faults.iter().map(|fault| fault.render(paint)).collect::<Vec<_>>().join("\n\n")
        }
        other => Fault::new(other.to_string()).render(paint),
    }
}
