//! `demo`: the proof in one minute that the thing is real.
//!
//! Worker processes count the words of real files on one bus, while others of them are killed; a
//! snapshot is taken while they work; then everybody is detached, the region destroyed, built anew
//! from the snapshot and the work finished from there. The result must be that of a plain count.

mod crew;
mod job;
mod plan;
mod progress;
mod report;
mod stage;
pub(super) mod watcher;
mod words;
pub(super) mod worker;

use crate::error::{Failure, Outcome};
use crate::halt::Halt;
use crate::output::say;
use crate::tool::Tool;
use crate::units::parse_size;
use job::Ground;
use plan::Plan;
use stage::Stage;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

/// How long a signal needs from one process of a terminal to all.
const SIGNALLED: Duration = Duration::from_millis(20);

/// Count words in killed processes, and compare with a plain count
///
/// Worker processes share one bus: they claim pieces of the text files under DIR, count their words
/// and add the counts. Some are killed with SIGKILL at random moments. A snapshot is taken while they
/// work; later the region is destroyed, rebuilt from the snapshot, and the work goes on. In the end
/// every count is compared with that of a plain count of the same files: not equal is exit status 2.
/// Nothing is left behind: no bus, no file, no process.
///
/// A file is text when its first 8,192 bytes hold no NUL. Words are runs of ASCII letters and digits,
/// made lower case, and of letters beyond ASCII, as they are; of a longer word 64 bytes count. Symbolic
/// links are not followed; what can't be read is skipped and counted. A small directory is worked
/// through more slowly, so that there is time to die.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where the text files are
    #[arg(value_name = "DIR", default_value = "/usr/share")]
    root: PathBuf,
    /// Worker processes at a time
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    workers: u16,
    /// Workers that are killed
    #[arg(long, value_name = "K", default_value_t = 8)]
    kills: u16,
    /// Bytes of files that are counted at the most
    #[arg(long, value_name = "MAX", default_value = "64M", value_parser = parse_size)]
    bytes: u64,
}

impl Args {
    pub(crate) fn run(&self, tool: &Tool, out: &mut impl Write) -> Result<Outcome, Failure> {
        // Before anything is made: no signal leaves something behind.
        let halt = Halt::listen()?;
        let plan = Plan::of(&self.root, self.bytes, &halt)?;
        let ground = Ground::new(tool.directory.as_deref())?;
        let stage = Stage::new(&plan, &halt, usize::from(self.workers), ground)?;
        let report = match stage.play(usize::from(self.kills)) {
            Ok(report) => report,
            Err(error) => return Err(reason(&halt, error)),
        };
        report.write(tool, out)?;
        out.flush()?;
        if report.is_right() {
            return Ok(Outcome::Done);
        }
        Err(Failure::Demo("the counts or the region are wrong, see above".to_owned()))
    }
}

/// A terminal's signal goes to the workers too: that they ended by it is not what is to be told.
fn reason(halt: &Halt, error: Failure) -> Failure {
    std::thread::sleep(SIGNALLED);
    match halt.check() {
        Err(interrupted) => {
            say(&format!("demo: {interrupted}; nothing is left behind"));
            interrupted
        }
        Ok(()) => error,
    }
}
