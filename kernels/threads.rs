//! How many threads compute, fixed once at the start of the process.

use candle_core::{Result, bail};

use super::tape;

/// Bytes of stack, as a main thread has: the backward pass descends through the graph of a whole step.
const STACK: usize = 8 << 20;

/// Makes rayon's global pool `threads` wide (0 = one per core) and keeps candle's own spinning pool out of its way.
///
/// Call it first thing in `main`. An error if the pool already runs with another width.
pub fn init(threads: usize) -> Result<()> {
    let threads = match threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        given => given,
    };
    quiet_candle(threads);
    let built = rayon::ThreadPoolBuilder::new().num_threads(threads).stack_size(STACK).build_global();
    let running = rayon::current_num_threads();
    if built.is_err() && running != threads {
        bail!("{threads} threads asked for, but the pool already runs with {running}");
    }
    Ok(())
}

/// Does `work` on a thread of the pool, where a kernel starts its share of a parallel sweep itself; on any other thread
/// it would wake the pool and sleep, some hundred times a training step.
pub fn inside<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    rayon::scope(|_| tape::paused(work))
}

/// candle sizes its pools by environment variables alone. It would start a second pool whose workers spin beside
/// rayon's; one thread there means "run inline".
fn quiet_candle(threads: usize) {
    if !single_threaded() {
        return;
    }
    // SAFETY: `set_var` is unsound only if another thread may read the environment through libc at the same time;
    // this process has exactly one thread, the one running this line.
    unsafe {
        std::env::set_var("CANDLE_NUM_THREADS", "1");
        std::env::set_var("CANDLE_BARRIER_POOL_SPIN_LIMIT", "1");
        std::env::set_var("RAYON_NUM_THREADS", threads.to_string());
    }
}

/// Whether this thread is known to be the only one; elsewhere than on Linux it cannot be known, and results (not
/// speed) are the same either way.
fn single_threaded() -> bool {
    std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() == 1)
}
