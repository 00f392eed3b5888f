//! How the outlook of several experiments is shown: a table for people, JSON for programs.

use std::fmt;

use serde_json::{Value, json};

use super::{Outlook, Refused, Row};
use crate::experiments::plan::{Memory, bytes};
use crate::experiments::progress::duration;

impl Outlook {
    /// The time until everything is done, in words.
    pub fn time(&self) -> String {
        time(self.seconds_left(), self.rows.iter().any(|row| row.unmeasured > 0))
    }

    /// The same for programs.
    pub fn json(&self, refused: &[Refused]) -> Value {
        let memory = |memory: Option<Memory>| memory.map(|memory| memory.bytes);
        let at_most = |memory: Option<Memory>| memory.is_some_and(|memory| memory.at_most);
        let row = |row: &Row| {
            json!({
                "name": row.name, "profile": row.profile, "seeds": row.seeds, "runs": row.runs(), "done": row.done(),
                "seconds_left": row.seconds_left(), "memory": memory(row.memory), "memory_at_most": at_most(row.memory),
                "disk": row.disk(), "unmeasured": row.unmeasured,
            })
        };
        let refuse =
            |refused: &Refused| json!({"place": refused.place, "problem": refused.failure.to_string()});
        let shared = |(stage, names): (&str, Vec<&str>)| json!({"stage": stage, "experiments": names});
        json!({
            "experiments": self.rows.iter().map(row).collect::<Vec<_>>(),
            "shared": self.shared().into_iter().map(shared).collect::<Vec<_>>(),
            "total": {
                "runs": self.rows.iter().map(Row::runs).sum::<usize>(), "left": self.left(),
                "seconds_left": self.seconds_left(), "memory": memory(self.memory()),
                "memory_at_most": at_most(self.memory()), "disk": self.disk(), "free": self.free,
            },
            "failed": self.failed.iter().map(refuse).collect::<Vec<_>>(),
            "refused": refused.iter().map(refuse).collect::<Vec<_>>(),
        })
    }
}

impl Row {
    /// The time until it is done, in words.
    pub fn time(&self) -> String {
        time(self.seconds_left(), self.unmeasured > 0)
    }

    /// Its cells of the table.
    fn cells(&self) -> [String; 6] {
        [
            self.name.clone(),
            format!("{}/{}", self.done(), self.runs()),
            self.seeds.len().to_string(),
            self.time(),
            said(self.memory),
            bytes(self.disk()),
        ]
    }
}

/// A time as people say it; a bound where some of it is not known.
fn time(seconds: f64, bound: bool) -> String {
    format!("{}{}", if bound { "> " } else { "" }, duration(seconds))
}

/// Memory as people say it.
fn said(memory: Option<Memory>) -> String {
    let Some(Memory { bytes: size, at_most }) = memory else { return "unknown".to_owned() };
    format!("{}{}", if at_most { "<= " } else { "" }, bytes(size))
}

impl fmt::Display for Outlook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["experiment", "done", "seeds", "left", "memory", "disk"].map(str::to_owned);
        let rows: Vec<[String; 6]> = std::iter::once(head).chain(self.rows.iter().map(Row::cells)).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths = [0, 1, 2, 3, 4, 5].map(width);
        for [name, cells @ ..] in &rows {
            write!(f, "{name:0$}", widths[0])?;
            cells.iter().zip(&widths[1..]).try_for_each(|(cell, width)| write!(f, "  {cell:>width$}"))?;
            writeln!(f)?;
        }
        for (stage, names) in self.shared() {
            writeln!(f, "stage {stage} is needed by {} and counted once in the total", names.join(", "))?;
        }
        let unmeasured = self.rows.iter().filter(|row| row.unmeasured > 0).count();
        if unmeasured > 0 {
            writeln!(
                f,
                "{unmeasured} experiments could not be measured as a whole: they take more than they say"
            )?;
        }
        let runs: usize = self.rows.iter().map(Row::runs).sum();
        write!(f, "{} experiments, {} of {runs} runs left: ", self.rows.len(), self.left())?;
        write!(f, "{}, memory {}, ", self.time(), said(self.memory()))?;
        let free = self.free.map_or_else(String::new, |free| format!(" ({} free)", bytes(free)));
        write!(f, "disk {}{free}", bytes(self.disk()))
    }
}
