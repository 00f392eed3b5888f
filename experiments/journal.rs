//! `records.jsonl` as it is written: one record a line, never half a line, cut back where a checkpoint left it.

use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::failure::{Failure, Result};
use super::record::Record;

/// The file's name in a run's directory.
pub const RECORDS: &str = "records.jsonl";

/// The records of a run that is going.
pub struct Journal {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl Journal {
    /// Opens the records in `directory` and drops what lies beyond the first `keep` bytes.
    ///
    /// # Errors
    /// When the file cannot be opened or is shorter than that.
    pub fn open(directory: &Path, keep: u64) -> Result<Self> {
        let path = directory.join(RECORDS);
        let mut options = File::options();
        let mut file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(Failure::storage(&path))?;
        let length = file.metadata().map_err(Failure::storage(&path))?.len();
        if length < keep {
            let problem = format!("has {length} bytes, the checkpoint was made after {keep}");
            return Err(Failure::Checkpoint { path, problem });
        }
        file.set_len(keep).map_err(Failure::storage(&path))?;
        file.seek(SeekFrom::End(0)).map_err(Failure::storage(&path))?;
        Ok(Self { path, file, bytes: keep })
    }

    /// Adds one record.
    ///
    /// # Errors
    /// When it cannot be written; the file then ends with the record before.
    pub fn write(&mut self, record: &Record) -> Result<()> {
        let written = serde_json::to_vec(record).map_err(std::io::Error::from).and_then(|mut line| {
            line.push(b'\n');
            self.file.write_all(&line).map(|()| line.len() as u64)
        });
        match written {
            Ok(length) => self.bytes += length,
            Err(fault) => {
                // A full disk leaves half a line; shortening a file needs no room.
                self.file.set_len(self.bytes).map_err(Failure::storage(&self.path))?;
                return Err(Failure::Storage { path: self.path.clone(), source: fault });
            }
        }
        Ok(())
    }

    /// Waits until every record is on the disk; how many bytes they are.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn sync(&self) -> Result<u64> {
        self.file.sync_data().map_err(Failure::storage(&self.path))?;
        Ok(self.bytes)
    }
}

/// The records in a run's directory, none where there is no file. A last line without an end, which a killed process
/// can leave, is passed over.
///
/// # Errors
/// When the file cannot be read or a whole line is no record.
pub fn read(directory: &Path) -> Result<Vec<Record>> {
    let path = directory.join(RECORDS);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(fault) if fault.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(Failure::Storage { path, source }),
    };
    let mut lines = BufReader::new(file);
    let mut records = Vec::new();
    let mut line = String::new();
    while lines.read_line(&mut line).map_err(Failure::storage(&path))? > 0 {
        if !line.ends_with('\n') {
            break;
        }
        let record = serde_json::from_str(&line).map_err(|fault| Failure::Records {
            path: path.clone(),
            line: records.len() + 1,
            problem: fault.to_string(),
        })?;
        records.push(record);
        line.clear();
    }
    Ok(records)
}

/// Writes `metrics.csv`: every value of every record of a run, one a line.
///
/// # Errors
/// When the records cannot be read or the file cannot be written.
pub fn write_metrics(directory: &Path) -> Result<()> {
    let path = directory.join("metrics.csv");
    let mut rows = vec![["step", "split", "metric", "value"].map(str::to_owned)];
    for record in read(directory)? {
        match record {
            Record::Train(figures) => rows.extend(figures.values.into_iter().map(|(name, value)| {
                [figures.step.to_string(), "train".to_owned(), name, value.to_string()]
            })),
            Record::Evaluation(found) => rows.extend(found.values.into_iter().map(|(name, measured)| {
                [found.step.to_string(), found.split.clone(), name, measured.value.to_string()]
            })),
            Record::Run(_)
            | Record::Rewritten(_)
            | Record::Example(_)
            | Record::Failed(_)
            | Record::Done(_) => {}
        }
    }
    let mut table = csv::Writer::from_path(&path).map_err(|fault| Failure::storage(&path)(fault.into()))?;
    for row in rows {
        table.write_record(row).map_err(|fault| Failure::storage(&path)(fault.into()))?;
    }
    table.flush().map_err(Failure::storage(&path))
}
