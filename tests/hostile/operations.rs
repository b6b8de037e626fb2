//! Operations of all kinds on a bus, each to its end.

use crate::rng::Rng;
use membus::{Batch, Begin, Bus, BusReader, Cursor, ReadBus, Revision, Subscriber, Update, Watch};
use std::time::Duration;

/// The handles of one bus.
#[derive(Debug)]
pub(crate) struct Hands {
    pub(crate) bus: Bus,
    pub(crate) reader: BusReader,
    /// Buffer for values.
    buffer: Vec<u8>,
}

/// Whether it was an answer; an error is as good.
type Answer = Result<(), String>;
pub(crate) type Operation = (&'static str, fn(&mut Hands, &mut Rng) -> Answer);

/// Each operation by name.
pub(crate) const OPERATIONS: [Operation; 40] = [
    ("get", |h, r| end(h.bus.get::<Vec<u32>>(key(r)))),
    ("get_into", |h, r| end(h.bus.get_into(key(r), &mut h.buffer))),
    ("get_entry", |h, r| end(h.bus.get_entry(key(r)))),
    ("read", read),
    ("stat", |h, r| end(h.bus.stat(key(r)))),
    ("contains", |h, r| end(h.bus.contains(key(r)))),
    ("len", |h, _| end(h.bus.len())),
    ("set", |h, r| end(h.bus.set(key(r), &vec![1_u32, 2, 3]))),
    ("set_bytes", |h, r| end(h.bus.set_bytes(key(r), value(r)))),
    ("set again", |h, r| (0..20).try_for_each(|_| end(h.bus.set_bytes("k7", r.bytes(8))))),
    ("put with ttl", put_with_ttl),
    ("put if absent", |h, r| end(h.bus.put(key(r)).if_absent().set_bytes(value(r)))),
    ("put if revision", put_if_revision),
    ("put ephemeral", |h, r| end(h.bus.put(key(r)).ephemeral().who("me").set_bytes(value(r)))),
    ("expire", |h, r| end(h.bus.expire(key(r), Some(Duration::from_secs(9))))),
    ("delete", |h, r| end(h.bus.delete(key(r)))),
    ("delete_prefix", |h, _| end(h.bus.delete_prefix("k1"))),
    ("add", |h, r| end(h.bus.add(format!("n{}", r.below(60)), 3))),
    ("update", |h, r| end(h.bus.update(key(r), |old: Option<u64>| next(old)))),
    ("small batch", |h, r| batch(h, r, 5)),
    ("large batch", |h, r| batch(h, r, 60)),
    ("scan", |h, _| end(h.bus.scan::<u64>("n").take(2000).collect::<Result<Vec<_>, _>>())),
    ("scan_entries", |h, _| h.bus.scan_entries("").take(2000).try_for_each(end)),
    ("keys", |h, _| end(h.bus.keys("k"))),
    ("watch", |h, _| follow(h.bus.watch("k"))),
    ("watch_from", |h, r| follow(h.bus.watch_from("", cursor(r)))),
    ("publish", publish),
    ("subscribe", |h, _| receive(h.bus.subscribe_from("*", Begin::Alive))),
    ("subscribe to changes", |h, r| {
        receive(h.bus.subscribe_from("value_*", Begin::After(cursor(r))))
    }),
    ("subscribe of a reader", |h, _| receive(h.reader.subscribe_from("t/", Begin::Alive))),
    ("clear", |h, _| end(h.bus.clear())),
    ("members", |h, _| end(h.bus.members())),
    ("info", |h, _| end(h.bus.info())),
    ("snapshot", |h, _| end(h.bus.snapshot())),
    ("check", |h, _| end(Ok::<_, String>(h.bus.check()))),
    ("get of a reader", |h, r| end(h.reader.get_bytes(key(r)))),
    ("scan of a reader", |h, _| h.reader.scan_entries("").take(2000).try_for_each(end)),
    ("info of a reader", |h, _| end(h.reader.info().and_then(|_| h.reader.members()))),
    ("watch of a reader", |h, _| follow(h.reader.watch("n"))),
    ("watch_from of a reader", |h, r| follow(h.reader.watch_from("", cursor(r)))),
];

impl Hands {
    pub(crate) fn new(bus: Bus, reader: BusReader) -> Self {
        Self { bus, reader, buffer: Vec::new() }
    }
}

fn end<T>(end: Result<T, impl ToString>) -> Answer {
    end.map(drop).map_err(|error| error.to_string())
}

fn key(rng: &mut Rng) -> String {
    match rng.below(8) {
        0 => format!("new{}", rng.below(100)),
        1 => format!("n{}", rng.below(50)),
        2 => format!("s{}", rng.below(50)),
        3 => format!("hour{}", rng.below(40)),
        4 => format!("mine{}", rng.below(40)),
        5 => format!("k{}", rng.below(12)),
        _ => format!("k{}", rng.below(600)),
    }
}

fn value(rng: &mut Rng) -> Vec<u8> {
    let most = rng.pick(&[8, 60, 60, 400, 3000, 40_000, 200_000]);
    vec![9; rng.below(most) as usize]
}

fn cursor(rng: &mut Rng) -> Cursor {
    let revision = rng.pick(&[0, 1, 500, 700, u64::MAX - 1]);
    rng.pick(&[Cursor::NOW, Cursor { incarnation: 0, revision }])
}

fn next(old: Option<u64>) -> Update<u64> {
    Update::Set(old.map_or(0, |old| old.wrapping_add(1)))
}

fn read(hands: &mut Hands, rng: &mut Rng) -> Answer {
    let guards: Vec<_> = (0..10).map(|_| hands.bus.read(key(rng))).collect();
    for guard in guards {
        let sum =
            guard.map(|guard| guard.map(|guard| guard.iter().map(|b| u64::from(*b)).sum::<u64>()));
        end(sum)?;
    }
    Ok(())
}

fn put_with_ttl(hands: &mut Hands, rng: &mut Rng) -> Answer {
    let ttl = rng.pick(&[Duration::ZERO, Duration::from_millis(1), Duration::from_secs(90)]);
    end(hands.bus.put(key(rng)).ttl(ttl).set_bytes(value(rng)))
}

fn put_if_revision(hands: &mut Hands, rng: &mut Rng) -> Answer {
    let key = key(rng);
    let stat = hands.bus.stat(&key).map_err(|error| error.to_string())?;
    let revision = stat.map(|stat| stat.revision).or(Revision::new(7));
    let Some(revision) = revision else { return Ok(()) };
    end(hands.bus.put(&key).if_revision(revision).set_bytes(value(rng)))
}

fn batch(hands: &mut Hands, rng: &mut Rng, len: u64) -> Answer {
    let mut batch = Batch::new();
    for number in 0..len {
        match rng.below(5) {
            0 => batch.delete(key(rng)),
            1 => batch.add(format!("n{number}"), 1),
            2 => batch.put(key(rng)).ttl(Duration::from_secs(5)).set_bytes(rng.bytes(20)),
            _ => batch.set_bytes(key(rng), rng.bytes(20)),
        };
    }
    if rng.once_in(4) {
        batch.require_absent("none of this name");
    }
    end(hands.bus.commit(&batch))
}

fn publish(hands: &mut Hands, rng: &mut Rng) -> Answer {
    let message = hands.bus.message("t/1").priority(rng.next() as i32).target("me");
    end(message.ttl(Duration::from_millis(rng.below(9))).send_bytes(value(rng)))
}

fn receive(subscriber: Result<Subscriber, membus::WatchError>) -> Answer {
    let mut subscriber = subscriber.map_err(|error| error.to_string())?;
    for _ in 0..1500 {
        match subscriber.try_recv() {
            Ok(Some(_)) => {}
            end => return end.map(drop).map_err(|error| error.to_string()),
        }
    }
    Ok(())
}

fn follow(watch: Result<Watch, membus::WatchError>) -> Answer {
    let mut watch = watch.map_err(|error| error.to_string())?;
    for _ in 0..1500 {
        match watch.try_recv() {
            Ok(Some(_)) => {}
            end => return end.map(drop).map_err(|error| error.to_string()),
        }
    }
    Ok(())
}
