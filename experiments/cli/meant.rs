//! Which runs a verb is about: experiment files, what is laid over them, and where their runs lie.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::Args;
use vlp_bench::experiments::agenda::Agenda;
use vlp_bench::experiments::failure::Result;
use vlp_bench::experiments::fault::Fault;
use vlp_bench::experiments::feed::Words;
use vlp_bench::experiments::progress::Show;
use vlp_bench::experiments::suite::Only;
use vlp_bench::experiments::{Experiment, file, load, machine, run};

/// What is laid over an experiment file.
#[derive(Args)]
pub struct Changes {
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

impl Changes {
    /// The same for the reader of files.
    pub fn options(&self) -> file::Options {
        file::Options { profile: self.profile.clone(), set: self.set.clone(), seeds: self.seeds.clone() }
    }
}

/// An experiment file and what is laid over it.
#[derive(Args)]
pub struct Asked {
    /// The experiment file
    pub file: PathBuf,
    #[command(flatten)]
    pub changes: Changes,
}

/// Which runs, where they lie and what computes them.
#[derive(Args)]
pub struct How {
    /// Only some runs, e.g. `arm=itc` or `seed=0`
    #[arg(long, value_name = "arm=NAME|seed=N")]
    only: Vec<String>,
    /// The folder that keeps runs
    #[arg(long, default_value = "runs", value_name = "FOLDER")]
    pub out: PathBuf,
    /// What computes: cpu, cuda:N, cuda:N+tf32, or auto for a GPU where one can be used
    #[arg(long, default_value = "cpu", value_name = "DEVICE")]
    pub device: String,
    /// Show no progress
    #[arg(long)]
    quiet: bool,
}

impl How {
    /// Reads one file; the runs of it that are meant, and how they are run.
    pub fn open(&self, path: &Path, changes: &Changes) -> Result<(Experiment, Only, run::Options)> {
        let laid = changes.options();
        let experiment = load(path, &laid)?;
        let only = file::only(&self.only, &experiment)?;
        Ok((experiment, only, self.options(laid.command(path))?))
    }

    fn options(&self, command: String) -> Result<run::Options> {
        Ok(run::Options {
            out: self.out.clone(),
            device: machine::device(&self.device)?,
            words: Words::shipped()?,
            show: Show::fitting(self.quiet),
            command,
            jobs: 1,
            stop_at: None,
            until: None,
        })
    }

    /// The flags that say the same again, where they are not as usual.
    fn flags(&self) -> Vec<String> {
        let mut flags = Vec::new();
        let mut say = |flag: &str, value: &str| flags.extend([flag.to_owned(), value.to_owned()]);
        self.only.iter().for_each(|only| say("--only", only));
        if self.out != Path::new("runs") {
            say("--out", &self.out.display().to_string());
        }
        if self.device != "cpu" {
            say("--device", &self.device);
        }
        flags.extend(self.quiet.then(|| "--quiet".to_owned()));
        flags
    }
}

/// Some runs of an experiment.
#[derive(Args)]
pub struct Meant {
    #[command(flatten)]
    pub asked: Asked,
    #[command(flatten)]
    pub how: How,
}

/// Some runs of any number of experiments.
#[derive(Args)]
pub struct Several {
    /// Experiment files, or folders: every file below them that ends in .yaml, but for those in presets/ and published/
    #[arg(required = true, value_name = "FILE|FOLDER")]
    places: Vec<PathBuf>,
    #[command(flatten)]
    changes: Changes,
    #[command(flatten)]
    how: How,
    /// Runs side by side, which share the threads; small models keep several threads busier so
    #[arg(long, default_value = "1", value_name = "N")]
    jobs: NonZeroUsize,
}

impl Several {
    /// The file, where just one is meant.
    pub fn single(&self) -> Option<&Path> {
        match self.places.as_slice() {
            [file] if !file.is_dir() => Some(file),
            _ => None,
        }
    }

    /// Reads the one file, as [`How::open`].
    pub fn open(&self, file: &Path) -> Result<(Experiment, Only, run::Options)> {
        let (experiment, only, options) = self.how.open(file, &self.changes)?;
        Ok((experiment, only, self.side_by_side(options)?))
    }

    /// Reads all of them; each entry has the command of its own that runs it.
    pub fn agenda(&self) -> Result<(Agenda, run::Options)> {
        let options = self.side_by_side(self.how.options(String::new())?)?;
        let agenda = Agenda::open(&self.places, &self.changes.options(), &self.how.only, options.show);
        Ok((agenda, options))
    }

    fn side_by_side(&self, options: run::Options) -> Result<run::Options> {
        let jobs = self.jobs.get();
        if jobs > 1 && !options.device.is_cpu() {
            let device = machine::device_word(&options.device);
            let fault = Fault::new(format!("`--jobs {jobs}`: {device} computes one run after another"));
            return Err(fault.help("leave `--jobs` out").into());
        }
        Ok(run::Options { jobs, ..options })
    }

    /// The command `vlp run` that means the same, with more flags at its end.
    pub fn command(&self, more: impl IntoIterator<Item = String>) -> String {
        let places = self.places.iter().map(|place| place.display().to_string());
        let words = ["vlp", "run"].map(str::to_owned).into_iter().chain(places);
        let jobs = (self.jobs.get() > 1).then(|| ["--jobs".to_owned(), self.jobs.to_string()]);
        let flags = self.changes.options().flags().into_iter().chain(self.how.flags());
        file::spelt(words.chain(flags).chain(jobs.into_iter().flatten()).chain(more))
    }
}
