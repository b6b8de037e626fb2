//! Destroyers that died at any moment: the bus is there, or it is gone and does not come back.

use crate::harness::actor::actor;
use crate::harness::part::Part;
use crate::harness::{Place, Seed, assert_whole, earned, heavy, parameter, tell, tree};
use membus::{Bus, OpenError, Options, ReadBus};

const KEYS: u64 = 200;

/// Images go where nobody says, so they go with the bus.
fn options(place: &Place) -> Options {
    Bus::options().state(place.state()).keeper(false).capacity(1 << 20).max_capacity(16 << 20)
}

/// Destroys the bus.
pub(crate) fn destroyer(part: &Part) {
    part.say("begins");
    options(&part.place).destroy_at(part.place.bus(), false).unwrap();
    while part.hear().is_some() {}
}

/// Promise (destroy): a destroyer that is killed at any moment leaves a bus that is there with all that was in it,
/// or one that is gone for good: whoever opens it next finds what those who attach found, whatever snapshots
/// were kept; and the next destroyer leaves nothing.
/// Method: a process destroys a bus that was saved and is killed at a random moment of it.
/// Plant: what is kept is forgotten after the files: the bus comes back from its snapshot.
#[test]
fn destroyers_that_are_killed_at_any_moment() {
    let _alone = heavy();
    let seed = Seed::of("destroyers_that_are_killed_at_any_moment");
    let mut rng = seed.rng();
    let kills = parameter("MEMBUS_IT_CREATORS", 100);
    let (mut whole, mut half) = (0, 0);
    let place = Place::new();
    for round in 0..kills {
        let bus = options(&place).create_at(place.bus()).unwrap();
        for number in 0..KEYS {
            bus.set(number.to_le_bytes(), &number).unwrap();
        }
        bus.snapshot().unwrap();
        drop(bus);
        let mut destroyer = actor("files_destroyer", &place).start();
        destroyer.expect("begins");
        let most = [1, 100, 400][rng.below(3) as usize];
        destroyer.kill_after(rng.micros(most));
        let there = match options(&place).attach_at(place.bus()) {
            Ok(bus) => {
                whole += 1;
                bus.len().unwrap()
            }
            Err(OpenError::Absent { .. }) => {
                half +=
                    u64::from(!tree(&place.bus()).is_empty() || !tree(&place.state()).is_empty());
                0
            }
            Err(error) => panic!("round {round}: {error}"),
        };
        let bus = options(&place).open_at(place.bus()).unwrap();
        assert_eq!(bus.len().unwrap(), there, "round {round}");
        assert!(there == 0 || there == KEYS, "round {round}: {there} keys");
        assert_whole(&bus);
        drop(bus);
        options(&place).destroy_at(place.bus(), false).unwrap();
        assert!(!place.bus().exists(), "round {round}: {:?}", tree(&place.bus()));
        assert_eq!(tree(&place.state()), [""; 0].map(std::path::PathBuf::from), "round {round}");
    }
    earned(kills, "killed destroyers");
    tell(&format!("destroyers killed: {kills}; {whole} buses were there, {half} half gone"));
    assert!(whole + half > 0, "all were killed too late");
}
