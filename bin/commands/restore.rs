//! `restore`: what a backup has takes the place of what a bus has.

use super::bar::with_bar;
use crate::error::{Failure, Outcome};
use crate::output::{object_of, say, write_fields, write_json};
use crate::place::{PLACES, Place};
use crate::tool::{Tool, options};
use crate::units::{parse_time, show_measured, show_time};
use membus::{Backend, Bus, RestoreInfo, Revision, SnapshotError, SnapshotOptions};
use serde_json::json;
use std::ffi::OsString;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Replace all keys of a bus by those of a backup, at one moment
///
/// Readers never wait; watches are told. What is replaced is saved first: the place is printed, and restoring
/// from there undoes it. SIGINT ends it as long as nothing was replaced. A bus that is not there is made.
#[derive(Debug, clap::Args)]
#[command(after_help = PLACES)]
pub(crate) struct Args {
    /// The bus: a name, or a path with a `/`
    name: OsString,
    /// Where from
    #[arg(value_name = "PLACE", required_unless_present_any = ["to_revision", "to_time"])]
    from: Option<OsString>,
    /// From the bus's own snapshots and journal: as it was at this revision, as far back as the oldest snapshot that is
    /// kept. A journal begins anew after each restore, with a snapshot that counts among those kept
    #[arg(long, value_name = "N", conflicts_with = "from")]
    to_revision: Option<Revision>,
    /// The same, at this time: RFC 3339, such as 2026-11-28T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = parse_time, conflicts_with_all = ["from", "to_revision"])]
    to_time: Option<SystemTime>,
}

/// What is restored: its backend, and what watches are told that it is.
type From = (Arc<dyn Backend>, String);

impl Args {
    pub(crate) fn run(&self, tool: &Tool, out: &mut impl Write) -> Result<Outcome, Failure> {
        let given = match &self.from {
            Some(from) => Some(Place::parse(from, 1)?),
            None => None,
        };
        crate::report::begin();
        let path = tool.path(&self.name)?;
        // Neither there, nor to be built anew.
        let is_new = !path.join("region").exists() && !options(None).is_kept_at(&path)?;
        let bus = options(None).open_at(&path)?;
        let end = match given {
            Some(place) => Ok((place.backend, place.name)),
            None => self.past(&bus),
        };
        let end = end.and_then(|(from, name)| {
            with_bar(|told| {
                let options = SnapshotOptions::new().progress(told);
                bus.restore_with(&*from, &name, options)
            })
        });
        match end {
            Ok(restored) => tell(tool, out, &restored),
            Err(error) => {
                let error = if self.from.is_none() { self.too_old(&bus, error) } else { error };
                if is_new && bus.info()?.revision == 0 {
                    drop(bus);
                    // Somebody else uses it by now: then it stays.
                    let _gone = Bus::destroy_at(&path, false);
                }
                Err(error)
            }
        }
    }
}

impl Args {
    /// Nothing is as old as was asked for: what the oldest is.
    fn too_old(&self, bus: &Bus, error: Failure) -> Failure {
        let Failure::Bus(of) = &error else { return error };
        let membus::Error::Snapshot(SnapshotError::Absent { at }) = &**of else { return error };
        let oldest = bus.as_of_time(SystemTime::now()).ok();
        let oldest = oldest.and_then(|kept| kept.oldest().ok().flatten()).map(|head| {
            let time = SystemTime::UNIX_EPOCH + Duration::from_nanos(head.created);
            let time = show_time(time).unwrap_or_default();
            format!("; the oldest is of revision {}, {time}", head.revision)
        });
        let oldest = oldest.unwrap_or_default();
        Failure::Input(format!("no snapshot that is kept goes back to {at}{oldest}"))
    }

    /// The bus as it was.
    fn past(&self, bus: &Bus) -> Result<From, Failure> {
        Ok(match (self.to_revision, self.to_time) {
            (Some(revision), _) => (bus.as_of_revision(revision)?, format!("revision {revision}")),
            (None, time) => {
                let time = time.unwrap_or_else(SystemTime::now);
                (bus.as_of_time(time)?, show_time(time).unwrap_or_default())
            }
        })
    }
}

fn tell(tool: &Tool, out: &mut impl Write, restored: &RestoreInfo) -> Result<Outcome, Failure> {
    for (at, reason) in &restored.refused {
        say(&format!("not used: {at}: {reason}"));
    }
    let before = restored.before.path.as_deref().and_then(|path| path.parent());
    let before = before.map(|path| path.display().to_string()).unwrap_or_default();
    let revision = restored.revision.get();
    if tool.json {
        let object = json!({
            "revision": revision,
            "entries": restored.entries,
            "from_revision": restored.from.revision,
            "before": before,
            "seconds": restored.took.as_secs_f64(),
        });
        write_json(out, object_of(object))?;
    } else {
        let fields = [
            ("revision", revision.to_string()),
            ("entries", restored.entries.to_string()),
            ("of revision", restored.from.revision.to_string()),
            ("took", show_measured(restored.took)),
            ("before", before),
        ];
        write_fields(out, &fields)?;
    }
    Ok(Outcome::Done)
}
