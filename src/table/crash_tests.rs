//! Every crash point of every operation, twice over.
//!
//! A death leaves a prefix of a process's stores. So: run an operation, stop after store n, for
//! every n; recover from a copy of the bytes, stop the recovery after store m, for every m;
//! recover again; then the bus must hold the state before or after the operation, whole, no lock
//! may be held, `check` must find nothing, and after a sweep no entry may be retired.
//!
//! Plants, each seen to fail here: no `repair` after a takeover ("lost"), `READY` stored before
//! the changes of the record (torn batch), `head` not stored by `finish` (committed change lost),
//! `release_lost` left out ("belong to no span").

use super::Core;
use super::testing::{Graveyard, add, bus, copy, delete, get, set, small};
use super::wish::{Wish, WriteFailure};
use crate::region::hook;
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
    state
}

fn recover(core: &Core, yard: &Graveyard, dead: &[u32], me: u32) {
    use crate::lock::Liveness;
    dead.iter().for_each(|slot| yard.dies(*slot));
    for slot in dead {
        let mut probe = yard.probe().unwrap();
        core.clear_pins(*slot).unwrap();
        core.mend_slot(*slot, me, &core.patience(), &mut *probe).unwrap();
    }
}

/// All that must hold once everybody who died is buried.
fn verify(core: &Core, before: &State, after: &State, what: &str) {
    let now = state(core);
    assert!(now == *before || now == *after, "{what}: neither the old nor the new state: {now:?}");
    let report = core.check();
    assert!(report.is_clean(), "{what}: {report:?}");
    assert_eq!(report.locks_held, 0, "{what}");
    for stripe in 0..core.geometry.stripes {
        core.sweep_cleared(3, stripe).unwrap();
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

/// Runs every single crash point and, with a stride, every double one. Gives their number.
fn crash(name: &str, prepare: Operation<'_>, operation: Operation<'_>, stride: u64) -> u64 {
    let (core, _yard) = bus(small(640 << 10));
    prepare(&core).unwrap();
    let before = state(&core);
    let (reference, _yard) = copy(&core);
    let (stores, done) = hook::count(|| operation(&reference));
    done.unwrap();
    let after = state(&reference);
    let mut points = 0;
    for n in 0..=stores {
        let (broken, _yard) = copy(&core);
        let _end = hook::dying_after(n, || operation(&broken));
        let (once, yard) = copy(&broken);
        let (recovery, ()) = hook::count(|| recover(&once, &yard, &[0], 1));
        verify(&once, &before, &after, &format!("{name}, death after store {n}"));
        points += 1;
        for m in (0..recovery).filter(|m| (m + n) % stride == 0) {
            let (twice, yard) = copy(&broken);
            let _end = hook::dying_after(m, || recover(&twice, &yard, &[0], 1));
            let (twice, yard) = copy(&twice);
            recover(&twice, &yard, &[0, 1], 2);
            verify(&twice, &before, &after, &format!("{name}, deaths after {n} and {m}"));
            points += 1;
        }
    }
    println!("{name}: {stores} stores, {points} crash points");
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
    let points = crash("set new", &fill, &one(set("new", b"value")), 3)
        + crash("set replace", &fill, &one(set("k3", b"value")), 3)
        + crash("set bigger", &fill, &one(set("k3", &bigger)), 3)
        + crash("set big", &fill, &one(set("k3", &big)), 3)
        + crash("delete", &fill, &one(delete("k3")), 3)
        + crash("add", &fill, &one(add("n", 3)), 3);
    assert!(points > 1000, "{points}");
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
    let clear = |core: &Core| core.clear(0, 1, b"me").map(|_| ());
    let points = crash("batch", &fill, &batch, 29)
        + crash("small batch", &fill, &small_batch, 7)
        + crash("clear", &fill, &clear, 29);
    assert!(points > 1000, "{points}");
}

#[test]
fn doubling_survives_every_double_crash() {
    let double = |core: &Core| {
        let guard = core.lock_stripe(0, 0, &core.patience())?;
        core.double(0)?;
        drop(guard);
        Ok(())
    };
    assert!(crash("doubling", &fill, &double, 11) > 100);
}
