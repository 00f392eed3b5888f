//! How many threads compute, fixed once at the start of the process, and how they are shared out to work that goes side by
//! side.

use std::cell::Cell;

use candle_core::{Error, Result, bail};
use rayon::{ThreadPool, ThreadPoolBuilder};

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

/// Threads shared out to work that goes side by side. Small models leave half of many threads idle, so that two runs on a
/// thread each are done sooner than one after the other on both.
///
/// All lanes are at home in the one pool that there is. A thread that leads a lane is at work there and takes nothing from
/// the others; one that leads none, because there are more threads than lanes or because its lane has ended, helps whoever
/// has something to share.
pub struct Lanes {
    count: usize,
    /// Where there are more lanes than threads, a pool for each: a thread that waits would begin with a whole lane meanwhile.
    own: Vec<ThreadPool>,
}

thread_local! {
    /// How many lanes there are beside the one that this thread leads, and that one.
    static LANES: Cell<usize> = const { Cell::new(1) };
}

impl Lanes {
    /// So many lanes, at least one, between which the threads of the pool are shared; each has one at least.
    ///
    /// # Errors
    /// When the system refuses threads.
    pub fn new(count: usize) -> Result<Self> {
        let count = count.max(1);
        let pool = |_| ThreadPoolBuilder::new().num_threads(1).stack_size(STACK).build().map_err(Error::wrap);
        let own = if count > rayon::current_num_threads() { 0..count } else { 0..0 };
        Ok(Self { count, own: own.map(pool).collect::<Result<_>>()? })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Does the same work in every lane at once; what each of them gave.
    pub fn work<R: Send>(&self, lane: impl Fn() -> R + Sync) -> Vec<R> {
        let lane = || {
            let before = LANES.replace(self.count);
            let given = tape::paused(&lane);
            LANES.set(before);
            given
        };
        let mut given: Vec<Option<R>> = (0..self.count).map(|_| None).collect();
        if self.own.is_empty() {
            rayon::scope(|scope| {
                for given in &mut given {
                    scope.spawn(|_| *given = Some(lane()));
                }
            });
        } else {
            std::thread::scope(|scope| {
                for (pool, given) in self.own.iter().zip(&mut given) {
                    scope.spawn(|| *given = Some(pool.install(lane)));
                }
            });
        }
        given.into_iter().flatten().collect()
    }
}

/// How many lanes work beside each other where this is asked; 1 outside of [`Lanes::work`].
pub fn side_by_side() -> usize {
    LANES.get()
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
