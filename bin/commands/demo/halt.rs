//! Signals that say to end: heard, and looked at where there is something to tidy up.

use crate::error::Failure;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A signal that says to end, when one came.
#[derive(Debug, Clone, Default)]
pub(super) struct Halt(Arc<AtomicUsize>);

impl Halt {
    /// From here on these signals are heard and kill no more.
    pub(super) fn listen() -> Result<Self, Failure> {
        let halt = Arc::new(AtomicUsize::new(0));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            let number = usize::try_from(signal).unwrap_or(usize::MAX);
            let heard = signal_hook::flag::register_usize(signal, Arc::clone(&halt), number);
            heard.map_err(Failure::io("listening for", "signals".as_ref()))?;
        }
        Ok(Self(halt))
    }

    pub(super) fn check(&self) -> Result<(), Failure> {
        match self.0.load(Ordering::Relaxed) {
            0 => Ok(()),
            signal => Err(Failure::Interrupted(i32::try_from(signal).unwrap_or(0))),
        }
    }
}
