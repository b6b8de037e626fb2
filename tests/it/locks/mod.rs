//! Coordination: one holds what one can hold, whoever is killed, stopped or slow; what the dead held is
//! free, and what was lost writes nothing.

mod crowd_run;
mod gather;
mod hold;
mod share;

pub(crate) mod crowd;

use crate::harness::actor::{Actor, actor};
use crate::harness::part::{Part, say};
use crate::harness::{PATIENCE, Place};
use membus::{
    Barrier, Batch, Bus, Campaign, Lease, LockError, LockGuard, Permits, ReadGuard, WriteGuard,
};
use std::any::Any;
use std::collections::BTreeMap;
use std::time::Duration;

/// What a [`player`] holds, by the name it gave it.
#[derive(Default)]
struct Hand {
    locks: BTreeMap<String, LockGuard>,
    leases: BTreeMap<String, Lease>,
    campaigns: Vec<Campaign>,
    others: Vec<Box<dyn Any>>,
}

/// Takes what it is told to, a line each, and says what came of it.
pub(crate) fn player(part: &Part) {
    let bus = part.attach();
    part.say("attached");
    let mut hand = Hand::default();
    while let Some(line) = part.hear() {
        let words: Vec<&str> = line.split(' ').collect();
        let answer = hand.play(part, &bus, &words);
        if !answer.is_empty() {
            part.say(&answer);
        }
    }
}

fn millis(text: &str) -> Duration {
    Duration::from_millis(text.parse().unwrap())
}

impl Hand {
    fn play(&mut self, part: &Part, bus: &Bus, words: &[&str]) -> String {
        match *words {
            ["lock", name] => {
                let guard = bus.lock(name).unwrap();
                let token = guard.token();
                self.locks.insert(name.to_owned(), guard);
                format!("has {token}")
            }
            ["release", name] => {
                self.locks.remove(name).unwrap().release().unwrap();
                "released".to_owned()
            }
            ["lease", name, time] => {
                let lease = bus.lease(name, millis(time)).unwrap();
                let token = lease.token();
                self.leases.insert(name.to_owned(), lease);
                format!("has {token}")
            }
            ["renew", name] => match self.leases.get(name).unwrap().renew() {
                Ok(()) => "renewed".to_owned(),
                Err(LockError::Lost { token, .. }) => format!("lost {token}"),
                Err(error) => panic!("{error}"),
            },
            // What a holder does that does not know whether it still is one.
            ["write", name, key] => {
                let mut batch = Batch::new();
                match self.leases.get(name) {
                    Some(lease) => batch.require_lock(lease),
                    None => batch.require_lock(self.locks.get(name).unwrap()),
                };
                match bus.commit(batch.set_bytes(key, part.word("label"))) {
                    Ok(_) => "wrote".to_owned(),
                    Err(error) => format!("refused {}", error.source),
                }
            }
            ["read", name] => self.keep::<ReadGuard>(bus.read_lock(name)),
            ["write_lock", name] => self.keep::<WriteGuard>(bus.write_lock(name)),
            ["permits", name, all, count] => {
                let semaphore = bus.semaphore(name, all.parse().unwrap()).unwrap();
                self.keep::<Permits>(semaphore.acquire(count.parse().unwrap()))
            }
            ["barrier", name, width] => {
                let barrier: Barrier = bus.barrier(name, width.parse().unwrap()).unwrap();
                let passed = barrier.wait(Some(PATIENCE)).unwrap();
                format!("passed {}", passed.is_leader)
            }
            ["campaign", name, time] => {
                // Before its first news.
                say("campaigns");
                let gained = |led: &membus::Leadership| say(&format!("leads {}", led.token()));
                let election = bus.election(name, millis(time)).unwrap();
                let campaign = election.campaign(gained, || say("lost")).unwrap();
                self.campaigns.push(campaign);
                String::new()
            }
            ["leader"] => format!("leader {}", self.campaigns[0].is_leader()),
            ["resign"] => {
                self.campaigns.clear();
                "resigned".to_owned()
            }
            _ => panic!("{words:?}?"),
        }
    }

    fn keep<T: 'static>(&mut self, taken: Result<T, LockError>) -> String {
        self.others.push(Box::new(taken.unwrap()));
        "has".to_owned()
    }
}

/// A place with a bus that nobody keeps: whoever waits finds the dead by itself.
fn unkept() -> (Place, Bus) {
    let place = Place::new();
    let bus = place.small().keeper(false).open_at(place.bus()).unwrap();
    (place, bus)
}

/// A [`player`] that is attached.
#[track_caller]
fn join(place: &Place, label: &str) -> Actor {
    let player = actor("locks_player", place).with("label", label).start();
    player.expect("attached");
    player
}

/// Tells a player something, and hears `answer`, with what stands behind it.
#[track_caller]
fn ask(player: &mut Actor, line: &str, answer: &str) -> String {
    player.tell(line);
    player.expect(answer)
}

/// A number that an answer ended with.
#[track_caller]
fn token(text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| panic!("{text} is no token"))
}
