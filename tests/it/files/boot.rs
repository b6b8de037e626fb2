//! A region of an earlier boot may be torn: it is set aside, and the bus is built anew.

use crate::harness::layout::{Header, header};
use crate::harness::{Place, assert_whole};
use membus::{BusReader, OpenError, Options, Persist, ReadBus};

/// As if the host had been started anew since the region was made.
fn reboot(place: &Place) {
    let mut region = Header::read(&place.region());
    let boot = region.word(header::BOOT_ID);
    region.put(header::BOOT_ID, boot ^ 1).seal().write(&place.region());
}

fn is_other_boot(place: &Place, end: Result<(), OpenError>) {
    let error = end.unwrap_err();
    let OpenError::OtherBoot { path, found, expected } = &error else { panic!("{error:?}") };
    let now = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    assert_eq!(format!("{expected:032x}"), now.trim().replace('-', ""));
    assert_eq!((path, *found), (&place.region(), expected ^ 1));
    let text = error.to_string();
    assert!(text.contains("earlier boot") && text.contains(&format!("{found:032x}")), "{text}");
}

fn told_by_all(place: &Place, options: &Options) {
    is_other_boot(place, options.attach_at(place.bus()).map(drop));
    is_other_boot(place, BusReader::open_at(place.bus()).map(drop));
    is_other_boot(place, membus::check(place.bus()).map(drop));
}

/// Promise (attach): a region of an earlier boot is set aside by `open` and the bus rebuilt from the last
/// snapshot, with revisions far above the old ones; `attach` and readers say what it is and touch nothing.
/// Plants: the boot id not compared: torn bytes would be taken for a bus; the length compared before it.
#[test]
fn a_region_of_an_earlier_boot_is_set_aside() {
    // A power cut may have taken what the header counts.
    for is_shorter in [false, true] {
        let place = Place::new();
        let bus = place.options().keeper(false).open_at(place.bus()).unwrap();
        bus.set("saved", &1).unwrap();
        bus.snapshot().unwrap();
        let lost = bus.set("lost", &2).unwrap();
        drop(bus);
        reboot(&place);
        if is_shorter {
            let region = std::fs::File::options().write(true).open(place.region()).unwrap();
            region.set_len(1 << 16).unwrap();
        }
        let torn = std::fs::read(place.region()).unwrap();
        told_by_all(&place, &place.options());
        assert_eq!(std::fs::read(place.region()).unwrap(), torn);
        let back = place.open();
        assert_eq!(back.get::<i32>("saved").unwrap(), Some(1));
        assert!(!back.contains("lost").unwrap());
        assert!(back.set("new", &3).unwrap().get() > lost.get() + (1 << 39));
        assert_eq!(std::fs::read(place.bus().join("region.torn")).unwrap(), torn);
        assert_whole(&back);
        back.close().unwrap();
        place.options().destroy_at(place.bus(), false).unwrap();
        assert!(!place.bus().exists());
    }
}

/// Promise (attach): without a snapshot the bus begins empty; the old region stays beside it. A creator may
/// make a bus where one of an earlier boot was.
/// Plant: `set_aside` that refuses when there is no backend.
#[test]
fn without_a_snapshot_it_begins_empty() {
    for creates in [false, true] {
        let place = Place::new();
        let options = place.options().persist(Persist::None).keeper(false);
        let bus = options.open_at(place.bus()).unwrap();
        bus.set("lost", &1).unwrap();
        drop(bus);
        reboot(&place);
        told_by_all(&place, &options);
        let back =
            if creates { options.create_at(place.bus()) } else { options.open_at(place.bus()) };
        let back = back.unwrap();
        assert!(back.is_empty().unwrap());
        assert!(place.bus().join("region.torn").exists());
        back.set("k", &1).unwrap();
        assert_whole(&back);
    }
}
