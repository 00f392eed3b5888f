//! The tables as LaTeX, to be `\input` into a paper that loads `booktabs`.

use super::number::MINUS;
use super::results::Results;
use super::tables::{self, Cell, Table};

/// Effects and arms of every experiment.
pub fn latex(all: &[Results]) -> String {
    let mut out =
        String::from("% Needs \\usepackage{booktabs}. Written by vlp report: changes here are lost.\n");
    for results in all {
        for table in [tables::effects(results), tables::arms(results)] {
            if !table.rows.is_empty() {
                out.push_str(&tabular(&table, results));
            }
        }
    }
    out
}

fn tabular(table: &Table, results: &Results) -> String {
    let number = |column: usize| {
        table
            .rows
            .iter()
            .filter_map(|row| row.get(column))
            .any(|cell| matches!(cell, Cell::Number(_) | Cell::Mean { .. }))
    };
    let columns: String =
        (0..table.head.len()).map(|column| if number(column) { 'r' } else { 'l' }).collect();
    let head: Vec<String> = table.head.iter().map(|name| escaped(name)).collect();
    let rows: Vec<String> = table
        .rows
        .iter()
        .map(|row| format!("    {} \\\\\n", row.iter().map(cell).collect::<Vec<_>>().join(" & ")))
        .collect();
    format!(
        "\n\\begin{{table}}\n  \\centering\n  \\caption{{{} {}.}}\n  \\footnotesize\n  \\setlength{{\\tabcolsep}}{{4pt}}\n  \
         \\begin{{tabular}}{{@{{}}{columns}@{{}}}}\n    \\toprule\n    {} \\\\\n    \\midrule\n{}    \\bottomrule\n  \
         \\end{{tabular}}\n\\end{{table}}\n",
        escaped(&ended(&results.experiment.about.question)),
        escaped(&table.caption),
        head.join(" & "),
        rows.concat(),
    )
}

/// A sentence with the mark at its end that it lacks.
fn ended(sentence: &str) -> String {
    if sentence.ends_with(['.', '?', '!']) { sentence.to_owned() } else { format!("{sentence}.") }
}

fn cell(cell: &Cell) -> String {
    match cell {
        // The grounds stand in the other formats; a paper's table has no room for them.
        Cell::Verdict(verdict, _) => escaped(&verdict.words().to_lowercase()),
        other => escaped(&other.text()),
    }
}

/// Text in which nothing but letters, digits and harmless marks is left to LaTeX.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '#' | '$' | '%' | '&' | '_' | '{' | '}' => out.extend(['\\', letter]),
            '\\' => out.push_str("\\textbackslash{}"),
            '~' => out.push_str("\\textasciitilde{}"),
            '^' => out.push_str("\\textasciicircum{}"),
            '<' => out.push_str("$<$"),
            '>' => out.push_str("$>$"),
            '|' => out.push_str("$|$"),
            // A bracket after a line break would be read as its argument.
            '[' => out.push_str("{[}"),
            ']' => out.push_str("{]}"),
            '"' => out.push_str("''"),
            MINUS => out.push_str("$-$"),
            '\u{2013}' => out.push_str("--"),
            '±' => out.push_str("$\\pm$"),
            '×' => out.push_str("$\\times$"),
            letter => match greek(letter) {
                Some(name) => out.push_str(&format!("$\\{name}$")),
                None => out.push(letter),
            },
        }
    }
    out
}

/// The command of a Greek letter that papers name settings by.
fn greek(letter: char) -> Option<&'static str> {
    Some(match letter {
        'α' => "alpha",
        'β' => "beta",
        'γ' => "gamma",
        'δ' => "delta",
        'ε' => "epsilon",
        'η' => "eta",
        'λ' => "lambda",
        'μ' => "mu",
        'σ' => "sigma",
        'τ' => "tau",
        'Δ' => "Delta",
        _ => return None,
    })
}
