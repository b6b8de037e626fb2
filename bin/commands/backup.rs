//! `backup`: saves what is there now to any place.

use super::bar::with_bar;
use super::snapshot::{Speed, tell};
use crate::error::{Failure, Outcome};
use crate::place::{PLACES, Place};
use crate::tool::Tool;
use std::ffi::OsString;
use std::io::Write;

/// Save a bus to any place, while others go on writing
///
/// What was there before stays until the new backup is whole, and then is replaced, unless --keep says that it
/// stays beside it. SIGINT ends it. The bus's own snapshots are another matter.
#[derive(Debug, clap::Args)]
#[command(after_help = PLACES)]
pub(crate) struct Args {
    /// The bus: a name, or a path with a `/`
    name: OsString,
    /// Where to
    #[arg(value_name = "PLACE")]
    to: OsString,
    /// How many backups stay there, where a place can hold several
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    keep: usize,
    #[command(flatten)]
    speed: Speed,
}

impl Args {
    pub(crate) fn run(&self, tool: &Tool, out: &mut impl Write) -> Result<Outcome, Failure> {
        let to = Place::parse(&self.to, self.keep)?;
        let bus = tool.attach(&self.name, None)?;
        let saved =
            with_bar(|told| bus.backup_with(&*to.backend, self.speed.options().progress(told)))?;
        tell(tool, out, &saved)
    }
}
