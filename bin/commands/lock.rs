//! `lock`: a command that runs while a lock is held.

use crate::error::{Failure, Outcome};
use crate::output::one_line;
use crate::tied;
use crate::tool::Tool;
use crate::units::parse_duration;
use membus::{Bus, LockError, LockGuard};
use signal_hook::consts::SIGCHLD;
use signal_hook::iterator::Signals;
use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

/// How soon a signal ends the wait for the lock.
const LOOK: Duration = Duration::from_millis(100);
/// In this variable the command finds the lock's fencing token.
const TOKEN: &str = "MEMBUS_LOCK_TOKEN";

/// Run a command while holding a lock
///
/// Exit status: the command's; 128 and a signal's number when one ended it; 126 when it can't be run; 127
/// when there is none; CODE when the lock was not got; 2 for an error of the bus. The lock is gone
/// with its holder: when `membus lock` is killed, the command is killed too (what the command started
/// is not), and the lock is free. The two come together, but not at one instant: what must not overlap
/// even then compares the token in $MEMBUS_LOCK_TOKEN, which each holder has a higher one of. SIGINT,
/// SIGTERM and SIGHUP go to the command; one that is ignored when `membus lock` begins stays ignored, as under `nohup`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The bus: a name, or a path with a `/`
    name: OsString,
    /// The lock's name; it has nothing to do with a key of this name
    key: OsString,
    /// Wait no longer than this [default: as long as it takes]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    timeout: Option<Duration>,
    /// Exit status when the lock was not got in time
    #[arg(short = 'E', long, value_name = "CODE", default_value_t = 125)]
    conflict_exit_code: u8,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

impl Args {
    pub(crate) fn run(&self, tool: &Tool, _out: &mut impl Write) -> Result<Outcome, Failure> {
        let mut signals = tied::listen()?;
        let bus = tool.attach(&self.name, None)?;
        let guard = match self.acquire(&bus, &mut signals)? {
            Ok(guard) => guard,
            Err(why) => return Ok(Outcome::Status(self.conflict_exit_code, Some(why))),
        };
        let mut command = tied::command(&self.command);
        command.env(TOKEN, guard.token().to_string());
        let code = tied::run(&mut command, None, &mut signals)?;
        guard.release()?;
        Ok(Outcome::Status(code, None))
    }

    /// The lock, or why it was not got.
    fn acquire(
        &self,
        bus: &Bus,
        signals: &mut Signals,
    ) -> Result<Result<LockGuard, String>, Failure> {
        let begun = Instant::now();
        loop {
            let left = self.timeout.map(|timeout| timeout.saturating_sub(begun.elapsed()));
            let end = bus.lock_timeout(self.key.as_bytes(), left.unwrap_or(LOOK).min(LOOK));
            // Nothing has been run yet: a signal ends it, and no dead member stays behind.
            if let Some(signal) = signals.pending().find(|signal| *signal != SIGCHLD) {
                return Err(Failure::Interrupted(signal));
            }
            match end {
                Ok(guard) => return Ok(Ok(guard)),
                Err(LockError::TimedOut { .. }) if left.is_none_or(|left| left > LOOK) => {}
                Err(LockError::TimedOut { holder, .. }) => {
                    let holder = holder.map_or_else(
                        || "nobody holds it now".to_owned(),
                        |holder| format!("{holder} has it"),
                    );
                    let key = one_line(&self.key.to_string_lossy());
                    let waited = self.timeout.unwrap_or_default();
                    return Ok(Err(format!("waited {waited:?} for lock `{key}`: {holder}")));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}
