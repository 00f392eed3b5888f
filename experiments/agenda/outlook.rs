//! What several experiments take on this machine: a row an experiment, and a total that counts once what they share.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Instant;

use super::{Agenda, Entry, Item, Refused, Row};
use crate::experiments::directory::Status;
use crate::experiments::failure::Result;
use crate::experiments::machine;
use crate::experiments::plan::{Cost, Effort, Estimates, Job, Memory, Probes, State, elapsed, jobs, key};
use crate::experiments::progress::{Progress, Show};
use crate::experiments::run::Options;

/// What the experiments of an agenda take.
#[derive(Debug)]
pub struct Outlook {
    /// A row for each of [`Agenda::entries`].
    pub rows: Vec<Row>,
    /// The experiments of which a configuration failed when it was probed, and how.
    pub failed: Vec<Refused>,
    /// Bytes that are free where runs are kept, where the system tells.
    pub free: Option<u64>,
    probes: Probes,
    jobs: usize,
}

/// A job of an experiment with what is known of it.
struct Seen<'a> {
    job: Job<'a>,
    states: Vec<(u64, State)>,
    /// Which probe tells what it takes; none where every seed is done.
    key: Option<String>,
}

impl Agenda {
    /// Looks how far everything has come and probes what is not done, each configuration once. Experiments whose data cannot
    /// be read are refused; one of which a probe fails is not, since its other arms may be run. After `patience` nothing
    /// more is probed.
    ///
    /// # Errors
    /// When what was found out cannot be kept.
    pub fn outlook(&mut self, options: &Options, patience: Option<Instant>) -> Result<Outlook> {
        let mut outlook = Outlook {
            rows: Vec::new(),
            failed: Vec::new(),
            probes: Probes::read(&options.out),
            free: machine::free(&options.out),
            jobs: options.jobs,
        };
        let mut progress = Progress::new(options.show, "looking", 0, self.entries.len() as u64);
        let mut all = Vec::new();
        for (number, entry) in self.entries.iter().enumerate() {
            all.push(seen(entry, options));
            progress.count(number as u64 + 1, "experiments");
        }
        progress.end();
        let missing: BTreeSet<&String> = all
            .iter()
            .flatten()
            .flatten()
            .filter_map(|seen| seen.key.as_ref())
            .filter(|key| outlook.probes.get(key).is_none())
            .collect();
        let mut progress = Progress::new(options.show, "probing", 0, missing.len() as u64);
        let (mut refused, mut probed) = (Vec::new(), 0);
        let mut tell = || {
            probed += 1;
            progress.count(probed, "configurations");
        };
        for (number, (entry, looked)) in self.entries.iter().zip(all).enumerate() {
            match looked {
                Ok(looked) => {
                    outlook.probe(entry, &looked, options, patience, &mut tell)?;
                    outlook.rows.push(outlook.row(entry, &looked, options)?);
                }
                Err(failure) => refused.push((number, failure)),
            }
        }
        progress.end();
        for (number, failure) in refused.into_iter().rev() {
            let place = self.entries.remove(number).experiment.file;
            self.refused.push(Refused { place, failure });
        }
        Ok(outlook)
    }
}

/// How far every job of an experiment has come.
fn seen<'a>(entry: &'a Entry, options: &Options) -> Result<Vec<Seen<'a>>> {
    let (jobs, seeds) = jobs(&entry.experiment, &entry.only);
    let look = |job: Job<'a>| {
        let state = |seed: &u64| Ok((*seed, job.state(&entry.experiment, *seed, options)?));
        let states = seeds.iter().map(state).collect::<Result<Vec<_>>>()?;
        let done = states.iter().all(|(_, state)| matches!(state.status, Status::Done(_)));
        let key = if done { None } else { Some(key(job.work, options)?) };
        Ok(Seen { job, states, key })
    };
    let mut all = jobs.into_iter().map(look).collect::<Result<Vec<_>>>()?;
    // Nothing needs a stage whose runs are all done.
    if all.iter().all(|seen| seen.job.stage.is_some() || seen.key.is_none()) {
        all.iter_mut().for_each(|seen| seen.key = None);
    }
    Ok(all)
}

impl Outlook {
    fn probe(
        &mut self,
        entry: &Entry,
        all: &[Seen],
        options: &Options,
        patience: Option<Instant>,
        tell: &mut impl FnMut(),
    ) -> Result<()> {
        let quiet = Options { show: Show::Nothing, ..options.clone() };
        let mut made = false;
        for Seen { job, states, key } in all {
            let Some(((seed, _), key)) = states.first().zip(key.as_ref()) else { continue };
            let over = patience.is_some_and(|patience| Instant::now() >= patience);
            if !over && self.probes.get(key).is_none() {
                if let Err(failure) = self.probes.of(job, *seed, Effort::Brief, &quiet) {
                    self.failed.push(Refused { place: entry.experiment.file.clone(), failure });
                }
                tell();
                made = true;
            }
        }
        if made { self.probes.write(&options.out) } else { Ok(()) }
    }

    fn row(&self, entry: &Entry, all: &[Seen], options: &Options) -> Result<Row> {
        let Entry { experiment, .. } = entry;
        let mut row = Row {
            name: experiment.name.clone(),
            profile: experiment.profile.clone(),
            seeds: all
                .first()
                .map(|seen| seen.states.iter().map(|(seed, _)| *seed).collect())
                .unwrap_or_default(),
            items: Vec::new(),
            memory: None,
            unmeasured: 0,
            jobs: options.jobs,
        };
        let mut estimates = Estimates::read(&options.out, experiment);
        for Seen { job, states, key } in all {
            let probe = key.as_ref().and_then(|key| self.probes.get(key));
            let known = probe.map(|probe| Cost::new(job, probe).map(|cost| (cost, probe))).transpose()?;
            row.unmeasured += usize::from(key.is_some() && probe.is_none());
            row.remember(probe.and_then(|probe| probe.memory));
            for (_, state) in states {
                if let Status::Done(done) = &state.status {
                    row.remember(done.peak_memory.map(|bytes| Memory { bytes, at_most: true }));
                }
                if let Some((cost, _)) = &known {
                    estimates.insert(state.hash.clone(), cost.seconds());
                }
                row.items.push(Item::new(job, state, known.as_ref()));
            }
        }
        if row.items.iter().any(|item| !item.is_done()) {
            estimates.write(&options.out, experiment)?;
        }
        Ok(row)
    }

    /// Looks again how far one experiment has come, and with it what others share with it.
    ///
    /// # Errors
    /// When what it left behind cannot be read.
    pub fn renew(&mut self, number: usize, entry: &Entry, options: &Options) -> Result<()> {
        let row = self.row(entry, &seen(entry, options)?, options)?;
        for item in self.rows.iter_mut().flat_map(|row| &mut row.items) {
            let same = |one: &&Item| one.stage.is_some() && one.directory == item.directory;
            if let Some(now) = row.items.iter().find(same) {
                (item.status, item.seconds_left) = (now.status.clone(), now.seconds_left);
            }
        }
        self.rows[number] = row;
        Ok(())
    }

    /// Everything that there is to do, what several experiments need but once.
    pub fn items(&self) -> impl Iterator<Item = &Item> {
        let mut all: BTreeMap<&Path, &Item> = BTreeMap::new();
        for item in self.rows.iter().flat_map(|row| &row.items) {
            let known = all.entry(&item.directory).or_insert(item);
            // Where the runs of one experiment are done, it says nothing of a stage that another still needs.
            if item.seconds_left > known.seconds_left {
                *known = item;
            }
        }
        all.into_values()
    }

    /// Seconds until everything is done.
    pub fn seconds_left(&self) -> f64 {
        elapsed(self.items().map(|item| item.seconds_left), self.jobs)
    }

    /// Runs that are not done.
    pub fn left(&self) -> usize {
        self.rows.iter().map(Row::left).sum()
    }

    /// Bytes on disk when everything is done.
    pub fn disk(&self) -> u64 {
        self.items().map(|item| item.disk).sum()
    }

    /// The greatest memory of one run.
    pub fn memory(&self) -> Option<Memory> {
        self.rows.iter().filter_map(|row| row.memory).reduce(Memory::or)
    }

    /// The stages that several experiments need, each with the names of these.
    pub fn shared(&self) -> Vec<(&str, Vec<&str>)> {
        let mut users: BTreeMap<&Path, (&str, Vec<&str>)> = BTreeMap::new();
        for row in &self.rows {
            for item in &row.items {
                let Some(stage) = &item.stage else { continue };
                let (_, names) = users.entry(&item.directory).or_insert((stage, Vec::new()));
                if !names.contains(&row.name.as_str()) {
                    names.push(&row.name);
                }
            }
        }
        // One line for all seeds of a stage.
        let shared: BTreeSet<_> = users.into_values().filter(|(_, names)| names.len() > 1).collect();
        shared.into_iter().collect()
    }
}
