//! `vlp`: arguments in, exit code out. 0: done; 1: a run failed; 2: the file or the command is wrong.

use std::process::ExitCode;

use vlp_bench::experiments::failure::Failure;
use vlp_bench::kernels;

mod cli;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let command = cli::parsed();
    kernels::memory::keep();
    let started = kernels::threads::init(command.threads).map_err(Failure::from);
    match started.and_then(|()| kernels::threads::inside(|| command.act())) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            cli::complain(&failure);
            ExitCode::from(failure.exit_code())
        }
    }
}
