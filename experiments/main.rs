//! `vlp`: arguments in, exit code out. 0: done; 1: a run failed; 2: the file or the command is wrong.

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use vlp_bench::experiments::check;
use vlp_bench::experiments::failure::{Failure, Result};
use vlp_bench::experiments::fault::{Fault, Paint};
use vlp_bench::experiments::file::Options;
use vlp_bench::kernels;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A reproducible benchmark suite for vision-language pretraining.
#[derive(Parser)]
#[command(
    version,
    after_help = "\
Examples:
  vlp check experiments/quickstart.yaml"
)]
struct Command {
    #[command(subcommand)]
    verb: Verb,
    /// Threads that compute; 0: one per core
    #[arg(long, global = true, default_value_t = 0, value_name = "N")]
    threads: usize,
}

#[derive(Subcommand)]
enum Verb {
    /// Tell everything that is wrong with an experiment file
    Check(Asked),
}

/// An experiment file and what is laid over it.
#[derive(Args)]
struct Asked {
    /// The experiment file
    file: PathBuf,
    /// The size of the question, one of the file's `profiles`
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// Change a setting, e.g. `train.steps=100` or `objectives.itm.negatives=hard`
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Repeat with these seeds instead of the file's
    #[arg(long, value_delimiter = ',', value_name = "N,N,..")]
    seeds: Option<Vec<u64>>,
}

impl Asked {
    fn options(&self) -> Options {
        Options { profile: self.profile.clone(), set: self.set.clone(), seeds: self.seeds.clone() }
    }
}

fn main() -> ExitCode {
    let command = Command::parse();
    match kernels::threads::init(command.threads).map_err(Failure::from).and_then(|()| run(&command.verb)) {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error),
    }
}

fn run(verb: &Verb) -> Result<String> {
    match verb {
        Verb::Check(asked) => check::file(&asked.file, &asked.options()),
    }
}

fn fail(error: &Failure) -> ExitCode {
    let colour =
        io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let paint = if colour { Paint::Colour } else { Paint::Plain };
    match error {
        Failure::Refused(faults) => {
            let faults: Vec<String> = faults.iter().map(|fault| fault.render(paint)).collect();
            eprintln!("{}", faults.join("\n\n"));
        }
        other => eprintln!("{}", Fault::new(other.to_string()).render(paint)),
    }
    ExitCode::from(error.exit_code())
}
