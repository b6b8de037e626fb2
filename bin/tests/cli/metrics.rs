//! `metrics`, `health`: figures, what is wrong, and exit statuses for scripts.

use crate::harness::Place;
use membus::ReadBus;
use std::process::Command;

/// Promise: `metrics` shows what was done, by whomever and however they ended, to people and as one object.
/// Plant: counts of the reading command among them.
#[test]
fn metrics_are_told() {
    let place = Place::with_bus();
    place.run(&["set", "b", "k", "v"]).done();
    place.run(&["set", "b", "k", "w"]).done();
    place.run(&["get", "b", "k"]).done();
    let bus = place.attach("b");
    assert!(bus.contains("k").unwrap() && !bus.contains("none").unwrap());
    let object = &place.run(&["metrics", "b", "--json"]).json()[0];
    let done = &object["operations"];
    assert_eq!(
        (&done["sets"], &done["created"], &done["updated"]),
        (&2.into(), &1.into(), &1.into())
    );
    assert_eq!((&done["gets"], &done["hits"]), (&2.into(), &1.into()));
    assert_eq!(object["hit_ratio"], 0.5);
    assert!(object["time"].as_str().unwrap().ends_with('Z') && object["own"].is_null());
    assert_eq!(object["members"][0]["gets"], 2);
    for name in
        ["errors", "messaging", "recovery", "persistence", "memory", "get_times", "set_times"]
    {
        assert!(object[name].is_object(), "{name}");
    }
    let shown = place.run(&["metrics", "b"]).done();
    assert!(shown.contains("sets 2") && shown.contains("hit ratio   50.0 %"), "{shown}");
    assert!(place.run(&["metrics", "none"]).failed().contains("no bus"));
}

/// Promise (OpenMetrics): what `--openmetrics` prints passes the parser that the format's makers keep.
/// Plant: `# EOF` left out; a family told twice.
#[test]
fn openmetrics_pass_an_outside_parser() {
    let place = Place::with_bus();
    for number in 0..200 {
        place.attach("b").set(format!("k{number}"), &number).unwrap();
    }
    let text = place.run(&["metrics", "b", "--openmetrics"]).done();
    assert!(
        text.ends_with("# EOF\n")
            && text.contains("membus_operations_total{bus=\"b\",operation=\"set\"} 200")
    );
    assert_eq!(place.run(&["metrics", "b", "--openmetrics", "--json"]).status.code(), Some(2));
    std::fs::write(place.path("text"), &text).unwrap();
    let program = "import sys\n\
                   from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse\n\
                   families = list(parse(open(sys.argv[1]).read()))\n\
                   print(len(families), sum(len(family.samples) for family in families))\n";
    let python = std::env::var("MEMBUS_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let known = Command::new(&python).args(["-c", "import prometheus_client"]).output();
    if !known.is_ok_and(|known| known.status.success()) {
        eprintln!("skipped: {python} has no prometheus_client; `tests/all test` installs it");
        return;
    }
    let parsed =
        Command::new(&python).args(["-c", program]).arg(place.path("text")).output().unwrap();
    assert!(parsed.status.success(), "{}", String::from_utf8_lossy(&parsed.stderr));
    let told = String::from_utf8(parsed.stdout).unwrap();
    let families: usize = told.split(' ').next().unwrap().parse().unwrap();
    assert_eq!(families, text.lines().filter(|line| line.starts_with("# TYPE ")).count());
}

/// Promise: `health` says what is wrong and what to do; exit status 0 healthy, 1 not, 2 an error.
/// Plant: exit status 0 of a degraded bus.
#[test]
fn health_has_exit_statuses() {
    let place = Place::with_bus();
    let ran = place.run(&["health", "b"]);
    assert!(ran.absent().contains("degraded: no_keeper: "), "{ran:?}");
    let keeper = place.spawn(&["keep", "b"]);
    crate::harness::eventually("a keeper", || {
        let ran = place.run(&["health", "b"]);
        (ran.status.code() == Some(0)).then_some(())
    });
    let shown = place.run(&["health", "b"]).done();
    assert!(shown.starts_with("status       healthy\nmemory       healthy\n"), "{shown}");
    let object = &place.run(&["health", "b", "--json"]).json()[0];
    assert_eq!(
        (&object["status"], object["issues"].as_array().unwrap().len()),
        (&"healthy".into(), 0)
    );
    for section in ["memory", "persistence", "messaging", "reliability", "performance"] {
        assert_eq!(object[section]["status"], "healthy", "{section}");
    }
    let bus = place.attach("b");
    assert!((0..5).all(|_| bus.set("", &1).is_err()));
    let ran = place.run(&["health", "b", "--threshold", "errors=4", "--json"]);
    let object = crate::harness::json(ran.absent().trim_end());
    let issue = &object["issues"][0];
    assert_eq!(
        (&issue["code"], &issue["figure"], &issue["threshold"]),
        (&"errors".into(), &5.0.into(), &4.0.into())
    );
    assert!(issue["action"].is_string() && issue["unit"] == "errors");
    place.run(&["health", "b", "--threshold", "errors=5"]).done();
    place.run(&["health", "b", "--threshold", "errors=0", "--over", "1ms"]).done();
    assert_eq!(place.run(&["health", "b", "--threshold", "nonsense=1"]).status.code(), Some(2));
    assert!(place.run(&["health", "none"]).failed().contains("no bus"));
    drop(keeper);
}
