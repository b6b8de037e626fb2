//! A group of consumers of which most are killed: each item is finished once; an oracle outside of the
//! region, and sums in the batches that finish items.

use crate::harness::actor::{Actor, actor};
use crate::harness::part::Part;
use crate::harness::{
    PATIENCE, Place, Rng, Seed, assert_whole, earned, eventually, heavy, parameter, tell,
};
use membus::{Bus, QueueError, ReadBus};
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

/// Processes at a time.
const CONSUMERS: usize = 5;
const PRODUCERS: usize = 2;
/// Most items that a producer lets be there.
const LIMIT: u64 = 50;

/// Puts the items that it is told to, from one on: `put ITEM` each time that one was put. Then it waits for its end: one that is
/// to be killed has not ended before.
pub(crate) fn producer(part: &Part) {
    let bus = part.attach();
    let mut queue = bus.queue("q").unwrap().limit(LIMIT);
    part.say("attached");
    for item in part.number("from")..part.number("to") {
        queue.offer().timeout(PATIENCE).put(&item).unwrap();
        part.say(&format!("put {item}"));
    }
    part.say("done");
    while part.hear().is_some() {}
}

/// Works items off until it is told to end: `begin ITEM`, then `end ITEM ATTEMPT` when that was
/// committed.
pub(crate) fn consumer(part: &Part) {
    let bus = part.attach();
    let (mut queue, mut rng) = (bus.queue("q").unwrap(), Rng::new(part.number("seed")));
    part.say("attached");
    while !part.is_over() {
        let Some(taken) = queue.take_timeout(Duration::from_millis(20)).unwrap() else { continue };
        let (item, attempt): (u64, u64) = (taken.decode().unwrap(), taken.attempt());
        let (begun, work) = (Instant::now(), rng.micros(500));
        while begun.elapsed() < work {
            std::hint::spin_loop();
        }
        if rng.once_in(50) {
            // It changes its mind.
            taken.release().unwrap();
            continue;
        }
        part.say(&format!("begin {item}"));
        let end = taken.finish(|batch| {
            batch.add(format!("done/{item}"), 1).add("total", 1);
            Ok(())
        });
        match end {
            Ok(_) => part.say(&format!("end {item} {attempt}")),
            Err(error) => panic!("{item}: {error}"),
        }
    }
}

/// What the processes said.
#[derive(Default)]
struct Oracle {
    /// Items that were put for sure.
    put: HashSet<u64>,
    /// Items that were finished for sure, with their attempt.
    ended: HashMap<u64, u64>,
    /// What each consumer has begun.
    begun: HashMap<usize, u64>,
    /// What those who were killed had begun.
    doubtful: HashSet<u64>,
}

impl Oracle {
    fn hear(&mut self, at: usize, line: &str) {
        let words: Vec<_> = line.split(' ').collect();
        let number = |at: usize| words[at].parse::<u64>().unwrap();
        match words[0] {
            "put" => assert!(self.put.insert(number(1)), "{line}: twice"),
            "begin" => assert!(self.begun.insert(at, number(1)).is_none()),
            "end" => {
                assert_eq!(self.begun.remove(&at), Some(number(1)));
                assert!(self.ended.insert(number(1), number(2)).is_none(), "{line}: twice");
            }
            "done" => {}
            other => panic!("{other}"),
        }
    }

    fn left(&mut self, at: usize) {
        self.doubtful.extend(self.begun.remove(&at));
    }
}

struct Stage {
    place: Place,
    bus: Bus,
    cast: Vec<Actor>,
    /// Where each producer begins anew, and where it ends.
    ranges: Vec<(u64, u64)>,
    oracle: Oracle,
    started: u64,
    kills: u64,
}

impl Stage {
    fn begin(items: u64, rng: &mut Rng) -> Self {
        let place = Place::new();
        let options =
            place.options().max_capacity(1 << 30).snapshot_every(Duration::from_millis(200));
        let bus = options.open_at(place.bus()).unwrap();
        let share = items / PRODUCERS as u64;
        let ranges = (0..PRODUCERS as u64).map(|at| (at * share, (at + 1) * share)).collect();
        let (cast, oracle) = (Vec::new(), Oracle::default());
        let mut stage = Self { place, bus, cast, ranges, oracle, started: 0, kills: 0 };
        for at in 0..CONSUMERS + PRODUCERS {
            let next = stage.start(at, rng);
            stage.cast.push(next);
        }
        stage
    }

    fn start(&mut self, at: usize, rng: &mut Rng) -> Actor {
        let process = match at.checked_sub(CONSUMERS) {
            None => {
                self.started += 1;
                actor("queue_consumer", &self.place).with("seed", rng.next() >> 1)
            }
            Some(producer) => {
                let (from, to) = self.ranges[producer];
                actor("queue_producer", &self.place).with("from", from).with("to", to)
            }
        };
        let process = process.start();
        process.expect("attached");
        process
    }

    fn listen(&mut self) {
        for (at, process) in self.cast.iter().enumerate() {
            while let Some(line) = process.try_line() {
                self.oracle.hear(at, &line);
            }
        }
    }

    /// Kills one and takes what it had said; another one takes its place.
    fn replace(&mut self, at: usize, rng: &mut Rng) {
        self.cast[at].kill();
        self.kills += u64::from(at < CONSUMERS);
        self.cast[at].rest().iter().for_each(|line| self.oracle.hear(at, line));
        self.oracle.left(at);
        if let Some(producer) = at.checked_sub(CONSUMERS) {
            // Behind the item that it may have put and not said.
            let (from, to) = self.ranges[producer];
            let said = (from..to).take_while(|item| self.oracle.put.contains(item)).count() as u64;
            self.ranges[producer].0 = (from + said + 1).min(to);
        }
        self.cast[at] = self.start(at, rng);
    }

    fn is_empty(&self) -> bool {
        self.ranges.iter().all(|(from, to)| *from == *to || self.oracle.put.contains(&(to - 1)))
            && self.bus.queue_view("q").unwrap().is_empty().unwrap()
    }
}

/// Promise (queues): an item is worked off by one live consumer at a time and is finished once with what is
/// committed beside it, whoever is killed when; none is lost; the limit is never passed.
/// Method: consumers and producers are killed at random moments and replaced; they say through pipes what
/// they begin and what is done, and each finish adds to a counter of its item by the same commit.
/// Plants: an acknowledgement without the condition on the claim, and claims that end in a millisecond; an
/// item that is deleted when it is taken; a put whose item follows its tail by a commit of its own.
#[test]
fn a_group_finishes_each_item_once_whoever_dies() {
    let _alone = heavy();
    let seed = Seed::of("a_group_finishes_each_item_once_whoever_dies");
    let (mut rng, items) = (seed.rng(), parameter("MEMBUS_IT_ITEMS", 4000));
    let begun = Instant::now();
    let mut stage = Stage::begin(items, &mut rng);
    while !stage.is_empty() {
        let pause = rng.micros(30_000);
        let until = Instant::now();
        while until.elapsed() < pause {
            stage.listen();
            assert!(stage.bus.queue("q").unwrap().len().unwrap() <= LIMIT);
        }
        let victims = if rng.once_in(8) { CONSUMERS + PRODUCERS } else { CONSUMERS };
        stage.replace(rng.below(victims as u64) as usize, &mut rng);
    }
    let Stage { place: _place, bus, cast, mut oracle, started, kills, .. } = stage;
    for (at, process) in cast.into_iter().enumerate() {
        process.end().iter().for_each(|line| oracle.hear(at, line));
        oracle.left(at);
    }
    check(&bus, &oracle);
    eventually("the burial of all the dead", || (bus.members().unwrap().len() == 1).then_some(()));
    let again = oracle.ended.values().filter(|attempt| **attempt > 1).count();
    let done = bus.get::<u64>("total").unwrap().unwrap();
    earned(done, "items of a queue");
    tell(&format!(
        "{done} items in {:?}: {kills} of {started} consumers were killed, {again} items were \
         finished by a later delivery, {} were in doubt; each was finished once",
        begun.elapsed(),
        oracle.doubtful.len(),
    ));
    assert!(kills * 2 >= started && again > 0, "{kills} of {started}, {again}");
    assert_whole(&bus);
}

/// Compares what was said with the sums, and looks for what is left.
fn check(bus: &Bus, oracle: &Oracle) {
    let mut sums = HashMap::new();
    for found in bus.scan::<u64>("done/") {
        let (key, sum) = found.unwrap();
        let item: u64 = key.to_string().strip_prefix("done/").unwrap().parse().unwrap();
        assert_eq!(sum, 1, "item {item} was finished {sum} times");
        sums.insert(item, sum);
    }
    assert_eq!(bus.get::<u64>("total").unwrap(), Some(sums.len() as u64));
    for item in &oracle.put {
        assert!(sums.contains_key(item), "item {item} is lost");
    }
    for item in oracle.ended.keys() {
        assert!(sums.contains_key(item), "item {item}: its end was said and is not there");
    }
    for item in sums.keys() {
        let said = oracle.ended.contains_key(item) || oracle.doubtful.contains(item);
        assert!(said, "item {item} was finished by nobody");
    }
    let left = bus.keys("queue/q/").unwrap();
    assert_eq!(left.len(), 2, "beside head and tail there is {left:?}");
    let mut queue = bus.queue("q").unwrap();
    assert!(matches!(queue.try_take(), Ok(None) | Err(QueueError::Read(_))));
}
