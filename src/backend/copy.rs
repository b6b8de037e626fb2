//! From one backend to another, an entry at a time, whatever their formats.
//!
//! A load pushes and a save pulls: so each has its thread, and batches of bounded size go from the one to
//! the other. What fails on one side ends the other: a save is given up and leaves nothing.

use super::{Backend, BackendError, FromFn, Loaded, Progress, Saved, Sink, Stage};
use crate::snapshot_entry::{SnapshotEntry, SnapshotHead};
use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Bytes of keys and values that go together.
const BATCH: usize = 256 << 10;
/// Batches that wait.
const WAITING: usize = 4;

/// What goes from the load to the save.
enum Part {
    Head(SnapshotHead),
    Entries(Vec<SnapshotEntry>),
    /// All was loaded.
    End,
}

struct Sending {
    to: SyncSender<Part>,
    batch: Vec<SnapshotEntry>,
    size: usize,
}

impl Sending {
    /// Fails when the save has ended, which knows why.
    fn send(&self, part: Part) -> Result<(), BackendError> {
        self.to.send(part).map_err(|_| BackendError::GivenUp)
    }
}

impl Sink for Sending {
    fn begin(&mut self, head: &SnapshotHead) -> Result<(), BackendError> {
        self.send(Part::Head(*head))
    }
    fn entry(&mut self, entry: &SnapshotEntry) -> Result<(), BackendError> {
        self.size += entry.key.len() + entry.value.len();
        self.batch.push(entry.clone());
        if self.size < BATCH {
            return Ok(());
        }
        self.size = 0;
        let batch = std::mem::take(&mut self.batch);
        self.send(Part::Entries(batch))
    }
}

fn load(from: &dyn Backend, to: SyncSender<Part>) -> Result<Option<Loaded>, BackendError> {
    let mut sending = Sending { to, batch: Vec::new(), size: 0 };
    let loaded = from.load(&mut sending)?;
    if loaded.is_some() {
        let rest = std::mem::take(&mut sending.batch);
        sending.send(Part::Entries(rest))?;
        sending.send(Part::End)?;
    }
    Ok(loaded)
}

fn save(
    to: &dyn Backend,
    from: &Receiver<Part>,
    told: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
) -> Result<Option<Saved>, BackendError> {
    let Ok(Part::Head(head)) = from.recv() else { return Ok(None) };
    let mut batch = Vec::new().into_iter();
    let mut at = Progress { stage: Stage::Copying, ..Progress::default() };
    let mut tell = |at: &Progress| match told(at) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(BackendError::GivenUp),
    };
    tell(&at)?;
    let next = || {
        loop {
            if let Some(entry) = batch.next() {
                let entry: SnapshotEntry = entry;
                at.entries += 1;
                at.bytes += (entry.key.len() + entry.value.len()) as u64;
                return Ok(Some(entry));
            }
            match from.recv() {
                Ok(Part::Entries(entries)) => {
                    tell(&at)?;
                    batch = entries.into_iter();
                }
                Ok(Part::End) => {
                    tell(&at)?;
                    return Ok(None);
                }
                // The load has failed: what came of it is no snapshot.
                Ok(Part::Head(_)) | Err(_) => return Err(BackendError::GivenUp),
            }
        }
    };
    to.save(&head, &mut FromFn(next)).map(Some)
}

/// Copies the newest good snapshot of one backend to another, whatever their formats: a backup, a restore, a
/// conversion. `told` hears how far it is, once for each 256 KiB, and says whether to go on. `None` when there is no
/// snapshot; then nothing is touched.
///
/// Entries stream: memory does not grow with their number. Blocks until the copy is on its disk.
///
/// # Errors
/// [`BackendError`] of the side that failed, [`BackendError::GivenUp`] when `told` said so; what the other backend had
/// before stays.
pub fn copy(
    from: &dyn Backend,
    to: &dyn Backend,
    mut told: impl FnMut(&Progress) -> ControlFlow<()>,
) -> Result<Option<(Loaded, Saved)>, BackendError> {
    let (sender, receiver) = sync_channel(WAITING);
    std::thread::scope(|scope| {
        let loading = scope.spawn(|| load(from, sender));
        let saved = save(to, &receiver, &mut told);
        // A load that still sends learns that nobody listens.
        drop(receiver);
        let loaded = loading.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        match (loaded, saved) {
            (Err(BackendError::GivenUp), Err(error)) | (Ok(_), Err(error)) => Err(error),
            (Err(error), _) => Err(error),
            (Ok(loaded), Ok(saved)) => Ok(loaded.zip(saved)),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Source;
    use std::sync::Mutex;

    /// In memory; gives up, or fails, after so many entries.
    #[derive(Debug, Default)]
    struct Shelf {
        there: Mutex<Option<(SnapshotHead, Vec<SnapshotEntry>)>>,
        load_fails: Option<usize>,
        save_fails: Option<usize>,
    }

    fn refused(at: &str) -> BackendError {
        BackendError::Refused { at: at.to_owned(), reason: "planned".to_owned() }
    }

    impl Backend for Shelf {
        fn save(
            &self,
            head: &SnapshotHead,
            entries: &mut dyn Source,
        ) -> Result<Saved, BackendError> {
            let mut all = Vec::new();
            while let Some(entry) = entries.next_entry()? {
                if self.save_fails == Some(all.len()) {
                    return Err(refused("save"));
                }
                all.push(entry);
            }
            let saved = Saved { entries: all.len() as u64, bytes: 0, path: None };
            *self.there.lock().unwrap() = Some((*head, all));
            Ok(saved)
        }
        fn load(&self, sink: &mut dyn Sink) -> Result<Option<Loaded>, BackendError> {
            let there = self.there.lock().unwrap();
            let Some((head, all)) = &*there else { return Ok(None) };
            sink.begin(head)?;
            for (number, entry) in all.iter().enumerate() {
                if self.load_fails == Some(number) {
                    return Err(refused("load"));
                }
                sink.entry(entry)?;
            }
            let refused = Vec::new();
            Ok(Some(Loaded { head: *head, entries: all.len() as u64, refused }))
        }
        fn exists(&self) -> Result<bool, BackendError> {
            Ok(self.there.lock().unwrap().is_some())
        }
        fn delete(&self) -> Result<(), BackendError> {
            *self.there.lock().unwrap() = None;
            Ok(())
        }
    }

    fn full(count: u64) -> Shelf {
        let entry = |number: u64| SnapshotEntry {
            key: number.to_le_bytes().to_vec(),
            value: vec![7; 3000],
            ..SnapshotEntry::default()
        };
        let head = SnapshotHead { revision: count, ..SnapshotHead::default() };
        let there = Mutex::new(Some((head, (0..count).map(entry).collect())));
        Shelf { there, ..Shelf::default() }
    }

    /// Promise: a copy is exact; a side that fails is the error that is told, and the target stays as it was; so it does when
    /// the copy is given up.
    /// Plant: a load that fails taken for the end (a shorter copy).
    #[test]
    fn a_copy_is_whole_or_nothing() {
        for count in [0, 1, 5000] {
            let (from, to) = (full(count), Shelf::default());
            let mut told = Vec::new();
            let tell = |at: &Progress| {
                told.push((at.entries, at.bytes));
                ControlFlow::Continue(())
            };
            let (loaded, saved) = copy(&from, &to, tell).unwrap().unwrap();
            assert_eq!((loaded.entries, saved.entries), (count, count));
            assert_eq!(*to.there.lock().unwrap(), *from.there.lock().unwrap());
            assert!(told.last().unwrap().0 == count && told.is_sorted(), "{told:?}");
        }
        for at in [0, 1, 4000] {
            let (fails, to) = (Shelf { load_fails: Some(at), ..full(5000) }, full(3));
            let error = copy(&fails, &to, |_| ControlFlow::Continue(())).unwrap_err().to_string();
            assert_eq!(error, "load: planned");
            let fails = Shelf { save_fails: Some(at), ..full(3) };
            let error =
                copy(&full(5000), &fails, |_| ControlFlow::Continue(())).unwrap_err().to_string();
            assert_eq!(error, "save: planned");
            for there in [to, fails] {
                assert_eq!(*there.there.lock().unwrap(), *full(3).there.lock().unwrap());
            }
        }
        for limit in 0..3 {
            let (to, mut told) = (full(3), 0);
            let tell = |_: &Progress| {
                told += 1;
                if told > limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            };
            assert!(matches!(copy(&full(5000), &to, tell), Err(BackendError::GivenUp)));
            assert_eq!(*to.there.lock().unwrap(), *full(3).there.lock().unwrap());
        }
        let to = full(3);
        assert!(copy(&Shelf::default(), &to, |_| ControlFlow::Continue(())).unwrap().is_none());
        assert!(to.exists().unwrap(), "nothing is touched");
    }
}
