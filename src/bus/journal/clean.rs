//! Removing the segments that no snapshot needs any more.
//!
//! Which is the oldest snapshot only its store knows, which may be slow, or not there. So it is asked on a thread of its own,
//! and no writer waits for it: until it answers the segments stay.
//!
//! The thread ends before who keeps the journal gives that up: nothing is removed in a directory that is another bus's by then.

use super::super::Inner;
use super::keep::JournalError;
use crate::journal::Point;
use crate::journal::segments::remove_before;
use crate::region::layout::header;
use crate::sync::Ordering::Acquire;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How soon it is tried again after a failure, doubled each time.
const RETRY: Duration = Duration::from_secs(1);
/// And at the latest.
const RETRY_MAX: Duration = Duration::from_secs(300);

/// Who removes them.
#[derive(Debug)]
pub(super) struct Cleaner {
    directory: PathBuf,
    /// Revision of the snapshot after which they were removed.
    done: u64,
    thread: Option<JoinHandle<Option<u64>>>,
    failed: u32,
    /// Not before this is it tried again.
    next: Instant,
}

impl Cleaner {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory, done: 0, thread: None, failed: 0, next: Instant::now() }
    }

    /// Begins, where there is a newer snapshot.
    pub(super) fn begin(&mut self, inner: &Arc<Inner>) {
        self.take_end(JoinHandle::is_finished);
        let saved = inner.core.region.load_count(header::SNAPSHOT_REVISION, Acquire);
        let is_due = saved.is_ok_and(|saved| saved != self.done) && Instant::now() >= self.next;
        if self.thread.is_some() || !is_due {
            return;
        }
        let (bus, directory, is_first) =
            (Arc::clone(inner), self.directory.clone(), self.failed == 0);
        let work = move || match clean(&bus, &directory) {
            Ok(saved) => Some(saved),
            Err(error) => {
                if is_first {
                    let bus = bus.path.display();
                    tracing::warn!(%error, %bus, "old segments of the journal stay for now");
                }
                None
            }
        };
        match std::thread::Builder::new().name("membus-segments".into()).spawn(work) {
            Ok(thread) => self.thread = Some(thread),
            Err(_) => self.fail(),
        }
    }

    fn take_end(&mut self, is_over: impl Fn(&JoinHandle<Option<u64>>) -> bool) {
        let Some(thread) = self.thread.take_if(|thread| is_over(thread)) else { return };
        match thread.join() {
            Ok(Some(saved)) => (self.done, self.failed) = (saved, 0),
            // Also where a backend of a program's own panics.
            _ => self.fail(),
        }
    }

    fn fail(&mut self) {
        let pause = RETRY.saturating_mul(1 << self.failed.min(10)).min(RETRY_MAX);
        self.failed += 1;
        self.next = Instant::now() + pause;
    }
}

impl Drop for Cleaner {
    fn drop(&mut self) {
        self.take_end(|_| true);
    }
}

/// Removes them, after the snapshot that is the newest now. Gives its revision; 0: there is none in this life.
pub(super) fn clean(inner: &Inner, directory: &Path) -> Result<u64, JournalError> {
    let saved = inner.core.region.load_count(header::SNAPSHOT_REVISION, Acquire)?;
    let Some(backend) = inner.saving.backend.as_ref().filter(|_| saved != 0) else {
        return Ok(saved);
    };
    let fail = |source| JournalError::Io { at: directory.to_owned(), source };
    let oldest = backend.oldest().map_err(|error| fail(io::Error::other(error)))?;
    let newest = Point { incarnation: inner.core.geometry.incarnation, revision: saved };
    let oldest = oldest
        .map_or(newest, |head| Point { incarnation: head.incarnation, revision: head.revision });
    remove_before(directory, oldest).map_err(fail)?;
    Ok(saved)
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::Place;
    use super::*;
    use crate::backend::{Backend, BackendError, Loaded, Saved, Sink, Source};
    use crate::journal::{JournalSync, segments};
    use crate::snapshot_entry::SnapshotHead;
    use std::sync::{Condvar, Mutex};

    /// A store that saves, and does not answer when it is asked for its oldest snapshot; then it refuses.
    #[derive(Debug, Default)]
    struct Mute {
        /// How often it was asked.
        asked: Mutex<u64>,
        refuses: Mutex<bool>,
        changed: Condvar,
    }

    impl Mute {
        fn refuse(&self) {
            *self.refuses.lock().unwrap() = true;
            self.changed.notify_all();
        }
    }

    impl Backend for Mute {
        fn save(&self, _: &SnapshotHead, from: &mut dyn Source) -> Result<Saved, BackendError> {
            let mut entries = 0;
            while from.next_entry()?.is_some() {
                entries += 1;
            }
            Ok(Saved { entries, bytes: 0, path: None })
        }
        fn load(&self, _: &mut dyn Sink) -> Result<Option<Loaded>, BackendError> {
            Ok(None)
        }
        fn oldest(&self) -> Result<Option<SnapshotHead>, BackendError> {
            *self.asked.lock().unwrap() += 1;
            let refuses = self.refuses.lock().unwrap();
            let _refuses = self.changed.wait_while(refuses, |refuses| !*refuses).unwrap();
            Err(BackendError::Refused { at: "it".to_owned(), reason: "it is down".to_owned() })
        }
        fn exists(&self) -> Result<bool, BackendError> {
            Ok(false)
        }
        fn delete(&self) -> Result<(), BackendError> {
            Ok(())
        }
    }

    /// Lets the store answer whatever comes, since the bus's end waits for it.
    struct Answering<'a>(&'a Mute);
    impl Drop for Answering<'_> {
        fn drop(&mut self) {
            self.0.refuse();
        }
    }

    /// Promise: no write waits for the snapshots' store, and none fails since that does not answer, or refuses; nor is the
    /// journal's disk blamed, or its directory filled.
    /// Plants: the store asked in a turn; its refusal that is the turn's failure.
    #[test]
    fn a_store_that_does_not_answer_holds_up_no_write() {
        let (place, store) = (Place::new(), Arc::new(Mute::default()));
        let options = place.options().keeper(true).journal(JournalSync::Always);
        let bus = options.backend(store.clone()).create_at(place.bus()).unwrap();
        let _answering = Answering(&store);
        bus.set("k", &0).unwrap();
        bus.snapshot().unwrap();
        let asked = |times| {
            (0..2000).any(|_| {
                std::thread::sleep(Duration::from_millis(5));
                *store.asked.lock().unwrap() >= times
            })
        };
        assert!(asked(1));
        let (directory, _) = bus.inner.saving.journaling.place.clone().unwrap();
        let count = || segments::sequences(&directory).unwrap().len();
        let write = || {
            for number in 0..20 {
                bus.set("k", &number).unwrap();
            }
            let failures = bus.inner.core.region.load(header::JOURNAL_FAILURES, Acquire);
            assert_eq!((failures, count()), (Ok(0), 2));
        };
        write();
        store.refuse();
        assert!(asked(2), "it is asked again");
        write();
    }
}
