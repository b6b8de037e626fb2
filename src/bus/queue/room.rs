//! Room for items: the limit of a producer, and waiting for others to finish some.
//!
//! *The limit is of items that are there*, not of numbers between head and tail: one item that stays
//! long would make a queue full in which nothing else is.
//!
//! *It is never passed.* What a handle knows is the most that can be there below the tail that it has
//! read, and its put fails when the tail has moved since. Items only go meanwhile.
//!
//! *It is not counted each time.* A handle remembers which items were there, as many as the limit at
//! the most; it looks at them again, the oldest first, when they are as many as the limit, until it
//! finds one that went. Who waits is told of each that goes.

use super::Queue;
use super::TEND;
use super::ear::{Ear, News};
use super::known::Known;
use super::names::Extent;
use crate::error::QueueError;
use std::time::Instant;

impl Queue {
    /// Whether one more item may be put, when numbers below a tail were given out and `planned` more
    /// are about to be. `recheck`: what was there at the last look is looked at again.
    pub(super) fn room(
        &mut self,
        extent: Extent,
        planned: u64,
        recheck: bool,
    ) -> Result<(), QueueError> {
        let Some(limit) = self.limit else { return Ok(()) };
        let (place, known) = (self.desk.place(), &mut self.room);
        known.begin(&place, extent)?;
        let tail = extent.tail;
        let has_room = |known: &Known| known.most(tail).saturating_add(planned) < limit;
        if has_room(known) {
            return Ok(());
        }
        if let Some((head, _)) = place.head()? {
            known.raise(head, tail);
        }
        let mut from = if recheck { Some(0) } else { None };
        while let Some(number) = from.and_then(|from| known.next_left(from)) {
            if has_room(known) {
                return Ok(());
            }
            if !place.has_item(number)? {
                known.left.remove(&number);
            }
            from = number.checked_add(1);
        }
        // As far as it takes to be sure that it is full.
        while (known.left.len() as u64).saturating_add(planned) < limit {
            let Some(number) = known.next_new(&place, tail)? else { break };
            if place.has_item(number)? {
                known.left.insert(number, None);
            }
            known.mark = number + 1;
            known.saw(number);
        }
        if has_room(known) {
            return Ok(());
        }
        let items = (known.left.len() as u64).saturating_add(planned);
        Err(QueueError::Full { queue: self.desk.names.queue().to_owned(), limit, items })
    }

    /// Waits until there may be room; the time having run out, for `full`.
    pub(super) fn wait_for_room(
        &mut self,
        end: Option<Instant>,
        full: QueueError,
    ) -> Result<(), QueueError> {
        if !matches!(full, QueueError::Full { .. }) || end.is_some_and(|end| end <= Instant::now())
        {
            return Err(full);
        }
        let mut ear = self.take_ear()?;
        let waited = self.wait_with(&mut ear, end, full);
        self.ear = Some(ear);
        waited
    }

    fn wait_with(
        &mut self,
        ear: &mut Ear,
        end: Option<Instant>,
        full: QueueError,
    ) -> Result<(), QueueError> {
        // What goes after this is told, what went before is seen.
        ear.listen()?;
        let mut recheck = true;
        loop {
            // By the clock, however much is heard meanwhile.
            if self.tended.elapsed() >= TEND {
                self.tend();
                recheck = true;
            }
            let (_, extent) = self.desk.place().extent()?;
            match self.room(extent, 0, recheck) {
                Err(QueueError::Full { .. }) => {}
                end => return end,
            }
            let now = Instant::now();
            let left = end.map_or(TEND, |end| end.saturating_duration_since(now));
            if left.is_zero() {
                return Err(full);
            }
            let pause = left.min(TEND.saturating_sub(self.tended.elapsed()));
            recheck = match ear.hear(&self.desk.names, pause)? {
                Some(News::Went(number)) => {
                    // A restore may have brought it back since that was told.
                    if !self.desk.place().has_item(number)? {
                        self.room.left.remove(&number);
                    }
                    false
                }
                Some(News::Came | News::Claim(_)) => false,
                Some(News::All) | None => true,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::bus::testing::Place;
    use crate::sys::seam::{Call, meanwhile};
    use crate::{Batch, Bus, Persist, QueueError};
    use std::sync::mpsc::{RecvTimeoutError::Timeout, channel};
    use std::time::{Duration, Instant};

    const LONG: Duration = Duration::from_secs(60);

    fn bus() -> (Bus, Place) {
        let place = Place::new();
        (place.make(), place)
    }

    fn is_full(end: Result<u64, QueueError>, there: u64) {
        let Err(QueueError::Full { queue, limit: 3, items }) = end else { panic!("{end:?}") };
        assert_eq!((queue.as_str(), items), ("q", there));
    }

    /// Plants: numbers between head and tail count as items: an item that stays at the head makes a queue
    /// full in which nothing else is; what is planned in a batch does not count.
    #[test]
    fn the_limit_is_of_items_that_are_there() {
        let (bus, _place) = bus();
        let mut queue = bus.queue("q").unwrap().limit(3);
        let mut other = queue.clone();
        for _ in 0..3 {
            queue.try_put("item").unwrap();
        }
        is_full(other.try_put("item"), 3);
        let stays = other.take().unwrap();
        for _ in 0..200 {
            other.take().unwrap().ack().unwrap();
            queue.try_put("item").unwrap();
            is_full(queue.try_put("item"), 3);
        }
        is_full(bus.queue("q").unwrap().limit(3).try_put("item"), 3);
        stays.ack().unwrap();
        let mut batch = Batch::new();
        queue.offer().put_in(&mut batch, "item").unwrap();
        is_full(queue.offer().put_in(&mut batch, "item"), 3);
        bus.commit(&batch).unwrap();
        is_full(other.try_put("item"), 3);
        // Another handle's limit is its own.
        bus.queue("q").unwrap().put("item").unwrap();
        assert_eq!(queue.len().unwrap(), 4);
        assert_eq!(queue.purge().unwrap(), 4);
        assert!((0..3).all(|_| queue.try_put("item").is_ok()));
        is_full(bus.queue("q").unwrap().limit(3).put_timeout("item", Duration::from_millis(1)), 3);
    }

    /// Plant: items that go are not heard: each put waits until the next tick.
    #[test]
    fn a_put_waits_for_room() {
        let (bus, _place) = bus();
        let mut queue = bus.queue("q").unwrap().limit(3);
        for number in 0..3 {
            let ttl = if number == 2 { Duration::from_millis(30) } else { LONG };
            queue.offer().ttl(ttl).put("item").unwrap();
        }
        let mut waits_for = |what: &str, room: &mut dyn FnMut()| {
            std::thread::scope(|scope| {
                let begun = Instant::now();
                let waits = scope.spawn(|| queue.put_timeout("item", LONG));
                room();
                waits.join().unwrap().unwrap();
                assert!(begun.elapsed() < LONG / 2, "{what}");
            });
        };
        waits_for("an expiry", &mut || {});
        let mut consumer = bus.queue("q").unwrap();
        waits_for("an acknowledgement", &mut || consumer.take().unwrap().ack().unwrap());
        waits_for("a clear", &mut || assert!(bus.clear().is_ok()));
        // So often that a tick each would be seen.
        let (begun, rounds, mut queue) = (Instant::now(), 1000, queue.limit(1));
        bus.clear().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| (0..rounds).for_each(|_| assert!(queue.put("item").is_ok())));
            (0..rounds).for_each(|_| consumer.take().unwrap().ack().unwrap());
        });
        assert!(begun.elapsed() < LONG / 2, "{:?}", begun.elapsed());
    }

    /// Promise (queues): a limit is never passed, not by what is heard of before a restore either.
    /// Plant: what is told as gone counts as gone, although a restore has brought it back.
    #[test]
    fn an_old_word_makes_no_room() {
        let (bus, place) = bus();
        let mut queue = bus.queue("q").unwrap().limit(2);
        (0..2).for_each(|_| assert!(queue.try_put("item").is_ok()));
        let backup = Persist::Image(place.path().join("backup")).backend(1).unwrap().unwrap();
        bus.backup(&*backup).unwrap();
        let (taken, other) = (bus.queue("q").unwrap().take().unwrap(), bus.clone());
        meanwhile(Call::Receive, move || {
            taken.ack().unwrap();
            other.restore(&*backup, "q").unwrap();
        });
        let end = queue.put_timeout("one too many", Duration::from_millis(50));
        assert!(matches!(end, Err(QueueError::Full { .. })), "{end:?}");
        assert_eq!(queue.len().unwrap(), 2);
        assert_eq!(bus.metrics().unwrap().recovery.restores, 1, "it came meanwhile");
    }

    /// Promise (queues): where no keeper is, who waits for room finds an expired item gone, whatever else
    /// happens to the queue meanwhile. Plant: it looks again only when it heard nothing for a while.
    #[test]
    fn who_waits_for_room_finds_it_in_the_middle_of_news() {
        let (bus, _place) = bus();
        let mut queue = bus.queue("q").unwrap().limit(2);
        queue.put("stays").unwrap();
        let (mut held, (over, is_over)) = (queue.try_take().unwrap().unwrap(), channel::<()>());
        queue.offer().ttl(Duration::from_millis(30)).put("expires").unwrap();
        let begun = Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                while is_over.recv_timeout(Duration::from_millis(5)) == Err(Timeout) {
                    held.extend(LONG).unwrap();
                }
            });
            let end = queue.put_timeout("item", LONG);
            drop(over);
            end.unwrap();
        });
        assert!(begun.elapsed() < LONG / 2, "{:?}", begun.elapsed());
    }
}
