//! The experiment files that files and folders stand for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Refused;
use crate::experiments::failure::{Failure, Result};
use crate::experiments::fault::Fault;
use crate::experiments::file::experiment_name;
use crate::experiments::journal::RECORDS;

/// Folders whose files are no experiments: what experiments begin with, and what papers published.
const OTHERS: [&str; 2] = ["presets", "published"];

/// Every experiment file that is meant, once; and the places that hold none, or one whose name another has.
///
/// An experiment's name is where its runs lie: two of one name would be taken for one.
pub fn files(places: &[PathBuf]) -> (Vec<PathBuf>, Vec<Refused>) {
    let (mut files, mut refused): (Vec<PathBuf>, Vec<Refused>) = Default::default();
    let mut known: BTreeMap<String, PathBuf> = BTreeMap::new();
    let mut add = |file: PathBuf| {
        let name = experiment_name(&file);
        match known.get(&name) {
            None => {
                known.insert(name, file.clone());
                files.push(file);
                None
            }
            Some(first) if same(first, &file) => None,
            Some(first) => Some(twice(&name, first, file)),
        }
    };
    for place in places {
        let found = if place.is_dir() { below(place) } else { Ok(vec![place.clone()]) };
        match found {
            Ok(found) if found.is_empty() => {
                let fault = Fault::new(format!("no experiment file lies below {}", place.display()));
                refused.push(Refused { place: place.clone(), failure: fault.into() });
            }
            Ok(found) => refused.extend(found.into_iter().filter_map(&mut add)),
            Err(failure) => refused.push(Refused { place: place.clone(), failure }),
        }
    }
    (files, refused)
}

fn same(one: &Path, other: &Path) -> bool {
    let whole = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    whole(one) == whole(other)
}

fn twice(name: &str, first: &Path, file: PathBuf) -> Refused {
    let fault = Fault::new(format!("another experiment is called `{name}`, too"))
        .note(format!("{} and {} would share a folder of runs", first.display(), file.display()))
        .help(
            "name one of them otherwise; below a folder called `experiments` the folder is part of the name",
        );
    Refused { place: file, failure: fault.into() }
}

/// Every `.yaml` file below a folder, in the order of names, but for those below `presets` and `published` and those that
/// runs have left behind.
///
/// # Errors
/// When a folder cannot be read.
pub fn below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).map_err(Failure::storage(&folder))? {
            let entry = entry.map_err(Failure::storage(&folder))?;
            let path = entry.path();
            // A link to a folder is not followed: it could lead round in a circle.
            if entry.file_type().map_err(Failure::storage(&path))?.is_dir() {
                let other = OTHERS.iter().any(|other| entry.file_name() == *other);
                if !other && !path.join(RECORDS).is_file() {
                    folders.push(path);
                }
            } else if path.is_file() && path.extension().is_some_and(|ending| ending == "yaml") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}
