//! `queue take`: the oldest item that nobody has; with a command, works it off.

use super::refused_or;
use crate::error::{Failure, Outcome};
use crate::output::{Object, entry_object, object_of, on_a_line, write_json};
use crate::tied;
use crate::tool::Tool;
use crate::units::parse_duration;
use crate::value::Shown;
use membus::{Queue, QueueError, Receipt, Taken};
use serde_json::json;
use signal_hook::consts::SIGCHLD;
use signal_hook::iterator::Signals;
use std::ffi::OsString;
use std::io::{self, Write};
use std::time::{Duration, Instant};

/// How long an item is kept that outlives its command line, unless --for says otherwise.
const KEPT: Duration = Duration::from_secs(30);
/// How soon a signal ends the wait for an item.
const LOOK: Duration = Duration::from_millis(100);

/// Take the oldest item that nobody has
///
/// With COMMAND: the payload goes to its standard input. Exit status 0 acknowledges the item; any other
/// one, and a signal, gives it back, and is the exit status of this command, too (128 and the signal's
/// number). When `membus queue take` is killed, COMMAND is killed and the item goes to the next. In
/// $MEMBUS_QUEUE_ID stands what the item is called, in $MEMBUS_QUEUE_ATTEMPT which delivery this is. COMMAND may
/// extend it.
///
/// Without COMMAND: prints `ID PAYLOAD` with a tab between. The item is kept for the time of --for; `ack`,
/// `release` and `extend` take the ID. Exit status 1: nothing came in time, or the item was lost.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The bus: a name, or a path with a `/`
    name: OsString,
    /// The queue
    queue: String,
    /// After this time the next one gets it [default: 30s; with COMMAND as long as it runs]
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
    time: Option<Duration>,
    /// Wait no longer than this for an item [default: as long as it takes]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    timeout: Option<Duration>,
    /// The ID on a line, then the payload as it is, with nothing behind it
    #[arg(long, conflicts_with_all = ["json", "command"])]
    raw: bool,
    /// Who takes it [default: cli]
    #[arg(long, value_name = "LABEL")]
    who: Option<String>,
    /// The command and its arguments
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

impl Args {
    pub(super) fn run(&self, tool: &Tool, out: &mut impl Write) -> Result<Outcome, Failure> {
        let mut signals = tied::listen()?;
        let queue = tool.attach(&self.name, self.who.as_deref())?.queue(&self.queue)?;
        let mut queue = match (self.command.is_empty(), self.time) {
            (true, time) => queue.detached(time.unwrap_or(KEPT)),
            (false, Some(time)) => queue.visibility(time),
            (false, None) => queue,
        };
        let Some(taken) = self.wait(&mut queue, &mut signals)? else { return Ok(Outcome::Absent) };
        if self.command.is_empty() {
            return self.show(tool, out, taken);
        }
        let mut command = tied::command(&self.command);
        command.env("MEMBUS_QUEUE_ID", taken.receipt().to_string());
        command.env("MEMBUS_QUEUE_ATTEMPT", taken.attempt().to_string());
        let input = if tool.json { line(&taken)? } else { payload(&taken) };
        let code = tied::run(&mut command, Some(input), &mut signals)?;
        let (number, attempt) = (taken.number(), taken.attempt());
        let mut end = if code == 0 { taken.ack() } else { taken.release() };
        if let Err(QueueError::Lost { .. }) = end
            && let Some(receipt) = extended(&queue, number, attempt).unwrap_or(None)
        {
            end = if code == 0 { queue.ack(receipt) } else { queue.release(receipt) };
        }
        match end {
            Ok(()) => Ok(Outcome::Status(code, None)),
            // What is to be told is how the command failed.
            Err(_) if code != 0 => Ok(Outcome::Status(code, None)),
            Err(error) => refused_or(error),
        }
    }

    fn wait(&self, queue: &mut Queue, signals: &mut Signals) -> Result<Option<Taken>, Failure> {
        let begun = Instant::now();
        loop {
            let left = self.timeout.map(|timeout| timeout.saturating_sub(begun.elapsed()));
            let taken = queue.take_timeout(left.unwrap_or(LOOK).min(LOOK))?;
            // Dropped, it is given back: nothing has been done about it.
            if let Some(signal) = signals.pending().find(|signal| *signal != SIGCHLD) {
                return Err(Failure::Interrupted(signal));
            }
            if taken.is_some() || left.is_some_and(|left| left <= LOOK) {
                return Ok(taken);
            }
        }
    }

    /// Shows an item and keeps it; one that nobody was shown is given back.
    fn show(&self, tool: &Tool, out: &mut impl Write, taken: Taken) -> Result<Outcome, Failure> {
        let shown = if tool.json {
            write_json(out, object(&taken))
        } else if self.raw {
            writeln!(out, "{}", taken.receipt()).and_then(|()| out.write_all(&payload(&taken)))
        } else {
            writeln!(out, "{}\t{}", taken.receipt(), on_a_line(&payload(&taken)))
        };
        shown.and_then(|()| out.flush())?;
        let _kept = taken.into_receipt();
        Ok(Outcome::Done)
    }
}

fn payload(taken: &Taken) -> Vec<u8> {
    Shown::of(taken.entry().stat.kind, taken.bytes()).into_bytes()
}

fn object(taken: &Taken) -> Object {
    let mut object = object_of(json!({
        "id": taken.receipt().to_string(),
        "number": taken.number(),
        "attempt": taken.attempt(),
    }));
    object.extend(entry_object(taken.entry()));
    object
}

fn line(taken: &Taken) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    write_json(&mut line, object(taken))?;
    Ok(line)
}

/// What an item is called that COMMAND has extended: it is this process's still, as long as it is the same delivery.
fn extended(queue: &Queue, number: u64, attempt: u64) -> Result<Option<Receipt>, QueueError> {
    for item in queue.view().items()? {
        let item = item?;
        if item.number >= number {
            // One that was put off belongs to nobody.
            let claim = item.claim.filter(|claim| claim.ephemeral);
            let is_same = item.number == number && item.attempts == attempt;
            let receipt = |claim: membus::Stat| Receipt { number, claim: claim.revision };
            return Ok(claim.filter(|_| is_same).map(receipt));
        }
    }
    Ok(None)
}
