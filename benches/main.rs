//! One binary for all benchmarks: `cargo bench` times every kernel and whole steps, `cargo bench -- steps` steps alone,
//! `cargo bench -- kernels/NAME` some kernels; `--once NAME [--count N] [--threads N]` prints one step or part as JSON.
//! A step may run elsewhere: `--device cuda [--precision bf16] [--pairs N]`.

use criterion::Criterion;
use steps::Place;

mod kernels;
mod parts;
mod steps;

/// Times one step or part and prints it as a line of JSON.
fn once(name: &str, count: u64, threads: usize, place: &Place) -> Result<(), Box<dyn std::error::Error>> {
    vlp_bench::kernels::threads::init(threads)?;
    let timed = vlp_bench::kernels::threads::inside(|| {
        let timed = match parts::NAMES.contains(&name) {
            true if place.is_default() => parts::time(name, count),
            true => Err("parts of steps are timed on the processor alone".into()),
            false => steps::time(name, count, place),
        };
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
        (Some(name), Ok(count), Ok(threads)) => {
            let words = ["--device", "--precision", "--pairs"].map(|flag| value(flag).map(String::as_str));
            Place::new(words).and_then(|place| once(name, count, threads as usize, &place))
        }
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
