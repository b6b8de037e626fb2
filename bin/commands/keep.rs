//! `keep`: a keeper in the foreground.

use super::create::Settings;
use crate::error::{Failure, Outcome};
use crate::halt::Halt;
use crate::output::say;
use crate::tool::{Tool, options};
use membus::{Bus, Info, ReadBus, SnapshotError};
use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

/// How often it looks what there is to report.
const LOOK: Duration = Duration::from_millis(500);

/// Host a keeper in the foreground until SIGINT or SIGTERM, then take a last snapshot
///
/// For a unit file. It ends expired keys, buries the dead, grows the file and takes snapshots; what
/// it does is told on standard error. A bus that is not there is made; of one that is there --every, --after, --rate and
/// --keep become the settings.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The bus: a name, or a path with a `/`
    name: OsString,
    #[command(flatten)]
    settings: Settings,
}

impl Args {
    pub(crate) fn run(&self, tool: &Tool, _out: &mut impl Write) -> Result<Outcome, Failure> {
        // Before anything is made: no signal is missed.
        let halt = Halt::listen()?;
        let path = tool.path(&self.name)?;
        crate::report::begin();
        let options = self.settings.apply(options(None)).label("keep").keeper(true);
        let bus = options.open_at(&path)?;
        // It would wait for ever to become keeper.
        bus.check_saving()?;
        options.settle_at(&path)?;
        let mut last = bus.info()?;
        say(&begun(&last));
        loop {
            halt.wait(LOOK);
            if let Some(signal) = halt.signal() {
                return end(bus, signal);
            }
            // Fails when the bus was destroyed, or its files removed: then there is nothing to keep.
            bus.contains("keep")?;
            let now = bus.info()?;
            for news in news(&last, &now) {
                say(&news);
            }
            last = now;
        }
    }
}

fn begun(info: &Info) -> String {
    format!(
        "keeping {}: {} entries, revision {}, snapshots to {}: {}",
        info.path.display(),
        info.entries,
        info.revision,
        info.persist,
        super::info::snapshots(info)
    )
}

/// What happened between two looks.
fn news(before: &Info, now: &Info) -> Vec<String> {
    let mut news = Vec::new();
    if now.keeper != before.keeper {
        news.push(match now.keeper {
            Some(slot) => format!("the keeper is the member in slot {slot}"),
            None => "no keeper lives".to_owned(),
        });
    }
    let (done, known) = (&now.operations, &before.operations);
    if done.burials > known.burials {
        news.push(format!("{} dead members buried", done.burials - known.burials));
    }
    if now.last_snapshot_revision != before.last_snapshot_revision {
        news.push(format!("snapshot of revision {} taken", now.last_snapshot_revision));
    }
    if done.snapshot_failures > known.snapshot_failures {
        let failed = done.snapshot_failures - known.snapshot_failures;
        let kept = match now.last_snapshot_time {
            Some(_) => format!("; that of revision {} stays", now.last_snapshot_revision),
            None => String::new(),
        };
        news.push(format!("snapshots that failed: {failed}{kept}"));
    }
    if now.capacity > before.capacity {
        news.push(format!("grown to {} bytes", now.capacity));
    }
    news
}

/// Takes a last snapshot of what changed, whoever else is attached: at the end of a host others
/// are about to end too. Then detaches.
fn end(bus: Bus, signal: i32) -> Result<Outcome, Failure> {
    let info = bus.info()?;
    say(&format!("signal {signal}: closing"));
    if info.revision != info.last_snapshot_revision {
        match bus.snapshot() {
            Ok(taken) => {
                let path = taken.path.as_deref().unwrap_or(Path::new("")).display().to_string();
                say(&format!("snapshot of revision {} taken: {path}", taken.revision));
            }
            Err(SnapshotError::NoBackend) => {}
            Err(error) => return Err(error.into()),
        }
    }
    bus.close()?;
    Ok(Outcome::Done)
}
