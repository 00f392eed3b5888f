//! The machine that a run runs on, and the program that runs it.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use candle_core::Device;
use sha2::{Digest, Sha256};

use super::failure::{Failure, Result};
use super::record::Machine;
use super::{Arm, Run};
use crate::data::pack::hexadecimal;
use crate::kernels::cuda::{self, Products};
use crate::kernels::{Precision, threads};
use crate::source;

/// The device that `cpu`, `cuda`, `cuda:N` or `auto` names; `auto` is the first GPU that can be used, else the processor.
/// After `cuda` or `cuda:N`, `+tf32` has products computed in TF32.
///
/// # Errors
/// When it is not there or cannot be used, with the reason.
pub fn device(word: &str) -> Result<Device> {
    let fault = |problem: String| Failure::Device { asked: word.to_owned(), problem };
    let (name, products) = match word.strip_suffix("+tf32") {
        Some(name) => (name, Products::Tf32),
        None => (word, Products::F32),
    };
    match name {
        "cpu" if products == Products::F32 => Ok(Device::Cpu),
        "auto" => Ok(cuda::open(0, products).unwrap_or(Device::Cpu)),
        _ => {
            let number = if name == "cuda" { Some("0") } else { name.strip_prefix("cuda:") };
            let number = number
                .and_then(|number| number.parse().ok())
                .ok_or_else(|| fault("no such word".to_owned()))?;
            cuda::open(number, products).map_err(|error| fault(format!("is not there: {error}")))
        }
    }
}

/// `cpu`, `cuda:N` or `cuda:N+tf32`.
pub fn device_word(device: &Device) -> String {
    match device.location() {
        candle_core::DeviceLocation::Cpu => "cpu".to_owned(),
        candle_core::DeviceLocation::Cuda { gpu_id } => match cuda::products() {
            Products::F32 => format!("cuda:{gpu_id}"),
            Products::Tf32 => format!("cuda:{gpu_id}+tf32"),
        },
        candle_core::DeviceLocation::Metal { gpu_id } => format!("metal:{gpu_id}"),
    }
}

/// Refuses an arm whose updates, or those of a stage before it, compute what `device` does not.
///
/// # Errors
/// The precision that needs a GPU.
pub fn computes(arm: &Arm, device: &Device) -> Result<()> {
    fn rounds(run: &Run) -> bool {
        let made = run.rewrites.values().flat_map(|rewrite| rewrite.stages.values());
        run.train.precision == Precision::Bf16 || run.stages.values().chain(made).any(rounds)
    }
    if device.is_cpu() && rounds(&arm.run) {
        let fault = arm
            .fault("train.precision", "`train.precision: bf16` needs a GPU; the processor computes in f32");
        return Err(fault.help("run with `--device cuda`, or leave the setting out").into());
    }
    Ok(())
}

/// What a precision below f32 does differently from the paper.
pub fn deviations() -> Vec<String> {
    source::deviations(include_str!("../kernels/precision.rs"))
}

/// What records say about this machine.
pub fn describe(device: &Device) -> Machine {
    Machine {
        device: device_word(device),
        processor: match device {
            Device::Cpu => processor(),
            _ => cuda::about(device).unwrap_or_else(|_| "unknown".to_owned()),
        },
        threads: rayon::current_num_threads(),
        side_by_side: Some(threads::side_by_side()).filter(|runs| *runs > 1),
        system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
    }
}

fn processor() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    name.map_or_else(|| "unknown".to_owned(), |(_, name)| name.trim().to_owned())
}

/// The most memory of `device` in bytes that this process has had at once, where it can be told; that of all its runs
/// where several go side by side.
pub fn peak_memory(device: &Device) -> Option<u64> {
    if !device.is_cpu() {
        return cuda::peak_memory(device).ok();
    }
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// Bytes that are left where `place` is or would be, as the system's own `df` counts them.
pub fn free(place: &Path) -> Option<u64> {
    let there =
        place.ancestors().find(|folder| folder.exists()).filter(|folder| !folder.as_os_str().is_empty());
    let said = Command::new("df").arg("-Pk").arg(there.unwrap_or(Path::new("."))).output().ok()?;
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    let kibibytes: u64 = text.lines().nth(1)?.split_whitespace().nth(3)?.parse().ok()?;
    Some(kibibytes * 1024)
}

/// What decides a run's bits beside its configuration: a hash of this program's own file. Whatever is built anew from
/// changed sources, with other dependencies or another compiler is another program, whose runs are not yet done.
pub fn program() -> &'static str {
    static PROGRAM: OnceLock<String> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let bytes = std::env::current_exe().and_then(fs::read);
        // Without access to the file the version is all there is.
        bytes.map_or_else(
            |_| env!("CARGO_PKG_VERSION").to_owned(),
            |bytes| hexadecimal(&Sha256::digest(bytes)),
        )
    })
}

/// Version, revision and program, as records say it.
pub fn code() -> String {
    let program: String = program().chars().take(8).collect();
    let revision = revision().map_or_else(String::new, |revision| format!(", revision {revision}"));
    format!("{} {}{revision}, program {program}", env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))
}

/// The revision of the sources that this program lies among, if it was built in its repository.
fn revision() -> Option<String> {
    let program = std::env::current_exe().ok()?;
    let describe = ["describe", "--always", "--dirty", "--abbrev=12"];
    let output =
        Command::new("git").arg("-C").arg(program.parent().unwrap_or(Path::new("."))).args(describe).output();
    let output = output.ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
