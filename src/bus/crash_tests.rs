//! Every crash point of what a handle does beyond single changes: attach, detach, burial, growth,
//! watches, pins, snapshots. On real files, through the real locks of the kernel.
//!
//! A victim dies after store n of its operation; a bystander buries it and dies itself after store m;
//! a third one attaches and buries both. Then the bus must be whole, hold the state before or after
//! the operation, and nothing may be left of the dead.
//!
//! Plants, each seen to fail here: a burial that leaves the watches (`watch slots`), one that forgets
//! `EPHEMERAL` before the keys are deleted (a state that never was), a newcomer that does not mend its
//! slot (`Stalled`), a watch slot taken before it counts as used (`watch slots`), a grow lock that is not mended (`locks`), pins of the dead (`dead entries`), growth
//! that stores the size before the space is reserved (`Truncated`), a `region.new` that is not replaced
//! (`create`), a bus that is forgotten after its files are gone (`destroy`), a
//! newcomer that clears the counts of its slot (`the newcomer in the slot of the dead`).

use super::Bus;
use super::options::Options;
use super::testing::brim;
use crate::config;
use crate::hook;
use crate::region::layout::{header, watch};
use crate::sync::Ordering::Relaxed;
use crate::{Batch, OpenError, Persist, ReadBus, Watch};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

type State = BTreeMap<Vec<u8>, Vec<u8>>;

/// A directory with a bus that nobody is attached to, and copies of it.
pub(super) struct Workshop {
    place: tempfile::TempDir,
    copies: u32,
}

impl Workshop {
    pub(super) fn new(prepare: impl FnOnce(&Bus)) -> Self {
        let place = tempfile::tempdir_in("/dev/shm").unwrap();
        let this = Self { place, copies: 0 };
        let bus = this.options(0).create_at(this.bus(0)).unwrap();
        prepare(&bus);
        drop(bus);
        this
    }
    fn bus(&self, copy: u32) -> PathBuf {
        self.place.path().join(format!("bus{copy}"))
    }
    fn options(&self, copy: u32) -> Options {
        let state = self.place.path().join(format!("state{copy}"));
        tiny().state(state).persist(self.images(copy)).deadline(Duration::from_secs(30))
    }
    /// A bus with the bytes of the first one.
    fn copy(&mut self) -> u32 {
        use std::os::unix::fs::PermissionsExt;
        self.copies += 1;
        let (from, to) = (self.bus(0), self.bus(self.copies));
        std::fs::create_dir_all(to.join("bell")).unwrap();
        for directory in [to.clone(), to.join("bell")] {
            std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o700)).unwrap();
        }
        for name in ["region", "members"] {
            write_what_is_not_zero(&to.join(name), &std::fs::read(from.join(name)).unwrap(), 0o600);
        }
        self.keep(self.copies);
        self.copies
    }
    /// What is kept of the first bus is kept of a copy.
    fn keep(&self, copy: u32) {
        let state = |copy| self.options(copy).state_directory();
        let mut kept = config::load(&state(0), &self.bus(0)).unwrap().unwrap();
        kept.path = self.bus(copy).display().to_string();
        kept.persist = self.images(copy).to_string();
        config::store(&state(copy), &self.bus(copy), &kept).unwrap();
    }
    fn images(&self, copy: u32) -> Persist {
        Persist::Image(self.place.path().join(format!("images{copy}")))
    }
    fn attach(&self, copy: u32) -> Bus {
        self.options(copy).attach_at(self.bus(copy)).unwrap()
    }
    fn remove(&self, copy: u32) {
        std::fs::remove_dir_all(self.bus(copy)).unwrap();
        for left in ["state", "images"] {
            drop(std::fs::remove_dir_all(self.place.path().join(format!("{left}{copy}"))));
        }
    }
}

/// A bus that is small enough to be made and copied thousands of times.
fn tiny() -> Options {
    let options = Options { slots: (64, 64), ..Bus::options() };
    options.keeper(false).max_capacity(4 << 20).capacity(0).log_size(8192)
}

/// Writes a file of which most pages hold nothing: those are left out, for they would take most of the time.
fn write_what_is_not_zero(path: &Path, bytes: &[u8], mode: u32) {
    use std::os::unix::fs::{FileExt, OpenOptionsExt};
    let file = std::fs::File::options().write(true).create_new(true).mode(mode).open(path).unwrap();
    file.set_len(bytes.len() as u64).unwrap();
    for (page, bytes) in bytes.chunks(4096).enumerate() {
        if bytes.iter().any(|byte| *byte != 0) {
            file.write_all_at(bytes, 4096 * page as u64).unwrap();
        }
    }
}

/// What a directory holds: paths from outside in, with modes, and bytes of what is a file.
struct Contents(Vec<(PathBuf, u32, Option<Vec<u8>>)>);

impl Contents {
    fn of(directory: &Path) -> Self {
        use std::os::unix::fs::PermissionsExt;
        let (mut found, mut left) = (Vec::new(), vec![directory.to_owned()]);
        while let Some(directory) = left.pop() {
            for path in std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
                let metadata = std::fs::symlink_metadata(&path).unwrap();
                let bytes = metadata.is_file().then(|| std::fs::read(&path).unwrap());
                assert!(metadata.is_dir() || metadata.is_file(), "{}", path.display());
                left.extend(metadata.is_dir().then(|| path.clone()));
                found.push((path, metadata.permissions().mode() & 0o777, bytes));
            }
        }
        Self(found)
    }

    /// Makes a directory hold just this.
    fn restore(&self, directory: &Path) {
        use std::os::unix::fs::DirBuilderExt;
        for path in std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) }
                .unwrap();
        }
        for (path, mode, bytes) in &self.0 {
            match bytes {
                Some(bytes) => write_what_is_not_zero(path, bytes, *mode),
                None => std::fs::DirBuilder::new().mode(*mode).create(path).unwrap(),
            }
        }
    }
}

/// Who dies: a handle, and watches of it.
#[derive(Default)]
pub(super) struct Victim {
    bus: Option<Bus>,
    watches: Vec<Watch>,
}

impl Victim {
    fn bus(&self) -> &Bus {
        self.bus.as_ref().unwrap()
    }
    /// The kernel drops the locks, and nobody cleans up.
    fn kill(self) {
        if let Some(seat) = self.bus.as_ref().and_then(|bus| bus.inner.seat()) {
            seat.die();
        }
    }
}

fn state(bus: &Bus) -> State {
    bus.scan_entries("").map(|entry| entry.unwrap()).map(|e| (e.key.to_vec(), e.value)).collect()
}

/// What all members did, living and dead: no death, burial or newcomer may add to it or take from it.
fn counted(bus: &Bus) -> crate::OperationMetrics {
    let mut done = bus.metrics().unwrap().operations;
    // Burials delete what the dead owned.
    done.deleted = 0;
    done
}

fn verify(bus: &Bus, allowed: &[State], path: &Path, what: &str) {
    let inner = &bus.inner;
    let me = inner.writer().unwrap();
    inner.bury_all(me).unwrap();
    let now = state(bus);
    assert!(allowed.contains(&now), "{what}: a state that never was: {now:?}");
    for stripe in 0..inner.core.geometry.stripes {
        inner.core.sweep_cleared(me, stripe, inner.core.patience).unwrap();
        let guard = inner.core.lock_stripe(stripe, me, &inner.core.patience()).unwrap();
        inner.core.sweep_retired(stripe).unwrap();
        drop(guard);
    }
    let report = bus.check();
    assert!(report.is_clean(), "{what}: {report:?}");
    assert_eq!((report.locks_held, report.retired), (0, 0), "{what}: locks and dead entries");
    assert_eq!(bus.members().unwrap().len(), 1, "{what}: members");
    let word = |at| inner.core.region.load(at, Relaxed).unwrap();
    // All of them: one beyond those that count as used would be lost for ever.
    let geometry = &inner.core.geometry;
    let watches =
        (0..geometry.watches_max).filter(|n| word(geometry.watch(*n) + watch::STATE) != 0);
    assert_eq!(watches.count(), 0, "{what}: watch slots");
    assert_eq!(word(header::SNAP_ON), 0, "{what}: the snapshot of the dead goes on");
    let bells = std::fs::read_dir(path.join("bell")).unwrap().count();
    assert_eq!(bells, 0, "{what}: sockets of the dead");
    let length = std::fs::metadata(path.join("region")).unwrap().len();
    assert!(length >= word(header::SIZE), "{what}: size");
    let gone = |key: &[u8]| bus.stat(key).unwrap().is_none_or(|stat| !stat.ephemeral);
    assert!(now.keys().all(|key| gone(key)), "{what}: ephemeral keys of the dead");
    super::locks::crash_tests::assert_free(bus, what);
    bus.set("afterwards", &1).unwrap();
    assert_eq!(bus.get::<i32>("afterwards").unwrap(), Some(1), "{what}");
}

/// What a victim does.
pub(super) type Operation<'a> = &'a dyn Fn(&mut Victim, &Workshop, u32);

/// Runs `operation` of a victim, and lets it, and then who buries it, die after every store, by a
/// stride. Gives the number of points.
pub(super) fn crash(name: &str, shop: &mut Workshop, stride: u64, operation: Operation<'_>) -> u64 {
    // Whole: how many stores there are, and the state afterwards.
    let reference = shop.copy();
    let mut victim = Victim { bus: Some(shop.attach(reference)), watches: Vec::new() };
    let before = state(victim.bus());
    let (stores, ()) = hook::count(|| operation(&mut victim, shop, reference));
    drop(victim);
    let after = state(&shop.attach(reference));
    shop.remove(reference);
    let allowed = [before, after];
    let mut points = 0;
    for n in 0..=stores {
        let burial = crash_once(name, shop, operation, (n, None), &allowed);
        points += 1;
        for m in (0..burial).filter(|m| (m + n).is_multiple_of(stride)) {
            crash_once(name, shop, operation, (n, Some(m)), &allowed);
            points += 1;
        }
    }
    println!("{name}: {stores} stores, {points} crash points");
    crate::earned(points, "crash points");
    points
}

/// One death after `n` stores, and perhaps a second one of who buries it. Gives the burial's stores.
fn crash_once(
    name: &str,
    shop: &mut Workshop,
    operation: Operation<'_>,
    (n, second): (u64, Option<u64>),
    allowed: &[State],
) -> u64 {
    let copy = shop.copy();
    let bystander = shop.attach(copy);
    let mut victim = Victim { bus: Some(shop.attach(copy)), watches: Vec::new() };
    let _end = hook::dying_after(n, || operation(&mut victim, shop, copy));
    victim.kill();
    let counted = counted(&bystander);
    let me = bystander.inner.writer().unwrap();
    let bury = || bystander.inner.bury_all(me).unwrap();
    let (stores, _buried) = match second {
        None => hook::count(bury),
        Some(m) => hook::count(|| hook::dying_after(m, bury).unwrap_or_default()),
    };
    match second {
        None => drop(bystander),
        Some(_) => Victim { bus: Some(bystander), watches: Vec::new() }.kill(),
    }
    let last = shop.attach(copy);
    assert_eq!(self::counted(&last), counted, "{name}, deaths after {n} and {second:?}: counts");
    let own = last.metrics().unwrap().own;
    assert_eq!((own.gets, own.sets), (0, 0), "{name}, deaths after {n} and {second:?}: its own");
    verify(&last, allowed, &shop.bus(copy), &format!("{name}, deaths after {n} and {second:?}"));
    drop(last);
    shop.remove(copy);
    stores
}

pub(super) fn fill(bus: &Bus) {
    for number in 0..20 {
        bus.set_bytes(format!("k{number}"), vec![number; 40]).unwrap();
    }
    bus.add("n", 7).unwrap();
}

/// What an attached victim does.
pub(super) fn with(operation: impl Fn(&Bus)) -> impl Fn(&mut Victim, &Workshop, u32) {
    move |victim, _, _| operation(victim.bus())
}

/// Promise (metrics): each operation is counted once or, cut off before it began, not at all.
/// Plants: a newcomer that clears the counts of its slot; one that notes no base.
#[test]
fn counts_survive_every_double_crash() {
    let mut shop = Workshop::new(fill);
    let work = with(|bus| {
        bus.set("k1", &1).unwrap();
        assert!(bus.contains("k1").unwrap() && !bus.contains("none").unwrap());
        bus.add("n", 1).unwrap();
        bus.delete("k2").unwrap();
        bus.publish("topic", &1).unwrap();
    });
    let copy = shop.copy();
    let bus = shop.attach(copy);
    let before = bus.metrics().unwrap();
    let (stores, ()) = hook::count(|| {
        work(&mut Victim { bus: Some(bus.clone()), watches: Vec::new() }, &shop, copy)
    });
    let whole = bus.metrics().unwrap().since(&before).operations;
    assert_eq!([whole.sets, whole.gets, whole.adds, whole.deletes], [1, 2, 1, 1]);
    drop(bus);
    shop.remove(copy);
    let mut last = 0;
    for n in 0..=stores {
        let copy = shop.copy();
        let (bus, victim) = (shop.attach(copy), shop.attach(copy));
        let mut victim = Victim { bus: Some(victim), watches: Vec::new() };
        let _end = hook::dying_after(n, || work(&mut victim, &shop, copy));
        victim.kill();
        let done = bus.metrics().unwrap().since(&before).operations;
        assert!((last..=last + 1).contains(&done.total) && done.misses <= 1, "{n}: {done:?}");
        assert!(done.hits + done.misses <= 2 && done.total <= whole.total, "{n}: {done:?}");
        last = done.total;
        // Who takes the slot of the dead counts on, wherever it dies itself.
        for m in (3..60).step_by(19) {
            let _end = hook::dying_after(m, || shop.attach(copy));
        }
        let newcomer = shop.attach(copy);
        let own = newcomer.metrics().unwrap().own;
        assert_eq!((own.gets, own.sets), (0, 0), "{n}: what the dead did is not its own");
        let mut now = bus.metrics().unwrap().since(&before).operations;
        now.deleted = done.deleted;
        assert_eq!(now, done, "{n}: the newcomer in the slot of the dead");
        drop((newcomer, bus));
        shop.remove(copy);
    }
    assert_eq!(last, whole.total);
    let set = with(|bus| {
        bus.set("k1", &1).unwrap();
    });
    assert!(crash("counts", &mut shop, 29, &set) > 50);
}

#[test]
fn attaching_and_detaching_survive_every_double_crash() {
    let mut shop = Workshop::new(fill);
    let attach = |victim: &mut Victim, shop: &Workshop, copy: u32| {
        // In place of the one that is there, whose slot it gets.
        std::mem::take(victim).kill();
        victim.bus = Some(shop.attach(copy));
    };
    let detach = |victim: &mut Victim, _: &Workshop, _: u32| drop(victim.bus.take());
    let points = crash("attach", &mut shop, 7, &attach) + crash("detach", &mut shop, 7, &detach);
    assert!(points > 50, "{points}");
}

#[test]
fn ephemeral_keys_survive_every_double_crash_of_setting_and_burying() {
    let mut shop = Workshop::new(fill);
    let set = with(|bus| {
        let mut batch = Batch::new();
        batch.put("mine").ephemeral().set_bytes("x").put("mine too").ephemeral().set_bytes("y");
        batch.delete("k3");
        bus.commit(&batch).unwrap();
    });
    let points = crash("ephemeral", &mut shop, 17, &set);
    assert!(points > 200, "{points}");
}

/// Each of a queue's operations is one commit: it is done, or it is not, and the claim of the dead goes.
/// Plant: the item is deleted by a commit of its own.
#[test]
fn queues_survive_every_double_crash() {
    let receipt = std::cell::Cell::new(None);
    let mut shop = Workshop::new(|bus| {
        let mut queue = bus.queue("q").unwrap().detached(Duration::from_secs(10_000));
        for item in 0..3 {
            queue.put_bytes([item; 30]).unwrap();
        }
        receipt.set(Some(queue.take().unwrap().into_receipt()));
    });
    let receipt = receipt.get().unwrap();
    let put = with(|bus| {
        bus.queue("q").unwrap().put_bytes([9; 30]).unwrap();
    });
    let take = with(|bus| {
        let _held = bus.queue("q").unwrap().take().unwrap().into_receipt();
    });
    let ack = with(|bus| bus.queue("q").unwrap().ack(receipt).unwrap());
    let release = with(|bus| bus.queue("q").unwrap().release(receipt).unwrap());
    let points = crash("put", &mut shop, 23, &put)
        + crash("take", &mut shop, 23, &take)
        + crash("ack", &mut shop, 23, &ack)
        + crash("release", &mut shop, 23, &release);
    assert!(points > 200, "{points}");
}

#[test]
fn growth_survives_every_double_crash() {
    let mut shop = Workshop::new(|bus| {
        fill(bus);
        // What is left is less than the next value needs.
        brim(bus);
    });
    let grow = with(|bus| {
        bus.set_bytes("big", vec![9; 200_000]).unwrap();
    });
    let points = crash("growth", &mut shop, 41, &grow);
    assert!(points > 100, "{points}");
}

#[test]
fn watches_and_pins_survive_every_double_crash() {
    let mut shop = Workshop::new(fill);
    let watch = with(|bus| {
        let mut watch = bus.watch("k").unwrap();
        while watch.try_recv().unwrap().is_some() {}
        drop(watch);
    });
    let sleeping = |victim: &mut Victim, _: &Workshop, _: u32| {
        let watch = victim.bus().watch("k").unwrap();
        victim.watches.push(watch);
        while victim.watches[0].try_recv().unwrap().is_some() {}
    };
    let pin = with(|bus| {
        let guard = std::mem::ManuallyDrop::new(bus.read("k1").unwrap().unwrap());
        assert_eq!(guard.len(), 40);
    });
    let points = crash("watch", &mut shop, 5, &watch)
        + crash("sleeping watch", &mut shop, 5, &sleeping)
        + crash("pin", &mut shop, 3, &pin);
    assert!(points > 100, "{points}");
}

#[test]
fn snapshots_survive_every_double_crash() {
    let mut shop = Workshop::new(|bus| {
        fill(bus);
        bus.delete("k5").unwrap();
    });
    let snapshot = with(|bus| {
        bus.snapshot().unwrap();
    });
    let points = crash("snapshot", &mut shop, 3, &snapshot);
    assert!(points > 20, "{points}");
}

/// Plant: records that go to the tail although the dead left the intent beyond it: watches are told
/// that they missed what was set afterwards.
#[test]
fn a_death_while_records_are_left_out_costs_no_later_one() {
    let mut shop = Workshop::new(fill);
    let mut batch = Batch::new();
    for number in 0..200 {
        batch.set_bytes(format!("k{number}"), [1; 40]);
    }
    let reference = shop.copy();
    let bus = shop.attach(reference);
    let (stores, _) = hook::count(|| bus.commit(&batch).unwrap());
    drop(bus);
    shop.remove(reference);
    for n in (0..stores).rev().step_by(7).chain(stores - 20..=stores) {
        let copy = shop.copy();
        let (bus, victim) = (shop.attach(copy), shop.attach(copy));
        let mut watch = bus.watch_from("", crate::Cursor::NOW).unwrap();
        assert!(matches!(watch.try_recv().unwrap(), Some(crate::Event::CaughtUp(_))));
        let _end = hook::dying_after(n, || victim.commit(&batch).unwrap());
        Victim { bus: Some(victim), watches: Vec::new() }.kill();
        for number in 0..10 {
            bus.set_bytes("after", [number]).unwrap();
        }
        let is_done = bus.contains("k199").unwrap();
        let mut told = Vec::new();
        while let Some(event) = watch.try_recv().unwrap() {
            match event {
                crate::Event::Lagged { missed: 200, .. } if is_done && told.is_empty() => {}
                crate::Event::Change(change) => told.push(change.value),
                other => panic!("death after {n} of {stores}: {other:?}"),
            }
        }
        let values: Vec<_> = (0..10).map(|number| crate::ChangeValue::Here(vec![number])).collect();
        assert_eq!(told, values, "death after {n} of {stores}");
        drop((watch, bus));
        shop.remove(copy);
    }
}

/// Plant: a head that does not count the clear until it has followed it.
#[test]
fn a_clear_and_its_event_are_seen_together_whenever_its_maker_dies() {
    let mut shop = Workshop::new(fill);
    let mut seen = [0; 2];
    for n in 0.. {
        let copy = shop.copy();
        let victim = shop.attach(copy);
        let before = victim.info().unwrap().revision;
        let is_done = hook::dying_after(n, || victim.clear().unwrap()).is_some();
        Victim { bus: Some(victim), watches: Vec::new() }.kill();
        let reader = shop.options(copy).reader_at(shop.bus(copy)).unwrap();
        let mut watch =
            reader.watch_from("", crate::Cursor { incarnation: 0, revision: before }).unwrap();
        let is_empty = reader.keys("").unwrap().is_empty();
        let told = watch.try_recv().unwrap();
        let is_told = matches!(&told, Some(crate::Event::Change(change)) if change.key.is_empty());
        assert_eq!(is_empty, is_told, "death after {n}: {told:?}");
        let revision = reader.info().unwrap().revision;
        assert_eq!(revision, before + u64::from(is_empty), "death after {n}");
        seen[usize::from(is_empty)] += 1;
        drop((watch, reader));
        shop.remove(copy);
        if is_done {
            break;
        }
    }
    assert!(seen.iter().all(|times| *times > 1), "{seen:?}");
}

/// Runs `operation` on the files of the workshop, lets it die after every step, and a second time; then `whole` must find all well.
fn crash_files(
    name: &str,
    stride: u64,
    shop: &Workshop,
    operation: impl Fn(&Workshop),
    whole: impl Fn(&Workshop, &str),
) -> u64 {
    let before = Contents::of(shop.place.path());
    let (steps, ()) = hook::count(|| operation(shop));
    let mut points = 0;
    for n in 0..steps {
        let seconds = (0..steps).filter(|m| (m + n).is_multiple_of(stride)).map(Some);
        for second in std::iter::once(None).chain(seconds) {
            before.restore(shop.place.path());
            let _end = hook::dying_after(n, || operation(shop));
            if let Some(m) = second {
                let _end = hook::dying_after(m, || operation(shop));
            }
            whole(shop, &format!("{name}, deaths after {n} and {second:?}"));
            points += 1;
        }
    }
    println!("{name}: {steps} steps, {points} crash points");
    crate::earned(points, "crash points");
    points
}

impl Workshop {
    fn empty() -> Self {
        Self { place: tempfile::tempdir_in("/dev/shm").unwrap(), copies: 0 }
    }
    /// Opens what is there, or makes it; nothing half-made may be left.
    fn open(&self, what: &str) -> Bus {
        let bus = self.options(0).open_at(self.bus(0)).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert!(!self.bus(0).join("region.new").exists(), "{what}: a half-made region");
        let report = bus.check();
        assert!(report.is_clean() && report.locks_held == 0, "{what}: {report:?}");
        assert_eq!(bus.members().unwrap().len(), 1, "{what}: members");
        bus
    }
}

#[test]
fn creating_survives_every_double_crash() {
    let create = |shop: &Workshop| match shop.options(0).create_at(shop.bus(0)) {
        Ok(_) | Err(OpenError::Exists { .. }) => {}
        Err(error) => panic!("{error}"),
    };
    let whole = |shop: &Workshop, what: &str| assert_eq!(shop.open(what).len().unwrap(), 0);
    assert!(crash_files("create", 11, &Workshop::empty(), create, whole) > 300);
}

#[test]
fn rebuilding_survives_every_double_crash() {
    let lost = Workshop::new(|bus| {
        fill(bus);
        bus.snapshot().unwrap();
    });
    std::fs::remove_dir_all(lost.bus(0)).unwrap();
    let rebuild = |shop: &Workshop| drop(shop.options(0).open_at(shop.bus(0)).unwrap());
    let whole = |shop: &Workshop, what: &str| {
        let bus = shop.open(what);
        assert_eq!(bus.len().unwrap(), 21, "{what}");
        assert_eq!(bus.get_bytes("k7").unwrap(), Some(vec![7; 40]), "{what}");
    };
    assert!(crash_files("rebuild", 31, &lost, rebuild, whole) > 500);
}

#[test]
fn destroying_survives_every_double_crash() {
    // Snapshots go where nobody said, so they go with the bus.
    let options = |shop: &Workshop| tiny().state(shop.place.path().join("state"));
    let shop = Workshop::empty();
    let bus = options(&shop).create_at(shop.bus(0)).unwrap();
    fill(&bus);
    bus.snapshot().unwrap();
    drop(bus);
    let destroy = |shop: &Workshop| match options(shop).destroy_at(shop.bus(0), false) {
        Ok(()) | Err(OpenError::Absent { .. }) => {}
        Err(error) => panic!("{error}"),
    };
    let whole = |shop: &Workshop, what: &str| {
        // It is there, or it is gone and does not come back.
        let entries = options(shop).attach_at(shop.bus(0)).map_or(0, |bus| bus.len().unwrap());
        assert!(entries == 0 || entries == 21, "{what}: {entries} entries");
        let bus = options(shop).open_at(shop.bus(0)).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(bus.len().unwrap(), entries, "{what}: entries that come back");
        assert!(bus.check().is_clean(), "{what}");
        drop(bus);
        destroy(shop);
        assert!(!shop.bus(0).exists(), "{what}: files are left");
        let kept = std::fs::read_dir(shop.place.path().join("state")).unwrap().count();
        assert_eq!(kept, 0, "{what}: something is kept");
    };
    assert!(crash_files("destroy", 1, &shop, destroy, whole) > 100);
}
