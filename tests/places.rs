//! Where a test computes what the processor's kernels compute: in a rehearsal of the CUDA kernels, and on a GPU.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use candle_core::{Device, Result};
use tempfile::TempDir;
use vlp_bench::kernels::cuda::{self, Products, rehearse};

/// The kernels compiled for the processor, or nothing (and a word about it) where no compiler is.
fn library() -> Option<&'static PathBuf> {
    static LIBRARY: OnceLock<Option<(TempDir, PathBuf)>> = OnceLock::new();
    let compile = || {
        let folder = tempfile::tempdir().unwrap();
        let (source, library) = (folder.path().join("kernels.cpp"), folder.path().join("kernels.so"));
        std::fs::write(&source, cuda::source()).unwrap();
        let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
        let options =
            ["-std=c++17", "-O2", "-ffp-contract=off", "-shared", "-fPIC", "-U_FORTIFY_SOURCE", "-o"];
        let output = Command::new(&compiler).args(options).args([&library, &source]).output();
        let Ok(output) = output else {
            println!("no C++ compiler `{compiler}`: CUDA kernels are not rehearsed");
            return None;
        };
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Some((folder, library))
    };
    LIBRARY.get_or_init(compile).as_ref().map(|(_, library)| library)
}

/// The GPU, or nothing (and a word about it) where none is.
fn gpu() -> Option<Device> {
    match cuda::open(0, Products::F32) {
        Ok(device) => Some(device),
        Err(reason) => {
            println!("no device: {reason}");
            None
        }
    }
}

/// Where a test computes: once on the processor, then on whatever runs CUDA kernels here.
#[derive(Clone, Copy)]
pub enum On<'a> {
    Processor,
    Rehearsal(&'a PathBuf),
    Gpu(&'a Device),
}

impl On<'_> {
    pub fn device(self) -> Device {
        match self {
            Self::Gpu(device) => device.clone(),
            _ => Device::Cpu,
        }
    }

    pub fn run<R>(self, work: impl FnOnce() -> Result<R>) -> R {
        match self {
            Self::Rehearsal(library) => rehearse(library, work).unwrap(),
            _ => work().unwrap(),
        }
    }
}

/// Calls `check` with each place that runs CUDA kernels here.
pub fn everywhere(check: impl Fn(On<'_>)) {
    if let Some(library) = library() {
        check(On::Rehearsal(library));
    }
    if let Some(device) = gpu() {
        check(On::Gpu(&device));
    }
}
