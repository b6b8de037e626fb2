//! PIN against those who free.

use super::{Image, commit, entry_at, explore, race};
use crate::region::layout::entry;
use crate::sync::Ordering::Relaxed;
use crate::table::Core;
use crate::table::pin::Pinned;
use loom::sync::Arc;
use loom::thread;

/// The member that pins, of whom nothing is known yet.
const MEMBER: u64 = 1;

fn image() -> Image {
    Image::with_entries(3).after(|core| commit(core, &[(b"k", Some(10))]))
}

/// `k` is replaced; who comes next uses its room for `j`, if nobody has it pinned.
fn replace_and_reuse(core: &Core) {
    commit(core, &[(b"k", Some(20))]);
    core.free_retired(0, 1).unwrap();
    commit(core, &[(b"j", Some(30))]);
}

/// Pins `k` and reads it twice, as a guard does: whether it was pinned.
fn guard(core: &Core) -> bool {
    let place = core.pin_at(MEMBER, 0);
    core.may_pin(MEMBER).unwrap();
    let (mut bytes, mut born, mut at) = (Vec::new(), 0, 0);
    let found = core.find_pinned(b"k".into(), place, &mut |seen| {
        bytes.clear();
        born = seen.born;
        at = seen.entry.value_at(&seen.header);
        seen.entry.copy_value(&seen.header, &mut bytes)
    });
    match found {
        Ok(Pinned::Held) => {
            assert_eq!(bytes, (10 * born).to_le_bytes(), "used anew before it was read");
            assert_eq!(core.region.load(at, Relaxed), Ok(10 * born), "used anew while pinned");
        }
        Ok(Pinned::Passed) => assert_eq!(bytes, (10 * born).to_le_bytes(), "torn"),
        Ok(Pinned::Absent) => panic!("it was there all the time"),
        // Several changes may cost more retries than a model has.
        Err(_) => {}
    }
    core.unpin(place).unwrap();
    found == Ok(Pinned::Held)
}

/// Promise "a guard's bytes stay": an entry is pinned, by the first pin of its member, while it is
/// replaced and its room used anew.
/// Plants: either SeqCst fence left out; a member that is not marked; a pin without its second look.
#[test]
fn a_pin_holds_its_entry() {
    race(("a_pin_holds_its_entry", 2), image(), replace_and_reuse, guard, |_, _| {});
}

/// The same for two threads of one member: the one finds the bit set that the other has just set.
/// Plant: Relaxed for the bit. (Who marks goes first, so that one preemption shows it; two take long.)
#[test]
fn two_threads_pin() {
    let image = image();
    explore("two_threads_pin", 1, move || {
        let bus = image.start();
        let (marker, writer) = (Arc::new(bus.core()), bus.core());
        let reader = Arc::clone(&marker);
        let reader = thread::spawn(move || guard(&reader));
        let writer = thread::spawn(move || replace_and_reuse(&writer));
        marker.may_pin(MEMBER).unwrap();
        reader.join().unwrap();
        writer.join().unwrap();
    });
}

/// What a pin kept is read before the pin goes, and only then used anew.
/// Plant: `pins_of` overlooks the pin. (That the pin goes too early can't be shown: loom never lets a
/// load wait for a later store.)
#[test]
fn a_pin_goes() {
    let image = image().after(|core| {
        core.may_pin(MEMBER).unwrap();
        let found = core.find_pinned(b"k".into(), core.pin_at(MEMBER, 0), &mut |_| Ok(()));
        assert_eq!(found, Ok(Pinned::Held));
        commit(core, &[(b"k", Some(20))]);
    });
    let write = |core: &Core| {
        core.free_retired(0, 1).unwrap();
        commit(core, &[(b"j", Some(30))]);
    };
    let read = |core: &Core| {
        let seen = core.region.load(entry_at(0) + entry::FIXED + 8, Relaxed);
        core.unpin(core.pin_at(MEMBER, 0)).unwrap();
        seen
    };
    race(("a_pin_goes", 3), image, write, read, |_, seen| assert_eq!(seen, Ok(10)));
}
