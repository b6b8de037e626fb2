//! A backend of a program's own.

use crate::harness::Place;
use membus::{
    Backend, BackendError, Loaded, OpenError, ReadBus, Saved, Sink, SnapshotEntry, SnapshotError,
    SnapshotHead, Source,
};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Keeps the newest snapshot in memory.
#[derive(Debug, Default)]
struct Shelf(Mutex<Option<(SnapshotHead, Vec<SnapshotEntry>)>>);

impl Backend for Shelf {
    fn save(&self, head: &SnapshotHead, entries: &mut dyn Source) -> Result<Saved, BackendError> {
        let mut all = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            if entry.key == b"poison" {
                let (at, reason) = ("the shelf".to_owned(), "it takes no poison".to_owned());
                return Err(BackendError::Refused { at, reason });
            }
            all.push(entry);
        }
        let saved = Saved { entries: all.len() as u64, bytes: 0, path: None };
        *self.0.lock().unwrap() = Some((*head, all));
        Ok(saved)
    }
    fn load(&self, sink: &mut dyn Sink) -> Result<Option<Loaded>, BackendError> {
        let shelf = self.0.lock().unwrap();
        let Some((head, entries)) = &*shelf else { return Ok(None) };
        sink.begin(head)?;
        entries.iter().try_for_each(|entry| sink.entry(entry))?;
        let (entries, refused) = (entries.len() as u64, Vec::new());
        Ok(Some(Loaded { head: *head, entries, refused }))
    }
    fn exists(&self) -> Result<bool, BackendError> {
        Ok(self.0.lock().unwrap().is_some())
    }
    fn delete(&self) -> Result<(), BackendError> {
        *self.0.lock().unwrap() = None;
        Ok(())
    }
}

/// Promise (backends): whoever brings a backend gets what it was given, whole, and its refusals are told;
/// who does not bring it attaches, and can neither save nor rebuild.
/// Plants: a save without it that says it was done; a rebuild that begins empty without it.
#[test]
fn a_program_may_bring_its_own() {
    let place = Place::new();
    let shelf = Arc::new(Shelf::default());
    let options = || membus::Bus::options().state(place.state());
    let mine = || options().backend(Arc::<Shelf>::clone(&shelf));
    let bus = mine().keeper(false).open_at(place.bus()).unwrap();
    bus.set("k", &("a", 1)).unwrap();
    bus.put("t").ttl(Duration::from_secs(600)).who("me").set_counter(5).unwrap();
    let saved = bus.snapshot().unwrap();
    assert_eq!((saved.entries, saved.path), (2, None));
    bus.set("poison", &1).unwrap();
    let refused = bus.snapshot().unwrap_err();
    assert!(matches!(&refused, SnapshotError::Refused { reason, .. } if reason.contains("poison")));
    let other = options().open_at(place.bus()).unwrap();
    assert!(matches!(other.snapshot(), Err(SnapshotError::NotHere { .. })));
    drop((bus, other));
    std::fs::remove_dir_all(place.bus()).unwrap();
    let refused = options().open_at(place.bus()).unwrap_err();
    assert!(matches!(refused, OpenError::Setting { setting: "persist", .. }), "{refused}");
    let bus = mine().open_at(place.bus()).unwrap();
    assert_eq!(bus.get::<(String, i32)>("k").unwrap(), Some(("a".into(), 1)));
    let entry = bus.get_entry("t").unwrap().unwrap();
    assert_eq!((entry.counter(), entry.stat.who.as_deref()), (Some(5), Some("me")));
    assert!(entry.stat.expires_in.is_some());
}
