//! The figures of waking, as a table.

use std::io::{self, Write};

use serde::{Deserialize, Serialize};

use super::{Means, PAUSE, Pace, WakeFigure};

/// What was found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct WakeReport {
    /// Rounds whose median counts.
    pub(crate) rounds: usize,
    /// Every one taken.
    pub(crate) figures: Vec<WakeFigure>,
}

impl WakeReport {
    fn figure(&self, means: Means, pace: Pace) -> Option<&WakeFigure> {
        self.figures.iter().find(|figure| (figure.means, figure.pace) == (means, pace))
    }

    /// Microseconds one way, when measured.
    pub(crate) fn time(&self, means: Means, pace: Pace) -> Option<f64> {
        self.figure(means, pace).map(|figure| figure.p50.median)
    }

    /// That of the faster one of the raw sockets.
    pub(crate) fn socket(&self, pace: Pace) -> Option<f64> {
        let time = |means| self.time(means, pace);
        Some(time(Means::Datagram)?.min(time(Means::Stream)?))
    }

    /// Sets the table; the ratio is to the faster raw socket, as the goal is.
    pub(crate) fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let rounds = self.rounds;
        writeln!(
            out,
            "\nwaking another process, one way: µs p50 (p99), median of {rounds} rounds"
        )?;
        writeln!(out, "(× the faster raw Unix socket's p50)\n")?;
        let idle = format!("idle {} µs", PAUSE.as_micros());
        writeln!(out, "{:24}{:>28}{idle:>28}", "", Pace::Busy.word())?;
        for means in Means::ALL {
            if Pace::ALL.iter().all(|pace| self.figure(means, *pace).is_none()) {
                continue;
            }
            write!(out, "{:24}", means.title())?;
            for pace in Pace::ALL {
                let Some(figure) = self.figure(means, pace) else { continue };
                let ratio = figure.p50.median / self.socket(pace).unwrap_or(f64::NAN);
                let p99 = format!("({:.1})", figure.p99.median);
                write!(out, "{:>10.2} {p99:>9}{:>8}", figure.p50.median, format!("({ratio:.2})"))?;
            }
            writeln!(out)?;
        }
        Ok(())
    }
}
