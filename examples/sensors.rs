//! The sensors of a robot, and a watchdog that knows a dead one from a silent one.
//!
//! Each sensor is a process. It holds a key that vanishes with it, and sets its reading with a time to
//! live. One is killed: its key goes. One hangs: its reading expires, and its key stays. The watchdog
//! sleeps until the bus tells it of either.
//!
//!     cargo run --example sensors

#![expect(clippy::print_stdout, reason = "it shows what it does")]

use membus::{Bus, ChangeKind, Event, ReadBus, Watch};
use std::error::Error;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

const SENSORS: [&str; 3] = ["camera", "gyro", "lidar"];
/// How long a reading is good.
const FRESH: Duration = Duration::from_millis(150);
const PATIENCE: Duration = Duration::from_secs(30);

fn sense(name: &str, bus: &Bus) -> Result<(), Box<dyn Error>> {
    bus.put(format!("alive/{name}")).ephemeral().set(&std::process::id())?;
    for reading in 0.. {
        bus.put(format!("reading/{name}")).ttl(FRESH).set(&reading)?;
        std::thread::sleep(FRESH / 5);
    }
    Ok(())
}

/// Follows the bus until it has seen what it waits for: the kind of a change, and the key.
fn look(watch: &mut Watch, kind: ChangeKind, key: &str) -> Result<(), Box<dyn Error>> {
    while let Some(event) = watch.recv_timeout(PATIENCE)? {
        if let Event::Change(change) = event
            && change.kind == kind
            && &*change.key == key.as_bytes()
        {
            println!("watchdog: {kind} of {key}");
            return Ok(());
        }
    }
    Err(format!("nothing was told of {key}").into())
}

fn start(name: &str, path: &Path) -> std::io::Result<Child> {
    let me = std::env::current_exe()?;
    Command::new(me).arg(name).arg(path).spawn()
}

fn signal(child: &Child, name: &str) -> std::io::Result<()> {
    let pid = child.id().to_string();
    let sent = Command::new("kill").args([name, &pid]).status()?;
    assert!(sent.success());
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    if let (Some(name), Some(path)) = (arguments.next(), arguments.next()) {
        return sense(&name, &Bus::options().label(&name).keeper(false).attach_at(path)?);
    }
    let directory = tempfile::tempdir_in("/dev/shm")?;
    let path = directory.path().join("robot");
    let bus = Bus::options().state(directory.path()).label("watchdog").open_at(&path)?;
    let mut watch = bus.watch("")?;
    let children = SENSORS.map(|name| start(name, &path));
    let mut children = children.into_iter().collect::<Result<Vec<_>, _>>()?;
    for name in SENSORS {
        let came = bus.wait_for(format!("reading/{name}"), PATIENCE, |entry| entry.is_some())?;
        assert!(matches!(came, membus::Waited::Holds(_)), "{name} did not come");
    }
    // It dies: what it held goes with it, at once; its last reading is good to its end.
    children[0].kill()?;
    look(&mut watch, ChangeKind::Delete, "alive/camera")?;
    look(&mut watch, ChangeKind::Expire, "reading/camera")?;
    // It hangs: it is alive, and says nothing.
    signal(&children[2], "-STOP")?;
    look(&mut watch, ChangeKind::Expire, "reading/lidar")?;
    signal(&children[2], "-CONT")?;
    look(&mut watch, ChangeKind::Set, "reading/lidar")?;
    for child in &mut children {
        let _ended = child.kill().and_then(|()| child.wait());
    }
    Ok(())
}
