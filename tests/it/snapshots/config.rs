//! What is kept of a bus beside its region: sizes, mode and backend.

use super::{lose, quiet};
use crate::harness::{Place, tree};
use membus::{BusReader, OpenError, Options, Persist, ReadBus, SnapshotError};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

/// Promise (configuration): who asks for something else than the bus has is told which setting, what was asked and
/// what is there; the bus stays as it is; who asks for the same, or for nothing, gets it.
/// Plant: `log_size` compared before it is rounded: the same request as at creation differs.
#[test]
fn another_setting_is_told() {
    let place = Place::new();
    let options = |place: &Place| {
        place.options().max_capacity(32 << 20).log_size(100_000).mode(0o640).keeper(false)
    };
    let bus = options(&place).open_at(place.bus()).unwrap();
    let same = options(&place).open_at(place.bus()).unwrap();
    let any = membus::Bus::options().state(place.state()).keeper(false);
    let any = any.open_at(place.bus()).unwrap();
    assert_eq!(any.info().unwrap().log_size, 131_072);
    let plain = || place.options().keeper(false);
    let elsewhere = place.path().join("elsewhere");
    let capacity = bus.info().unwrap().capacity;
    let cases: [(&str, Options, String, String); 5] = [
        ("capacity", plain().capacity(4 << 20), (4 << 20).to_string(), capacity.to_string()),
        (
            "max_capacity",
            plain().max_capacity(64 << 20),
            (64 << 20).to_string(),
            (32 << 20).to_string(),
        ),
        ("log_size", plain().log_size(4096), "4096".into(), "131072".into()),
        ("mode", plain().mode(0o600), "600".into(), "640".into()),
        (
            "persist",
            plain().persist(Persist::Image(elsewhere.clone())),
            Persist::Image(elsewhere).to_string(),
            Persist::Image(place.images()).to_string(),
        ),
    ];
    for (name, options, wanted, there) in cases {
        for refused in [options.open_at(place.bus()), options.attach_at(place.bus())] {
            let refused = refused.unwrap_err();
            let OpenError::Differs { setting, asked, found } = &refused else {
                panic!("{refused}")
            };
            assert_eq!((*setting, asked, found), (name, &wanted, &there), "{refused}");
        }
    }
    let none = plain().persist(Persist::None).open_at(place.bus());
    assert!(matches!(none, Err(OpenError::Differs { setting: "persist", .. })));
    assert_eq!(bus.members().unwrap().len(), 3);
    drop((same, any));
}

/// Promise (configuration): sizes, mode and backend are kept until `destroy`, so that after the loss of its files the
/// same bus comes back for whoever opens it with nothing but its path; then the defaults are back.
/// Plant: the configuration stored under the bus's directory.
#[test]
fn it_survives_the_files_and_goes_with_destroy() {
    let place = Place::new();
    let wide = place.options().capacity(6 << 20).max_capacity(32 << 20).log_size(64 << 10);
    let wide = wide.mode(0o640).keep(2).snapshot_every(Duration::from_secs(77)).keeper(false);
    let bus = wide.open_at(place.bus()).unwrap();
    let before = bus.info().unwrap();
    bus.set("k", &1).unwrap();
    bus.snapshot().unwrap();
    drop(bus);
    let plain = membus::Bus::options().state(place.state()).keeper(false);
    for _ in 0..2 {
        lose(&place);
        let back = plain.open_at(place.bus()).unwrap();
        let info = back.info().unwrap();
        let sizes =
            |info: &membus::Info| (info.capacity, info.max_capacity, info.log_size, info.mode);
        assert_eq!(sizes(&info), sizes(&before));
        assert_eq!(info.persist, before.persist);
        assert_eq!(std::fs::metadata(place.region()).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(back.get::<i32>("k").unwrap(), Some(1));
        for _ in 0..4 {
            back.add("n", 1).unwrap();
            back.snapshot().unwrap();
        }
        assert_eq!(place.image_files().len(), 2, "how many stay is kept as well");
    }
    plain.destroy_at(place.bus(), false).unwrap();
    assert_eq!(tree(&place.state()), [""; 0].map(std::path::PathBuf::from));
    assert_eq!(place.image_files().len(), 2, "a place that was named stays");
    let new = plain.open_at(place.bus()).unwrap();
    assert!(new.is_empty().unwrap());
    assert_eq!(new.info().unwrap().max_capacity, membus::limits::DEFAULT_MAX_CAPACITY);
    // A lost one is forgotten by `destroy` as well, and images where nobody said go with it.
    new.set("k", &1).unwrap();
    new.snapshot().unwrap();
    drop(new);
    assert!(!tree(&place.state()).is_empty());
    lose(&place);
    plain.destroy_at(place.bus(), false).unwrap();
    assert!(tree(&place.state()).is_empty());
    assert!(matches!(plain.destroy_at(place.bus(), false), Err(OpenError::Absent { .. })));
}

/// Promise (configuration): when snapshots are taken is kept and told; what an older version kept, without what came
/// later, is read.
/// Plant: no default for what is missing.
#[test]
fn when_snapshots_are_taken_is_kept() {
    let place = Place::new();
    let options = place.options().snapshot_every(Duration::from_secs(77)).snapshot_after(7);
    let bus = options.keeper(false).open_at(place.bus()).unwrap();
    bus.set("k", &1).unwrap();
    bus.snapshot().unwrap();
    drop(bus);
    let plain = membus::Bus::options().state(place.state()).keeper(false);
    let when = || {
        lose(&place);
        let info = plain.open_at(place.bus()).unwrap().info().unwrap();
        (info.snapshot_every.as_secs(), info.snapshot_after)
    };
    assert_eq!(when(), (77, 7));
    let files = tree(&place.state());
    let kept = files.iter().find(|path| path.extension().is_some_and(|end| end == "toml"));
    let kept = place.state().join(kept.unwrap());
    let text = std::fs::read_to_string(&kept).unwrap();
    let is_old = |line: &&str| !line.starts_with("after_changes");
    let old: Vec<_> = text.lines().filter(is_old).collect();
    assert_eq!(old.len() + 1, text.lines().count());
    std::fs::write(&kept, old.join("\n")).unwrap();
    assert_eq!(when(), (77, 0));
}

/// Promise (snapshots): a bus without a backend says so; it works, closes and is gone with its files.
/// Plant: the default place used where `none` was asked for.
#[test]
fn a_bus_without_a_backend() {
    let place = Place::new();
    let options = place.options().persist(Persist::None);
    let bus = options.open_at(place.bus()).unwrap();
    bus.set("k", &1).unwrap();
    assert!(matches!(bus.snapshot(), Err(SnapshotError::NoBackend)));
    assert_eq!(bus.info().unwrap().persist, "none");
    assert_eq!(BusReader::open_at(place.bus()).unwrap().len().unwrap(), 1);
    bus.close().unwrap();
    lose(&place);
    let back = options.open_at(place.bus()).unwrap();
    assert!(back.is_empty().unwrap());
    assert!(place.image_files().is_empty());
    drop(back);
    let other = Place::new();
    drop(quiet(&other));
}
