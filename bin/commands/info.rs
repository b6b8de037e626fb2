//! `info`: what a bus is and what was done with it.

use crate::error::{Failure, Outcome};
use crate::output::{NOBODY, object_of, write_fields, write_json};
use crate::tool::Tool;
use crate::units::{show_duration, show_size, show_time};
use membus::{Info, Operations};
use serde_json::json;
use std::ffi::OsString;
use std::io::Write;

/// Show what a bus is and what was done with it
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The bus: a name, or a path with a `/`
    name: OsString,
}

impl Args {
    pub(crate) fn run(&self, tool: &Tool, out: &mut impl Write) -> Result<Outcome, Failure> {
        let info = tool.reader(&self.name)?.info()?;
        if tool.json {
            write_json(out, object_of(object(&info)))?;
        } else {
            write_fields(out, &fields(&info))?;
        }
        Ok(Outcome::Done)
    }
}

fn object(info: &Info) -> serde_json::Value {
    json!({
        "name": info.name,
        "path": info.path.display().to_string(),
        "bus_id": format!("{:032x}", info.bus_id),
        "incarnation": format!("{:016x}", info.incarnation),
        "revision": info.revision,
        "capacity": info.capacity,
        "max_capacity": info.max_capacity,
        "used": info.used,
        "free": info.free,
        "entries": info.entries,
        "stripes": info.stripes,
        "members": info.members,
        "watches": info.watches,
        "log_size": info.log_size,
        "log_oldest": info.log_oldest,
        "old_values": info.old_values,
        "mode": format!("{:04o}", info.mode),
        "persist": info.persist,
        "state": info.state.display().to_string(),
        "snapshot_every_seconds": info.snapshot_every.as_secs_f64(),
        "snapshot_after_changes": (info.snapshot_after > 0).then_some(info.snapshot_after),
        "snapshot_rate": (info.snapshot_rate > 0).then_some(info.snapshot_rate),
        "keeper": info.keeper,
        "keeper_seen_seconds": info.keeper_seen.map(|seen| seen.as_secs_f64()),
        "last_snapshot_revision": info.last_snapshot_revision,
        "last_snapshot_time": info.last_snapshot_time.and_then(show_time),
        "operations": operations(&info.operations).into_iter().collect::<serde_json::Map<_, _>>(),
    })
}

fn operations(done: &Operations) -> [(String, serde_json::Value); 11] {
    [
        ("gets", done.gets),
        ("sets", done.sets),
        ("deletes", done.deletes),
        ("adds", done.adds),
        ("commits", done.commits),
        ("changes", done.changes),
        ("conflicts", done.conflicts),
        ("messages", done.messages),
        ("burials", done.burials),
        ("snapshots", done.snapshots),
        ("snapshot_failures", done.snapshot_failures),
    ]
    .map(|(name, count)| (name.to_owned(), count.into()))
}

/// When snapshots are taken.
pub(super) fn snapshots(info: &Info) -> String {
    if matches!(info.persist.as_str(), "" | "none" | "unknown") {
        return info.persist.clone();
    }
    let mut when = format!("every {}", show_duration(info.snapshot_every));
    if info.snapshot_after > 0 {
        when += &format!(", after {} changes at the latest", info.snapshot_after);
    }
    if info.snapshot_rate > 0 {
        when += &format!(", at most {} a second", show_size(info.snapshot_rate));
    }
    when
}

/// Where they go.
fn persist(info: &Info) -> String {
    match info.persist.as_str() {
        "" => NOBODY.to_owned(),
        "unknown" => format!("unknown: nothing is kept of it in {}", info.state.display()),
        persist => persist.to_owned(),
    }
}

fn fields(info: &Info) -> Vec<(&'static str, String)> {
    let keeper = match (info.keeper, info.keeper_seen) {
        (Some(slot), Some(seen)) => format!("slot {slot}, seen {} ago", show_duration(seen)),
        (Some(slot), None) => format!("slot {slot}"),
        (None, _) => "none".to_owned(),
    };
    let snapshot = match info.last_snapshot_time.and_then(show_time) {
        Some(time) => format!("revision {} at {time}", info.last_snapshot_revision),
        None => "none in this life".to_owned(),
    };
    let done = operations(&info.operations).map(|(name, count)| format!("{name} {count}"));
    vec![
        ("name", info.name.clone()),
        ("path", info.path.display().to_string()),
        ("bus id", format!("{:032x}", info.bus_id)),
        ("incarnation", format!("{:016x}", info.incarnation)),
        ("revision", info.revision.to_string()),
        ("entries", info.entries.to_string()),
        ("capacity", show_size(info.capacity)),
        ("max capacity", show_size(info.max_capacity)),
        ("used", show_size(info.used)),
        ("free", show_size(info.free)),
        ("stripes", info.stripes.to_string()),
        ("members", info.members.to_string()),
        ("watches", info.watches.to_string()),
        ("log", format!("{}, from revision {}", show_size(info.log_size), info.log_oldest)),
        ("old values", if info.old_values { "told by the log" } else { "not kept" }.to_owned()),
        ("mode", format!("{:04o}", info.mode)),
        ("persist", persist(info)),
        ("snapshots", snapshots(info)),
        ("keeper", keeper),
        ("last snapshot", snapshot),
        ("operations", done.join(", ")),
    ]
}
