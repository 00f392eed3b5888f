//! Checkpoints on disk: whole, damaged, half-written and foreign ones.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use proptest::prelude::*;
use vlp_bench::experiments::checkpoint::{State, Tensors, load, path, peek, replace, save};
use vlp_bench::experiments::failure::Failure;
use vlp_bench::experiments::journal::{self, Journal};
use vlp_bench::experiments::run::run;

use super::{attempt, clip_run, experiment, finished, options};

fn tensors(values: &[f32]) -> Tensors {
    BTreeMap::from([("a.weight".to_owned(), Tensor::new(values, &Device::Cpu).unwrap())])
}

fn saved(directory: &Path) -> std::path::PathBuf {
    let path = path(directory);
    save(&path, State::new("run", 7), &tensors(&[1.0, f32::MIN_POSITIVE, -0.0]), &tensors(&[2.0])).unwrap();
    path
}

fn refused(path: &Path, run: &str) -> String {
    let fault = load(path, run, &Device::Cpu).unwrap_err();
    assert!(matches!(fault, Failure::Checkpoint { .. }) && fault.exit_code() == 2, "{fault}");
    fault.to_string()
}

#[test]
fn what_is_saved_is_loaded_bit_by_bit() {
    let directory = tempfile::tempdir().unwrap();
    let path = saved(directory.path());
    let (state, store, moments) = load(&path, "run", &Device::Cpu).unwrap().unwrap();
    assert_eq!((state.step, state.run.as_str()), (7, "run"));
    let bits: Vec<u32> =
        store["a.weight"].to_vec1::<f32>().unwrap().iter().map(|value| value.to_bits()).collect();
    assert_eq!(bits, [1f32.to_bits(), f32::MIN_POSITIVE.to_bits(), (-0f32).to_bits()]);
    assert_eq!(moments["a.weight"].to_vec1::<f32>().unwrap(), [2.0]);
    assert_eq!(peek(&path).unwrap(), Some(state));
}

#[test]
fn no_checkpoint_is_no_fault() {
    let directory = tempfile::tempdir().unwrap();
    assert!(load(&path(directory.path()), "run", &Device::Cpu).unwrap().is_none());
    assert!(peek(&path(directory.path())).unwrap().is_none());
}

#[test]
fn a_checkpoint_of_another_configuration_is_refused_in_words() {
    let directory = tempfile::tempdir().unwrap();
    let path = saved(directory.path());
    assert!(refused(&path, "another").contains("another configuration"));
}

#[test]
fn every_truncation_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let path = saved(directory.path());
    let whole = std::fs::read(&path).unwrap();
    for length in 0..whole.len() {
        std::fs::write(&path, &whole[..length]).unwrap();
        let text = refused(&path, "run");
        assert!(text.contains("damaged") && text.contains("delete this file"), "{length}: {text}");
    }
}

proptest! {
    #[test]
    fn every_changed_byte_is_noticed(at in 0usize..10_000, change in 1u8..) {
        let directory = tempfile::tempdir().unwrap();
        let path = saved(directory.path());
        let mut bytes = std::fs::read(&path).unwrap();
        let at = at % bytes.len();
        bytes[at] ^= change;
        std::fs::write(&path, bytes).unwrap();
        // A change in the header may leave it valid, but never the values or the run they belong to.
        if let Ok(Some((_, store, _))) = load(&path, "run", &Device::Cpu) {
            prop_assert_eq!(store["a.weight"].to_vec1::<f32>().unwrap(), [1.0, f32::MIN_POSITIVE, -0.0]);
        }
    }
}

#[test]
fn a_failed_writing_leaves_the_old_file_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let path = saved(directory.path());
    let before = std::fs::read(&path).unwrap();
    let fault = replace(&path, |temporary| {
        std::fs::write(temporary, "half")?;
        Err(std::io::Error::from(std::io::ErrorKind::StorageFull))
    });
    assert!(matches!(fault, Err(Failure::Storage { .. })));
    assert_eq!(fault.unwrap_err().exit_code(), 1);
    assert_eq!(std::fs::read(&path).unwrap(), before);
    assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
}

#[test]
fn a_half_written_checkpoint_beside_the_whole_one_hurts_nobody() {
    let out = tempfile::tempdir().unwrap();
    let experiment = experiment(clip_run());
    let directory = attempt(&experiment, out.path(), Some(6)).directory;
    std::fs::write(path(&directory).with_extension("new"), "half").unwrap();
    finished(&experiment, out.path());
}

#[test]
fn a_damaged_checkpoint_stops_a_run_with_one_message() {
    let out = tempfile::tempdir().unwrap();
    let experiment = experiment(clip_run());
    let directory = attempt(&experiment, out.path(), Some(6)).directory;
    let checkpoint = path(&directory);
    let bytes = std::fs::read(&checkpoint).unwrap();
    std::fs::write(&checkpoint, &bytes[..bytes.len() / 2]).unwrap();
    let fault = run(&experiment, &experiment.arms[0], 0, &options(out.path())).unwrap_err();
    assert!(fault.to_string().contains("last.safetensors: is damaged"), "{fault}");
    // As the message says: without the file the run begins anew.
    std::fs::remove_file(&checkpoint).unwrap();
    finished(&experiment, out.path());
}

#[test]
fn half_a_record_is_passed_over_and_a_broken_one_is_named() {
    let out = tempfile::tempdir().unwrap();
    let directory = finished(&experiment(clip_run()), out.path());
    let file = directory.join(journal::RECORDS);
    let text = std::fs::read_to_string(&file).unwrap();
    let records = journal::read(&directory).unwrap();
    std::fs::write(&file, &text[..text.len() - 5]).unwrap();
    assert_eq!(journal::read(&directory).unwrap(), records[..records.len() - 1]);
    std::fs::write(&file, text.replacen("\"record\":\"train\"", "\"record\":\"trian\"", 1)).unwrap();
    let fault = journal::read(&directory).unwrap_err();
    assert!(matches!(fault, Failure::Records { line: 2, .. }), "{fault}");
}

#[test]
fn records_shorter_than_the_checkpoint_knew_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join(journal::RECORDS), "{}\n").unwrap();
    assert!(matches!(Journal::open(directory.path(), 10), Err(Failure::Checkpoint { .. })));
}
