//! `create`: makes a bus.

use crate::error::{Failure, Outcome};
use crate::output::{object_of, say, write_json};
use crate::tool::{Tool, options};
use crate::units::{parse_duration, parse_mode, parse_size};
use membus::{JournalSync, JournalSyncError, OpenError, Options, Persist};
use serde_json::json;
use std::ffi::OsString;
use std::io::Write;
use std::time::Duration;

/// Make a bus; prints where it is
///
/// A bus that is there already is left untouched (exit status 1). A bus whose region was lost comes
/// back from its newest snapshot, with the settings that are kept of it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The bus: a name, or a path with a `/`
    name: OsString,
    #[command(flatten)]
    settings: Settings,
}

/// What a new bus is made with.
#[derive(Debug, clap::Args)]
pub(crate) struct Settings {
    /// Size at first, such as 8M [default: 8M]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    capacity: Option<u64>,
    /// Size that it may grow to [default: 1G]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    max_capacity: Option<u64>,
    /// Size of the log that watches read [default: an eighth of the capacity, 2M at least]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    log_size: Option<u64>,
    /// Let the log tell what a change replaced: `watch --json` shows it as `old`
    #[arg(long)]
    old_values: bool,
    /// Permissions of its files, in octal [default: 0600]
    #[arg(long, value_parser = parse_mode)]
    mode: Option<u32>,
    /// Where snapshots go: image:DIR[?compress=gzip], json:FILE[.gz], sqlite:FILE[?table=NAME],
    /// redis://[USER@]HOST[:PORT][/DATABASE][?prefix=PREFIX], rediss://…, redis+unix:///SOCKET or none
    /// [default: images in the state directory]
    #[arg(long, value_name = "URL")]
    persist: Option<Persist>,
    /// How often the keeper takes a snapshot [default: 300s]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    every: Option<Duration>,
    /// Changes after which it takes one before that [default: none]
    #[arg(long, value_name = "CHANGES", value_parser = clap::value_parser!(u64).range(1..))]
    after: Option<u64>,
    /// Bytes a second that its snapshots may take, such as 20M [default: full speed]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    rate: Option<u64>,
    /// How many snapshots stay [default: 3]
    #[arg(long, value_name = "COUNT")]
    keep: Option<usize>,
    /// Let every change go to a journal too, and say when that is synced: `always` (a write returns when it is on the
    /// disk), an interval such as 10ms, or `system`; `none`: no journal [default: none]
    #[arg(long, value_name = "WHEN", value_parser = parse_journal)]
    journal: Option<JournalSetting>,
}

/// A journal, or none.
#[derive(Debug, Clone, Copy)]
struct JournalSetting(Option<JournalSync>);

fn parse_journal(text: &str) -> Result<JournalSetting, JournalSyncError> {
    match text {
        "none" => Ok(JournalSetting(None)),
        text => text.parse().map(|sync| JournalSetting(Some(sync))),
    }
}

impl Settings {
    /// The options, with what was given.
    pub(crate) fn apply(&self, mut options: Options) -> Options {
        if let Some(bytes) = self.capacity {
            options = options.capacity(bytes);
        }
        if let Some(bytes) = self.max_capacity {
            options = options.max_capacity(bytes);
        }
        if let Some(bytes) = self.log_size {
            options = options.log_size(bytes);
        }
        if self.old_values {
            options = options.old_values(true);
        }
        if let Some(mode) = self.mode {
            options = options.mode(mode);
        }
        if let Some(persist) = &self.persist {
            options = options.persist(persist.clone());
        }
        if let Some(every) = self.every {
            options = options.snapshot_every(every);
        }
        if let Some(changes) = self.after {
            options = options.snapshot_after(changes);
        }
        if let Some(bytes) = self.rate {
            options = options.snapshot_rate(bytes);
        }
        if let Some(keep) = self.keep {
            options = options.keep(keep);
        }
        if let Some(JournalSetting(sync)) = self.journal {
            options = options.journal(sync);
        }
        options
    }
}

impl Args {
    pub(crate) fn run(&self, tool: &Tool, out: &mut impl Write) -> Result<Outcome, Failure> {
        crate::report::begin();
        let path = tool.path(&self.name)?;
        let bus = match self.settings.apply(options(None)).create_at(&path) {
            Err(error @ OpenError::Exists { .. }) => {
                return Ok(Outcome::Refused(error.to_string()));
            }
            bus => bus?,
        };
        let info = bus.info()?;
        if info.revision > 0 {
            let (entries, revision) = (info.entries, info.revision);
            say(&format!("rebuilt from a snapshot: {entries} entries, revision {revision}"));
        }
        if tool.json {
            let object = json!({
                "name": info.name,
                "path": info.path.display().to_string(),
                "capacity": info.capacity,
                "max_capacity": info.max_capacity,
                "mode": format!("{:04o}", info.mode),
                "persist": info.persist,
                "entries": info.entries,
                "revision": info.revision,
            });
            write_json(out, object_of(object))?;
        } else {
            writeln!(out, "{}", path.display())?;
        }
        Ok(Outcome::Done)
    }
}
