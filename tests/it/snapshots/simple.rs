//! The single calls for whom a path or a name is all there is to say.

use crate::harness::Place;
use crate::harness::actor::actor_under;
use crate::harness::part::Part;
#[cfg(feature = "json")]
use membus::OpenError;
#[cfg(feature = "sqlite")]
use membus::Persist;
use membus::{Bus, ReadBus, SnapshotError};

/// Promise (configuration): each constructor makes a bus with its backend, and opens it again; another one is told that the
/// bus has another backend; what is saved comes back.
/// Plant: memory only that takes the default place.
#[test]
fn a_bus_in_one_line() {
    // They take no directory: a process of its own has one in its environment.
    let place = Place::new();
    let home = |name| format!("{name}={}", place.path().join(name).display());
    let (directory, state) = (home("MEMBUS_DIR"), home("XDG_STATE_HOME"));
    let one = actor_under(&["env", &directory, &state], "one_line", &place).start();
    assert_eq!(one.line().as_deref(), Some("good"));
}

pub(crate) fn one_line(part: &Part) {
    let none = Bus::open_memory_only("memory").unwrap();
    none.set("k", &1).unwrap();
    assert!(matches!(none.persist(), Err(SnapshotError::NoBackend)));
    #[cfg(feature = "json")]
    {
        let file = part.place.path().join("s.json");
        let bus = Bus::open_json("json", &file).unwrap();
        bus.set("k", &1).unwrap();
        assert_eq!(bus.persist().unwrap().path.as_ref(), Some(&file));
        assert_eq!(Bus::open_json("json", &file).unwrap().get::<i32>("k").unwrap(), Some(1));
        let other = Bus::open_memory_only("json").unwrap_err();
        assert!(matches!(other, OpenError::Differs { setting: "persist", .. }), "{other}");
    }
    #[cfg(feature = "sqlite")]
    {
        let file = part.place.path().join("s.db");
        let bus = Bus::open_sqlite("sqlite", &file).unwrap();
        bus.set("k", &1).unwrap();
        bus.persist().unwrap();
        assert!(file.exists());
        assert_eq!(bus.info().unwrap().persist, Persist::sqlite(&file).to_string());
    }
    part.say("good");
}

/// Promise (backups): one by a name stays when the bus is destroyed, and what it has comes back by its path; of one
/// name the newest stays; without a name it is the time; a name that leads elsewhere is refused.
/// Plant: backups that `destroy` forgets with the rest.
#[test]
fn backups_by_name() {
    let place = Place::new();
    let options = place.options().keeper(false);
    let bus = options.open_at(place.bus()).unwrap();
    bus.set("k", &0).unwrap();
    bus.backup_named(Some("monday")).unwrap();
    bus.set("k", &1).unwrap();
    let monday = bus.backup_named(Some("monday")).unwrap().path.unwrap();
    assert!(monday.ends_with("monday") && monday.starts_with(place.state()), "{monday:?}");
    bus.set("k", &2).unwrap();
    let now = bus.backup_named(None).unwrap().path.unwrap();
    bus.set("k", &3).unwrap();
    for wrong in ["", "../x", "a/b", "."] {
        let refused = bus.backup_named(Some(wrong)).unwrap_err();
        assert!(matches!(refused, SnapshotError::Setting(_)), "{refused}");
    }
    let value = |bus: &Bus| bus.get::<i32>("k").unwrap();
    bus.restore_path(&now).unwrap();
    assert_eq!(value(&bus), Some(2));
    drop(bus);
    options.destroy_at(place.bus(), false).unwrap();
    let bus = options.open_at(place.bus()).unwrap();
    bus.clear().unwrap();
    bus.restore_path(&monday).unwrap();
    assert_eq!(value(&bus), Some(1));
    let text = place.path().join("notes.txt");
    std::fs::write(&text, b"no snapshot").unwrap();
    assert!(matches!(bus.restore_path(&text), Err(SnapshotError::Setting(_))));
    assert!(matches!(
        bus.restore_path(place.path().join("none")),
        Err(SnapshotError::Absent { .. })
    ));
}
