//! SIGKILL: whoever dies when, the bus is whole and the others go on.

use crate::harness::Place;
use membus::ReadBus;
use nix::sys::signal::Signal;

/// Promise "robust": writers and watches killed at random moments leave a whole region, each value old
/// or new, each batch all or none.
/// Method: writers are started and killed in turns; between them another process looks.
/// Plant: a batch that is committed line by line leaves halves.
#[test]
fn killed_writers_and_watches_leave_it_whole() {
    let place = Place::with_bus();
    let pairs: String = (0..300)
        .map(|n| {
            format!(
                "{{\"op\":\"add\",\"key\":\"one/{n}\"}}\n{{\"op\":\"add\",\"key\":\"two/{n}\"}}\n"
            )
        })
        .collect();
    std::fs::write(place.path("pairs"), pairs).unwrap();
    let long = "x".repeat(100_000);
    let mut seed = 7_u64;
    for round in 0..40 {
        let watch = place.spawn(&["watch", "b", "one/", "--json"]);
        let writers = [
            place.spawn(&["batch", "b", "pairs"]),
            place.spawn(&["set", "b", "value", &long[..1000 + round]]),
            place.spawn(&["add", "b", "n"]),
        ];
        // The method, not a wait for anything: somewhere between their start and their end.
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        std::thread::sleep(std::time::Duration::from_micros((seed >> 33) % 6000));
        for writer in &writers {
            writer.signal(Signal::SIGKILL);
        }
        watch.signal(Signal::SIGKILL);
        for process in writers.into_iter().chain([watch]) {
            process.end();
        }
        let bus = place.attach("b");
        let sum = |prefix: &str| {
            let counts = bus.scan::<i64>(prefix).map(|entry| entry.unwrap().1);
            counts.collect::<Vec<_>>()
        };
        let (one, two) = (sum("one/"), sum("two/"));
        assert_eq!(one.len(), two.len(), "round {round}");
        assert!(one.is_empty() || one.len() == 300, "round {round}: {} of 300", one.len());
        assert!(one.iter().chain(&two).all(|count| *count == one[0]), "round {round}: halves");
        if let Some(value) = bus.get::<String>("value").unwrap() {
            assert!((1000..=1000 + round).contains(&value.len()), "round {round}: {}", value.len());
        }
        bus.set("alive", &round).unwrap();
        drop(bus);
        place.is_whole("b");
    }
    assert_eq!(place.run(&["get", "b", "alive"]).done(), "39\n");
}
