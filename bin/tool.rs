//! What every command has in common: which bus a name means, and by which handle it is reached.

use crate::error::{Failure, Outcome};
use crate::output::{change_object, write_json};
use membus::{Bus, BusReader, OpenError, Options, Revision, WriteError};
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
        if !is_name(name.as_bytes()) {
            return Err(OpenError::Name { name: name.to_string_lossy().into_owned() }.into());
        }
        Ok(self.buses().join(name))
    }

    /// The directory of all buses: `--dir`, `$MEMBUS_DIR`, or `/dev/shm/membus-UID`.
    fn buses(&self) -> PathBuf {
        let named = std::env::var_os("MEMBUS_DIR").filter(|value| !value.is_empty());
        let given = self.directory.clone().or_else(|| named.map(PathBuf::from));
        given.unwrap_or_else(|| format!("/dev/shm/membus-{}", nix::unistd::getuid()).into())
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

/// The library's rule for names, which it applies itself where it is given a name.
fn is_name(name: &[u8]) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    name.first().is_some_and(plain)
        && name.iter().all(|byte| plain(byte) || b".-".contains(byte))
        && name.len() <= membus::limits::NAME_MAX
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
