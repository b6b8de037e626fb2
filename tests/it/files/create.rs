//! Creators that died at any moment stop nobody.

use crate::harness::actor::actor;
use crate::harness::part::Part;
use crate::harness::{Place, Seed, assert_report, earned, heavy, parameter, tell, tree};
use membus::{Bus, OpenError, ReadBus};
use std::os::unix::net::UnixDatagram;

/// The names in a bus's directory that belong there.
fn names(place: &Place) -> Vec<String> {
    let names = tree(&place.bus()).into_iter();
    names.map(|path| path.strip_prefix(place.bus()).unwrap().display().to_string()).collect()
}

#[track_caller]
fn works(place: &Place) -> Bus {
    let bus = place.small().keeper(false).open_at(place.bus()).unwrap();
    bus.set("works", &1).unwrap();
    assert_eq!(bus.get::<i32>("works").unwrap(), Some(1));
    assert_eq!(names(place), ["bell", "lock", "members", "region"]);
    bus
}

/// Promise (create): whatever a dead creator left, the next one makes a whole bus, and none of it stays.
/// Plant: `O_EXCL` without removing what is stale.
#[test]
fn what_a_dead_creator_left_is_replaced() {
    let leftovers: [fn(&Place); 8] = [
        |_| (),
        |place| std::fs::write(place.bus().join("lock"), b"").unwrap(),
        |place| {
            std::fs::write(place.bus().join("lock"), b"").unwrap();
            std::fs::write(place.bus().join("region.new"), vec![1; 100_000]).unwrap();
        },
        |place| {
            std::fs::write(place.bus().join("lock"), b"").unwrap();
            std::fs::write(place.bus().join("members"), b"half an id").unwrap();
        },
        |place| std::fs::create_dir(place.bus().join("bell")).unwrap(),
        |place| {
            std::fs::create_dir(place.bus().join("bell")).unwrap();
            drop(UnixDatagram::bind(place.bus().join("bell/0-0000000000000000")).unwrap());
        },
        |place| {
            // All but the name: a creator that died before the rename.
            let bus = place.small().keeper(false).open_at(place.bus()).unwrap();
            bus.set("never there", &1).unwrap();
            drop(bus);
            std::fs::rename(place.region(), place.bus().join("region.new")).unwrap();
        },
        |place| {
            std::fs::create_dir(place.state()).unwrap();
            std::fs::write(place.state().join("bus-0000.toml.1.new"), b"max_cap").unwrap();
        },
    ];
    for (number, leave) in leftovers.iter().enumerate() {
        let place = Place::new();
        std::fs::create_dir(place.bus()).unwrap();
        std::fs::set_permissions(place.bus(), std::os::unix::fs::PermissionsExt::from_mode(0o700))
            .unwrap();
        leave(&place);
        if number != 6 {
            let absent = place.options().attach_at(place.bus());
            assert!(matches!(absent, Err(OpenError::Absent { .. })), "{number}: {absent:?}");
        }
        let bus = works(&place);
        assert_eq!(bus.len().unwrap(), 1, "{number}");
        assert_report(|| bus.check());
    }
}

/// Makes a bus and writes to it.
pub(crate) fn creator(part: &Part) {
    part.say("begins");
    let bus = part.place.small().keeper(false).open_at(part.place.bus()).unwrap();
    bus.set("made", &1).unwrap();
    while part.hear().is_some() {}
}

/// Promise (create): a creator that is killed at any moment leaves nothing that stops the next; there is a
/// whole bus or none.
/// Method: a process makes a bus and is killed at a random moment of it; then this one opens, writes,
/// checks and destroys.
/// Plant: the region written under its own name: a half-made one has no magic.
#[test]
fn creators_that_are_killed_at_any_moment() {
    let _alone = heavy();
    let seed = Seed::of("creators_that_are_killed_at_any_moment");
    let mut rng = seed.rng();
    let place = Place::new();
    let kills = parameter("MEMBUS_IT_CREATORS", 100);
    let (mut whole, mut half) = (0, 0);
    for round in 0..kills {
        let mut creator = actor("files_creator", &place).start();
        creator.expect("begins");
        let most = if rng.once_in(3) { 4000 } else { 400 };
        creator.kill_after(rng.micros(most));
        match place.options().keeper(false).attach_at(place.bus()) {
            Ok(bus) => {
                whole += 1;
                assert_report(|| bus.check());
                assert!(bus.len().unwrap() <= 1, "round {round}");
            }
            Err(OpenError::Absent { .. }) => half += u64::from(place.bus().exists()),
            Err(error) => panic!("round {round}: {error}"),
        }
        drop(works(&place));
        place.options().destroy_at(place.bus(), false).unwrap();
        assert!(!place.bus().exists(), "round {round}: {:?}", names(&place));
    }
    earned(kills, "killed creators");
    tell(&format!("creators killed: {kills}; {whole} had made a bus, {half} were in the middle"));
    assert!(whole > 0 && half > 0);
}

/// Promise (create): `create` makes a bus or says that there is one, `open` takes either, `attach` makes
/// none.
/// Plant: `Intent::Create` that attaches.
#[test]
fn create_open_and_attach() {
    let place = Place::new();
    let options = place.options().keeper(false);
    let absent = |path: &std::path::Path| {
        let error = options.attach_at(path).unwrap_err();
        assert!(matches!(error, OpenError::Absent { path: p } if p == path));
        assert!(!path.exists());
    };
    absent(&place.bus());
    absent(&place.path().join("no/such/directory/bus"));
    let bus = options.create_at(place.bus()).unwrap();
    bus.set("k", &1).unwrap();
    let exists = options.create_at(place.bus()).unwrap_err();
    assert!(matches!(exists, OpenError::Exists { path } if path == place.bus()));
    for other in [options.attach_at(place.bus()).unwrap(), options.open_at(place.bus()).unwrap()] {
        assert_eq!(other.get::<i32>("k").unwrap(), Some(1));
    }
}
