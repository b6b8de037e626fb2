//! Waiting for a key to become what somebody waits for.

use super::Inner;
use super::watch::Watch;
use crate::error::WatchError;
use crate::sys::socket::SELF_LOOK;
use crate::types::Cursor;
use crate::value::Entry;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How a wait ended: with the entry as it was seen last, or `None` when there was none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Waited {
    /// The condition holds for this.
    Holds(Option<Entry>),
    /// The time ran out; the condition does not hold for this.
    TimedOut(Option<Entry>),
}

/// [`ReadBus::wait_for`](super::read::ReadBus::wait_for).
pub(crate) fn wait_for(
    inner: &Arc<Inner>,
    key: &[u8],
    timeout: Duration,
    mut holds: impl FnMut(Option<&Entry>) -> bool,
) -> Result<Waited, WatchError> {
    let end = Instant::now().checked_add(timeout);
    // Before the first look: what changes after it is told.
    let mut watch = Watch::new(inner, key, Some(Cursor::NOW))?;
    loop {
        // What came so far the look shows. Not by taking event after event, which writers may outrun.
        watch.skip()?;
        let entry = inner.entry(key)?;
        if holds(entry.as_ref()) {
            return Ok(Waited::Holds(entry));
        }
        let left = end.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()));
        if left.is_zero() {
            return Ok(Waited::TimedOut(entry));
        }
        // Where nobody keeps the bus, no record tells of an expiry. A wait's clock stands still with the
        // host, a deadline's does not.
        let expiry = entry.and_then(|entry| entry.stat.expires_in);
        let look = expiry.map_or(Duration::MAX, |expiry| expiry.min(SELF_LOOK));
        drop(watch.recv_timeout(left.min(look))?);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Place;
    use super::*;
    use crate::sys::seam::{Call, meanwhile};
    use crate::table::Clock;
    use crate::{Bus, BusReader, ReadBus};
    use std::cell::Cell;
    use std::rc::Rc;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    fn bus() -> (Bus, Place) {
        let place = Place::new();
        (place.make(), place)
    }

    fn is(number: i32) -> impl FnMut(Option<&Entry>) -> bool {
        move |entry| entry.is_some_and(|entry| entry.decode::<i32>().is_ok_and(|n| n == number))
    }

    const LONG: Duration = Duration::from_secs(60);

    /// Plant: events are taken out after the answer, not before the look: what changes meanwhile is slept through.
    #[test]
    fn it_is_asked_at_once_and_after_each_change() {
        let (bus, _place) = bus();
        bus.set("k", &1).unwrap();
        assert!(matches!(bus.wait_for("k", Duration::ZERO, is(1)), Ok(Waited::Holds(Some(_)))));
        let end = bus.wait_for("k", Duration::from_millis(1), is(2)).unwrap();
        assert!(
            matches!(end, Waited::TimedOut(Some(entry)) if entry.decode::<i32>().unwrap() == 1)
        );
        let (asked, mut two, begun) = (AtomicUsize::new(0), is(2), Instant::now());
        let end = bus.wait_for("k", LONG, |entry| {
            // The condition may call the bus; what it changes here is looked at next.
            if asked.fetch_add(1, Relaxed) == 0 {
                for _ in 0..10 {
                    bus.set("k", &2).unwrap();
                }
            }
            two(entry)
        });
        assert!(matches!(end, Ok(Waited::Holds(Some(_)))), "{end:?}");
        assert_eq!(asked.load(Relaxed), 2);
        assert!(begun.elapsed() < LONG / 2, "it was slept through");
    }

    /// Plant: no look at `expires_in`: the wait for an absence outlasts the key by its whole time.
    #[test]
    fn an_expiry_that_nobody_tells_of_ends_a_wait() {
        let (bus, place) = bus();
        bus.put("k").ttl(Duration::from_millis(20)).set(&1).unwrap();
        let begun = Instant::now();
        let end = bus.wait_for("k", LONG, |entry| entry.is_none());
        assert!(matches!(end, Ok(Waited::Holds(None))), "{end:?}");
        assert!(begun.elapsed() < LONG / 2);
        let reader = BusReader::open_at(place.bus()).unwrap();
        let end = reader.wait_for("k", LONG, |entry| entry.is_none());
        assert!(matches!(end, Ok(Waited::Holds(None))), "{end:?}");
    }

    /// Promise: an expiry ends a wait also when the host slept meanwhile, and its clocks went apart.
    /// Plant: no look before the time that the key had left by the clock of the wait.
    #[test]
    fn a_key_that_expires_while_the_host_sleeps_ends_a_wait() {
        let (mut bus, _place) = bus();
        let inner = Arc::get_mut(&mut bus.inner).unwrap();
        inner.core.clock = Clock::fixed(inner.core.clock.boot());
        bus.put("k").ttl(LONG).set(&1).unwrap();
        let begun = Instant::now();
        let end = bus.wait_for("k", LONG * 2, |entry| {
            if entry.is_some() {
                bus.inner.core.clock.advance(LONG.as_nanos() as u64);
            }
            entry.is_none()
        });
        assert!(matches!(end, Ok(Waited::Holds(None))), "{end:?}");
        assert!(begun.elapsed() < LONG / 2, "it was slept through");
    }

    /// Changes another key each time that the bell is emptied, so often at the most.
    fn outrun(bus: Bus, left: Rc<Cell<u32>>) {
        if left.get() > 0 {
            left.set(left.get() - 1);
            bus.set("k1", &left.get()).unwrap();
            meanwhile(Call::Receive, || outrun(bus, left));
        }
    }

    /// Promise: a wait ends when its time is over, however fast others change keys that begin alike.
    /// Plant: events are taken until there is none, before each look.
    #[test]
    fn writers_that_outrun_it_do_not_prolong_it() {
        let (bus, _place) = bus();
        // More than a millisecond has room for.
        let left = Rc::new(Cell::new(20_000));
        outrun(bus.clone(), Rc::clone(&left));
        let end = bus.wait_for("k", Duration::from_millis(1), |_| false);
        assert!(matches!(end, Ok(Waited::TimedOut(None))), "{end:?}");
        assert!(left.take() > 0, "it ended when the others did");
        meanwhile(Call::Receive, || ());
    }

    /// Plant: the entry is made from whatever event came, which may be of a longer key or a clear.
    #[test]
    fn others_wake_it_in_vain() {
        let (bus, _place) = bus();
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| bus.wait_for("k", LONG, is(7)));
            for number in 0..100 {
                bus.set(format!("k{number}"), &7).unwrap();
            }
            bus.clear().unwrap();
            bus.set("k", &7).unwrap();
            assert!(matches!(waiter.join().unwrap(), Ok(Waited::Holds(Some(_)))));
        });
    }
}
