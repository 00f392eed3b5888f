//! `vlp list` and `vlp matrix`: what there is to choose from, and what fits what.

use clap::{Args, ValueEnum};
use vlp_bench::experiments::failure::Result;
use vlp_bench::experiments::fault::Fault;
use vlp_bench::experiments::list::{self, Kind};
use vlp_bench::experiments::matrix::Matrix;
use vlp_bench::experiments::published;

use super::say;

/// What is listed.
#[derive(Args)]
pub struct List {
    /// One kind of thing; all kinds without it
    kind: Option<Listed>,
    /// With `published`: a paper, of which everything is shown
    paper: Option<String>,
    /// What differs from the papers on purpose
    #[arg(long)]
    deviations: bool,
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

impl List {
    /// Prints the list.
    pub fn act(&self) -> Result<u8> {
        say(&match self {
            Self { deviations: true, .. } => list::deviations(),
            Self { kind: Some(Listed::Published), paper: Some(paper), .. } => published::listing(paper)?,
            Self { paper: Some(paper), .. } => {
                let fault = Fault::new(format!("`{paper}` belongs to no list"));
                return Err(fault
                    .help(format!("`vlp list published {paper}` shows a paper's numbers"))
                    .into());
            }
            Self { kind: Some(kind), .. } => list::list(kind.kind())?,
            Self { kind: None, .. } => everything()?,
        });
        Ok(0)
    }
}

fn everything() -> Result<String> {
    let section = |kind: &Listed| {
        let title = kind.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        let text = list::list(kind.kind())?.replace('\n', "\n  ");
        Ok(format!("{title}\n  {text}"))
    };
    Ok(Listed::value_variants().iter().map(section).collect::<Result<Vec<_>>>()?.join("\n\n"))
}

/// How the matrix is printed.
#[derive(Args)]
pub struct Table {
    /// As JSON, for programs
    #[arg(long)]
    json: bool,
}

impl Table {
    /// Prints the matrix.
    pub fn act(&self) -> Result<u8> {
        let matrix = Matrix::new();
        say(&if self.json { matrix.json()? } else { matrix.to_string() });
        Ok(0)
    }
}
