//! Bad files: each has its own error, with the numbers, in every way to a bus; and nothing is changed by
//! looking.

use crate::harness::actor::actor;
use crate::harness::layout::{Header, LAYOUT_PRINT, LAYOUT_VERSION, MAGIC, header};
use crate::harness::part::Part;
use crate::harness::{Place, os, skipped, tree};
use membus::{Bus, BusReader, HeaderError, OpenError, ReadBus};
use nix::sys::stat::Mode;
use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// A bus with something in it, at which nobody is.
fn bus() -> Place {
    let place = Place::new();
    let bus = place.options().keeper(false).open_at(place.bus()).unwrap();
    bus.set("k", &"v").unwrap();
    place
}

/// Every way to the bus but creating says the same; a creator is told that there is something.
#[track_caller]
fn refused(place: &Place, what: &str, is_it: impl Fn(&OpenError) -> bool) {
    let path = place.bus();
    let options = place.options();
    let refusals = [
        ("attach", options.attach_at(&path).map(drop)),
        ("open", options.open_at(&path).map(drop)),
        ("reader", BusReader::open_at(&path).map(drop)),
        ("check", membus::check(&path).map(drop)),
    ];
    for (way, refusal) in refusals {
        let error = refusal.unwrap_err();
        assert!(is_it(&error), "{what}, {way}: {error:?}");
        assert!(error.to_string().contains(place.path().to_str().unwrap()), "{error}");
    }
}

fn is_back(place: &Place, what: &str) {
    let bus = place.options().keeper(false).attach_at(place.bus());
    let value = bus.unwrap_or_else(|e| panic!("{what}: {e}")).get::<String>("k").unwrap();
    assert_eq!(value.as_deref(), Some("v"), "{what}");
}

/// Promise (attach): a region that was cut is told with both sizes, however short it is.
/// Plant: no comparison of the size word with the file's size: an access beyond the end is a SIGBUS.
#[test]
fn a_truncated_region() {
    let place = bus();
    let size = std::fs::metadata(place.region()).unwrap().len();
    let bytes = std::fs::read(place.region()).unwrap();
    for (cut, wanted) in
        [(0, 4096), (1, 4096), (4095, 4096), (4096, size), (size / 2, size), (size - 1, size)]
    {
        let mut file = std::fs::OpenOptions::new().write(true).open(place.region()).unwrap();
        file.write_all(&bytes).unwrap();
        file.set_len(cut).unwrap();
        refused(&place, "cut", |error| {
            matches!(error, OpenError::Truncated { found, expected, path }
                if *found == cut && *expected == wanted && *path == place.region())
        });
        assert_eq!(std::fs::metadata(place.region()).unwrap().len(), cut, "left as it is");
    }
    std::fs::write(place.region(), &bytes).unwrap();
    is_back(&place, "whole again");
}

/// Promise (attach): magic, byte order, version, fingerprint, checksum and limits are checked in this
/// order, each with its own error and what was found.
/// Method: one word is patched at a time; where the checksum would tell first, it is made to fit.
/// Plant: the checks of version and fingerprint the other way round.
#[test]
fn headers_of_other_makes() {
    type Is = fn(&HeaderError) -> bool;
    let place = bus();
    let good = Header::read(&place.region());
    let order = good.word(header::VERSION) >> 32;
    let version = |version: u64| version | order << 32;
    let newer = u64::from(LAYOUT_VERSION) + 1;
    assert_eq!(good.word(header::CHECKSUM), good.sum(), "the checksum is as documented");
    assert_eq!((good.word(header::MAGIC), good.word(header::PRINT)), (MAGIC, LAYOUT_PRINT));
    let cases: [(&str, u64, u64, bool, Is); 14] = [
        ("magic", header::MAGIC, 77, false, |e| matches!(e, HeaderError::Magic { found: 77 })),
        ("zero", header::MAGIC, 0, false, |e| matches!(e, HeaderError::Magic { found: 0 })),
        ("order", header::VERSION, u64::from(LAYOUT_VERSION) | 0x0403_0201 << 32, false, |e| {
            matches!(e, HeaderError::ByteOrder { found: 0x0403_0201 })
        }),
        ("newer", header::VERSION, version(newer), false, |e| {
            matches!(e, HeaderError::Version { found, expected }
                if *found == LAYOUT_VERSION + 1 && *expected == LAYOUT_VERSION)
        }),
        ("older", header::VERSION, version(0), true, |e| {
            matches!(e, HeaderError::Version { found: 0, .. })
        }),
        ("print", header::PRINT, 5, true, |e| {
            matches!(e, HeaderError::Print { found: 5, expected: LAYOUT_PRINT })
        }),
        ("checksum", header::CHECKSUM, 9, false, |e| {
            matches!(e, HeaderError::Checksum { found: 9, .. })
        }),
        ("a word", header::SEED, 1, false, |e| matches!(e, HeaderError::Checksum { .. })),
        ("stripes", header::STRIPES, 3, true, |e| {
            matches!(e, HeaderError::Limits { what: "stripes", found: 3 })
        }),
        ("blocks", header::BLOCK_SHIFT, 40, true, |e| {
            matches!(e, HeaderError::Limits { what: "block_shift", found: 40 })
        }),
        ("members", header::MEMBERS_MAX, 0, true, |e| {
            matches!(e, HeaderError::Limits { what: "members_max", found: 0 })
        }),
        ("watches", header::WATCHES_MAX, 65, true, |e| {
            matches!(e, HeaderError::Limits { what: "watches_max", found: 65 })
        }),
        ("log", header::LOG_SIZE, 4097, true, |e| {
            matches!(e, HeaderError::Limits { what: "log_size", found: 4097 })
        }),
        ("capacity", header::MAX_CAPACITY, u64::MAX, true, |e| {
            matches!(e, HeaderError::Limits { what: "max_capacity", .. })
        }),
    ];
    for (what, at, word, seal, is_it) in cases {
        let mut bad = Header::read(&place.region());
        bad.put(at, word);
        if seal {
            bad.seal();
        }
        bad.write(&place.region());
        refused(
            &place,
            what,
            |error| matches!(error, OpenError::Header { path, source } if is_it(source) && *path == place.region()),
        );
        good.write(&place.region());
        is_back(&place, what);
    }
}

/// Promise (upgrades): who meets a region of another layout and does what the error says has all of its last snapshot
/// back, where nobody said where snapshots go either.
/// Plant: the text that told to destroy the bus, which forgets its snapshots.
#[test]
fn another_layout_is_left_by_way_of_a_snapshot() {
    let place = Place::new();
    let options = Bus::options().state(place.state()).keeper(false);
    let bus = options.open_at(place.bus()).unwrap();
    bus.set("k", &"v").unwrap();
    bus.snapshot().unwrap();
    drop(bus);
    for at in [header::VERSION, header::PRINT] {
        let mut other = Header::read(&place.region());
        other.put(at, other.word(at) + 1).seal().write(&place.region());
        let text = options.open_at(place.bus()).unwrap_err().to_string();
        if text.contains("destroy") {
            options.destroy_at(place.bus(), true).unwrap();
        }
        if text.contains("remove its directory") {
            std::fs::remove_dir_all(place.bus()).unwrap();
        }
        let back = options.open_at(place.bus()).unwrap();
        assert_eq!(back.get::<String>("k").unwrap().as_deref(), Some("v"), "{text}");
    }
}

/// Promise (attach): whoever may do more, or less, with the files than the bus was made for: the mode is
/// told, found and expected.
/// Plant: only missing bits compared.
#[test]
fn modes_that_were_changed() {
    let chmod = |path: &Path, mode| {
        std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    };
    let place = bus();
    for mode in [0o644, 0o660, 0o666, 0o400, 0o700] {
        chmod(&place.region(), mode);
        refused(&place, "region", |error| {
            matches!(error, OpenError::Mode { path, found, expected: 0o600 }
                if *found == mode && *path == place.region())
        });
    }
    chmod(&place.region(), 0o600);
    for mode in [0o720, 0o702, 0o777] {
        chmod(&place.bus(), mode);
        refused(
            &place,
            "directory",
            |error| matches!(error, OpenError::Mode { path, found, .. } if *found == mode && *path == place.bus()),
        );
    }
    chmod(&place.bus(), 0o700);
    is_back(&place, "as it was");
    // A bus for a group is made with such a mode, whatever the umask says.
    let shared = Place::new();
    let options = shared.options().mode(0o660).keeper(false);
    let before = nix::sys::stat::umask(Mode::from_bits_truncate(0o077));
    let bus = options.open_at(shared.bus());
    nix::sys::stat::umask(before);
    bus.unwrap().set("k", &"v").unwrap();
    let mode = |path: PathBuf| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(shared.region()), mode(shared.bus())), (0o660, 0o770));
    assert_eq!(
        (mode(shared.bus().join("members")), mode(shared.bus().join("bell"))),
        (0o660, 0o770)
    );
    is_back(&shared, "shared");
}

/// Tries, as a user who is nobody, to have the bus of somebody else.
pub(crate) fn nobody(part: &Part) {
    let uid = part.number("uid") as u32;
    os::become_user(uid).unwrap();
    let attached = part.place.options().attach_at(part.place.bus());
    let read = BusReader::open_at(part.place.bus());
    for refused in [attached.map(drop), read.map(drop)] {
        let error = refused.unwrap_err();
        let OpenError::Owner { found, expected, .. } = &error else { panic!("{error:?}") };
        assert_eq!((*found, *expected), (0, uid), "{error}");
    }
    part.say("refused");
}

/// Promise (trust): a bus for one user alone is that user's; another one is told whose it is.
/// Plant: `expected != 0` turned round lets everybody but root in, as far as the kernel lets him.
#[test]
fn a_bus_of_another_user() {
    if !nix::unistd::geteuid().is_root() {
        return skipped("a_bus_of_another_user", "only root can become somebody else");
    }
    let place = bus();
    std::fs::set_permissions(place.path(), Permissions::from_mode(0o755)).unwrap();
    let nobody = actor("files_nobody", &place).with("uid", 65_534).start();
    nobody.expect("refused");
    nobody.end();
    // Root may look after anybody's bus.
    std::os::unix::fs::chown(place.region(), Some(65_534), None).unwrap();
    is_back(&place, "root");
}

/// Promise (attach): what stands where the region belongs is named: a link, a directory, a FIFO, a socket;
/// none is followed, waited for or replaced.
/// Plant: `stat` that follows links.
#[test]
fn things_that_are_no_region() {
    let real = bus();
    type Make = fn(&Path, &Path);
    let make: [(&str, Make); 4] = [
        ("a symbolic link", |at, real| symlink(real, at).unwrap()),
        ("a directory", |at, _| std::fs::create_dir(at).unwrap()),
        ("a FIFO", |at, _| nix::unistd::mkfifo(at, Mode::S_IRWXU).unwrap()),
        ("a socket", |at, _| drop(std::os::unix::net::UnixListener::bind(at).unwrap())),
    ];
    for (what, make) in make {
        let place = bus();
        std::fs::rename(place.region(), place.path().join("aside")).unwrap();
        make(&place.region(), &real.region());
        refused(&place, what, |error| {
            matches!(error, OpenError::WrongFile { path, found, expected: "a regular file" }
                if found == what && *path == place.region())
        });
        let created = place.options().create_at(place.bus());
        assert!(matches!(created, Err(OpenError::Exists { .. })), "{what}: {created:?}");
        let place = Place::new();
        make(&place.bus(), &real.bus());
        if what != "a directory" {
            let is_it = |error: &OpenError| {
                matches!(error, OpenError::WrongFile { path, found, expected: "a directory" }
                    if found == what && *path == place.bus())
            };
            refused(&place, what, is_it);
            let created = place.options().create_at(place.bus()).unwrap_err();
            assert!(is_it(&created), "{what}: {created:?}");
        }
    }
    let place = Place::new();
    std::fs::write(place.bus(), b"a file").unwrap();
    refused(
        &place,
        "a file",
        |error| matches!(error, OpenError::WrongFile { found, .. } if found == "a regular file"),
    );
    assert_eq!(std::fs::read(place.bus()).unwrap(), b"a file");
    is_back(&real, "never touched");
}

/// Promise (attach): halves of two lives never mix: a members file of another life is told; so is that there
/// is none.
/// Plant: the id read and not compared.
#[test]
fn members_of_another_life() {
    let (place, other) = (bus(), bus());
    let members = place.bus().join("members");
    let good = std::fs::read(&members).unwrap();
    let id = |file: &[u8]| u128::from_le_bytes(file[..16].try_into().unwrap());
    let attach = || place.options().attach_at(place.bus()).unwrap_err();
    let is_id = |there: u128| match attach() {
        OpenError::BusId { path, found, expected } => {
            assert_eq!((path, found, expected), (members.clone(), there, id(&good)));
        }
        other => panic!("{other:?}"),
    };
    std::fs::copy(other.bus().join("members"), &members).unwrap();
    is_id(id(&std::fs::read(other.bus().join("members")).unwrap()));
    std::fs::write(&members, &good[..15]).unwrap();
    is_id(0);
    std::fs::write(&members, b"").unwrap();
    is_id(0);
    std::fs::remove_file(&members).unwrap();
    nix::unistd::mkfifo(&members, Mode::S_IRWXU).unwrap();
    is_id(0);
    std::fs::remove_file(&members).unwrap();
    symlink(other.bus().join("members"), &members).unwrap();
    assert!(matches!(attach(), OpenError::Io { .. }), "no link is followed");
    std::fs::remove_file(&members).unwrap();
    assert!(matches!(attach(), OpenError::Incomplete { missing: "members", .. }));
    // Reading needs no members.
    let reader = BusReader::open_at(place.bus()).unwrap();
    assert_eq!(reader.get::<String>("k").unwrap().as_deref(), Some("v"));
    std::fs::write(&members, &good).unwrap();
    is_back(&place, "its own again");
}

/// Promise (files): a link, a directory or a file where the lock, the doorbells or the configuration belong is told
/// with its path, by whoever needs it, and is left as it is.
/// Plant: a configuration that can't be read taken for none.
#[test]
fn things_where_other_files_belong() {
    let place = Place::new();
    let options = place.options().keeper(false);
    #[track_caller]
    fn is_io<T>(end: Result<T, OpenError>, at: &Path) {
        let error = end.err().unwrap();
        assert!(matches!(&error, OpenError::Io { path, .. } if path == at), "{error:?}");
        assert!(error.to_string().contains(at.to_str().unwrap()), "{error}");
    }
    let (lock, bell) = (place.bus().join("lock"), place.bus().join("bell"));
    std::fs::create_dir(place.bus()).unwrap();
    std::fs::set_permissions(place.bus(), Permissions::from_mode(0o700)).unwrap();
    symlink(place.path().join("nothing"), &lock).unwrap();
    is_io(options.open_at(place.bus()), &lock);
    assert!(!place.path().join("nothing").exists(), "no link is followed");
    std::fs::remove_file(&lock).unwrap();
    std::fs::create_dir(&lock).unwrap();
    is_io(options.open_at(place.bus()), &lock);
    is_io(options.destroy_at(place.bus(), true), &lock);
    std::fs::remove_dir(&lock).unwrap();
    let bus = options.open_at(place.bus()).unwrap();
    bus.set("k", &"v").unwrap();
    drop(bus);
    std::fs::remove_dir(&bell).unwrap();
    std::fs::write(&bell, b"").unwrap();
    is_io(options.attach_at(place.bus()), &bell);
    std::fs::remove_file(&bell).unwrap();
    std::fs::create_dir(&bell).unwrap();
    let [kept] = &tree(&place.state())[..] else { panic!("one file is kept of a bus") };
    let good = std::fs::read(kept).unwrap();
    for bad in [&b"\xff\xfe"[..], b"max_capacity = [", b"", &good[..good.len() / 2]] {
        std::fs::write(kept, bad).unwrap();
        is_io(options.attach_at(place.bus()), kept);
        is_io(options.open_at(place.bus()), kept);
        assert_eq!(std::fs::read(kept).unwrap(), bad, "left as it is");
    }
    std::fs::remove_file(kept).unwrap();
    std::fs::create_dir(kept).unwrap();
    is_io(options.attach_at(place.bus()), kept);
    std::fs::remove_dir(kept).unwrap();
    std::fs::write(kept, good).unwrap();
    is_back(&place, "its own again");
}
