//! `buses`: which buses there are.

use crate::error::{Failure, Outcome};
use crate::output::{NOBODY, object_of, on_a_line, one_line, write_json, write_table};
use crate::tool::Tool;
use crate::units::show_size;
use membus::{BusEntry, BusReader, Info, ReadError};
use serde_json::json;
use std::io::Write;

/// List the buses of the directory: name, living members, entries, size
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

impl Args {
    #[expect(clippy::unused_self, reason = "each command has the same shape")]
    pub(crate) fn run(&self, tool: &Tool, out: &mut impl Write) -> Result<Outcome, Failure> {
        let buses = membus::buses(tool.directory.as_deref())?;
        let found: Vec<_> = buses.iter().map(|bus| (bus, look(bus))).collect();
        if tool.json {
            for (bus, info) in &found {
                write_json(out, object_of(object(bus, info)))?;
            }
            return Ok(Outcome::Done);
        }
        let rows: Vec<_> = found.iter().map(|(bus, info)| row(bus, info)).collect();
        write_table(out, &["NAME", "MEMBERS", "ENTRIES", "SIZE"], &rows)?;
        Ok(Outcome::Done)
    }
}

/// What a bus is, with its living members; or why it can't be read, which the others in the list don't suffer from.
fn look(bus: &BusEntry) -> Result<Info, String> {
    let reader = BusReader::open_at(&bus.path).map_err(|error| error.to_string())?;
    let look = || Ok::<_, ReadError>((reader.members()?, reader.info()?));
    let (members, mut info) = look().map_err(|error| error.to_string())?;
    let living = members.iter().filter(|member| member.alive).count();
    info.members = u32::try_from(living).unwrap_or(u32::MAX);
    Ok(info)
}

fn object(bus: &BusEntry, info: &Result<Info, String>) -> serde_json::Value {
    let path = bus.path.display().to_string();
    match info {
        Ok(info) => json!({
            "name": bus.name,
            "members": info.members,
            "entries": info.entries,
            "size": info.capacity,
            "path": path,
        }),
        Err(error) => json!({"name": bus.name, "path": path, "error": error}),
    }
}

fn row(bus: &BusEntry, info: &Result<Info, String>) -> Vec<String> {
    let name = on_a_line(bus.name.as_bytes());
    match info {
        Ok(info) => {
            vec![name, info.members.to_string(), info.entries.to_string(), show_size(info.capacity)]
        }
        Err(error) => vec![name, NOBODY.to_owned(), NOBODY.to_owned(), one_line(error)],
    }
}
