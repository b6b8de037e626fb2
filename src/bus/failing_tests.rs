//! Every system call of every operation failing in turn, with every error that the kernel may give.
//!
//! The n-th call of an operation is refused, for each n until the operation comes to its end. It must
//! answer with an error or do its work all the same; the bus must be whole and hold its old state or
//! the new one; and the same operation, asked for again, must succeed.
//!
//! Plants, each seen to fail here: growth that stores the size although the space was refused
//! (`Truncated`), an error of a burial's unlink that ends the burial.

use super::Bus;
use super::options::Options;
use super::testing::{Place, brim};
use crate::sys::seam::failing;
use crate::{Error, Event, Persist, ReadBus};
use std::path::Path;

const ERRORS: [i32; 7] =
    [libc::ENOSPC, libc::EIO, libc::EINTR, libc::ENOMEM, libc::EMFILE, libc::ENOLCK, libc::EAGAIN];

/// Small, with a place for its images.
fn options(place: &Place) -> Options {
    let images = Persist::Image(place.path().join("images"));
    place.options().persist(images).capacity(0).log_size(8192)
}

fn make(place: &Place) -> Bus {
    let bus = options(place).create_at(place.bus()).unwrap();
    for number in 0..20 {
        bus.set_bytes(format!("k{number}"), vec![number; 40]).unwrap();
    }
    bus
}

/// Whole, and with its old state.
fn verify(bus: &Bus, what: &str) {
    for number in 0..20 {
        let value = bus.get_bytes(format!("k{number}")).unwrap();
        assert_eq!(value, Some(vec![number; 40]), "{what}: k{number}");
    }
    let report = bus.check();
    assert!(report.is_clean() && report.locks_held == 0, "{what}: {report:?}");
    bus.set("afterwards", &1).unwrap();
    bus.delete("afterwards").unwrap();
}

/// Lets call after call of `operation` fail. Gives the number of calls that were refused.
fn refuse_each<T>(
    name: &str,
    mut prepare: impl FnMut() -> T,
    mut operation: impl FnMut(&mut T) -> Result<(), Error>,
    mut verify: impl FnMut(T, &str),
) {
    let mut refused = 0;
    for errno in ERRORS {
        for n in 0.. {
            let mut place = prepare();
            let (end, was_refused) = failing(n, errno, || operation(&mut place));
            let what = format!("{name}, call {n} refused with {errno}");
            if !was_refused {
                end.unwrap();
                break;
            }
            if let Err(error) = end {
                assert!(!error.to_string().is_empty(), "{what}");
                operation(&mut place).unwrap_or_else(|error| panic!("{what}: again: {error}"));
            }
            verify(place, &what);
            refused += 1;
        }
    }
    println!("{name}: {refused} calls refused");
    crate::earned(refused as u64, "refused system calls");
    assert!(refused >= ERRORS.len(), "{name}: its calls pass the seam");
}

#[test]
fn creating_survives_every_refusal() {
    refuse_each(
        "create",
        Place::new,
        |place| {
            let _bus = match options(place).create_at(place.bus()) {
                // The bus was there when a later call was refused.
                Err(crate::OpenError::Exists { .. }) => options(place).attach_at(place.bus())?,
                end => end?,
            };
            Ok(())
        },
        |place, what| {
            assert!(!place.bus().join("region.new").exists(), "{what}: a half-made region");
            let bus = options(&place).attach_at(place.bus()).unwrap();
            assert!(bus.check().is_clean(), "{what}");
            assert_eq!(bus.members().unwrap().len(), 1, "{what}");
        },
    );
}

#[test]
fn attaching_and_reading_survive_every_refusal() {
    let prepare = || {
        let place = Place::new();
        drop(make(&place));
        place
    };
    let whole = |place: Place, what: &str| {
        let bus = options(&place).attach_at(place.bus()).unwrap();
        verify(&bus, what);
        assert_eq!(bus.members().unwrap().len(), 1, "{what}: members");
    };
    let attach = |place: &mut Place| {
        let _bus = options(place).attach_at(place.bus())?;
        Ok(())
    };
    refuse_each("attach", prepare, attach, whole);
    let read = |place: &mut Place| {
        let reader = options(place).reader_at(place.bus())?;
        assert_eq!(reader.get_bytes("k1")?, Some(vec![1; 40]));
        Ok(())
    };
    refuse_each("reader", prepare, read, whole);
}

#[test]
fn growing_survives_every_refusal() {
    let prepare = || {
        let place = Place::new();
        let bus = make(&place);
        brim(&bus);
        (bus, place)
    };
    // More than growth adds by itself: a second, smaller try would cover up for the first.
    let grow = |(bus, _): &mut (Bus, Place)| {
        bus.set_bytes("big", vec![9; 900_000])?;
        Ok(())
    };
    refuse_each("growth", prepare, grow, |(bus, place), what| {
        assert_eq!(bus.get_bytes("big").unwrap(), Some(vec![9; 900_000]), "{what}");
        verify(&bus, what);
        // The file is as long as the region says.
        verify(&options(&place).attach_at(place.bus()).unwrap(), what);
    });
}

#[test]
fn watching_survives_every_refusal() {
    let prepare = || {
        let place = Place::new();
        (make(&place), place)
    };
    let watch = |(bus, _): &mut (Bus, Place)| {
        let mut watch = bus.watch("k")?;
        while !matches!(watch.recv()?, Event::CaughtUp(_)) {}
        assert_eq!(watch.try_recv()?, None);
        bus.set_bytes("k0", [0; 40])?;
        assert!(matches!(watch.recv()?, Event::Change(_)));
        Ok(())
    };
    refuse_each("watch", prepare, watch, |(bus, place), what| {
        verify(&bus, what);
        assert_eq!(bus.inner.core.watch_count().unwrap(), 0, "{what}: watch slots");
        // A socket whose removal was refused stays until its directory goes.
        drop(bus);
        options(&place).destroy_at(place.bus(), false).unwrap();
        assert!(!place.bus().exists(), "{what}");
    });
}

#[test]
fn burying_survives_every_refusal() {
    let prepare = || {
        let place = Place::new();
        let bus = make(&place);
        let dead = options(&place).attach_at(place.bus()).unwrap();
        dead.put("mine").ephemeral().set_bytes(b"x").unwrap();
        let watch = dead.watch("k").unwrap();
        dead.inner.seat().unwrap().die();
        drop((watch, dead));
        (bus, place)
    };
    let bury = |(bus, _): &mut (Bus, Place)| {
        let me = bus.inner.writer()?;
        bus.inner.bury_all(me).map_err(|error| bus.inner.explain(error.into(), b"", 0))?;
        Ok(())
    };
    refuse_each("burial", prepare, bury, |(bus, _place), what| {
        let me = bus.inner.writer().unwrap();
        bus.inner.bury_all(me).unwrap();
        assert_eq!(bus.members().unwrap().len(), 1, "{what}: members");
        assert_eq!(bus.inner.core.watch_count().unwrap(), 0, "{what}: watch slots");
        assert!(!bus.contains("mine").unwrap(), "{what}: a key of the dead");
        verify(&bus, what);
    });
}

#[test]
fn snapshots_survive_every_refusal() {
    let prepare = || {
        let place = Place::new();
        let bus = make(&place);
        bus.snapshot().unwrap();
        bus.set("new", &1).unwrap();
        (bus, place)
    };
    let save = |(bus, _): &mut (Bus, Place)| {
        bus.snapshot()?;
        Ok(())
    };
    refuse_each("snapshot", prepare, save, |(bus, place), what| {
        verify(&bus, what);
        bus.delete("new").unwrap();
        drop(bus);
        std::fs::remove_dir_all(place.bus()).unwrap();
        let back = options(&place).open_at(place.bus()).unwrap();
        assert_eq!(back.get::<i32>("new").unwrap(), Some(1), "{what}: from the snapshot");
        verify(&back, what);
    });
}

#[test]
fn rebuilding_and_destroying_survive_every_refusal() {
    let prepare = || {
        let place = Place::new();
        make(&place).snapshot().unwrap();
        std::fs::remove_dir_all(place.bus()).unwrap();
        place
    };
    let rebuild = |place: &mut Place| {
        let _bus = options(place).open_at(place.bus())?;
        Ok(())
    };
    refuse_each("rebuild", prepare, rebuild, |place, what| {
        verify(&options(&place).attach_at(place.bus()).unwrap(), what);
    });
    let prepare = || {
        let place = Place::new();
        drop(make(&place));
        place
    };
    let destroy = |place: &mut Place| match options(place).destroy_at(place.bus(), false) {
        // A later call was refused after the files were gone.
        Err(crate::OpenError::Absent { .. }) => Ok(()),
        end => Ok(end?),
    };
    let gone = |path: &Path| !path.join("region").exists();
    refuse_each("destroy", prepare, destroy, |place, what| {
        assert!(gone(&place.bus()), "{what}");
        drop(options(&place).create_at(place.bus()).unwrap());
    });
}
