//! What cannot be right in a file of the registry: refused with its line, every fault at once.
//!
//! Numbers are copied by hand, and the commonest slip copies the wrong ones: a benchmark page has shown the rows of one
//! data set under the name of another for years. So no two tables, columns or rows may be equal to the digit.

use std::sync::Arc;

use super::paper::{Cell, Difference, Metric, Paper, Stated, Table};
use crate::experiments::fault::{Fault, Faults, Place, Text, suggest};
use crate::experiments::file::decode;
use crate::experiments::file::node::{Kind, Node};
use crate::experiments::record::Sign;

/// Fewer equal numbers than this are no sign of a slip.
const TELLING: usize = 4;

/// Reads a file of the registry and holds it against papers that were read before.
///
/// # Errors
/// Everything that is wrong with it.
pub fn read(key: &str, text: &Arc<Text>, others: &[(Node, Paper)]) -> Result<(Node, Paper), Vec<Fault>> {
    let tree = Node::parse(text).map_err(|fault| vec![fault])?;
    let paper = Paper { key: key.to_owned(), ..decode(&tree)? };
    let mut faults = Faults::default();
    for (name, table) in paper.tables.iter() {
        let node = tree.get("tables").and_then(|tables| tables.get(name));
        Lint { paper: &paper, table, node: node.unwrap_or(&tree), faults: &mut faults }.all();
    }
    equal_tables(&tree, &paper, others, &mut faults);
    if faults.is_empty() { Ok((tree, paper)) } else { Err(faults.sorted()) }
}

/// One table and where it is written.
struct Lint<'a> {
    paper: &'a Paper,
    table: &'a Table,
    node: &'a Node,
    faults: &'a mut Faults,
}

impl Lint<'_> {
    fn all(mut self) {
        for (name, metric) in self.table.metrics.iter() {
            self.metric(name, metric);
        }
        let cells = self.table.arms.iter().flat_map(|(arm, row)| row.iter().map(move |cell| (arm, cell)));
        for (arm, (column, cell)) in cells {
            self.cell(arm, column, cell);
        }
        self.sources();
        for (name, effect) in self.table.effects.iter() {
            self.effect(name, effect);
        }
        self.equal_columns();
        self.equal_arms();
    }

    fn refuse(&mut self, path: &[&str], fault: Fault) {
        self.faults.push(fault.at(place(self.node, path)));
    }

    fn metric(&mut self, name: &str, metric: &Metric) {
        let [low, high] = metric.range;
        if low.partial_cmp(&high) != Some(std::cmp::Ordering::Less) {
            let fault = Fault::new(format!("the range of `{name}` holds no value: {low} to {high}"));
            self.refuse(&["metrics", name, "range"], fault);
        }
        let columns: Vec<&str> = self.table.metrics.keys().collect();
        for column in metric.mean.iter().filter(|column| !columns.contains(&column.as_str())) {
            let fault = Fault::new(format!("`{name}` is the mean of `{column}`, which is no metric"));
            self.refuse(&["metrics", name, "mean"], fault.help(suggest(column, columns.iter().copied())));
        }
    }

    fn cell(&mut self, arm: &str, column: &str, cell: &Cell) {
        let path = ["arms", arm, column];
        let Some(metric) = self.table.metrics.get(column) else {
            let fault = Fault::new(format!("arm `{arm}` has a value of `{column}`, which is no metric"));
            return self.refuse(&path, fault.help(suggest(column, self.table.metrics.keys())));
        };
        if !metric.mean.is_empty() {
            let fault = Fault::new(format!("`{column}` is a mean of other columns and has no cells"));
            self.refuse(&path, fault);
        }
        let [low, high] = metric.range;
        if !(low..=high).contains(&cell.value) {
            let fault =
                Fault::new(format!("{} lies outside the range of `{column}`, {low} to {high}", cell.value));
            let help = "correct the number, or give the metric its `range`";
            self.refuse(&path, fault.help(help));
        }
        match (cell.spread, cell.runs) {
            (Some(_), None) => {
                let fault =
                    Fault::new(format!("the spread of `{arm}` in `{column}` is over no number of runs"));
                self.refuse(&path, fault.help("give `runs`, or leave the spread out"));
            }
            (Some(_), Some(runs)) if runs < 2 => {
                self.refuse(&path, Fault::new(format!("{runs} run has no spread")));
            }
            (Some(spread), _) if !(spread >= 0.0 && spread.is_finite()) => {
                self.refuse(&path, Fault::new(format!("{spread} is no spread")));
            }
            _ => {}
        }
        self.known_source(&path, cell.source.as_deref());
    }

    fn sources(&mut self) {
        self.known_source(&["source"], self.table.source.as_deref());
        if self.table.source.is_some() {
            return;
        }
        for (arm, row) in self.table.arms.iter() {
            if row.is_empty() || row.iter().any(|(_, cell)| cell.source.is_none()) {
                let fault = Fault::new(format!("arm `{arm}` has no source"));
                let help = "name what its numbers were read in: `source`, in the table or in each cell";
                self.refuse(&["arms", arm], fault.help(help));
            }
        }
    }

    fn known_source(&mut self, path: &[&str], source: Option<&str>) {
        let Some(source) = source.filter(|source| !self.paper.sources.contains_key(*source)) else { return };
        let fault = Fault::new(format!("`sources` does not say what `{source}` is"));
        let help = suggest(source, self.paper.sources.keys().map(String::as_str));
        self.refuse(path, fault.help(help));
    }

    fn effect(&mut self, name: &str, effect: &Difference) {
        let Difference { metric, arm, minus, stated, .. } = effect;
        let at = |key| ["effects", name, key];
        let mut whole = true;
        if self.table.metrics.get(metric).is_none() {
            let fault = Fault::new(format!("effect `{name}` is in `{metric}`, which is no metric"));
            self.refuse(&at("metric"), fault.help(suggest(metric, self.table.metrics.keys())));
            whole = false;
        }
        for (key, arm) in [("arm", arm), ("minus", minus)] {
            if self.table.arms.get(arm).is_none() {
                let fault = Fault::new(format!("effect `{name}` names `{arm}`, which is no arm"));
                self.refuse(&at(key), fault.help(suggest(arm, self.table.arms.keys())));
                whole = false;
            }
        }
        if arm == minus {
            self.refuse(&at("minus"), Fault::new(format!("effect `{name}` compares `{arm}` with itself")));
        }
        match stated {
            Some(stated) => self.stated(name, metric, stated),
            None if whole => {
                let columns = self.table.metrics.get(metric).map_or(1, |metric| metric.mean.len().max(1));
                for (key, arm) in [("arm", arm), ("minus", minus)] {
                    if self.table.cells(arm, metric).len() < columns {
                        let fault = Fault::new(format!("`{arm}` has no value of `{metric}`"));
                        let help = "where the paper prints no number, say what it states: `stated: {sign: positive, words: ..}`";
                        self.refuse(&at(key), fault.help(help));
                    }
                }
            }
            None => {}
        }
    }

    fn stated(&mut self, name: &str, metric: &str, stated: &Stated) {
        let path = ["effects", name, "stated"];
        if stated.value.is_some_and(|value| stated.sign.is_some_and(|sign| sign != Sign::of(value))) {
            self.refuse(&path, Fault::new(format!("effect `{name}` states a value of the other sign")));
        }
        if let (Some(value), Some(Metric { range: [low, high], .. })) =
            (stated.value, self.table.metrics.get(metric))
            && (value.abs() > high - low || value.is_nan())
        {
            let fault = Fault::new(format!("{value} is more than the range of `{metric}`, {low} to {high}"));
            self.refuse(&path, fault);
        }
        self.known_source(&path, stated.source.as_deref());
    }

    fn equal_columns(&mut self) {
        let names: Vec<&str> = self.table.metrics.keys().collect();
        for (number, name) in names.iter().enumerate() {
            for earlier in &names[..number] {
                let pairs: Vec<(f64, f64)> = self
                    .table
                    .arms
                    .iter()
                    .filter_map(|(_, row)| Some((row.get(earlier)?.value, row.get(name)?.value)))
                    .collect();
                if pairs.len() > 1 && pairs.iter().all(|(one, other)| one == other) {
                    let fault = Fault::new(format!("`{name}` and `{earlier}` are equal to the digit"));
                    self.refuse(&["metrics", name], fault.help("one of the columns was copied twice"));
                }
            }
        }
    }

    fn equal_arms(&mut self) {
        let arms: Vec<_> = self.table.arms.iter().collect();
        for (number, (name, row)) in arms.iter().enumerate() {
            for (earlier, other) in &arms[..number] {
                let pairs: Vec<(f64, f64)> = row
                    .iter()
                    .filter_map(|(column, cell)| Some((cell.value, other.get(column)?.value)))
                    .collect();
                if pairs.len() > 1 && pairs.iter().all(|(one, other)| one == other) {
                    let fault = Fault::new(format!("arms `{name}` and `{earlier}` are equal to the digit"));
                    self.refuse(&["arms", name], fault.help("one of the rows was copied twice"));
                }
            }
        }
    }
}

/// Refuses tables whose numbers another table has too, all of them.
fn equal_tables(tree: &Node, paper: &Paper, others: &[(Node, Paper)], faults: &mut Faults) {
    let mut known: Vec<(String, Vec<f64>)> = Vec::new();
    for (_, other) in others {
        known.extend(
            other.tables.iter().map(|(name, table)| (format!("{}/{name}", other.key), numbers(table))),
        );
    }
    for (name, table) in paper.tables.iter() {
        let own = numbers(table);
        let twin = known.iter().find(|(_, other)| own.len() >= TELLING && *other == own);
        if let Some((twin, _)) = twin {
            let fault = Fault::new(format!("`{}/{name}` and `{twin}` are equal to the digit", paper.key));
            let place = tree.get("tables").and_then(|tables| tables.entry(name)?.0.place.as_ref());
            faults.push(fault.at(place).help("one of the tables was copied twice"));
        }
        known.push((format!("{}/{name}", paper.key), own));
    }
}

/// Every number of a table, in order of size: equal tables may name and order their rows in their own ways.
fn numbers(table: &Table) -> Vec<f64> {
    let cells = table.arms.iter().flat_map(|(_, row)| row.iter().map(|(_, cell)| cell.value));
    let mut numbers: Vec<f64> = cells.collect();
    numbers.sort_by(f64::total_cmp);
    numbers
}

/// Where the entry at the end of a path of keys is written: its value if that is a scalar, else its key; if there is
/// none, the nearest thing around it.
fn place<'a>(node: &'a Node, path: &[&str]) -> Option<&'a Place> {
    let (mut node, mut found) = (node, None);
    for key in path {
        let Some((key, value)) = node.entry(key) else { break };
        let scalar = !matches!(value.kind, Kind::Null | Kind::List(_) | Kind::Map(_));
        found = value.place.as_ref().filter(|_| scalar).or(key.place.as_ref()).or(found);
        node = value;
    }
    found
}
