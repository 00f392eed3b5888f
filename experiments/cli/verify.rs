//! `vlp verify-resume`: proof that a killed run goes on as if nothing had happened.

use std::path::Path;
use std::process;

use vlp_bench::experiments::failure::{Failure, Result};
use vlp_bench::experiments::verify;

use super::meant::Meant;
use super::say;

/// Proves it of the runs that are meant, each in processes of this program; 1 where bits differ.
pub fn prove(meant: &Meant, threads: usize) -> Result<u8> {
    let Meant { asked, how } = meant;
    let (experiment, mut only, options) = how.open(&asked.file, &asked.changes)?;
    if only.seeds.is_empty() {
        only.seeds.extend(experiment.seeds.first());
    }
    let program = std::env::current_exe().map_err(Failure::storage(Path::new("vlp")))?;
    let mut differences = 0;
    for (number, (arm, seed)) in only.of(&experiment).into_iter().enumerate() {
        let child = |out: &Path, every: u64| {
            let mut child = process::Command::new(&program);
            child.arg("run").arg(&asked.file).args(asked.changes.options().flags());
            child.args(["--device", &how.device, "--no-report", "--quiet"]);
            child.args(["--only", &format!("arm={}", arm.name), "--only", &format!("seed={seed}")]);
            child.args(["--set", &format!("train.checkpoint.steps={every}")]).arg("--out").arg(out);
            child.args(["--threads", &threads.to_string()]);
            child
        };
        let out = how.out.join("verify-resume").join(number.to_string());
        let proof = verify::verify_resume(&experiment, (arm, seed), &out, options.show, child)?;
        differences += proof.differences.len();
        say(&proof.to_string());
    }
    Ok(u8::from(differences > 0))
}
