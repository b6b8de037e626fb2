//! Hostile input from elsewhere than the region: snapshot images, kept settings, values of another
//! type, datagrams at a watch's door.

use crate::clock::{timed, watch_over_all};
use crate::crew::{self, Order};
use crate::forge::{self, Forged};
use crate::rng::Rng;
use crate::setting;
use membus::{Bus, Event, OpenError, Options, Persist, ReadBus, SnapshotError};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long input is tried unless somebody says.
const SECONDS: u64 = 10;

/// A bus with snapshots and settings in known places.
#[derive(Debug)]
struct Home {
    root: PathBuf,
}

impl Home {
    fn options(&self) -> Options {
        Bus::options()
            .state(self.root.join("state"))
            .keeper(false)
            .deadline(Duration::from_millis(50))
    }
    fn path(&self) -> PathBuf {
        self.root.join("bus")
    }
    fn images(&self) -> PathBuf {
        self.root.join("images")
    }
    /// The settings that are kept of the bus.
    fn kept(&self) -> PathBuf {
        let files = std::fs::read_dir(self.root.join("state")).unwrap();
        let mut paths = files.map(|file| file.unwrap().path());
        paths.find(|path| path.extension().is_some_and(|ext| ext == "toml")).unwrap()
    }
    /// A new bus, from no snapshot.
    fn create(&self) -> Bus {
        self.lose();
        self.forget();
        let options = self.options().max_capacity(4 << 20).capacity(1 << 20).log_size(1 << 14);
        options.persist(Persist::Image(self.images())).create_at(self.path()).unwrap()
    }
    /// Removes the snapshots.
    fn forget(&self) {
        let _gone = std::fs::remove_dir_all(self.images());
        std::fs::create_dir(self.images()).unwrap();
    }
    /// Takes the bus away, and leaves what is kept of it.
    fn lose(&self) {
        let _gone = std::fs::remove_dir_all(self.path());
    }
}

fn fill(bus: &Bus) {
    for number in 0..60_u64 {
        bus.set_bytes(format!("k{number}"), vec![1; number as usize * 7]).unwrap();
        bus.put(format!("t{number}")).ttl(Duration::from_secs(60)).set(&number).unwrap();
        bus.add(format!("n{number}"), 5).unwrap();
    }
}

/// Opens what may be there, and if it opens, works with it.
fn open_and_use(home: &Home, seed: u64) {
    if let Ok(bus) = timed(seed, "open", || home.options().open_at(home.path())) {
        timed(seed, "work", || {
            let _either = bus.set("k1", &1_u8).map(drop);
            let _either = bus.keys("").map(drop);
        });
        let report = bus.check();
        assert!(report.is_clean(), "seed {seed}: {report:?}");
    }
}

fn flip(bytes: &mut Vec<u8>, rng: &mut Rng) {
    match rng.below(6) {
        0 => bytes.truncate(rng.below(bytes.len() as u64) as usize),
        1 => {
            let at = rng.below(bytes.len() as u64) as usize;
            let tail = bytes[rng.below(bytes.len() as u64) as usize..].to_vec();
            bytes.splice(at..at, tail);
        }
        2 => bytes.extend(rng.bytes(40)),
        _ => {
            for _ in 0..=rng.below(4) {
                let (at, bit) = (rng.below(bytes.len() as u64) as usize, rng.below(8));
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = rng.pick(&[0, 0xff, *byte ^ 1 << bit]);
                }
            }
        }
    }
}

/// An image that is damaged, or one that is whole and says what no bus would.
fn image(home: &Home, good: &[u8], seed: u64, rng: &mut Rng) {
    home.lose();
    let bytes = if rng.once_in(2) {
        let mut bytes = good.to_vec();
        flip(&mut bytes, rng);
        bytes
    } else {
        Forged::random(rng).bytes()
    };
    home.forget();
    std::fs::write(home.images().join(forge::NAME), bytes).unwrap();
    open_and_use(home, seed);
}

/// Settings that nobody would have kept.
fn settings(home: &Home, good: &str, seed: u64, rng: &mut Rng) {
    let mut bytes = good.as_bytes().to_vec();
    if rng.once_in(3) {
        flip(&mut bytes, rng);
    } else {
        let lines = good.lines().map(|line| {
            let name = line.split(' ').next().unwrap_or_default();
            let numbers = ["0", "1", "-1", "4096", "18446744073709551615", "9223372036854775807"];
            let odd =
                ["nan", "inf", "1e300", "\"none\"", "\"image:\"", "\"image:/proc/none\"", "[]"];
            match rng.below(6) {
                0 => format!("{name} = {}", rng.pick(&numbers)),
                1 => format!("{name} = {}", rng.pick(&odd)),
                _ => line.to_owned(),
            }
        });
        bytes = lines.collect::<Vec<_>>().join("\n").into_bytes();
    }
    std::fs::write(home.kept(), &bytes).unwrap();
    let _either = timed(seed, "attach", || home.options().attach_at(home.path())).map(drop);
    home.lose();
    open_and_use(home, seed);
    std::fs::write(home.kept(), good).unwrap();
}

#[derive(Debug, Serialize, Deserialize)]
struct Tree(Vec<Tree>);

#[derive(Debug, Serialize, Deserialize)]
enum Choice {
    One,
    Two { name: String, list: Vec<f64> },
}

/// A value of a structure's kind with any bytes, read as many types.
fn value(home: &Home, seed: u64, rng: &mut Rng) {
    let bus = home.create();
    let len = rng.pick(&[1_u64, 9, 60, 4000, 60_000]);
    bus.set("v", &"x".repeat(len as usize)).unwrap();
    let bytes = match rng.below(4) {
        0 => vec![rng.pick(&[0x91, 0x81, 0xdc, 0xdd, 0xdf, 0xc6, 0xdb, 0xff]); len as usize],
        1 => [&[rng.pick(&[0xdd, 0xdf, 0xdb, 0xc6])][..], &[0xff; 4], &rng.bytes(len)].concat(),
        _ => rng.bytes(len),
    };
    let region = std::fs::OpenOptions::new().write(true).open(home.path().join("region")).unwrap();
    let image = crate::image::Image(std::fs::read(home.path().join("region")).unwrap());
    let at = image.key_at(image.find(b"v").at) + 8;
    region.write_all_at(&bytes[..len as usize], at).unwrap();
    timed(seed, "get", || {
        let _either = bus.get::<u64>("v").map(drop);
        let _either = bus.get::<Vec<u64>>("v").map(drop);
        let _either = bus.get::<String>("v").map(drop);
        let _either = bus.get::<BTreeMap<String, Vec<i64>>>("v").map(drop);
        let _either = bus.get::<Tree>("v").map(drop);
        let _either = bus.get::<Choice>("v").map(drop);
        let _either = bus.get::<Option<(char, bool)>>("v").map(drop);
        let _either = bus.add("v", 1).map(drop);
    });
}

/// Datagrams of any content at a watch's door: it wakes, and tells what happened, once.
fn datagrams(home: &Home, seed: u64, rng: &mut Rng) {
    let bus = home.create();
    let mut watch = bus.watch("").unwrap();
    while watch.try_recv().unwrap().is_some() {}
    let bell = std::fs::read_dir(home.path().join("bell")).unwrap().next().unwrap().unwrap().path();
    let socket = UnixDatagram::unbound().unwrap();
    socket.set_nonblocking(true).unwrap();
    for _ in 0..rng.below(700) {
        let len = rng.pick(&[0, 1, 8, 500, 60_000]);
        // A full queue refuses what comes.
        let _sent = socket.send_to(&rng.bytes(len), &bell);
    }
    assert_eq!(timed(seed, "try_recv", || watch.try_recv()).unwrap(), None);
    bus.set_bytes("k", b"v").unwrap();
    let event = timed(seed, "recv", || watch.recv_timeout(Duration::from_millis(900))).unwrap();
    assert!(matches!(event, Some(Event::Change(change)) if *change.key == *b"k"), "seed {seed}");
    assert_eq!(watch.try_recv().unwrap(), None);
}

fn try_all(root: &Path, Order { first, step, .. }: Order) {
    let home = Home { root: root.to_owned() };
    let bus = home.create();
    fill(&bus);
    let saved = bus.snapshot().unwrap().path.unwrap();
    drop(bus);
    let (good, kept) =
        (std::fs::read(saved).unwrap(), std::fs::read_to_string(home.kept()).unwrap());
    let begun = Instant::now();
    let long = Duration::from_secs(setting("MEMBUS_FUZZ_SECONDS").unwrap_or(SECONDS));
    let mut sums = [0_u64; 4];
    for seed in (first..).step_by(step as usize) {
        println!("seed {seed}");
        let mut rng = Rng::new(seed);
        let kind = rng.below(4) as usize;
        sums[kind] += 1;
        match kind {
            0 => image(&home, &good, seed, &mut rng),
            1 => settings(&home, &kept, seed, &mut rng),
            2 => value(&home, seed, &mut rng),
            _ => datagrams(&home, seed, &mut rng),
        }
        if begun.elapsed() > long || setting("MEMBUS_SEED").is_some() {
            break;
        }
    }
    for (name, sum) in ["images", "settings", "values", "datagrams"].into_iter().zip(sums) {
        println!("sum {name}={sum}");
    }
}

/// A child of the test below.
#[test]
fn child() {
    let Some((order, root)) = crew::order() else { return };
    watch_over_all();
    try_all(&root, order);
}

/// Plants: a revision of an image that is added to without a look (`REVISION_MAX` gone), settings that
/// are used without their limits (`check` in `persist::create` gone).
#[test]
fn hostile_input_gives_errors_or_answers() {
    let report = crew::work("input::child", u64::MAX);
    println!("{:?}", report.sums);
    for name in ["images", "settings", "values", "datagrams"] {
        report.earned(name, &format!("hostile {name}"));
    }
    let failures = report.failures.join("\n");
    assert!(report.failures.is_empty(), "again with MEMBUS_SEED=N:\n{failures}");
}

/// Without `check` in `persist::create` each of these made a bus that nobody could attach to, ever.
#[test]
fn kept_settings_beyond_their_limits_are_refused() {
    let root = tempfile::tempdir_in("/dev/shm").unwrap();
    let home = Home { root: root.path().to_owned() };
    drop(home.create());
    let kept = std::fs::read_to_string(home.kept()).unwrap();
    for (name, beyond) in [("max_capacity", "549755813888"), ("mode", "0"), ("log_size", "1")] {
        let line = |line: &str| match line.starts_with(&format!("{name} ")) {
            true => format!("{name} = {beyond}"),
            false => line.to_owned(),
        };
        std::fs::write(home.kept(), kept.lines().map(line).collect::<Vec<_>>().join("\n")).unwrap();
        home.lose();
        let end = home.options().open_at(home.path());
        let is_told = matches!(&end, Err(OpenError::Setting { setting, .. }) if *setting == name);
        assert!(is_told, "{name}: {end:?}");
    }
}

/// Without `REVISION_MAX` the revision overflowed, or made a bus that nobody could attach to.
#[test]
fn an_image_of_an_impossible_revision_is_damaged() {
    let root = tempfile::tempdir_in("/dev/shm").unwrap();
    let home = Home { root: root.path().to_owned() };
    drop(home.create());
    for revision in [1 << 61, (1 << 62) - 1, u64::MAX] {
        home.lose();
        let image = Forged { revision, ..Forged::default() };
        std::fs::write(home.images().join(forge::NAME), image.bytes()).unwrap();
        let end = home.options().open_at(home.path());
        let damaged = matches!(&end, Err(OpenError::Snapshot(SnapshotError::Damaged { .. })));
        assert!(damaged, "{revision}: {end:?}");
    }
}
