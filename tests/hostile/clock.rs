//! What a child may take: an operation that is slow is told, one that does not end ends the process,
//! and so does a panic on any thread.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

/// What an operation may take, whatever the bytes are; the locks' deadline is far below it.
const LIMIT: Duration = Duration::from_secs(1);
/// What an operation may take before the process is ended.
const HOPELESS: Duration = Duration::from_secs(8);

/// A seed, the operation that goes on, and when it began.
type Going = (u64, String, Instant);

/// What each thread is at.
static NOW: LazyLock<Mutex<HashMap<ThreadId, Going>>> = LazyLock::new(Mutex::default);

/// Runs one operation and looks at the clock.
pub(crate) fn timed<T>(seed: u64, what: &str, operation: impl FnOnce() -> T) -> T {
    let (me, begun) = (std::thread::current().id(), Instant::now());
    NOW.lock().unwrap().insert(me, (seed, what.to_owned(), begun));
    let end = operation();
    NOW.lock().unwrap().remove(&me);
    if begun.elapsed() > LIMIT {
        println!("slow {seed} `{what}` took {:?}", begun.elapsed());
    }
    end
}

/// From here on, panics and operations that do not end are the end of the process.
pub(crate) fn watch_over_all() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        hook(info);
        std::process::abort();
    }));
    std::thread::spawn(|| {
        loop {
            std::thread::sleep(Duration::from_millis(500));
            for (seed, what, begun) in NOW.lock().unwrap().values() {
                if begun.elapsed() > HOPELESS {
                    println!("failed seed {seed}: `{what}` does not end");
                    std::process::abort();
                }
            }
        }
    });
    // The harness has begun a line.
    println!();
}
