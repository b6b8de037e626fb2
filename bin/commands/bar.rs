//! What takes its time: a bar beside it on a terminal, and its end by a signal.

use crate::error::Failure;
use crate::halt::Halt;
use indicatif::{ProgressBar, ProgressStyle};
use membus::{Progress, Stage};
use std::ops::ControlFlow;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

/// How often the spinner turns.
const TURN: Duration = Duration::from_millis(100);
/// What is shown where it is known how much there is, and where it is not.
const BAR: &str = "{msg} [{bar:30}] {human_pos} of {human_len}, {eta}";
const SPINNER: &str = "{spinner} {msg} {human_pos}";

/// Runs something that tells how far it is; SIGINT, SIGTERM and SIGHUP end it, and nothing of it is left.
pub(super) fn with_bar<T, E: Into<Failure>>(
    run: impl FnOnce(&mut dyn FnMut(&Progress) -> ControlFlow<()>) -> Result<T, E>,
) -> Result<T, Failure> {
    let halt = Halt::listen()?;
    // Draws on standard error, and only where that is a terminal.
    let bar = ProgressBar::new_spinner();
    let mut shown = None;
    let mut tell = |progress: &Progress| {
        if shown.replace(progress.stage) != Some(progress.stage) {
            begin(&bar, progress);
        }
        // What is known is about.
        bar.set_position(progress.total.map_or(progress.entries, |all| progress.entries.min(all)));
        if halt.check().is_err() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let end = if bar.is_hidden() { run(&mut tell) } else { turning(&bar, || run(&mut tell)) };
    bar.finish_and_clear();
    // A signal that came too late for it changes nothing.
    end.map_err(|error| halt.check().err().unwrap_or_else(|| error.into()))
}

/// Turns a spinner while something runs. Where no thread is to be had for it, it stands still.
fn turning<T>(bar: &ProgressBar, run: impl FnOnce() -> T) -> T {
    let (running, ended) = channel::<()>();
    thread::scope(|scope| {
        let turn = move || {
            while ended.recv_timeout(TURN) == Err(RecvTimeoutError::Timeout) {
                bar.tick();
            }
        };
        let _turning = thread::Builder::new().spawn_scoped(scope, turn);
        let end = run();
        drop(running);
        end
    })
}

fn begin(bar: &ProgressBar, progress: &Progress) {
    let what = match progress.stage {
        Stage::Loading => "loading",
        Stage::Filling => "filling the bus",
        Stage::Copying => "copying",
        _ => "saving",
    };
    bar.set_message(what);
    let template = if progress.total.is_some() { BAR } else { SPINNER };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    match progress.total {
        Some(total) => bar.set_length(total),
        None => bar.unset_length(),
    }
}
