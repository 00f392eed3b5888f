//! CUDA's libraries, found when the program runs: nothing of CUDA is linked, so that it starts everywhere.
//!
//! cudarc looks its libraries up by bare name and panics where one is missing. So the driver is asked first, and the
//! libraries are loaded from wherever they lie; the later look-up then finds what is loaded.

use std::path::PathBuf;

use candle_core::{Error, Result, bail};
use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};

/// NVRTC opens its builtins by bare name, and so they come before it.
const GROUPS: [&[&str]; 2] = [
    &["libnvrtc-builtins.so.13.0", "libnvrtc.so.13"],
    &["libcublasLt.so.13", "libcublas.so.13", "libcurand.so.10"],
];

/// The variable that names the folder of CUDA's libraries, where they lie in none of the usual ones.
const FOLDER: &str = "VLP_CUDA_LIBRARIES";

/// Where the libraries may lie, beside the loader's own path, which is the empty one.
fn folders() -> Vec<PathBuf> {
    let mut folders = vec![PathBuf::new()];
    let of = |variable: &str| std::env::var_os(variable).map(PathBuf::from);
    folders.extend(of(FOLDER));
    for home in ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(of) {
        folders.extend([home.join("lib64"), home.join("lib")]);
    }
    folders.push("/usr/local/cuda/lib64".into());
    // The wheels that PyTorch installs share a folder.
    for python in of("VIRTUAL_ENV").iter().flat_map(|venv| std::fs::read_dir(venv.join("lib"))).flatten() {
        folders.extend(python.map(|python| python.path().join("site-packages/nvidia/cu13/lib")));
    }
    folders
}

/// Loading's own message says only that it failed; the reason is its source.
fn reason(error: &libloading::Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}

/// Loads a library for good.
fn keep(path: PathBuf) -> std::result::Result<(), String> {
    // SAFETY: these are NVIDIA's libraries by their own names; their initialisers expect no more than to be run once.
    let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_GLOBAL) };
    library.map(std::mem::forget).map_err(|error| reason(&error))
}

/// Loads all that candle's CUDA backend and NVRTC will look up.
pub(super) fn load() -> Result<()> {
    for names in GROUPS {
        let mut problems = Vec::new();
        let loaded = folders().into_iter().any(|folder| {
            let names = names.iter().map(|name| keep(folder.join(name)));
            names
                .collect::<std::result::Result<Vec<()>, _>>()
                .map_err(|problem| problems.push(problem))
                .is_ok()
        });
        if !loaded {
            problems.dedup();
            bail!("{} not found; {FOLDER} can name their folder ({})", names.join(", "), problems.join("; "));
        }
    }
    Ok(())
}

/// The number of GPUs that the driver offers.
pub(super) fn devices() -> Result<usize> {
    // SAFETY: the driver's library by its own name, and two of its functions with the types that its header gives.
    unsafe {
        let driver = Library::open(Some("libcuda.so.1"), RTLD_NOW | RTLD_GLOBAL)
            .map_err(|error| Error::Msg(format!("no NVIDIA driver: {}", reason(&error))))?;
        let begin = driver.get::<unsafe extern "C" fn(u32) -> i32>(b"cuInit\0").map_err(Error::wrap)?;
        let count = driver
            .get::<unsafe extern "C" fn(*mut i32) -> i32>(b"cuDeviceGetCount\0")
            .map_err(Error::wrap)?;
        let mut devices = 0;
        let (begun, counted) = match begin(0) {
            0 => (0, count(&raw mut devices)),
            code => (code, 0),
        };
        std::mem::forget(driver);
        match (begun, counted) {
            (0, 0) if devices > 0 => Ok(devices as usize),
            (0, 0) => bail!("the NVIDIA driver offers no GPU"),
            _ => bail!("the NVIDIA driver does not start: cuInit {begun}, cuDeviceGetCount {counted}"),
        }
    }
}
