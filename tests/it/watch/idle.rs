//! What sleeping watches cost where nothing happens.

use crate::harness::actor::actor;
use crate::harness::part::Part;
use crate::harness::{Place, tell};
use membus::{Cursor, WatchError};
use nix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// Sleepers of each sort.
const SLEEPERS: usize = 50;
/// How long it is looked at.
const LOOK: Duration = Duration::from_secs(3);
/// Of that time, in a thousand parts, what may be spent; what was seen is a tenth of it.
const SHARE: u32 = 10;

/// Promise (watching): a hundred watches that sleep, and the keeper beside them, use no processor to speak of.
/// Plant: a wait that looks each millisecond by itself.
#[test]
fn sleepers_of_an_idle_bus_cost_nothing() {
    let place = Place::new();
    let crowd = actor("idle_crowd", &place).start();
    let spent = crowd.expect("spent").parse().map(Duration::from_micros).unwrap();
    tell(&format!("idle: {} watches used {spent:?} of {LOOK:?}", 2 * SLEEPERS));
    assert!(spent < LOOK * SHARE / 1000, "{spent:?}");
    assert_eq!(crowd.expect("woken"), "100", "each of them still heard the change");
    crowd.end();
}

/// What this process has used of all processors.
fn spent() -> Duration {
    Duration::from(clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).unwrap())
}

/// Lets watches and subscribers sleep, each in a thread of its own, and says what that costs.
pub(crate) fn crowd(part: &Part) {
    let bus = part.place.open();
    let threads: Vec<_> = (0..SLEEPERS)
        .flat_map(|_| {
            let mut watch = bus.watch_from("k", Cursor::NOW).unwrap();
            let mut calls = bus.subscribe("call").unwrap();
            [
                std::thread::spawn(move || watch.recv().map(drop)),
                std::thread::spawn(move || calls.recv().map(drop)),
            ]
        })
        .collect();
    // They have gone to sleep, and a first look at the files lies behind.
    std::thread::sleep(Duration::from_secs(1));
    let before = spent();
    std::thread::sleep(LOOK);
    part.say(&format!("spent {}", (spent() - before).as_micros()));
    bus.set("k", &1).unwrap();
    bus.publish("call", &1).unwrap();
    let woken: Result<Vec<()>, WatchError> =
        threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    part.say(&format!("woken {}", woken.unwrap().len()));
}
