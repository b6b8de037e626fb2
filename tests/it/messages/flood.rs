//! Messages from several processes, some of which are killed.

use crate::harness::actor::actor;
use crate::harness::part::Part;
use crate::harness::{Place, Seed, assert_whole, earned, eventually, heavy, living};
use membus::Notice;
use std::collections::BTreeMap;

/// Publishes numbers under a topic of its own, and says each that was published.
pub(crate) fn publisher(part: &Part) {
    let bus = part.attach();
    let topic = format!("flood/{}", part.word("own"));
    let mut number = 0_u64;
    while !part.is_over() {
        number += 1;
        bus.message(&topic).priority((number % 3) as i32).send(&number).unwrap();
        if number.is_multiple_of(64) {
            part.say(&number.to_string());
        }
    }
}

/// Promise (messages): what was published reaches a subscriber that keeps up, each once; a publisher may be
/// killed at any instruction: of its messages a prefix is there, and what it said it had published is.
/// Method: three processes publish at full speed and are killed and begun anew; what they said is held
/// against what came.
/// Plant: a mailbox that passes over a record whenever it is emptied.
#[test]
fn killed_publishers_leave_a_prefix() {
    let _alone = heavy();
    let seed = Seed::of("killed_publishers_leave_a_prefix");
    let mut rng = seed.rng();
    let place = Place::new();
    let bus = place.small().log_size(4 << 20).open_at(place.bus()).unwrap();
    let mut subscriber = bus.subscribe("flood/").unwrap();
    let mut seen: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let (mut lagged, mut total) = (0, 0);
    for round in 0..12_u32 {
        let own = format!("{round}");
        let mut publisher = actor("flood", &place).with("own", &own).start();
        let until = std::time::Instant::now() + rng.micros(120_000);
        let mut said = 0_u64;
        while said == 0 || std::time::Instant::now() < until {
            while let Some(line) = publisher.try_line() {
                said = line.parse().unwrap();
            }
            for _ in 0..256 {
                let Some(notice) = subscriber.try_recv().unwrap() else { break };
                take(notice, &mut seen, &mut lagged, &mut total);
            }
        }
        publisher.kill();
        while let Some(notice) =
            subscriber.recv_timeout(std::time::Duration::from_millis(1)).unwrap()
        {
            take(notice, &mut seen, &mut lagged, &mut total);
        }
        let mut numbers = seen.remove(&format!("flood/{own}")).unwrap_or_default();
        numbers.sort_unstable();
        let first = numbers.first().copied().unwrap_or(1);
        let expected: Vec<u64> = (first..).take(numbers.len()).collect();
        if lagged == 0 {
            assert_eq!(first, 1);
            assert_eq!(numbers, expected, "one is missing, or there twice");
            assert!(numbers.len() as u64 >= said, "{said} were said, {} came", numbers.len());
        }
    }
    eventually("the dead are buried", || (living(&bus) == 1).then_some(()));
    assert_whole(&bus);
    earned(total, "messages of killed publishers");
    assert!(total > 1000, "{total}");
}

fn take(notice: Notice, seen: &mut BTreeMap<String, Vec<u64>>, lagged: &mut u64, total: &mut u64) {
    match notice {
        Notice::Message(message) => {
            *total += 1;
            let number = message.decode().unwrap();
            seen.entry(message.topic).or_default().push(number);
        }
        Notice::Lagged { missed, .. } => *lagged += missed,
        other => panic!("{other:?}"),
    }
}
