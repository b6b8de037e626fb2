//! Every crash point of every operation, twice over.
//!
//! A death leaves a prefix of a process's stores. So: run an operation, stop after store n, for
//! every n; recover from a copy of the bytes, stop the recovery after store m, for every m;
//! recover again; then the bus must hold the state before or after the operation, whole, no lock
//! may be held, `check` must find nothing, and after a sweep no entry may be retired. Cells that were
//! filled before the operation or right after the death agree with lookups all along.
//!
//! Plants, each seen to fail here: no `repair` after a takeover ("lost"), `READY` stored before
//! the changes of the record (torn batch), `head` not stored by `finish` (committed change lost),
//! `release_lost` left out ("belong to no span"), a cell that does not look at `died`, or not at the
//! last clear, and one whose key is absent whatever the head.

use super::Core;
use super::entry::Note;
use super::restore::RestoreFailure;
use super::testing::{Graveyard, Memo, add, bus, copy, delete, get, set, small};
use super::wish::{Action, Condition, Wish, WriteFailure};
use crate::hook;
use crate::log::{NewRecord, RecordKind};
use crate::region::layout::header;
use crate::snapshot::{Walk, WalkError};
use crate::snapshot_entry::SnapshotEntry;
use crate::sync::Ordering::Release;
use crate::word::Name;
use std::collections::BTreeMap;

type State = BTreeMap<String, Vec<u8>>;
type Operation<'a> = &'a dyn Fn(&Core) -> Result<(), WriteFailure>;

fn state(core: &Core) -> State {
    let mut state = State::new();
    for stripe in 0..core.geometry.stripes {
        for key in core.stripe_keys(stripe, b"").unwrap() {
            let key = String::from_utf8(key).unwrap();
            if let Some(value) = get(core, &key) {
                state.insert(key, value);
            }
        }
    }
    for name in ["k1", "l0", "l1"] {
        let mut value = Vec::new();
        let held = core.read(Name::lock(name.as_bytes()), |seen| {
            value.clear();
            seen.entry.copy_value(&seen.header, &mut value)
        });
        if held.unwrap() {
            state.insert(format!("lock {name}"), value);
        }
    }
    state
}

fn recover(core: &Core, yard: &Graveyard, dead: &[u32], me: u32) {
    use crate::lock::Liveness;
    dead.iter().for_each(|slot| yard.dies(*slot));
    for slot in dead {
        let mut probe = yard.probe().unwrap();
        core.clear_pins(*slot).unwrap();
        core.mend_slot(*slot, me, &core.patience(), &mut *probe).unwrap();
        // A bus's undertaker holds the byte by a description of its own, so that others can probe.
        drop(probe);
        core.abort_snapshot_of(me, u64::from(*slot) + 1, core.patience).unwrap();
    }
}

/// Nobody buries the dead: somebody meets each lock that they held, and takes it over.
fn take_over(core: &Core, yard: &Graveyard, dead: &[u32], me: u32) {
    dead.iter().for_each(|slot| yard.dies(*slot));
    drop(core.lock_commit(me, &core.patience()).unwrap());
    for stripe in 0..core.geometry.stripes {
        drop(core.lock_stripe(stripe, me, &core.patience()).unwrap());
    }
    for slot in dead {
        core.clear_pins(*slot).unwrap();
        core.abort_snapshot_of(me, u64::from(*slot) + 1, core.patience).unwrap();
    }
}

/// All that must hold once everybody who died is buried.
fn verify(core: &Core, allowed: &[State], between: bool, what: &str) {
    let now = state(core);
    let is_mixed = || {
        let keys = allowed.iter().flat_map(BTreeMap::keys).chain(now.keys());
        keys.into_iter().all(|key| allowed.iter().any(|state| now.get(key) == state.get(key)))
    };
    let whole = allowed.contains(&now) || between && is_mixed();
    let keys: Vec<_> = now.keys().collect();
    assert!(whole, "{what}: neither the old nor the new state: {keys:?}");
    let report = core.check();
    assert!(report.is_clean(), "{what}: {report:?}");
    assert_eq!(report.locks_held, 0, "{what}");
    for stripe in 0..core.geometry.stripes {
        core.sweep_cleared(3, stripe, core.patience).unwrap();
        let guard = core.lock_stripe(stripe, 3, &core.patience()).unwrap();
        core.sweep_retired(stripe).unwrap();
        drop(guard);
    }
    let report = core.check();
    assert!(report.is_clean(), "{what}, swept: {report:?}");
    assert_eq!(report.retired, 0, "{what}: retired for ever");
    assert_eq!(core.count_entries().unwrap(), report.entries, "{what}: the count");
    core.write_one(3, &set("afterwards", b"works")).unwrap();
    assert_eq!(get(core, "afterwards").as_deref(), Some(&b"works"[..]), "{what}");
}

/// Cells of some keys, as they are now.
fn cells(core: &Core, keys: impl IntoIterator<Item = String>) -> BTreeMap<String, Memo> {
    let mut cells: BTreeMap<_, _> = keys.into_iter().map(|key| (key, Memo::default())).collect();
    for (key, cell) in &mut cells {
        cell.get(core, key).unwrap();
    }
    cells
}

/// A cell that was filled before agrees with a lookup, whatever was stored since then. What it knows
/// are places and words: they mean the same in a copy of the bytes.
fn agree(cells: &BTreeMap<String, Memo>, core: &Core, what: &str) {
    for (key, cell) in cells {
        let found = cell.clone().get(core, key).unwrap().map(|(_, value)| value);
        assert_eq!(found, get(core, key), "{what}: a cell of {key}");
    }
}

/// Runs every single crash point and, with a stride, every double one. Gives their number.
fn crash(name: &str, prepare: Operation<'_>, operation: Operation<'_>, stride: u64) -> u64 {
    crash_by(name, prepare, operation, stride, false)
}

/// The same for an operation of several commits: each key has its old or its new value.
fn crash_between(name: &str, prepare: Operation<'_>, operation: Operation<'_>, stride: u64) -> u64 {
    crash_by(name, prepare, operation, stride, true)
}

fn crash_by(
    name: &str,
    prepare: Operation<'_>,
    operation: Operation<'_>,
    stride: u64,
    between: bool,
) -> u64 {
    let (core, _yard) = bus(small(640 << 10));
    prepare(&core).unwrap();
    let before = state(&core);
    let (reference, _yard) = copy(&core);
    let (stores, done) = hook::count(|| operation(&reference));
    done.unwrap();
    let after = state(&reference);
    // What the time that passes in the operation does by itself.
    let (lapsed, _yard) = copy(&core);
    lapsed.clock.advance(reference.clock.boot() - core.clock.boot());
    let filled = cells(&core, before.keys().chain(after.keys()).cloned());
    let allowed = [before, after, state(&lapsed)];
    let mut points = 0;
    for n in 0..=stores {
        let (broken, _yard) = copy(&core);
        let _end = hook::dying_after(n, || operation(&broken));
        let what = format!("{name}, death after store {n}");
        agree(&filled, &broken, &what);
        let amid = cells(&broken, filled.keys().cloned());
        let (once, yard) = copy(&broken);
        let (recovery, ()) = hook::count(|| recover(&once, &yard, &[0], 1));
        verify(&once, &allowed, between, &what);
        agree(&filled, &once, &what);
        agree(&amid, &once, &what);
        let (met, yard) = copy(&broken);
        take_over(&met, &yard, &[0], 1);
        verify(&met, &allowed, between, &format!("{what}, taken over"));
        points += 2;
        for m in (0..recovery).filter(|m| (m + n) % stride == 0) {
            let (twice, yard) = copy(&broken);
            let _end = hook::dying_after(m, || recover(&twice, &yard, &[0], 1));
            let (twice, yard) = copy(&twice);
            recover(&twice, &yard, &[0, 1], 2);
            verify(&twice, &allowed, between, &format!("{name}, deaths after {n} and {m}"));
            points += 1;
        }
    }
    println!("{name}: {stores} stores, {points} crash points");
    crate::earned(points, "crash points");
    points
}

fn fill(core: &Core) -> Result<(), WriteFailure> {
    for number in 0..24 {
        core.write_one(0, &set(&format!("k{number}"), &[number; 50]))?;
    }
    core.write_one(0, &add("n", 5))?;
    Ok(())
}

fn one(wish: Wish<'_>) -> impl Fn(&Core) -> Result<(), WriteFailure> {
    move |core| core.write_one(0, &wish).map(|_| ())
}

#[test]
fn single_changes_survive_every_double_crash() {
    let big = vec![7; 70_000];
    let bigger = vec![8; 900];
    let points = crash("set new", &fill, &one(set("new", b"value")), 1)
        + crash("set replace", &fill, &one(set("k3", b"value")), 1)
        + crash("set bigger", &fill, &one(set("k3", &bigger)), 1)
        + crash("set big", &fill, &one(set("k3", &big)), 2)
        + crash("set over a spare", &worn, &one(set("k3", b"value")), 1)
        + crash("set over another spare", &worn, &one(set("k4", &[5; 120])), 1)
        + crash("set over a third spare", &worn, &one(set("k5", &[5; 250])), 1)
        + crash("delete", &fill, &one(delete("k3")), 1)
        + crash("add", &fill, &one(add("n", 3)), 1);
    assert!(points > 5000, "{points}");
}

/// The state after many replacements: there are dead entries in the ring, and spare ones of three
/// sizes.
fn worn(core: &Core) -> Result<(), WriteFailure> {
    fill(core)?;
    for round in 0..20 {
        for number in 0..10 {
            let size = [30, 120, 250][usize::from((round + number) % 3)];
            core.write_one(0, &set(&format!("k{number}"), &vec![round; size]))?;
        }
    }
    Ok(())
}

#[test]
fn batches_and_clears_survive_every_double_crash() {
    let batch = |core: &Core| {
        let names: Vec<String> = (0..20).map(|n| format!("k{}", n * 2)).collect();
        let wishes: Vec<Wish<'_>> = names
            .iter()
            .enumerate()
            .map(|(n, name)| if n % 3 == 0 { delete(name) } else { set(name, b"batch") })
            .collect();
        core.write_batch(0, &wishes).map(|_| ())
    };
    let small_batch = |core: &Core| {
        core.write_batch(0, &[set("k1", b"x"), delete("k2"), add("n", 1)]).map(|_| ())
    };
    // More records than the ring has room for: they are left out.
    let wide = |core: &Core| {
        let names: Vec<String> = (0..9).map(|n| format!("{}{n}", "w".repeat(1000))).collect();
        let wishes: Vec<Wish<'_>> = names.iter().map(|name| set(name, b"wide")).collect();
        core.write_batch(0, &wishes).map(|_| ())
    };
    let clear = |core: &Core| core.clear(0, 1, b"me").map(|_| ());
    let publish = |core: &Core| {
        let record = NewRecord {
            kind: RecordKind::Message,
            value_kind: 0,
            time: 1,
            who: b"me",
            key: Name::from(b"topic"),
            value: &[7; 1500],
            value_max: u64::MAX,
            is_timed: false,
            old: None,
        };
        core.write_record(0, record, false).map(|_| ())
    };
    let points = crash("publish", &fill, &publish, 1)
        + crash("batch", &fill, &batch, 13)
        + crash("small batch", &fill, &small_batch, 2)
        + crash("wide batch", &fill, &wide, 13)
        + crash("clear", &fill, &clear, 13);
    assert!(points > 3000, "{points}");
}

#[test]
fn doubling_survives_every_double_crash() {
    let double = |core: &Core| {
        let guard = core.lock_stripe(0, 0, &core.patience())?;
        core.double(0)?;
        drop(guard);
        Ok(())
    };
    assert!(crash("doubling", &fill, &double, 3) > 100);
}

/// Keys that expire, and keys of the member in slot 2.
fn timed(core: &Core) -> Result<(), WriteFailure> {
    fill(core)?;
    for number in 0..6 {
        let key = format!("t{number}");
        let deadline = if number % 2 == 0 { core.clock.boot() + 500 } else { 0 };
        let owner = if number % 3 == 0 { OWNER } else { 0 };
        let note = Note { deadline, owner, ..Note::default() };
        let action = Action::Set { value: b"timed", note };
        core.write_one(0, &Wish { key: key.as_bytes().into(), action, condition: Condition::Any })?;
    }
    Ok(())
}

/// Generation 1 of slot 2.
const OWNER: u64 = 1 << 16 | 3;

#[test]
fn what_expires_or_is_owned_survives_every_double_crash() {
    let expire = |core: &Core| {
        core.clock.advance(1000);
        for stripe in 0..core.geometry.stripes {
            core.expire_stripe(0, stripe, core.patience, &|| false, &mut 0)?;
        }
        Ok(())
    };
    let overwrite = |core: &Core| {
        core.clock.advance(1000);
        core.write_one(0, &set("t0", b"after"))?;
        core.write_one(0, &set("t2", b"after")).map(|_| ())
    };
    let renew = |core: &Core| {
        let action = Action::Deadline { deadline: core.clock.boot() + 5000, time: 1, who: b"" };
        let wish = Wish { key: b"k5".into(), action, condition: Condition::Any };
        core.write_one(0, &wish).map(|_| ())
    };
    let disown = |core: &Core| core.delete_owned(0, OWNER, core.patience, &mut 0);
    let points = crash_between("expire", &timed, &expire, 5)
        + crash_between("overwrite what expired", &timed, &overwrite, 2)
        + crash("set a deadline", &timed, &renew, 1)
        + crash_between("delete what is owned", &timed, &disown, 5);
    assert!(points > 2000, "{points}");
}

fn lock_of(name: &'static str, owner: u64) -> Wish<'static> {
    let note = Note { owner, ..Note::default() };
    let action = Action::Set { value: b"held", note };
    Wish { key: Name::lock(name.as_bytes()), action, condition: Condition::Absent }
}

/// Locks: `k1`, beside the key of this name, and `l0`.
fn locked(core: &Core) -> Result<(), WriteFailure> {
    fill(core)?;
    core.write_one(0, &lock_of("k1", OWNER))?;
    core.write_one(0, &lock_of("l0", 0)).map(|_| ())
}

/// Plant: a sweep, a count or a look that takes no regard of the realm.
#[test]
fn locks_survive_every_double_crash_and_every_clear() {
    let free = |core: &Core| {
        let action = Action::Delete { time: 1, who: b"" };
        let wish = Wish { key: Name::lock(b"k1"), action, condition: Condition::Any };
        core.write_one(0, &wish).map(|_| ())
    };
    let clear = |core: &Core| core.clear(0, 1, b"me").map(|_| ());
    let disown = |core: &Core| core.delete_owned(0, OWNER, core.patience, &mut 0);
    let points = crash("lock", &locked, &one(lock_of("l1", OWNER)), 1)
        + crash("unlock", &locked, &free, 1)
        + crash("clear beside locks", &locked, &clear, 13)
        + crash_between("locks of the dead", &locked, &disown, 3);
    assert!(points > 1000, "{points}");
    let (core, _yard) = bus(small(640 << 10));
    locked(&core).unwrap();
    assert_eq!(core.count_entries().unwrap(), 25);
    clear(&core).unwrap();
    let left = state(&core);
    assert_eq!(left.keys().collect::<Vec<_>>(), ["lock k1", "lock l0"]);
    let again = core.write_one(1, &lock_of("l0", 0));
    assert!(matches!(again, Err(WriteFailure::Conflict { .. })), "{again:?}");
}

/// What a backup has takes the place of all keys: some that are there, some that are not.
fn restore(core: &Core, count: usize) -> Result<(), WriteFailure> {
    let end = core.restore(0).and_then(|mut restoring| {
        for number in (0..count).map(|number| number * 5) {
            let value = vec![number as u8; 40 + 300 * (number % 3)];
            let key = format!("k{number}").into_bytes();
            restoring.add(&SnapshotEntry { key, value, time: 7, ..SnapshotEntry::default() })?;
        }
        restoring.commit(1, b"me", b"monday")
    });
    match end {
        Ok(_) => Ok(()),
        Err(RestoreFailure::Write(failure)) => Err(failure),
        Err(RestoreFailure::Wrong(reason)) => panic!("{reason}"),
    }
}

/// Plants: entries that stay filled when the restore is given up; no count of new keys.
#[test]
fn restores_survive_every_double_crash() {
    let listed = |core: &Core| restore(core, 24);
    let inline = |core: &Core| restore(core, 9);
    let empty = |core: &Core| restore(core, 0);
    let given_up = |core: &Core| {
        let mut restoring = core.restore(0).unwrap();
        let (key, value) = (b"k3".to_vec(), vec![1; 90]);
        restoring.add(&SnapshotEntry { key, value, ..SnapshotEntry::default() }).unwrap();
        Ok(())
    };
    let points = crash("restore", &fill, &listed, 61)
        + crash("small restore", &worn, &inline, 61)
        + crash("restore beside locks", &locked, &inline, 41)
        + crash("restore of nothing", &fill, &empty, 41)
        + crash("restore given up", &fill, &given_up, 7);
    assert!(points > 2000, "{points}");
    let (core, _yard) = bus(small(640 << 10));
    fill(&core).unwrap();
    listed(&core).unwrap();
    assert_eq!(core.count_entries().unwrap(), 24);
    assert_eq!(get(&core, "k5").as_deref(), Some(&[5; 640][..]));
    assert_eq!((get(&core, "k1"), get(&core, "n")), (None, None));
}

/// Plant: no look for keys that are there twice.
#[test]
fn a_backup_with_a_key_twice_is_refused() {
    let (core, _yard) = bus(small(640 << 10));
    fill(&core).unwrap();
    let before = state(&core);
    for keys in [["k1", "k1"], ["new", "new"]] {
        let mut restoring = core.restore(0).unwrap();
        for key in keys {
            let key = key.as_bytes().to_vec();
            restoring.add(&SnapshotEntry { key, ..SnapshotEntry::default() }).unwrap();
        }
        let end = restoring.commit(1, b"", b"");
        assert!(matches!(end, Err(RestoreFailure::Wrong(_))), "{end:?}");
        verify(&core, std::slice::from_ref(&before), false, "refused");
        core.write_one(3, &delete("afterwards")).unwrap();
    }
}

#[test]
fn snapshots_and_sweeps_survive_every_double_crash() {
    let walk = |core: &Core| {
        let mut walk = Walk::begin(core, 0, 1).map_err(|error| match error {
            WalkError::Lock(error) => WriteFailure::Lock(error),
            WalkError::Bad(bad) => WriteFailure::Bad(bad),
            WalkError::Aborted => WriteFailure::Again,
        })?;
        // Under the walk, so that there is something to be kept.
        core.write_one(0, &set("k3", b"later"))?;
        while matches!(walk.next_into(&mut SnapshotEntry::default()), Ok(true)) {}
        Ok(())
    };
    let abort = |core: &Core| {
        core.region.store(header::SNAP_OWNER, 1, Release)?;
        core.region.store(header::SNAP_ON, 1, Release)?;
        core.abort_snapshot(0, core.patience)?;
        Ok(())
    };
    let sweep = |core: &Core| {
        for stripe in 0..core.geometry.stripes {
            let guard = core.lock_stripe(stripe, 0, &core.patience())?;
            core.sweep_retired(stripe)?;
            drop(guard);
        }
        Ok(())
    };
    let pieces = |core: &Core| {
        for stripe in 0..core.geometry.stripes {
            core.sweep_in_pieces(0, stripe, core.patience)?;
        }
        Ok(())
    };
    let points = crash("snapshot", &worn, &walk, 3)
        + crash("abort a snapshot", &worn, &abort, 1)
        + crash("sweep", &worn, &sweep, 7)
        + crash("sweep in pieces", &worn, &pieces, 7);
    assert!(points > 500, "{points}");
}
