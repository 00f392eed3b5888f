//! Running the experiments of an agenda, one after another, until they are done or the time is over.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Instant;

use super::{Agenda, Entry, Outlook, Worth, order};
use crate::experiments::budget::Budget;
use crate::experiments::failure::{Failure, Result};
use crate::experiments::progress::duration;
use crate::experiments::run::Options;
use crate::experiments::suite::{Summary, run_all};

/// What became of the experiments of an agenda.
#[derive(Debug, Default)]
pub struct Worked {
    /// Runs that were done.
    pub runs: usize,
    /// Runs that failed.
    pub failed: usize,
    /// Experiments that have nothing left, those that had nothing left before included.
    pub complete: usize,
    /// Faults that belong to no run, each with the experiment's name.
    pub faults: Vec<(String, Failure)>,
    /// Experiments that have something left.
    pub waiting: usize,
    /// Runs that are left.
    pub left: usize,
    /// The time that they will take, in words.
    pub time_left: String,
    /// Seconds that everything took.
    pub seconds: f64,
    code: u8,
}

/// Runs each experiment to its end before the next, the most informative first and within a budget if there is one, and
/// tells `after` what became of it; a fault in one does not keep the others from running.
///
/// Seeds are outermost within an experiment, so that one which is broken off has compared its arms on the seeds it has.
/// What comes next is found out after each: a stage that is done makes what else needs it cheaper.
pub fn work(
    agenda: &Agenda,
    outlook: &mut Outlook,
    worths: &[Worth],
    options: &Options,
    budget: Option<&Budget>,
    mut after: impl FnMut(&Entry, &Summary) -> Result<()>,
) -> Worked {
    let (begun, mut worked) = (Instant::now(), Worked::default());
    let pieces: BTreeMap<_, _> = outlook.items().map(|item| (item.hash.clone(), item.pieces)).collect();
    let (all, mut tried, mut report) = (order(outlook, worths).len(), Vec::new(), 0.0f64);
    while let Some(number) = order(outlook, worths).into_iter().find(|number| !tried.contains(number)) {
        let until = budget.map(|budget| budget.until(report, pieces.clone()));
        let options = Options { until, ..options.clone() };
        if options.until.as_ref().is_some_and(|until| until.lacks(0.0)) {
            break;
        }
        tried.push(number);
        let (entry, row) = (&agenda.entries[number], &outlook.rows[number]);
        let (left, time) = (row.left(), row.time());
        let title = format!("[{}/{all}] {}", tried.len(), row.name);
        options.show.line(&format!("{title}: {left} runs left, {time}; {}", worths[number]));
        let own = Options { command: entry.command.clone(), ..options.clone() };
        let ran = run_all(&entry.experiment, &entry.only, &own);
        let renewed = outlook.renew(number, entry, &options);
        let mut stopped = false;
        let told = ran.and_then(|summary| {
            worked.add(&summary);
            stopped = summary.stopped;
            let reporting = Instant::now();
            let told = after(entry, &summary);
            report = report.max(reporting.elapsed().as_secs_f64());
            told
        });
        for fault in [renewed, told].into_iter().filter_map(Result::err) {
            worked.code = worked.code.max(fault.exit_code());
            worked.faults.push((entry.experiment.name.clone(), fault));
        }
        // What another one could still do in the time would leave two that are half done.
        if stopped {
            break;
        }
    }
    worked.waiting = outlook.rows.iter().filter(|row| row.left() > 0).count();
    worked.complete = outlook.rows.len() - worked.waiting;
    (worked.left, worked.time_left) = (outlook.left(), outlook.time());
    worked.seconds = begun.elapsed().as_secs_f64();
    worked
}

impl Worked {
    fn add(&mut self, summary: &Summary) {
        self.runs += summary.done.len() - summary.known;
        self.failed += summary.failed.len();
        self.code = self.code.max(summary.exit_code());
    }

    /// 0 if no run failed, else the greatest exit code of a fault; what is left for another time is none.
    pub fn exit_code(&self) -> u8 {
        self.code
    }
}

impl fmt::Display for Worked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "done: {} runs in {}", self.runs, duration(self.seconds))?;
        if self.failed > 0 {
            write!(f, ", {} failed", self.failed)?;
        }
        write!(f, ", {} experiments complete; left: ", self.complete)?;
        match self.left {
            0 => f.write_str("nothing"),
            left => write!(f, "{left} runs of {} experiments, {}", self.waiting, self.time_left),
        }
    }
}
