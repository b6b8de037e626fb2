//! Lost wake-ups. A watch that waits in `poll(2)` by itself never looks by itself, so one that is lost shows
//! as a sleep that does not end while the change is there.

use super::bells::readable;
use crate::harness::actor::{Actor, actor};
use crate::harness::part::Part;
use crate::harness::{
    PATIENCE, Place, Rng, Seed, assert_whole, caught_up, earned, eventually, heavy, parameter,
    spread, tell,
};
use membus::{Bus, Cursor, Event, Watch};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// A wait that a watch ended by its own look, each second, shows by its length.
const LOST: Duration = Duration::from_millis(900);
/// How long a sleeper waits before it says that its wake-up was lost: longer than any look by itself,
/// shorter than the test waits for it.
const SLEEP_MAX: Duration = Duration::from_secs(20);
/// A wait of so long was no spinning.
const SPIN: Duration = Duration::from_micros(30);

/// Lets some moments pass between two stores of others.
fn dawdle(rng: &mut Rng) {
    let (begun, most) = (Instant::now(), Duration::from_nanos(rng.below(30_000)));
    while begun.elapsed() < most {
        std::hint::spin_loop();
    }
}

/// Waits for the next change by `poll` and `try_recv` alone; counts its sleeps.
fn wait_by_poll(watch: &mut Watch, sleeps: &mut u64) {
    loop {
        match watch.try_recv().unwrap() {
            Some(Event::Change(_)) => return,
            Some(other) => panic!("{other:?}"),
            None => {
                *sleeps += 1;
                assert!(readable(watch, SLEEP_MAX), "a lost wake-up");
            }
        }
    }
}

/// Answers each change under `hear` by one of `say`: half of a pair whose members wake each other.
pub(crate) fn half(part: &Part) {
    let bus = part.attach();
    let mut rng = Rng::new(part.number("seed"));
    let mut watch = bus.watch_from(part.word("hear"), Cursor::NOW).unwrap();
    caught_up(&mut watch);
    part.say("ready");
    let say = part.word("say");
    if part.has("first") {
        part.hear();
        bus.add(&say, 1).unwrap();
    }
    let (mut sleeps, mut late) = (0, 0);
    for _ in 0..part.number("rounds") {
        dawdle(&mut rng);
        let begun = Instant::now();
        if part.has("polls") {
            wait_by_poll(&mut watch, &mut sleeps);
        } else {
            let event = watch.recv_timeout(PATIENCE).unwrap();
            let Some(Event::Change(change)) = event else { panic!("a lost wake-up: {event:?}") };
            sleeps += u64::from(begun.elapsed() > SPIN);
            // Since it was made: whoever made it may have been kept waiting himself.
            late += u64::from(change.time.elapsed().is_ok_and(|since| since > LOST));
        }
        dawdle(&mut rng);
        bus.add(&say, 1).unwrap();
    }
    part.say(&format!("slept {sleeps} {late}"));
    while part.hear().is_some() {}
}

fn pair(place: &Place, rng: &mut Rng, name: &str, rounds: u64, polls: bool) -> [Actor; 2] {
    let words = [format!("{name}/ping"), format!("{name}/pong")];
    [0, 1].map(|index| {
        let casting = actor("sleep_half", place).with("hear", &words[index]);
        let casting = casting.with("say", &words[1 - index]).with("rounds", rounds);
        let casting = casting.with("seed", rng.next() >> 1);
        let casting = if index == 0 { casting.with("first", 1) } else { casting };
        let half = if polls { casting.with("polls", 1).start() } else { casting.start() };
        half.expect("ready");
        half
    })
}

/// Promise (watching): no wake-up is lost: not one sleep of a watch outlasts the change it waits for.
/// Method: pairs of processes wake each other by turns, with pauses of random length about the moment of
/// falling asleep; one pair waits in `poll(2)`, where nothing but the bell ends a sleep, the other in
/// `recv_timeout`, whose own look after a second would show as a wait of a second. Nobody keeps the bus:
/// no burial rings.
/// Plants: no second look at the head in `try_recv`; the fence in `falls_asleep` left out is found by the
/// models, seldom here.
#[test]
fn no_sleep_outlasts_its_change() {
    let _alone = heavy();
    let seed = Seed::of("no_sleep_outlasts_its_change");
    let mut rng = seed.rng();
    let place = Place::new();
    let bus = place.small().keeper(false).open_at(place.bus()).unwrap();
    let wanted = parameter("MEMBUS_IT_SLEEPS", 20_000);
    let begun = Instant::now();
    let (mut slept, mut number) = (0, 0);
    while slept < wanted {
        let mut pairs = [true, false].map(|polls| {
            number += 1;
            pair(
                &place,
                &mut rng,
                &number.to_string(),
                // A pair tells nothing before its end.
                (wanted - slept).div_ceil(3).clamp(500, 10_000),
                polls,
            )
        });
        pairs.iter_mut().for_each(|pair| pair[0].tell("begin"));
        for half in pairs.into_iter().flatten() {
            // Longer than any wait within it.
            let line = eventually("the end of a pair", || half.try_line());
            let counts: Vec<u64> =
                line.split(' ').skip(1).map(|count| count.parse().unwrap()).collect();
            assert_eq!(counts[1], 0, "{} wake-ups were lost", counts[1]);
            slept += counts[0];
            half.end();
        }
    }
    earned(slept, "sleeps of watches");
    tell(&format!(
        "sleeps: {slept} of watches in four processes, none lost, {:?}",
        begun.elapsed()
    ));
    assert_whole(&bus);
}

/// Watches that one sleeper has: so many that a writer is mostly ringing.
const WATCHES: usize = 60;

/// Sleeps with many watches, and looks at those alone whose bell rings; says the oldest change that one of
/// them has not passed, whenever it goes to sleep.
pub(crate) fn sleeper(part: &Part) {
    let bus = part.attach();
    let mut watches: Vec<_> =
        (0..WATCHES).map(|_| bus.watch_from("k", Cursor::NOW).unwrap()).collect();
    let mut rung = vec![true; WATCHES];
    let mut sleeps = 0_u64;
    while !part.is_over() {
        for (watch, rung) in watches.iter_mut().zip(&mut rung) {
            if std::mem::take(rung) {
                while watch.try_recv().unwrap().is_some() {}
                sleeps += 1;
            }
        }
        let passed = watches.iter().map(|watch| watch.cursor().revision).min().unwrap();
        part.say(&format!("at {passed} {sleeps}"));
        let mut bells: Vec<_> =
            watches.iter().map(|watch| PollFd::new(watch.as_fd(), PollFlags::POLLIN)).collect();
        // Wakes now and then to see whether it is over; no watch looks by itself for that.
        poll(&mut bells, PollTimeout::from(100_u16)).unwrap();
        for (bell, rung) in bells.iter().zip(&mut rung) {
            *rung = bell.any().unwrap_or(false);
        }
    }
    part.say(&format!("slept {sleeps}"));
}

/// Writes, with pauses in which others fall asleep.
pub(crate) fn dier(part: &Part) {
    let bus = part.attach();
    let mut rng = Rng::new(part.number("seed"));
    for number in 0_u32.. {
        bus.set("k", &number).unwrap();
        std::thread::sleep(rng.micros(100));
        if part.is_over() {
            return;
        }
    }
}

/// What a sleeper said last: the change that all of its watches have passed, and its sleeps.
fn latest(sleeper: &Actor, last: &mut (u64, u64)) {
    while let Some(line) = sleeper.try_line() {
        let numbers: Vec<u64> =
            line.split(' ').skip(1).map(|number| number.parse().unwrap()).collect();
        *last = (numbers[0], numbers[1]);
    }
}

/// Promise (watching): a writer that is killed between its commit and its ring loses no wake-up: its burial
/// rings every watch.
/// Method: writers are killed at random moments, most of them in the middle of ringing 120 watches; nobody
/// else writes, and the sleepers look at no watch whose bell did not ring. The test's own handle keeps.
/// Plant: `ring_all` left out of `bury`: watches stay where they were.
#[test]
fn the_death_of_a_writer_loses_no_wake_up() {
    let _alone = heavy();
    let seed = Seed::of("the_death_of_a_writer_loses_no_wake_up");
    let mut rng = seed.rng();
    let place = Place::new();
    let bus = place.open_small();
    let sleepers = [(); 2].map(|()| actor("sleep_many", &place).start());
    let mut last = [(0, 0); 2];
    sleepers.iter().for_each(|sleeper| drop(sleeper.expect("at")));
    let (mut waits, mut deaths) = (Vec::new(), 0);
    for _ in 0..60 {
        let mut writer = actor("sleep_dier", &place).with("seed", rng.next() >> 1).start();
        let head = bus.info().unwrap().revision;
        eventually("a change", || (bus.info().unwrap().revision > head).then_some(()));
        writer.kill_after(rng.micros(5000));
        deaths += 1;
        let (killed, head) = (Instant::now(), bus.info().unwrap().revision);
        eventually("all watches to be woken", || {
            for (sleeper, last) in sleepers.iter().zip(&mut last) {
                latest(sleeper, last);
            }
            last.iter().all(|last| last.0 >= head).then_some(())
        });
        waits.push(killed.elapsed());
    }
    let sleeps: u64 = last.iter().map(|last| last.1).sum();
    earned(sleeps, "sleeps of watches");
    earned(deaths, "kills while ringing");
    tell(&format!(
        "deaths of writers: {deaths}, {sleeps} sleeps, none lost; until all are woken: {}",
        spread(&mut waits)
    ));
    sleepers.into_iter().for_each(|sleeper| drop(sleeper.end()));
    assert_whole(&bus);
}

/// Promise (watching): where nobody keeps the bus a sleeper looks by itself, so that a death costs a second
/// at the most.
/// Plant: `SELF_LOOK` of an hour.
#[test]
fn without_a_keeper_a_sleeper_looks_by_itself() {
    let place = Place::new();
    let bus: Bus = place.small().keeper(false).open_at(place.bus()).unwrap();
    let mut watch = bus.watch_from("k", Cursor::NOW).unwrap();
    caught_up(&mut watch);
    // Without its socket no bell can ring.
    for bell in std::fs::read_dir(place.bus().join("bell")).unwrap() {
        std::fs::remove_file(bell.unwrap().path()).unwrap();
    }
    let (other, thread) = (place.attach(), nix::unistd::gettid());
    let stat = format!("/proc/self/task/{thread}/stat");
    for round in 0..2 {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                eventually("a watch that sleeps", || {
                    let stat = std::fs::read_to_string(&stat).unwrap();
                    stat.contains(") S ").then_some(())
                });
                other.set("k", &round).unwrap();
            });
            assert!(watch.recv_timeout(PATIENCE).unwrap().is_some());
        });
    }
}
