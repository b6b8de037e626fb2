//! How soon the others go on after a death inside a lock.

use crate::environment::stopped::{batch, stop_inside_a_lock};
use crate::harness::actor::actor;
use crate::harness::part::Part;
use crate::harness::{Place, Seed, assert_whole, eventually, heavy, os, quantile, spread, tell};
use membus::WriteError;
use nix::sys::signal::Signal;
use nix::time::{ClockId, clock_gettime};
use std::fs::File;
use std::time::Duration;

/// A bound for waits that a deadline ended, not for speed: 20 ms are promised from the kernel's release of
/// the dead one's file locks on, and the figures are printed.
const TAKEOVER: Duration = Duration::from_secs(1);

/// The clock that all processes share.
fn now() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap().into()
}

/// Writes the key that it is told, and says when it was done.
pub(crate) fn waiter(part: &Part) {
    let bus = part.attach();
    part.say("attached");
    while let Some(key) = part.hear() {
        bus.set(&key, &7).unwrap();
        part.say(&format!("done {}", now().as_nanos()));
    }
}

/// Promise "robust": the others go on within 20 ms of the kernel's release of the dead one's locks.
/// Method: a writer is stopped until it stands inside a lock; another process waits for that lock; the
/// stopped one is killed. Measured from the release of its byte, as this test sees it, to the end of the
/// other's write. Nobody keeps the bus: the waiter itself takes over.
/// Plant: `PROBE_AFTER` of 500 ms.
#[test]
fn the_others_go_on_soon() {
    let _alone = heavy();
    let seed = Seed::of("the_others_go_on_soon");
    let mut rng = seed.rng();
    let place = Place::new();
    let bus = place.small().keeper(false).open_at(place.bus()).unwrap();
    let options = place.options().keeper(false).deadline(Duration::from_millis(10));
    let prober = options.attach_at(place.bus()).unwrap();
    let members = File::open(place.bus().join("members")).unwrap();
    let mut waiter = actor("takeover_waiter", &place).start();
    waiter.expect("attached");
    let mut samples = Vec::new();
    while samples.len() < 40 {
        let mut writer = actor("writer", &place).start();
        writer.expect("attached");
        let stalled = stop_inside_a_lock(&writer, &prober);
        let WriteError::Stalled { member, .. } = stalled else { panic!("{stalled}") };
        // One key of the writer's, which may or may not wait for what it holds.
        waiter.tell("w/0");
        let done = waiter.line_within(Duration::from_millis(15) + rng.micros(10_000));
        writer.signal(Signal::SIGKILL);
        let slot = u64::from(member);
        while os::is_alive(&members, slot) {
            std::hint::spin_loop();
        }
        let released = now();
        if done.is_none() {
            let done: u64 = waiter.expect("done").parse().unwrap();
            samples.push(Duration::from_nanos(done).saturating_sub(released));
        }
        eventually("the writer's end", || writer.has_ended().then_some(()));
        // Whatever else it held is mended by whoever comes there.
        bus.commit(&batch(0)).unwrap();
        assert_whole(&bus);
    }
    tell(&format!(
        "takeover, from the kernel's release to the other's write: {}",
        spread(&mut samples)
    ));
    // None gave up at its deadline of 5 s.
    assert!(quantile(&mut samples, 0.5) <= TAKEOVER);
}
