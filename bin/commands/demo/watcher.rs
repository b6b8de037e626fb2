//! The watcher: a process that knows the work by its notifications alone. It shows how far it is, a
//! bar on a terminal and lines elsewhere, and measures how long a notification takes.
//!
//! The demo tells it on its standard input to `detach`, to `attach` again and to `end`; it answers a
//! line each. When the input ends without a word, the demo was killed: then the watcher removes what
//! the demo can't remove any more.

use super::job::{CLAIM, DONE, JOB, Mark, Site, behind};
use crate::error::{Failure, Outcome};
use crate::halt::Halt;
use crate::tool::Tool;
use crate::value::Shown;
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use membus::{Change, ChangeKind, ChangeValue, Event, Watch};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::io::{IsTerminal, Write, stderr, stdin};
use std::path::Path;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::{Duration, Instant, SystemTime};

/// How long a watch waits before the watcher looks what the demo says.
const LOOK: Duration = Duration::from_millis(20);
/// How often a line says how far the work is, where there is no bar.
const LINES: Duration = Duration::from_millis(500);
/// The longest latency that is told apart: a minute.
const LATENCY_MAX_NS: u64 = 60_000_000_000;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    site: Site,
    /// Bytes of all pieces
    #[arg(long)]
    bytes: u64,
    /// How many pieces there are
    #[arg(long)]
    pieces: u64,
}

/// How long it took from a change of one key to its arrival here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Latency {
    pub(super) count: u64,
    pub(super) p50_ns: u64,
    pub(super) p99_ns: u64,
    pub(super) max_ns: u64,
}

impl Args {
    pub(crate) fn run(&self, _tool: &Tool, out: &mut impl Write) -> Result<Outcome, Failure> {
        // What a terminal sends to all processes is for the demo to act on.
        let _halt = Halt::listen()?;
        let told = listen()?;
        let mut view = View::new(self)?;
        let mut watch = None;
        loop {
            match told.try_recv().as_deref() {
                Ok("attach") => {
                    watch = Some(self.attach()?);
                    view.forget();
                    answer(out, "attached")?;
                }
                Ok("detach") => {
                    view.draw(true);
                    watch = None;
                    answer(out, "detached")?;
                }
                Ok(_) => {
                    view.end();
                    let latency = serde_json::to_string(&view.latency());
                    answer(out, &latency.map_err(|error| Failure::Demo(error.to_string()))?)?;
                    return Ok(Outcome::Done);
                }
                Err(TryRecvError::Disconnected) => {
                    view.end();
                    drop(watch);
                    return self.clean_up();
                }
                Err(TryRecvError::Empty) => match &mut watch {
                    Some(watch) => {
                        match watch.recv_timeout(LOOK)? {
                            Some(Event::Lagged { .. }) => {
                                *watch = self.attach()?;
                                view.forget();
                            }
                            Some(event) => view.note(&event),
                            None => {}
                        }
                        view.draw(false);
                    }
                    None => std::thread::sleep(LOOK),
                },
            }
        }
    }

    fn attach(&self) -> Result<Watch, Failure> {
        Ok(self.site.options("watcher").attach_at(&self.site.bus)?.watch(JOB)?)
    }

    /// The demo is gone, and with it whoever would have removed its directories.
    fn clean_up(&self) -> Result<Outcome, Failure> {
        for path in [self.site.bus.parent().unwrap_or(Path::new("")), &self.site.store] {
            if path.exists() {
                std::fs::remove_dir_all(path).map_err(Failure::io("removing", path))?;
            }
        }
        Ok(Outcome::Done)
    }
}

fn answer(out: &mut impl Write, text: &str) -> Result<(), Failure> {
    writeln!(out, "{text}")?;
    Ok(out.flush()?)
}

/// What the demo says, a line each.
fn listen() -> Result<Receiver<String>, Failure> {
    let (sender, receiver) = channel();
    let read = move || {
        for line in stdin().lines() {
            let Ok(line) = line else { return };
            if sender.send(line).is_err() {
                return;
            }
        }
    };
    let spawned = std::thread::Builder::new().name("input".into()).spawn(read);
    spawned.map_err(|error| Failure::Demo(format!("starting a thread: {error}")))?;
    Ok(receiver)
}

/// What is known of the work.
struct View {
    bar: ProgressBar,
    lines: Option<Instant>,
    shown: u64,
    /// Whether what is there is still being told: half a listing is not shown.
    is_listing: bool,
    pieces: u64,
    bytes: u64,
    done: HashMap<String, u64>,
    done_bytes: u64,
    claims: u64,
    latencies: Histogram<u64>,
}

impl View {
    fn new(args: &Args) -> Result<Self, Failure> {
        let failed = |error: &dyn std::fmt::Display| Failure::Demo(error.to_string());
        let style = ProgressStyle::with_template(
            "{bar:40} {percent:>3} %  {bytes} of {total_bytes}  {msg}",
        );
        let style = style.map_err(|error| failed(&error))?;
        let terminal = stderr().is_terminal();
        let target =
            if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let latencies = Histogram::new_with_bounds(1, LATENCY_MAX_NS, 3);
        Ok(Self {
            bar: ProgressBar::with_draw_target(Some(args.bytes), target).with_style(style),
            lines: (!terminal).then(Instant::now),
            shown: 0,
            is_listing: true,
            pieces: args.pieces,
            bytes: args.bytes,
            done: HashMap::new(),
            done_bytes: 0,
            claims: 0,
            latencies: latencies.map_err(|error| failed(&error))?,
        })
    }

    /// Before another listing.
    fn forget(&mut self) {
        self.done.clear();
        self.is_listing = true;
        (self.done_bytes, self.claims) = (0, 0);
    }

    fn note(&mut self, event: &Event) {
        match event {
            Event::Current(entry) => {
                if let Some(id) = behind(DONE, &entry.key) {
                    let bytes = entry.decode::<Mark>().map_or(0, |mark| mark.bytes);
                    self.mark(id, bytes);
                }
                self.claims += u64::from(behind(CLAIM, &entry.key).is_some());
            }
            Event::CaughtUp(_) => self.is_listing = false,
            Event::Change(change) => self.note_change(change),
            _ => {}
        }
    }

    fn note_change(&mut self, change: &Change) {
        if let (Some(id), ChangeValue::Here(bytes)) = (behind(DONE, &change.key), &change.value) {
            let mark = Shown::of(change.value_kind, bytes).json().0;
            self.mark(id, mark.get("bytes").and_then(serde_json::Value::as_u64).unwrap_or(0));
        }
        if behind(CLAIM, &change.key).is_none() {
            return;
        }
        if change.kind == ChangeKind::Set {
            self.claims += 1;
            let took = SystemTime::now().duration_since(change.time).unwrap_or_default();
            let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
            self.latencies.saturating_record(ns.clamp(1, LATENCY_MAX_NS));
        } else {
            self.claims = self.claims.saturating_sub(1);
        }
    }

    fn mark(&mut self, id: &str, bytes: u64) {
        if self.done.insert(id.to_owned(), bytes).is_none() {
            self.done_bytes += bytes;
        }
    }

    /// Shows what is new; as a line now and then only, unless it must be now.
    fn draw(&mut self, now: bool) {
        let (done, pieces, claims) = (self.done.len(), self.pieces, self.claims);
        if self.is_listing || self.done_bytes == self.shown {
            return;
        }
        if let Some(last) = self.lines {
            if last.elapsed() < LINES && self.done_bytes < self.bytes && !now {
                return;
            }
            self.lines = Some(Instant::now());
            let percent = self.done_bytes * 100 / self.bytes.max(1);
            let line = format!("{percent:>3} %  {done} of {pieces} pieces, {claims} claimed");
            // Progress that nobody can see stops nothing.
            let _told = writeln!(stderr().lock(), "{line}");
        } else {
            self.bar.set_position(self.done_bytes);
            self.bar.set_message(format!("{done} of {pieces} pieces, {claims} claimed"));
        }
        self.shown = self.done_bytes;
    }

    fn end(&self) {
        self.bar.finish_and_clear();
    }

    fn latency(&self) -> Latency {
        Latency {
            count: self.latencies.len(),
            p50_ns: self.latencies.value_at_quantile(0.5),
            p99_ns: self.latencies.value_at_quantile(0.99),
            max_ns: self.latencies.max(),
        }
    }
}
