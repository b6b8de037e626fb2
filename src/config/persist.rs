//! Where a bus's snapshots go, as a text: `none`, `image:DIRECTORY`, `image:DIRECTORY?compress=gzip`,
//! `json:FILE`, `json:FILE.gz`, `sqlite:FILE`, `sqlite:FILE?table=NAME`, and those of `redis`.
//!
//! What stands before the `?` of a path is as in a URL: `%3F` is a `?`, `%25` a `%`; a `%` that begins no
//! such pair is itself. What [`Persist`] shows is read back as the same.

use super::redis::{self, RedisPlace};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Where a bus's snapshots go.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Persist {
    /// Nowhere: the state goes with the host, or with the bus's files.
    None,
    /// Into image files in this directory.
    Image(PathBuf),
    /// Into compressed image files in this directory. Plain ones that are there are read as well.
    CompressedImage(PathBuf),
    /// Into this file as JSON, and into older ones beside it; compressed, where its name ends with `.gz`.
    Json(PathBuf),
    /// Into a table of this SQLite database.
    Sqlite {
        /// The file.
        path: PathBuf,
        /// The table: 1 to 50 letters, digits and underlines, no digit first (default `membus`).
        table: String,
    },
    /// Into keys of this Redis server.
    Redis(RedisPlace),
    /// To a backend of the program's own, which [`Options::backend`](crate::Options::backend) gives.
    Own,
}

/// Ends of paths, and what has such a name. A path with none of them is a directory of images.
const ENDS: [(&str, &str); 5] = [
    (".json", "json"),
    (".json.gz", "json"),
    (".sqlite", "sqlite"),
    (".sqlite3", "sqlite"),
    (".db", "sqlite"),
];

impl Persist {
    /// What a path names by its end: `.json` and `.json.gz` a document, `.db`, `.sqlite` and `.sqlite3` the table `membus` of a
    /// database, all else a directory of images. A relative one is taken from where this process is.
    ///
    /// # Errors
    /// [`PersistError::Wrong`] for a file with another end.
    pub fn of_path(path: impl AsRef<Path>) -> Result<Self, PersistError> {
        let wrong =
            |reason: &str| PersistError::Wrong { scheme: "image", reason: reason.to_owned() };
        let failed = |error: io::Error| wrong(&error.to_string());
        let path = std::path::absolute(path).map_err(failed)?;
        let bytes = path.as_os_str().as_bytes();
        let end = ENDS.iter().find(|(end, _)| bytes.ends_with(end.as_bytes()));
        match end {
            None if path.is_file() => {
                Err(wrong("is a directory, and this is a file of no kind that has snapshots"))
            }
            None => Ok(Self::Image(path)),
            Some((_, "json")) => Ok(Self::Json(path)),
            Some(_) => Ok(Self::sqlite(path)),
        }
    }

    /// The table `membus` of this SQLite database.
    pub fn sqlite(path: impl Into<PathBuf>) -> Self {
        Self::Sqlite { path: path.into(), table: TABLE.to_owned() }
    }
}

impl fmt::Display for Persist {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Own => f.write_str("own"),
            Self::Redis(place) => place.fmt(f),
            Self::Image(directory) => write!(f, "image:{}", Escaped::path(directory)),
            Self::Json(path) => write!(f, "json:{}", Escaped::path(path)),
            Self::Sqlite { path, table } if table == TABLE => {
                write!(f, "sqlite:{}", Escaped::path(path))
            }
            Self::Sqlite { path, table } => {
                write!(f, "sqlite:{}?table={table}", Escaped::path(path))
            }
            Self::CompressedImage(directory) => {
                write!(f, "image:{}?compress=gzip", Escaped::path(directory))
            }
        }
    }
}

/// A text that names no backend.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PersistError {
    /// It begins with the name of none.
    #[error("`{scheme}` is no kind of backend; there are {KINDS}")]
    Unknown {
        /// What stands before the `:`.
        scheme: String,
    },
    /// What follows the kind of backend is not right.
    #[error("a backend `{scheme}:` {reason}")]
    Wrong {
        /// The kind of backend.
        scheme: &'static str,
        /// What is wrong; no password is in it.
        reason: String,
    },
    /// This build of membus has it not.
    #[error(
        "a backend `{scheme}:` needs the feature `{feature}`, which this build of membus lacks"
    )]
    Feature {
        /// The kind of backend.
        scheme: &'static str,
        /// The feature of the package `membus`.
        feature: &'static str,
    },
}

/// What there is, for people.
const KINDS: &str = "none, image:DIRECTORY[?compress=gzip], json:FILE[.gz], sqlite:FILE[?table=NAME], \
     redis://[USER@]HOST[:PORT][/DATABASE][?prefix=PREFIX], rediss://…, redis+unix:///SOCKET";
/// The table of a database when nobody says.
const TABLE: &str = "membus";
/// Longest name of a table.
const TABLE_MAX: usize = 50;

impl FromStr for Persist {
    type Err = PersistError;
    fn from_str(url: &str) -> Result<Self, PersistError> {
        match url.split_once(':') {
            None if url == "none" => Ok(Self::None),
            None if url == "own" => Ok(Self::Own),
            Some(("image", rest)) => image(rest),
            Some(("json", rest)) => json(rest),
            Some(("sqlite", rest)) => sqlite(rest),
            Some(("redis", rest)) => redis::parse("redis", rest).map(Self::Redis),
            Some(("rediss", rest)) => redis::parse("rediss", rest).map(Self::Redis),
            Some(("redis+unix", rest)) => redis::parse("redis+unix", rest).map(Self::Redis),
            found => {
                let scheme = found.map_or(url, |(scheme, _)| scheme).to_owned();
                Err(PersistError::Unknown { scheme })
            }
        }
    }
}

fn image(rest: &str) -> Result<Persist, PersistError> {
    let (path, mut parameters) = split("image", rest)?;
    let compress = take(&mut parameters, "compress");
    no_more("image", parameters)?;
    match compress.as_deref() {
        None | Some("none") => Ok(Persist::Image(path)),
        Some("gzip") => Ok(Persist::CompressedImage(path)),
        Some(other) => {
            let reason = format!("is compressed by gzip or none, not by `{other}`");
            Err(PersistError::Wrong { scheme: "image", reason })
        }
    }
}

fn json(rest: &str) -> Result<Persist, PersistError> {
    let (path, parameters) = split("json", rest)?;
    no_more("json", parameters)?;
    is_file("json", &path)?;
    Ok(Persist::Json(path))
}

fn sqlite(rest: &str) -> Result<Persist, PersistError> {
    let (path, mut parameters) = split("sqlite", rest)?;
    let table = take(&mut parameters, "table").unwrap_or_else(|| TABLE.to_owned());
    no_more("sqlite", parameters)?;
    is_file("sqlite", &path)?;
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let begins_well = table.starts_with(|c: char| is_word(c) && !c.is_ascii_digit());
    if !begins_well || !table.chars().all(is_word) || table.len() > TABLE_MAX {
        let what = format!("letters, digits and underlines, up to {TABLE_MAX}, no digit first");
        return Err(PersistError::Wrong {
            scheme: "sqlite",
            reason: format!("needs a table of {what}"),
        });
    }
    if table.get(..7).is_some_and(|begin| begin.eq_ignore_ascii_case("sqlite_")) {
        let reason = "has tables of its own that begin with sqlite_".to_owned();
        return Err(PersistError::Wrong { scheme: "sqlite", reason });
    }
    Ok(Persist::Sqlite { path, table })
}

fn is_file(scheme: &'static str, path: &Path) -> Result<(), PersistError> {
    if path.file_name().is_none() {
        let reason = "needs the path of a file".to_owned();
        return Err(PersistError::Wrong { scheme, reason });
    }
    Ok(())
}

/// What stands behind a `?`: names and values.
pub(super) type Parameters<'a> = Vec<(&'a str, String)>;

/// The path and the parameters behind its `?`.
fn split<'a>(
    scheme: &'static str,
    rest: &'a str,
) -> Result<(PathBuf, Parameters<'a>), PersistError> {
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    if path.is_empty() {
        return Err(PersistError::Wrong { scheme, reason: "needs a path".to_owned() });
    }
    let parameters = parameters(scheme, query)?;
    Ok((PathBuf::from(OsString::from_vec(unescape(path))), parameters))
}

/// The names and values behind a `?`.
pub(super) fn parameters<'a>(
    scheme: &'static str,
    query: &'a str,
) -> Result<Parameters<'a>, PersistError> {
    let mut parameters = Vec::new();
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let Ok(value) = String::from_utf8(unescape(value)) else {
            let reason = format!("has a parameter `{name}` that is no text");
            return Err(PersistError::Wrong { scheme, reason });
        };
        parameters.push((name, value));
    }
    Ok(parameters)
}

/// Takes the last parameter of this name.
pub(super) fn take(parameters: &mut Parameters<'_>, name: &str) -> Option<String> {
    let mut found = None;
    parameters.retain_mut(|(other, value)| {
        let is_it = *other == name;
        if is_it {
            found = Some(std::mem::take(value));
        }
        !is_it
    });
    found
}

pub(super) fn no_more(scheme: &'static str, rest: Parameters<'_>) -> Result<(), PersistError> {
    match rest.first() {
        None => Ok(()),
        Some((name, _)) => {
            let reason = format!("knows no parameter `{name}` (a `?` in a path is written %3F)");
            Err(PersistError::Wrong { scheme, reason })
        }
    }
}

/// Bytes with each `%` and two hexadecimal digits replaced by what they stand for.
pub(super) fn unescape(text: &str) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        let digit = |at: usize| Some(char::from(*after.get(at)?).to_digit(16)? as u8);
        match (*first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push(high << 4 | low);
                rest = &after[2..];
            }
            (byte, ..) => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    bytes
}

/// A text that [`unescape`] gives back.
pub(super) struct Escaped<'a> {
    text: &'a OsStr,
    /// Characters that mean something where it stands.
    special: &'static [char],
}

impl<'a> Escaped<'a> {
    /// For a path, or a value behind the `?`.
    pub(super) fn path<T: AsRef<OsStr> + ?Sized>(text: &'a T) -> Self {
        Self { text: text.as_ref(), special: &['%', '?', '&', '#'] }
    }
    /// For a user or a host.
    pub(super) fn login(text: &'a str) -> Self {
        Self { text: text.as_ref(), special: &['%', '?', '&', '#', ':', '@', '/', '[', ']'] }
    }
}

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let escapes = |c: char| self.special.contains(&c) || c.is_control();
        for chunk in self.text.as_bytes().utf8_chunks() {
            for c in chunk.valid().chars() {
                if escapes(c) {
                    let mut bytes = [0; 4];
                    for byte in c.encode_utf8(&mut bytes).bytes() {
                        write!(f, "%{byte:02X}")?;
                    }
                } else {
                    write!(f, "{c}")?;
                }
            }
            for byte in chunk.invalid() {
                write!(f, "%{byte:02X}")?;
            }
        }
        Ok(())
    }
}

impl Persist {
    /// With a relative path taken from where the process is now.
    pub(crate) fn absolute(&self) -> io::Result<Self> {
        let absolute = |path: &Path| std::path::absolute(path);
        Ok(match self {
            Self::None => Self::None,
            Self::Own => Self::Own,
            Self::Image(directory) => Self::Image(absolute(directory)?),
            Self::Redis(place) => Self::Redis(place.absolute()?),
            Self::Json(path) => Self::Json(absolute(path)?),
            Self::Sqlite { path, table } => {
                Self::Sqlite { path: absolute(path)?, table: table.clone() }
            }
            Self::CompressedImage(directory) => Self::CompressedImage(absolute(directory)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Promise: whatever a path names, of any bytes, is one and the same wherever the process goes.
    /// Plants: the authorities' file of a server left as it was; documents at paths that are no text refused.
    #[test]
    fn relative_paths_are_taken_from_here() {
        let here = std::env::current_dir().unwrap().display().to_string();
        for (url, absolute) in [
            ("image:a", "image:HERE/a"),
            ("json:a/%FF.json", "json:HERE/a/%FF.json"),
            ("sqlite:a.db?table=t", "sqlite:HERE/a.db?table=t"),
            ("rediss://h?ca=a/b.pem&prefix=p", "rediss://h?ca=HERE/a/b.pem&prefix=p"),
            ("rediss://h?ca=/b.pem", "rediss://h?ca=/b.pem"),
            ("rediss://h", "rediss://h"),
            ("redis://h", "redis://h"),
            ("redis+unix:///s", "redis+unix:///s"),
        ] {
            let found = url.parse::<Persist>().unwrap().absolute().unwrap();
            assert_eq!(found.to_string(), absolute.replace("HERE", &here), "{url}");
            assert_eq!(found.absolute().unwrap(), found);
        }
        let odd = Path::new(OsStr::from_bytes(b"/a/\xff.json"));
        assert_eq!(Persist::of_path(odd).unwrap(), Persist::Json(odd.to_owned()));
    }

    /// Plant: a `%` that is not escaped again.
    #[test]
    fn backends_have_names() {
        for url in [
            "none",
            "own",
            "image:/a/b",
            "image:a b/\u{e9}",
            "image:/a%3Fb%25%FF%0A",
            "image:/a?compress=gzip",
        ] {
            assert_eq!(url.parse::<Persist>().unwrap().to_string(), url);
        }
        let odd: Persist = "image:100%/%zz%4".parse().unwrap();
        assert_eq!(odd, Persist::Image("100%/%zz%4".into()));
        assert_eq!(odd.to_string().parse::<Persist>().unwrap(), odd);
        for url in [
            "",
            "image",
            "image:",
            "image:?",
            "image:/a?b",
            "image:/a?b=c",
            "image:/a?compress=x",
            "file:/x",
        ] {
            assert!(url.parse::<Persist>().is_err(), "{url}");
        }
    }
}
