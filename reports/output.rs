//! Writing a report's files: all of them or none, and never over a file that no report wrote.
//!
//! A list of the files, `report.files`, stays beside them: by it the next report knows which are its own.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::Error;

/// The list of a report's files.
const LIST: &str = "report.files";

/// One file of a report.
#[derive(Clone, Debug)]
pub struct File {
    /// Its name, without folders.
    pub name: String,
    /// What is in it.
    pub content: Vec<u8>,
}

/// Writes the files into a folder, which is made if it is not there, and removes those of an earlier report that are no
/// longer a part of it.
///
/// # Errors
/// When a file of the same name was not written by a report (then nothing is written), or the folder cannot be written.
pub fn write(out: &Path, files: &[File]) -> Result<Vec<PathBuf>, Error> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Write { path, source }
    };
    fs::create_dir_all(out).map_err(failed(out))?;
    let list = out.join(LIST);
    let own = own(&list)?;
    for file in files {
        let path = out.join(&file.name);
        if path.symlink_metadata().is_ok() && !own.contains(&file.name) {
            return Err(Error::Occupied { path });
        }
    }
    let names: BTreeSet<String> = files.iter().map(|file| file.name.clone()).collect();
    // Listed before they are written: a report that is cut short still owns its files.
    let both: Vec<&str> = own.union(&names).map(String::as_str).collect();
    replace(&list, both.join("\n").as_bytes()).map_err(failed(&list))?;
    let mut written = Vec::with_capacity(files.len());
    for file in files {
        let path = out.join(&file.name);
        replace(&path, &file.content).map_err(failed(&path))?;
        written.push(path);
    }
    for gone in own.difference(&names).map(|name| out.join(name)).filter(|path| path.is_file()) {
        fs::remove_file(&gone).map_err(failed(&gone))?;
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    replace(&list, format!("{}\n", names.join("\n")).as_bytes()).map_err(failed(&list))?;
    Ok(written)
}

/// The names on the list of an earlier report; none without one.
fn own(list: &Path) -> Result<BTreeSet<String>, Error> {
    match fs::read_to_string(list) {
        // A name with a folder in it is none that a report writes.
        Ok(text) => Ok(text
            .lines()
            .filter(|name| Path::new(name).file_name() == Some(name.as_ref()))
            .map(str::to_owned)
            .collect()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(BTreeSet::new()),
        Err(source) => Err(Error::Read { path: list.to_owned(), source }),
    }
}

/// Puts a file in place whole, so that a reader never sees half of it.
fn replace(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    let part = path.with_file_name(name);
    fs::write(&part, content)?;
    fs::rename(&part, path)
}
