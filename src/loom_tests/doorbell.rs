//! A watch that falls asleep against a writer that looks who sleeps.

use super::{Image, commit, explore, geometry};
use crate::doorbell::{Sort, group_of};
use crate::region::layout::{header, watch};
use crate::sync::AtomicU64;
use crate::sync::Ordering::Relaxed;
use crate::sys::socket::BellName;
use crate::table::Core;
use loom::sync::Arc;
use loom::thread;

/// What says which slots and groups there are to look at: of filters of keys, and of those of all sorts.
fn words() -> [u64; 3] {
    let lengths = |sort: Sort| header::BELL_LENGTHS + 8 * sort as u64;
    [header::WATCHES_HIGH, lengths(Sort::Keys), lengths(Sort::All)]
}

/// A bus with `k`, and one watch slot that another watch has left; its filter was `x`.
fn image() -> Image {
    let at = geometry().watch(0);
    let rows = [b"x", b"k"].map(|filter| geometry().asleep(group_of(Sort::Keys, filter), 0));
    assert_ne!(rows[0], rows[1], "the filters are of one group");
    Image::with_entries(2).words(words(), 0).words(rows, 0).run(at, (watch::PREFIX + 8) / 8).after(
        |core| {
            assert_eq!(core.watch_take(1, 1, (Sort::Keys, b"x")).unwrap(), Some(0));
            core.watch_give(0).unwrap();
        },
    )
}

/// A change of `k` that its bell follows, or one of all keys, and a watch that falls asleep meanwhile.
fn sleep(name: &str, image: Image, key: Option<&'static [u8]>, fall_asleep: fn(&Core)) {
    explore(name, 3, move || {
        let (bus, rung) = (image.start(), Arc::new(AtomicU64::new(0)));
        let (sleeper, bell) = (bus.core(), Arc::clone(&rung));
        let sleeper = thread::spawn(move || {
            fall_asleep(&sleeper);
            sleeper.head().unwrap() == 1
        });
        let writer = bus.core();
        commit(&writer, &[(b"k", Some(10))]);
        let ring = |name: BellName| {
            assert_eq!(name, BellName { index: 0, nonce: 2 }, "rings at another watch's door");
            bell.store(1, Relaxed);
        };
        writer.each_sleeper(Sort::Keys, key, &ring).unwrap();
        let awake = sleeper.join().unwrap();
        assert!(awake || rung.load(Relaxed) == 1, "it sleeps, and nobody rang");
    });
}

/// Promise "no wake-up is lost": a watch sets its bit and looks at the head once more, while a change
/// is committed.
/// Plants: either SeqCst fence of the bell left out.
#[test]
fn no_wake_up_is_lost() {
    let image = image().after(|core| {
        assert_eq!(core.watch_take(1, 2, (Sort::Keys, b"k")).unwrap(), Some(0));
    });
    sleep("no_wake_up_is_lost", image, Some(b"k"), |core| core.falls_asleep(0).unwrap());
}

fn register_and_sleep(core: &Core) {
    assert_eq!(core.watch_take(1, 2, (Sort::Keys, b"k")).unwrap(), Some(0));
    core.falls_asleep(0).unwrap();
}

/// The same from the registration on, in a slot that nobody had before, with a filter of a length that
/// nobody had.
/// Plants: the slot is not counted; the length is not noted.
#[test]
fn a_new_slot_is_counted() {
    let image = image().words(words(), 0);
    sleep("a_new_slot_is_counted", image, Some(b"k"), register_and_sleep);
}

/// The same in a slot that another watch has left: who rings sees this watch's filter and door, not
/// those of the slot's last user.
/// Plants: no fence behind the filter and Relaxed for the bit; Relaxed for both looks at the bits.
#[test]
fn a_filter_stands_before_its_bit() {
    sleep("a_filter_stands_before_its_bit", image(), Some(b"k"), register_and_sleep);
}

/// The same when all keys change at a time, and the writer goes through the watches, not through groups.
/// Plants: the writer's fence left out; the slot is not counted.
#[test]
fn a_clear_rings_who_has_come_meanwhile() {
    sleep("a_clear_rings_who_has_come_meanwhile", image(), None, register_and_sleep);
}
