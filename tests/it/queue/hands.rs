//! An item changes hands: its consumer is stopped, dies, or forks.

use crate::environment::stopped::batch;
use crate::harness::actor::{Actor, actor};
use crate::harness::os::{Fork, fork, in_child, is_alive};
use crate::harness::part::Part;
use crate::harness::{
    PATIENCE, Place, assert_whole, eventually, heavy, living, quantile, spread, tell,
};
use membus::{Bus, QueueError, ReadBus};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use std::fs::File;
use std::time::{Duration, Instant};

/// A bound for items that nobody sets free, not for speed: where a keeper lives 250 ms are promised from the
/// kernel's release of the dead one's lock on, and the figures are printed.
const BURIAL: Duration = Duration::from_secs(3);

/// Takes an item, and finishes it when it is told to: `has NUMBER`, then `done` or `lost HOLDER`.
pub(crate) fn holder(part: &Part) {
    let bus = part.attach();
    let mut queue = bus.queue("q").unwrap();
    if part.has("visibility_ms") {
        queue = queue.visibility(Duration::from_millis(part.number("visibility_ms")));
    }
    let taken = queue.take_timeout(PATIENCE).unwrap().unwrap();
    part.say(&format!("has {}", taken.number()));
    part.hear();
    let end = taken.finish(|batch| {
        batch.add("done", 1);
        Ok(())
    });
    match end {
        Ok(_) => part.say("done"),
        Err(QueueError::Lost { holder, .. }) => {
            part.say(&format!("lost {}", holder.as_deref().unwrap_or("nobody")));
        }
        Err(error) => panic!("{error}"),
    }
}

fn hold(place: &Place, visibility: Option<Duration>) -> Actor {
    let casting = actor("queue_holder", place).with("label", "holder");
    let holder = match visibility {
        Some(time) => casting.with("visibility_ms", time.as_millis()).start(),
        None => casting.start(),
    };
    holder.expect("has");
    holder
}

/// Promise (queues): a consumer that is stopped loses an item whose time is over to the next one, and is
/// told when it goes on; nothing that it does about the item counts. Without a time it keeps it.
/// Plants: an acknowledgement without the condition on the claim; a time that is not passed on.
#[test]
fn a_stopped_consumer_loses_what_has_a_time() {
    let place = Place::new();
    let bus = place.small().label("next").open_at(place.bus()).unwrap();
    let mut queue = bus.queue("q").unwrap();
    queue.put("item").unwrap();
    let visibility = Duration::from_millis(300);
    let begun = Instant::now();
    let mut holder = hold(&place, Some(visibility));
    holder.freeze();
    let taken = queue.take_timeout(PATIENCE).unwrap().unwrap();
    assert!(begun.elapsed() >= visibility && taken.attempt() == 2, "{:?}", begun.elapsed());
    holder.thaw();
    holder.tell("finish");
    assert_eq!(holder.expect("lost"), "next");
    holder.end();
    taken.ack().unwrap();
    assert_eq!(bus.get::<i64>("done").unwrap(), None);

    queue.put("item").unwrap();
    let mut holder = hold(&place, None);
    holder.freeze();
    assert!(queue.take_timeout(visibility).unwrap().is_none(), "a stopped consumer was robbed");
    holder.thaw();
    holder.tell("finish");
    holder.expect("done");
    holder.end();
    assert_eq!((bus.get::<i64>("done").unwrap(), queue.len().unwrap()), (Some(1), 0));
    assert_whole(&bus);
}

/// How long after the kernel's release of a dead consumer's lock the next one has its item.
fn handed_on(place: &Place, bus: &Bus, count: usize) -> Vec<Duration> {
    let members = File::open(place.bus().join("members")).unwrap();
    let (mut queue, mut samples) = (bus.queue("q").unwrap(), Vec::new());
    for _ in 0..count {
        queue.put("item").unwrap();
        let holder = hold(place, None);
        let attached = bus.members().unwrap();
        let slot = attached.iter().find(|member| member.pid == holder.pid()).unwrap().slot;
        let mut waiting = queue.clone();
        let waits = std::thread::spawn(move || {
            let taken = waiting.take_timeout(PATIENCE).unwrap().unwrap();
            let at = Instant::now();
            assert_eq!(taken.attempt(), 2);
            taken.ack().unwrap();
            at
        });
        eventually("who waits for the item", || (bus.info().unwrap().watches > 0).then_some(()));
        holder.signal(Signal::SIGKILL);
        eventually("the kernel's release", || (!is_alive(&members, u64::from(slot))).then_some(()));
        let released = Instant::now();
        samples.push(waits.join().unwrap().saturating_duration_since(released));
    }
    samples
}

/// A keeper of its own that stands still, holding no lock.
fn stopped_keeper(place: &Place) -> Actor {
    let keeper = actor("keeper", place).with("keeper", 1).start();
    keeper.expect("keeps");
    let options = place.options().keeper(false).deadline(Duration::from_millis(20));
    let prober = options.attach_at(place.bus()).unwrap();
    eventually("a keeper that stands outside of locks", || {
        keeper.freeze();
        let free = prober.commit(&batch(1)).is_ok();
        (free || {
            keeper.thaw();
            false
        })
        .then_some(())
    });
    keeper
}

/// Promise (queues): what a dead consumer had goes on to the next one, within 250 ms where a keeper lives,
/// and where none does, or it is stopped, too.
/// Plants: no burial by who waits: without a keeper the item stays with the dead; a keeper that is trusted
/// as long as it lives: a stopped one lets it stay with the dead.
#[test]
fn what_the_dead_had_goes_on() {
    let _alone = heavy();
    for (who, count) in [("a keeper", 20), ("no keeper", 8), ("a stopped keeper", 8)] {
        let place = Place::new();
        let bus = place.small().keeper(who == "a keeper").open_at(place.bus()).unwrap();
        let keeper = (who == "a stopped keeper").then(|| stopped_keeper(&place));
        let mut samples = handed_on(&place, &bus, count);
        tell(&format!("with {who}, a dead consumer's item goes on after {}", spread(&mut samples)));
        assert!(quantile(&mut samples, 0.75) <= BURIAL);
        if let Some(keeper) = keeper {
            keeper.thaw();
            keeper.end();
        }
        eventually("the burial of all the dead", || (living(&bus) == 1).then_some(()));
        assert_whole(&bus);
    }
}

/// Takes an item and forks: the child drops its copy, and works as a consumer of its own.
pub(crate) fn forks(part: &Part) {
    let bus = part.attach();
    let mut queue = bus.queue("q").unwrap();
    // So that the handle has what it waits with.
    assert!(queue.take_timeout(Duration::from_millis(1)).unwrap().is_none());
    for item in ["first", "second"] {
        queue.put(item).unwrap();
    }
    let taken = queue.take_timeout(PATIENCE).unwrap().unwrap();
    let how = if part.has("bare") { Fork::Bare } else { Fork::Library };
    let child = match fork(how) {
        Some(child) => child,
        None => in_child(|| {
            assert!(!taken.is_mine().unwrap());
            assert!(queue.put("from the child").is_ok() && queue.is_empty().is_ok());
            drop(taken);
            let own = queue.take_timeout(PATIENCE).unwrap().unwrap();
            assert_eq!(own.decode::<String>().unwrap(), "second");
            own.ack().unwrap();
            let own = queue.take_timeout(PATIENCE).unwrap().unwrap();
            assert_eq!(own.decode::<String>().unwrap(), "from the child");
            assert!(queue.take_timeout(Duration::from_millis(30)).unwrap().is_none());
            own.ack().unwrap();
        }),
    };
    let status = waitpid(child, None).unwrap();
    assert!(matches!(status, WaitStatus::Exited(_, 0)), "{status:?}");
    assert!(taken.is_mine().unwrap() && taken.attempt() == 1);
    taken.ack().unwrap();
    part.say("done");
}

/// Promise (queues): a forked child has no part in what its parent took; it goes on with the handle as a
/// consumer of its own.
/// Plant: `is_own` that answers true: the child gives its parent's item back.
#[test]
fn a_forked_child_leaves_its_parents_items() {
    for bare in [false, true] {
        let place = Place::new();
        let bus = place.open_small();
        let casting = actor("queue_forks", &place);
        let forks = if bare { casting.with("bare", 1).start() } else { casting.start() };
        forks.expect("done");
        forks.end();
        assert_eq!(bus.keys("queue/q/").unwrap().len(), 2);
        assert_whole(&bus);
    }
}
