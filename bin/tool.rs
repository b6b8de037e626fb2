//! What every command has in common: which bus a name means, and by which handle it is reached.

use crate::error::{Failure, Outcome};
use crate::output::{change_object, write_json};
use membus::{Bus, BusReader, Options, Revision, WriteError};
use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// What a command-line handle is called, and who its changes are by, unless `--who` says otherwise.
const LABEL: &str = "cli";

/// What was said before the command.
#[derive(Debug)]
pub(crate) struct Tool {
    /// Directory of all buses, when it was given.
    pub(crate) directory: Option<PathBuf>,
    /// Whether results are JSON.
    pub(crate) json: bool,
    /// Whether results may have colours.
    pub(crate) colours: bool,
}

impl Tool {
    /// The directory of a bus: what contains a `/` is a path, all else a name.
    pub(crate) fn path(&self, name: &OsStr) -> Result<PathBuf, Failure> {
        if name.as_bytes().contains(&b'/') {
            return Ok(PathBuf::from(name));
        }
        let options = match &self.directory {
            Some(directory) => Bus::options().directory(directory),
            None => Bus::options(),
        };
        Ok(options.path(&name.to_string_lossy())?)
    }

    /// The directory of all buses.
    pub(crate) fn all_buses(&self) -> PathBuf {
        membus::directory(self.directory.as_deref())
    }

    /// A handle that only reads: no member slot, and the kernel holds it to that.
    pub(crate) fn reader(&self, name: &OsStr) -> Result<BusReader, Failure> {
        Ok(BusReader::open_at(self.path(name)?)?)
    }

    /// A handle that writes; it never creates a bus and never hosts the keeper.
    pub(crate) fn attach(&self, name: &OsStr, who: Option<&str>) -> Result<Bus, Failure> {
        Ok(options(who).attach_at(self.path(name)?)?)
    }

    /// The revision of a change, and its key in JSON.
    pub(crate) fn tell_revision(
        &self,
        out: &mut impl Write,
        key: &[u8],
        revision: Revision,
    ) -> Result<Outcome, Failure> {
        if self.json {
            write_json(out, change_object(key, revision.get()))?;
        } else {
            writeln!(out, "{revision}")?;
        }
        Ok(Outcome::Done)
    }
}

/// What a command-line handle is opened with.
pub(crate) fn options(who: Option<&str>) -> Options {
    Bus::options().keeper(false).label(who.unwrap_or(LABEL))
}

/// A condition that did not hold is no failure.
pub(crate) fn refused_or(error: WriteError) -> Result<Outcome, Failure> {
    match error {
        WriteError::Conflict { .. } => Ok(Outcome::Refused(error.to_string())),
        error => Err(error.into()),
    }
}

/// The bytes of an argument; `-` stands for standard input, to its end.
pub(crate) fn argument_or_stdin(argument: &OsString) -> Result<Vec<u8>, Failure> {
    if argument != "-" {
        return Ok(argument.clone().into_vec());
    }
    let mut bytes = Vec::new();
    let read = std::io::stdin().lock().read_to_end(&mut bytes);
    read.map_err(Failure::io("reading", Path::new("standard input")))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Promise: what contains a `/` is a path, all else must be a name, in `--dir` when it is given.
    /// Plant: without the rule of names, `..` is the parent of all buses.
    #[test]
    fn names_and_paths() {
        let tool = Tool { directory: Some("/d".into()), json: false, colours: false };
        let path = |name: &str| tool.path(OsStr::new(name)).ok();
        assert_eq!(path("orders"), Some("/d/orders".into()));
        assert_eq!(path("./orders"), Some("./orders".into()));
        assert_eq!(path("/x/orders"), Some("/x/orders".into()));
        for wrong in ["", "..", ".x", "-x", "a b", "\u{e9}", &"x".repeat(65)] {
            assert_eq!(path(wrong), None, "{wrong}");
        }
        assert_eq!(path(&"x".repeat(64)), Some(format!("/d/{}", "x".repeat(64)).into()));
    }
}
