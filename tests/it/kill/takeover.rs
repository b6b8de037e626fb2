//! How soon the others go on after a death inside a lock.

use crate::environment::stopped::{batch, stop_inside_a_lock};
use crate::harness::actor::actor;
use crate::harness::part::Part;
use crate::harness::{
    Place, Seed, assert_whole, eventually, heavy, os, parameter, quantile, spread, tell,
};
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

/// Deaths inside a lock that another process waits for, so many of writers that hold `resident` MiB: how long
/// after SIGKILL the kernel released the dead one's byte, as this test sees it, and how long after that
/// the other's write was done. Nobody keeps the bus: the waiter itself takes over.
fn takeovers(seed: &Seed, resident: u64, count: usize) -> (Vec<Duration>, Vec<Duration>) {
    let (mut rng, place) = (seed.rng(), Place::new());
    let bus = place.small().keeper(false).open_at(place.bus()).unwrap();
    let options = place.options().keeper(false).deadline(Duration::from_millis(10));
    let prober = options.attach_at(place.bus()).unwrap();
    let members = File::open(place.bus().join("members")).unwrap();
    let mut waiter = actor("takeover_waiter", &place).start();
    waiter.expect("attached");
    let (mut releases, mut takeovers) = (Vec::new(), Vec::new());
    while takeovers.len() < count {
        let mut writer = actor("writer", &place).with("resident", resident).start();
        writer.expect("attached");
        let stalled = stop_inside_a_lock(&writer, &prober);
        let WriteError::Stalled { member, .. } = stalled else { panic!("{stalled}") };
        // One key of the writer's, which may or may not wait for what it holds.
        waiter.tell("w/0");
        let done = waiter.line_within(Duration::from_millis(15) + rng.micros(10_000));
        let killed = now();
        writer.signal(Signal::SIGKILL);
        let slot = u64::from(member);
        while os::is_alive(&members, slot) {
            std::hint::spin_loop();
        }
        let released = now();
        if done.is_none() {
            let done: u64 = waiter.expect("done").parse().unwrap();
            releases.push(released.saturating_sub(killed));
            takeovers.push(Duration::from_nanos(done).saturating_sub(released));
        }
        eventually("the writer's end", || writer.has_ended().then_some(()));
        // Whatever else it held is mended by whoever comes there.
        bus.commit(&batch(0)).unwrap();
        assert_whole(&bus);
    }
    (releases, takeovers)
}

/// Promise "robust": the others go on within 20 ms of the kernel's release of the dead one's locks.
/// Method: a writer is stopped until it stands inside a lock; another process waits for that lock; the
/// stopped one is killed.
/// Plant: `PROBE_AFTER` of 5 s.
#[test]
fn the_others_go_on_soon() {
    let _alone = heavy();
    let (_, mut samples) = takeovers(&Seed::of("the_others_go_on_soon"), 0, 40);
    tell(&format!(
        "takeover, from the kernel's release to the other's write: {}",
        spread(&mut samples)
    ));
    // None gave up at its deadline of 5 s.
    assert!(quantile(&mut samples, 0.5) <= TAKEOVER);
}

/// The same over the dead one's size: the kernel frees its memory before its locks, and what comes after
/// that does not depend on it. `MEMBUS_IT_RESIDENT` is the largest size in MiB.
#[test]
fn the_dead_may_be_large() {
    let _alone = heavy();
    let seed = Seed::of("the_dead_may_be_large");
    let most = parameter("MEMBUS_IT_RESIDENT", 256);
    for resident in [1, 16, 64, 256, 1024, 4096].into_iter().take_while(|mib| *mib <= most) {
        let (mut releases, mut samples) = takeovers(&seed, resident, 5);
        tell(&format!(
            "{resident} MiB: from SIGKILL to the kernel's release: {}; to the other's write: {}",
            spread(&mut releases),
            spread(&mut samples)
        ));
        assert!(quantile(&mut samples, 0.5) <= TAKEOVER, "{resident} MiB");
    }
}
