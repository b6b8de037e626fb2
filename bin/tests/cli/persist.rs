//! `create --persist`: where snapshots go.

use crate::harness::Place;

/// Promise: a bus that is lost comes back from the backend that was named at its creation, by whoever makes it
/// anew without naming it; `info` says which one it is.
/// Plant: the text of a backend that is shown, but not read back.
#[test]
fn a_bus_comes_back_from_where_it_was_saved() {
    let place = Place::new();
    let directory = place.path("tmp").display().to_string();
    for url in [
        format!("image:{directory}/images?compress=gzip"),
        format!("json:{directory}/state.json"),
        format!("json:{directory}/state.json.gz"),
        format!("sqlite:{directory}/state.db"),
        format!("sqlite:{directory}/state.db?table=orders"),
    ] {
        place.run(&["create", "b", "--persist", &url]).done();
        place.run(&["set", "b", "k", "kept", "--who", "me"]).done();
        place.run(&["add", "b", "n", "5"]).done();
        assert_eq!(place.run(&["snapshot", "b", "--json"]).json()[0]["entries"], 2, "{url}");
        std::fs::remove_dir_all(place.bus("b")).unwrap();
        let again = place.run(&["create", "b"]);
        assert!(again.stderr.contains("rebuilt from a snapshot: 2 entries"), "{url}: {again:?}");
        assert_eq!(place.run(&["info", "b", "--json"]).json()[0]["persist"], url.as_str());
        assert_eq!(place.run(&["get", "b", "k"]).done(), "kept\n");
        assert_eq!(place.run(&["add", "b", "n", "1"]).done(), "6\n");
        place.run(&["destroy", "b"]).done();
    }
}

/// Promise: when snapshots are taken can be said at creation, and `info` tells it, also after the bus was lost.
/// Plant: `--after` that is not applied.
#[test]
fn when_snapshots_are_taken() {
    let place = Place::new();
    place.run(&["create", "b", "--every", "90s", "--after", "5000"]).done();
    place.run(&["set", "b", "k", "v"]).done();
    place.run(&["snapshot", "b"]).done();
    for _ in 0..2 {
        let shown = place.run(&["info", "b"]).done();
        let line = "every 1m 30s, after 5000 changes at the latest";
        assert!(shown.lines().any(|shown| shown.ends_with(line)), "{shown}");
        let info = &place.run(&["info", "b", "--json"]).json()[0];
        assert_eq!(
            (&info["snapshot_every_seconds"], &info["snapshot_after_changes"]),
            (&90.0.into(), &5000.into())
        );
        std::fs::remove_dir_all(place.bus("b")).unwrap();
        assert!(place.run(&["create", "b"]).stderr.contains("rebuilt"));
    }
    place.run(&["create", "c"]).done();
    assert!(place.run(&["info", "c", "--json"]).json()[0]["snapshot_after_changes"].is_null());
    assert_eq!(place.run(&["create", "d", "--after", "0"]).status.code(), Some(2));
}

/// Promise: a text that names no backend is refused with what there is, and makes nothing; one that can not be
/// reached is an error; no password is shown.
/// Plants: an unknown kind taken for a directory of images; the password in the error.
#[test]
fn what_is_no_backend_is_refused() {
    let place = Place::new();
    for (url, word) in [
        ("tape:/x", "json:FILE"),
        ("image:", "path"),
        ("image:/x?compress=brotli", "gzip"),
        ("sqlite:/x?table=a-b", "letters"),
        ("json:/x?y=1", "parameter"),
        ("redis://u:s3cret@h:0", "port"),
    ] {
        let ran = place.run(&["create", "b", "--persist", url]);
        assert_eq!(ran.status.code(), Some(2), "{url}");
        assert!(ran.stderr.contains(word), "{url}: {}", ran.stderr);
    }
    let dead = place.path("tmp").join("no.sock");
    for url in [
        format!("redis+unix://u:s3cret@{}", dead.display()),
        "redis://u:s3cret@127.0.0.1:1".to_owned(),
        "rediss://u:s3cret@127.0.0.1:1".to_owned(),
    ] {
        let ran = place.run(&["create", "b", "--persist", &url]);
        let said = ran.failed();
        assert!(!said.contains("s3cret") && said.contains("redis"), "{said}");
    }
    assert!(!place.bus("b").join("region").exists() && place.tree("state").is_empty());
}

/// Promise: a newest snapshot that is damaged is told by each command that builds a bus anew from the one before.
/// Plant: a report that is not begun.
#[test]
fn what_is_not_used_is_told() {
    let line = br#"{"key":"new","value":1}"#;
    for words in [&["create", "b"][..], &["import", "b"], &["restore", "b", "--to-revision", "1"]] {
        let place = Place::new();
        let images = place.path("tmp/images");
        place.run(&["create", "b", "--persist", &format!("image:{}", images.display())]).done();
        for value in ["old", "new"] {
            place.run(&["set", "b", "k", value]).done();
            place.run(&["snapshot", "b"]).done();
        }
        let images = std::fs::read_dir(&images).unwrap();
        let newest = images.map(|image| image.unwrap().path()).max().unwrap();
        std::fs::write(&newest, "damaged").unwrap();
        std::fs::remove_dir_all(place.bus("b")).unwrap();
        let ran = place.run_with(words, line);
        assert!(ran.status.success() && ran.stderr.contains("was not used"), "{ran:?}");
        assert!(ran.stderr.contains(newest.to_str().unwrap()), "{ran:?}");
        assert_eq!(place.run(&["get", "b", "k"]).done(), "old\n");
    }
}
