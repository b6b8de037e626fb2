//! What the library has to say beside its results, told on standard error: why a snapshot or a journal failed.

use crate::output::say;
use std::fmt::{Debug, Write};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Tells warnings and errors, each as a line.
struct Report;

/// The text of an event: its message, and its fields behind it.
#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Writing to a string does not fail.
        let _written = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            // Whoever called knows which bus it is.
            "bus" => Ok(()),
            name => write!(self.fields, "; {name}: {value:?}"),
        };
    }
}

impl Subscriber for Report {
    fn enabled(&self, of: &Metadata<'_>) -> bool {
        *of.level() <= Level::WARN && of.target().starts_with("membus")
    }
    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        say(&format!("{}{}", line.message, line.fields));
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// From here on it is told, by commands that stay, and by those that may build a bus anew.
pub(crate) fn begin() {
    // Nobody else in this program sets one.
    let _first = tracing::subscriber::set_global_default(Report);
}
