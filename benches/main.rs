//! One binary for all benchmarks: `cargo bench` times every kernel and whole steps, `cargo bench -- steps` steps alone,
//! `cargo bench -- kernels/NAME` some kernels; `--step NAME [--steps N] [--threads N]` prints one step as JSON.

use criterion::Criterion;

mod kernels;
mod steps;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    vlp_bench::kernels::memory::keep();
    let words: Vec<String> = std::env::args().skip(1).collect();
    let value = |flag: &str| words.iter().skip_while(|word| *word != flag).nth(1);
    let number = |flag, default| value(flag).map_or(Ok(default), |word| word.parse::<u64>());
    let outcome = match (value("--step"), number("--steps", 8), number("--threads", 2)) {
        (_, Err(error), _) | (_, _, Err(error)) => Err(error.into()),
        (Some(name), Ok(count), Ok(threads)) => steps::once(name, count, threads as usize),
        (None, ..) => {
            if !words.iter().any(|word| word == "steps") {
                let mut criterion = Criterion::default().configure_from_args();
                kernels::kernels(&mut criterion);
                criterion.final_summary();
            }
            steps::all()
        }
    };
    if let Err(error) = outcome {
        eprintln!("benches: {error}");
        std::process::exit(1);
    }
}
