//! One binary for all benchmarks: `cargo bench` times every kernel and whole steps, `cargo bench -- steps` steps alone,
//! `cargo bench -- kernels/NAME` some kernels; `--once NAME [--count N] [--threads N]` prints one step or part as JSON.

use criterion::Criterion;

mod kernels;
mod parts;
mod steps;

/// Times one step or part and prints it as a line of JSON.
fn once(name: &str, count: u64, threads: usize) -> Result<(), Box<dyn std::error::Error>> {
    vlp_bench::kernels::threads::init(threads)?;
    let timed = vlp_bench::kernels::threads::inside(|| {
        let timed =
            if parts::NAMES.contains(&name) { parts::time(name, count) } else { steps::time(name, count) };
        timed.map_err(|error| error.to_string())
    });
    println!("{}", timed?);
    Ok(())
}

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    vlp_bench::kernels::memory::keep();
    let words: Vec<String> = std::env::args().skip(1).collect();
    let value = |flag: &str| words.iter().skip_while(|word| *word != flag).nth(1);
    let number = |flag, default| value(flag).map_or(Ok(default), |word| word.parse::<u64>());
    let outcome = match (value("--once"), number("--count", 8), number("--threads", 2)) {
        (_, Err(error), _) | (_, _, Err(error)) => Err(error.into()),
        (Some(name), Ok(count), Ok(threads)) => once(name, count, threads as usize),
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
