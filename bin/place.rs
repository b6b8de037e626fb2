//! Where a backup is: what was typed, as a backend.

use crate::error::Failure;
use membus::{Backend, Persist};
use std::ffi::OsStr;
use std::sync::Arc;

/// What begins a text that names a backend; all else is a path.
const SCHEMES: [&str; 7] =
    ["image:", "json:", "sqlite:", "redis:", "rediss:", "redis+unix:", "none"];
/// How such a place is said in the help.
pub(crate) const PLACES: &str = "\
A place is a file FILE.json, FILE.json.gz, FILE.sqlite or FILE.db, or a directory of images, or the URL of a
backend as `create --persist` takes it: image:DIR, json:FILE, sqlite:FILE, redis://HOST …";

/// A place that holds snapshots.
#[derive(Debug)]
pub(crate) struct Place {
    /// As others can name it: without a password.
    pub(crate) name: String,
    pub(crate) backend: Arc<dyn Backend>,
}

impl Place {
    /// What was typed; the backend keeps so many snapshots.
    pub(crate) fn parse(typed: &OsStr, keep: usize) -> Result<Self, Failure> {
        let wrong = |reason: String| Failure::Input(format!("{}: {reason}", typed.display()));
        let persist = persist(typed).map_err(wrong)?;
        let backend = persist.backend(keep).map_err(|error| wrong(error.to_string()))?;
        let backend = backend.ok_or_else(|| wrong("there is nothing to be kept".to_owned()))?;
        Ok(Self { name: persist.to_string(), backend })
    }
}

fn persist(typed: &OsStr) -> Result<Persist, String> {
    if let Some(text) = typed.to_str()
        && SCHEMES.iter().any(|scheme| text.starts_with(scheme))
    {
        return text.parse::<Persist>().map_err(|error| error.to_string());
    }
    Persist::of_path(typed).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    /// Promise: a file's name says what it is; whatever stands in a path is a part of the path.
    /// Plant: `.json.gz` taken for a directory.
    #[test]
    fn names_say_what_they_are() {
        for (typed, due) in [
            ("/x.json", "json:/x.json"),
            ("/a/b c.json.gz", "json:/a/b c.json.gz"),
            ("/what?.db", "sqlite:/what%3F.db"),
            ("/100%.sqlite", "sqlite:/100%25.sqlite"),
            ("/images", "image:/images"),
            ("image:x.json", "image:x.json"),
            ("sqlite:x?table=t", "sqlite:x?table=t"),
        ] {
            assert_eq!(persist(OsStr::new(typed)).unwrap().to_string(), due, "{typed}");
        }
        let odd = OsStr::from_bytes(b"/\xff.json");
        assert_eq!(persist(odd).unwrap().to_string(), "json:/%FF.json");
        let nothing = Place::parse(OsStr::new("none"), 1).unwrap_err();
        assert!(nothing.to_string().contains("nothing"), "{nothing}");
    }
}
