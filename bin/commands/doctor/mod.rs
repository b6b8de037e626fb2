//! `doctor`: what of this host endangers its buses, and what to do about each.

mod buses;
mod host;
mod memory;
mod session;

use crate::error::{Failure, Outcome};
use crate::output::{Colour, object_of, one_line, paint, write_json};
use crate::tool::Tool;
use host::Host;
use serde_json::json;
use std::io::Write;
use std::path::Path;

/// Look at the host and at all buses: what endangers them, and what to do about it
///
/// Looks only. Exit status 1 when anything is in danger; notes are no danger.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// How something stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// As it should be.
    Good,
    /// Worth knowing; nothing is lost by it.
    Note,
    /// State may be lost, or work may stop.
    Danger,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Note => "note",
            Self::Danger => "danger",
        }
    }
    fn colour(self) -> Option<Colour> {
        match self {
            Self::Good => Some(Colour::Green),
            Self::Note => None,
            Self::Danger => Some(Colour::Red),
        }
    }
}

/// One thing that was looked at.
#[derive(Debug)]
struct Finding {
    /// What: `memory`, or `bus orders`.
    about: String,
    state: State,
    /// What is there.
    what: String,
    /// What to do.
    advice: Option<String>,
}

impl Finding {
    fn good(about: &str, what: impl Into<String>) -> Self {
        Self { about: about.to_owned(), state: State::Good, what: what.into(), advice: None }
    }
    fn note(about: &str, what: impl Into<String>, advice: impl Into<String>) -> Self {
        let (what, advice) = (what.into(), Some(advice.into()));
        Self { about: about.to_owned(), state: State::Note, what, advice }
    }
    fn danger(about: &str, what: impl Into<String>, advice: impl Into<String>) -> Self {
        let (what, advice) = (what.into(), Some(advice.into()));
        Self { about: about.to_owned(), state: State::Danger, what, advice }
    }
}

impl Args {
    #[expect(clippy::unused_self, reason = "each command has the same shape")]
    pub(crate) fn run(&self, tool: &Tool, out: &mut impl Write) -> Result<Outcome, Failure> {
        let directory = tool.all_buses();
        let found = look(&Host::new(Path::new("/")), &directory)?;
        tell(tool, out, &found)?;
        let count = found.iter().filter(|finding| finding.state == State::Danger).count();
        Ok(match count {
            0 => Outcome::Done,
            1 => Outcome::Refused("1 thing is in danger".to_owned()),
            _ => Outcome::Refused(format!("{count} things are in danger")),
        })
    }
}

fn look(host: &Host, directory: &Path) -> Result<Vec<Finding>, Failure> {
    let buses = buses::all(directory)?;
    let mut found = vec![host.kernel()];
    found.extend(memory::file_system(directory, &buses)?);
    found.push(memory::control_group(host, &buses));
    found.push(session::removes_ipc(host, directory));
    found.extend(host.limits(memory::largest(&buses)));
    found.push(host.time());
    for bus in &buses {
        found.extend(buses::examine(host, bus));
    }
    Ok(found)
}

fn tell(tool: &Tool, out: &mut impl Write, found: &[Finding]) -> Result<(), Failure> {
    let width = found.iter().map(|finding| finding.about.chars().count()).max().unwrap_or(0);
    for Finding { about, state, what, advice } in found {
        if tool.json {
            let object = json!({
                "about": about,
                "state": state.word(),
                "what": what,
                "advice": advice,
            });
            write_json(out, object_of(object))?;
            continue;
        }
        // Padded before it is painted: colours have a length too.
        let word = format!("{:6}", state.word());
        let word = match state.colour() {
            Some(colour) => paint(tool.colours, colour, &word),
            None => word,
        };
        writeln!(out, "{word}  {about:width$}  {}", one_line(what))?;
        if let Some(advice) = advice {
            writeln!(out, "{:6}  {:width$}  -> {}", "", "", one_line(advice))?;
        }
    }
    Ok(())
}
