//! `vlp`: arguments in, exit code out. 0: done; 1: a run failed; 2: the file or the command is wrong.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{self, ExitCode};

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use vlp_bench::experiments::doctor::{self, Finding};
use vlp_bench::experiments::failure::{Failure, Result};
use vlp_bench::experiments::fault::{Fault, Paint};
use vlp_bench::experiments::feed::Words;
use vlp_bench::experiments::inference::{self, Answer, Pictures, Subject, Wanted};
use vlp_bench::experiments::list::{self, Kind};
use vlp_bench::experiments::matrix::Matrix;
use vlp_bench::experiments::progress::Show;
use vlp_bench::experiments::suite::Only;
use vlp_bench::experiments::{
    Experiment, catalogue, directory, export, file, forward, load, machine, plan, published, run, suite,
    verify,
};
use vlp_bench::models::decoding::{Beam, Nucleus, Strategy, Writer};
use vlp_bench::{kernels, reports};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A reproducible benchmark suite for vision-language pretraining
#[derive(Parser)]
#[command(
    version,
    after_help = "\
Examples:
  vlp run experiments/quickstart.yaml                     train every arm, then report
  vlp run experiments/quickstart.yaml --profile smoke     the same question in seconds
  vlp plan experiments/albef/distillation-weight.yaml     what it will take
  vlp check my.yaml --set train.batch=128                 everything that is wrong with it
  vlp report runs/quickstart --out report                 report on runs that are done
  vlp report --all runs --out report                      every published ablation beside its reruns"
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
    /// Tell everything that is wrong with an experiment file, or with one of the published registry
    Check(Asked),
    /// Show the grid of runs, what is done, and what the rest will take
    Plan(Meant),
    /// Train and evaluate what is not done yet, then report
    Run {
        #[command(flatten)]
        meant: Meant,
        /// Leave out the report
        #[arg(long)]
        no_report: bool,
    },
    /// Report on runs that are done
    Report {
        /// Directories of runs, or folders of them
        #[arg(required_unless_present = "all")]
        runs: Vec<PathBuf>,
        /// One page on every published ablation, run or not, and a report on each experiment below it
        #[arg(long)]
        all: bool,
        /// The folder of the report
        #[arg(long, default_value = "report", value_name = "FOLDER")]
        out: PathBuf,
    },
    /// List what there is to choose from
    List {
        /// One kind of thing; all kinds without it
        kind: Option<Listed>,
        /// With `published`: a paper, of which everything is shown
        paper: Option<String>,
        /// What differs from the papers on purpose
        #[arg(long)]
        deviations: bool,
    },
    /// Show which objective can train which model, and why not
    Matrix {
        /// As JSON, for programs
        #[arg(long)]
        json: bool,
    },
    /// Look whether this machine can run experiments
    Doctor {
        /// The folder that would keep runs
        #[arg(long, default_value = "runs", value_name = "FOLDER")]
        out: PathBuf,
        /// What would compute: cpu, cuda:N, cuda:N+tf32, or auto for a GPU where one can be used
        #[arg(long, default_value = "cpu", value_name = "DEVICE")]
        device: String,
    },
    /// Run a published checkpoint on given tensors, to compare with its reference
    Forward {
        /// The system, one of `vlp list models`
        #[arg(long, value_name = "NAME")]
        model: String,
        /// A folder with config.json and model.safetensors, as `save_pretrained` writes it, or hub:OWNER/NAME
        #[arg(long, value_name = "FOLDER")]
        checkpoint: PathBuf,
        /// A safetensors file of inputs under the reference's names
        #[arg(long, value_name = "FILE")]
        input: PathBuf,
        /// The safetensors file of outputs to write
        #[arg(long, value_name = "FILE")]
        output: PathBuf,
        /// What is computed with
        #[arg(long, default_value = "f32")]
        dtype: Precision,
        /// What computes: auto, cpu or cuda:N
        #[arg(long, default_value = "auto", value_name = "DEVICE")]
        device: String,
    },
    /// Save what a run has learnt as its model's reference saves it
    Export {
        /// The directory of a run
        run: PathBuf,
        /// The folder to write config.json and model.safetensors to
        #[arg(long, value_name = "FOLDER")]
        out: PathBuf,
        /// The reference's class, as `vlp forward --help` lists them; the first of the model's without it
        #[arg(long, value_name = "NAME")]
        class: Option<String>,
    },
    /// Write unit vectors of pictures and texts to a safetensors file
    Embed {
        #[command(flatten)]
        shown: Shown,
        /// Pictures, or folders of them
        #[arg(long, num_args = 1.., value_name = "FILE|FOLDER")]
        images: Vec<PathBuf>,
        /// A file of texts, one a line
        #[arg(long, value_name = "FILE")]
        texts: Option<PathBuf>,
        /// The file to write
        #[arg(long, default_value = "embeds.safetensors", value_name = "FILE")]
        out: PathBuf,
    },
    /// Tell how well texts fit pictures
    Match {
        #[command(flatten)]
        shown: Shown,
        /// Pictures, or folders of them
        #[arg(long = "image", required = true, num_args = 1.., value_name = "FILE|FOLDER")]
        images: Vec<PathBuf>,
        /// Texts
        #[arg(long = "text", required = true, num_args = 1.., value_name = "TEXT")]
        texts: Vec<String>,
    },
    /// Write a caption for each picture
    Caption {
        #[command(flatten)]
        shown: Shown,
        /// Pictures, or folders of them
        #[arg(long, required = true, num_args = 1.., value_name = "FILE|FOLDER")]
        images: Vec<PathBuf>,
        #[command(flatten)]
        how: How,
    },
    /// Find the pictures that fit a text best, or the texts that fit a picture best
    Retrieve {
        #[command(flatten)]
        shown: Shown,
        /// Pictures, or folders of them, to be found
        #[arg(long, num_args = 1.., requires = "query", conflicts_with_all = ["image", "texts"], value_name = "FILE|FOLDER")]
        images: Vec<PathBuf>,
        /// The text that they should fit
        #[arg(long, requires = "images", value_name = "TEXT")]
        query: Option<String>,
        /// A picture
        #[arg(long, requires = "texts", required_unless_present = "images", value_name = "FILE")]
        image: Option<PathBuf>,
        /// A file of texts to be found, one a line
        #[arg(long, requires = "image", value_name = "FILE")]
        texts: Option<PathBuf>,
        /// How many are named
        #[arg(long, default_value_t = 10, value_name = "K")]
        top: usize,
    },
    /// Prove that a killed run goes on to bit-equal weights; the first seed of each arm, unless `--only` says more
    VerifyResume(Meant),
}

/// A trained model, and how it is asked.
#[derive(Args)]
struct Shown {
    /// The directory of a run, or a folder with published weights and their vocabulary
    model: PathBuf,
    /// What computes: auto, cpu or cuda:N
    #[arg(long, default_value = "auto", value_name = "DEVICE")]
    device: String,
    /// As JSON, for programs
    #[arg(long)]
    json: bool,
    /// Show no progress
    #[arg(long)]
    quiet: bool,
}

impl Shown {
    fn open(&self) -> Result<Subject> {
        Subject::open(&self.model, &machine::device(&self.device)?)
    }

    fn find(&self, places: &[PathBuf]) -> Result<Pictures> {
        Pictures::find(places, Show::fitting(self.quiet))
    }

    /// Prints what was found; 1 where a picture could not be read.
    fn answer(&self, found: &dyn Answer, pictures: Option<&Pictures>) -> u8 {
        say(&if self.json { found.json().to_string() } else { found.table() });
        u8::from(pictures.is_some_and(|pictures| !pictures.skipped.is_empty()))
    }
}

/// How captions are written.
#[derive(Args)]
struct How {
    /// How the next word is taken
    #[arg(long, default_value = "beam")]
    decode: Decode,
    /// What a caption goes on from
    #[arg(long, default_value = "", value_name = "TEXT")]
    prompt: String,
    /// Tokens of the shortest caption, prompt and beginning included
    #[arg(long, default_value_t = 5, value_name = "N")]
    min_length: usize,
    /// Tokens of the longest
    #[arg(long, default_value_t = 20, value_name = "N")]
    max_length: usize,
    /// Beams that are searched
    #[arg(long, default_value_t = 3, value_name = "N")]
    beams: usize,
    /// The power of its length by which the score of a beam is divided
    #[arg(long, default_value_t = 1.0, value_name = "X", allow_negative_numbers = true)]
    length_penalty: f64,
    /// The probability that the words of the nucleus reach together
    #[arg(long, default_value_t = 0.9, value_name = "P")]
    top_p: f64,
    /// Words that may be drawn at most; 0: all
    #[arg(long, default_value_t = 0, value_name = "K")]
    top_k: usize,
    /// What logits are divided by before a word is drawn
    #[arg(long, default_value_t = 1.0, value_name = "X")]
    temperature: f64,
    /// What makes words less likely that are there already; 1.1 where words are drawn, else 1, unless it is given
    #[arg(long, value_name = "X")]
    repetition_penalty: Option<f64>,
    /// Where draws come from
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Decode {
    Greedy,
    Beam,
    Nucleus,
}

impl How {
    fn writer(&self, end: u32) -> Writer {
        let Self { beams, length_penalty, top_p, top_k, temperature, .. } = *self;
        let strategy = match self.decode {
            Decode::Greedy => Strategy::Greedy,
            Decode::Beam => Strategy::Beam(Beam { beams, length_penalty, ..Beam::default() }),
            Decode::Nucleus => Strategy::Nucleus(Nucleus { top_p, temperature, top_k }),
        };
        let usual = if self.decode == Decode::Nucleus { 1.1 } else { 1.0 };
        Writer {
            strategy,
            least: self.min_length,
            most: self.max_length,
            repetition_penalty: self.repetition_penalty.unwrap_or(usual),
            end,
            seed: self.seed,
        }
    }
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
    #[arg(long, value_name = "N,N,..")]
    seeds: Option<String>,
}

impl Asked {
    fn options(&self) -> file::Options {
        file::Options { profile: self.profile.clone(), set: self.set.clone(), seeds: self.seeds.clone() }
    }

    /// The arguments that ask for the same again.
    fn arguments(&self) -> Vec<String> {
        let pair = |flag: &str, value: &String| [flag.to_owned(), value.clone()];
        let mut arguments = vec![self.file.display().to_string()];
        arguments.extend(self.profile.iter().flat_map(|name| pair("--profile", name)));
        arguments.extend(self.set.iter().flat_map(|change| pair("--set", change)));
        arguments.extend(self.seeds.iter().flat_map(|seeds| pair("--seeds", seeds)));
        arguments
    }
}

/// Some runs of an experiment.
#[derive(Args)]
struct Meant {
    #[command(flatten)]
    asked: Asked,
    /// Only some runs, e.g. `arm=itc` or `seed=0`
    #[arg(long, value_name = "arm=NAME|seed=N")]
    only: Vec<String>,
    /// The folder that keeps runs
    #[arg(long, default_value = "runs", value_name = "FOLDER")]
    out: PathBuf,
    /// What computes: cpu, cuda:N, cuda:N+tf32, or auto for a GPU where one can be used
    #[arg(long, default_value = "cpu", value_name = "DEVICE")]
    device: String,
    /// Show no progress
    #[arg(long)]
    quiet: bool,
}

impl Meant {
    fn open(&self) -> Result<(Experiment, Only, run::Options)> {
        let experiment = load(&self.asked.file, &self.asked.options())?;
        let only = file::only(&self.only, &experiment)?;
        let options = run::Options {
            out: self.out.clone(),
            device: machine::device(&self.device)?,
            words: Words::shipped()?,
            show: Show::fitting(self.quiet),
            command: spelt("vlp run", &self.asked.arguments()),
            stop_at: None,
        };
        Ok((experiment, only, options))
    }
}

/// A command as a shell takes it.
fn spelt(program: &str, arguments: &[String]) -> String {
    let plain = |letter: char| letter.is_alphanumeric() || "-_=.,/+:".contains(letter);
    let quoted = |argument: &String| match argument.chars().all(plain) {
        true => argument.clone(),
        false => format!("'{}'", argument.replace('\'', "'\\''")),
    };
    let words = std::iter::once(program.to_owned()).chain(arguments.iter().map(quoted));
    words.collect::<Vec<_>>().join(" ")
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Listed {
    Models,
    Objectives,
    Evaluations,
    Data,
    Experiments,
    Published,
}

impl Listed {
    fn kind(self) -> Kind {
        match self {
            Self::Models => Kind::Models,
            Self::Objectives => Kind::Objectives,
            Self::Evaluations => Kind::Evaluations,
            Self::Data => Kind::Data,
            Self::Experiments => Kind::Experiments,
            Self::Published => Kind::Published,
        }
    }
}

/// Numbers that a forward pass computes with.
#[derive(Clone, Copy, ValueEnum)]
enum Precision {
    F32,
}

fn parsed() -> Command {
    let command = Command::command().mut_subcommand("forward", |verb| verb.after_help(forward::manual()));
    Command::from_arg_matches(&command.get_matches()).unwrap_or_else(|fault| fault.exit())
}

fn main() -> ExitCode {
    let command = parsed();
    kernels::memory::keep();
    let started = kernels::threads::init(command.threads).map_err(Failure::from);
    match started.and_then(|()| kernels::threads::inside(|| act(&command))) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            complain(&failure);
            ExitCode::from(failure.exit_code())
        }
    }
}

fn act(command: &Command) -> Result<u8> {
    match &command.verb {
        Verb::Check(asked) => say(&file::check(&asked.file, &asked.options())?),
        Verb::Plan(meant) => {
            let (experiment, only, options) = meant.open()?;
            say(&plan::plan(&experiment, &only, &options)?.to_string());
        }
        Verb::Run { meant, no_report } => return train(meant, *no_report),
        Verb::Report { runs, all: true, out } => {
            let catalogue = catalogue::catalogue(Path::new("experiments"))?;
            say(&page(reports::reproduction(&catalogue, runs, out))?);
        }
        Verb::Report { runs, all: false, out } => say(&page(reports::report(runs, out))?),
        Verb::List { deviations: true, .. } => say(&list::deviations()),
        Verb::List { kind: Some(Listed::Published), paper: Some(paper), .. } => {
            say(&published::listing(paper)?)
        }
        Verb::List { paper: Some(paper), .. } => {
            let fault = Fault::new(format!("`{paper}` belongs to no list"));
            return Err(fault.help(format!("`vlp list published {paper}` shows a paper's numbers")).into());
        }
        Verb::List { kind: Some(kind), .. } => say(&list::list(kind.kind())?),
        Verb::List { kind: None, .. } => say(&everything()?),
        Verb::Matrix { json: false } => say(&Matrix::new().to_string()),
        Verb::Matrix { json: true } => say(&Matrix::new().json()?),
        Verb::Doctor { out, device } => return Ok(look(out, device)),
        Verb::Forward { model, checkpoint, input, output, dtype: Precision::F32, device } => {
            let device = machine::device(device)?;
            say(&forward::forward(model, checkpoint, input, output, &device)?);
        }
        Verb::Export { run, out, class } => say(&export::export(run, class.as_deref(), out)?),
        Verb::Embed { shown, images, texts, out } => {
            let mut pictures = (!images.is_empty()).then(|| shown.find(images)).transpose()?;
            let texts = texts.as_deref().map(inference::lines).transpose()?.unwrap_or_default();
            if pictures.is_none() && texts.is_empty() {
                return Err(Fault::new("nothing to embed")
                    .help("name pictures with --images or texts with --texts")
                    .into());
            }
            let found = inference::embed(&shown.open()?, pictures.as_mut(), &texts, out)?;
            return Ok(shown.answer(&found, pictures.as_ref()));
        }
        Verb::Match { shown, images, texts } => {
            let mut pictures = shown.find(images)?;
            let found = inference::matching(&shown.open()?, &mut pictures, texts)?;
            return Ok(shown.answer(&found, Some(&pictures)));
        }
        Verb::Caption { shown, images, how } => {
            let (mut pictures, subject) = (shown.find(images)?, shown.open()?);
            let found = inference::caption(&subject, &mut pictures, &how.prompt, &how.writer(subject.end()))?;
            return Ok(shown.answer(&found, Some(&pictures)));
        }
        Verb::Retrieve { shown, images, query, image, texts, top } => {
            let mut pictures = shown.find(image.as_ref().map_or(images.as_slice(), std::slice::from_ref))?;
            let texts = texts.as_deref().map(inference::lines).transpose()?.unwrap_or_default();
            let asked = query.as_deref().map_or(Wanted::Image(&texts), Wanted::Text);
            let found = inference::retrieve(&shown.open()?, &mut pictures, &asked, *top)?;
            return Ok(shown.answer(&found, Some(&pictures)));
        }
        Verb::VerifyResume(meant) => return prove(meant, command.threads),
    }
    Ok(0)
}

fn train(meant: &Meant, no_report: bool) -> Result<u8> {
    let (experiment, only, options) = meant.open()?;
    let summary = suite::run_all(&experiment, &only, &options)?;
    say(&summary.to_string());
    if !no_report && !summary.done.is_empty() {
        let folder = directory::of_experiment(&options.out, &experiment).join("report");
        say(&format!("report: {}", page(reports::report(&summary.done, &folder))?));
    }
    Ok(summary.exit_code())
}

/// The page of a report to open.
fn page(written: std::result::Result<reports::Written, reports::Error>) -> Result<String> {
    let written = written.map_err(|error| Fault::new(error.to_string()))?;
    Ok(written.page.display().to_string())
}

fn look(out: &Path, device: &str) -> u8 {
    let mut wrong = 0;
    for Finding { subject, found } in doctor::examine(out, device) {
        let text = found.unwrap_or_else(|problem| {
            wrong = 1;
            format!("WRONG: {}", problem.replace('\n', "\n            "))
        });
        say(&format!("{subject:10}  {text}"));
    }
    wrong
}

fn prove(meant: &Meant, threads: usize) -> Result<u8> {
    let (experiment, mut only, options) = meant.open()?;
    if only.seeds.is_empty() {
        only.seeds.extend(experiment.seeds.first());
    }
    let program = std::env::current_exe().map_err(Failure::storage(Path::new("vlp")))?;
    let mut differences = 0;
    for (number, (arm, seed)) in only.of(&experiment).into_iter().enumerate() {
        let child = |out: &Path, every: u64| {
            let mut child = process::Command::new(&program);
            child.arg("run").args(meant.asked.arguments()).args([
                "--device",
                &meant.device,
                "--no-report",
                "--quiet",
            ]);
            child.args(["--only", &format!("arm={}", arm.name), "--only", &format!("seed={seed}")]);
            child.args(["--set", &format!("train.checkpoint.steps={every}")]).arg("--out").arg(out);
            child.args(["--threads", &threads.to_string()]);
            child
        };
        let out = meant.out.join("verify-resume").join(number.to_string());
        let proof = verify::verify_resume(&experiment, (arm, seed), &out, options.show, child)?;
        differences += proof.differences.len();
        say(&proof.to_string());
    }
    Ok(u8::from(differences > 0))
}

fn everything() -> Result<String> {
    let section = |kind: &Listed| {
        let title = kind.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        let text = list::list(kind.kind())?.replace('\n', "\n  ");
        Ok(format!("{title}\n  {text}"))
    };
    Ok(Listed::value_variants().iter().map(section).collect::<Result<Vec<_>>>()?.join("\n\n"))
}

/// Prints a result. Whoever reads it may have heard enough: a closed pipe is no failure.
fn say(text: &str) {
    drop(writeln!(io::stdout(), "{text}"));
}

fn complain(failure: &Failure) {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let paint = if io::stderr().is_terminal() && !plain { Paint::Colour } else { Paint::Plain };
    let text = match failure {
        Failure::Refused(faults) => {
            faults.iter().map(|fault| fault.render(paint)).collect::<Vec<_>>().join("\n\n")
        }
        other => Fault::new(other.to_string()).render(paint),
    };
    drop(writeln!(io::stderr(), "{text}"));
}
