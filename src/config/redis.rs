//! A Redis server as a text: `redis://USER:PASSWORD@HOST:PORT/DATABASE?prefix=PREFIX`, `rediss://…` for an
//! encrypted connection, `redis+unix:///SOCKET?db=DATABASE` for a socket of this host.
//!
//! The password is read and never written: what shows, compares or keeps a place knows nothing of it.

use super::persist::{Escaped, PersistError, no_more, parameters, take, unescape};
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// Port when nobody says.
const PORT: u16 = 6379;
/// What keys begin with when nobody says.
const PREFIX: &str = "membus:";

/// A Redis server, and where in it.
///
/// Two are equal that name the same place, whatever their passwords.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisPlace {
    pub(crate) server: RedisServer,
    pub(crate) user: Option<String>,
    pub(crate) password: Secret,
    pub(crate) database: u32,
    pub(crate) prefix: String,
}

/// How a server is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RedisServer {
    Tcp { host: String, port: u16 },
    Tls { host: String, port: u16, authorities: Option<PathBuf> },
    Unix(PathBuf),
}

/// A text that is not shown, and makes no difference.
#[derive(Clone, Default)]
pub(crate) struct Secret(pub(crate) Option<String>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "(hidden)" } else { "none" })
    }
}
impl PartialEq for Secret {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}
impl Eq for Secret {}

impl RedisPlace {
    /// With the relative path of a file of authorities taken from where the process is now.
    pub(super) fn absolute(&self) -> io::Result<Self> {
        let mut this = self.clone();
        if let RedisServer::Tls { authorities: Some(path), .. } = &mut this.server {
            *path = std::path::absolute(&*path)?;
        }
        Ok(this)
    }
}

fn wrong(scheme: &'static str, reason: &str) -> PersistError {
    PersistError::Wrong { scheme, reason: reason.to_owned() }
}

/// Text of which each part may have been escaped.
fn text(scheme: &'static str, part: &str, name: &str) -> Result<String, PersistError> {
    let wrong = |_| wrong(scheme, &format!("has a {name} that is no text"));
    String::from_utf8(unescape(part)).map_err(wrong)
}

/// `HOST`, `HOST:PORT`, `[ADDRESS]:PORT`.
fn host(scheme: &'static str, part: &str) -> Result<(String, u16), PersistError> {
    let needs_host = || wrong(scheme, "needs a host");
    let (host, rest) = match part.strip_prefix('[') {
        Some(address) => address.split_once(']').ok_or_else(needs_host)?,
        None => part.split_at(part.find(':').unwrap_or(part.len())),
    };
    let port = match rest.strip_prefix(':') {
        Some(port) => port.parse().ok().filter(|port| *port > 0),
        None if rest.is_empty() => Some(PORT),
        None => None,
    };
    let port = port.ok_or_else(|| wrong(scheme, "needs a port from 1 to 65535"))?;
    if host.is_empty() { Err(needs_host()) } else { Ok((text(scheme, host, "host")?, port)) }
}

/// Parses what follows the scheme.
pub(super) fn parse(scheme: &'static str, rest: &str) -> Result<RedisPlace, PersistError> {
    let rest = rest.strip_prefix("//").ok_or_else(|| wrong(scheme, "needs `//` behind it"))?;
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let mut parameters = parameters(scheme, query)?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (login, address) = match authority.rsplit_once('@') {
        Some((login, address)) => (Some(login), address),
        None => (None, authority),
    };
    let (mut user, mut password) = (None, Secret::default());
    if let Some(login) = login {
        let (name, secret) = login.split_once(':').unwrap_or((login, ""));
        user = Some(text(scheme, name, "user")?).filter(|name| !name.is_empty());
        password = Secret(Some(text(scheme, secret, "password")?).filter(|text| !text.is_empty()));
    }
    let mut database = take(&mut parameters, "db");
    let server = if scheme == "redis+unix" {
        if !address.is_empty() || path.len() < 2 {
            return Err(wrong(scheme, "needs the path of a socket: redis+unix:///run/redis.sock"));
        }
        RedisServer::Unix(PathBuf::from(OsString::from_vec(unescape(path))))
    } else {
        let number = path.strip_prefix('/').filter(|number| !number.is_empty());
        database = number.map(str::to_owned).or(database);
        let (host, port) = host(scheme, address)?;
        match scheme {
            "rediss" => {
                let authorities = take(&mut parameters, "ca").map(PathBuf::from);
                RedisServer::Tls { host, port, authorities }
            }
            _ => RedisServer::Tcp { host, port },
        }
    };
    let prefix = take(&mut parameters, "prefix").unwrap_or_else(|| PREFIX.to_owned());
    no_more(scheme, parameters)?;
    let number = database.map_or(Ok(0), |number| number.parse());
    let database = number.map_err(|_| wrong(scheme, "needs a number as its database"))?;
    Ok(RedisPlace { server, user, password, database, prefix })
}

impl fmt::Display for RedisPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.server {
            RedisServer::Tcp { .. } => "redis://",
            RedisServer::Tls { .. } => "rediss://",
            RedisServer::Unix(_) => "redis+unix://",
        })?;
        if let Some(user) = &self.user {
            write!(f, "{}@", Escaped::login(user))?;
        }
        let mut separator = '?';
        let mut parameter = |f: &mut fmt::Formatter<'_>, name, value: &dyn fmt::Display| {
            let begun = std::mem::replace(&mut separator, '&');
            write!(f, "{begun}{name}={value}")
        };
        match &self.server {
            RedisServer::Unix(path) => {
                write!(f, "{}", Escaped::path(path))?;
                if self.database != 0 {
                    parameter(f, "db", &self.database)?;
                }
            }
            RedisServer::Tcp { host, port } | RedisServer::Tls { host, port, .. } => {
                match host.contains(':') {
                    true => write!(f, "[{host}]")?,
                    false => write!(f, "{}", Escaped::login(host))?,
                }
                if *port != PORT {
                    write!(f, ":{port}")?;
                }
                if self.database != 0 {
                    write!(f, "/{}", self.database)?;
                }
            }
        }
        if let RedisServer::Tls { authorities: Some(path), .. } = &self.server {
            parameter(f, "ca", &Escaped::path(path))?;
        }
        if self.prefix != PREFIX {
            parameter(f, "prefix", &Escaped::path(&self.prefix))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Persist;

    fn place(url: &str) -> Result<RedisPlace, PersistError> {
        match url.parse()? {
            Persist::Redis(place) => Ok(place),
            other => panic!("{other}"),
        }
    }

    /// Promise: what is shown is read back as the same, and has no password in it; nor has an error.
    /// Plants: the password shown; `Debug` derived of it.
    #[test]
    fn places_have_names_without_passwords() {
        for url in [
            "redis://h",
            "redis://u@h:1/2?prefix=a:b",
            "redis://[::1]:7",
            "rediss://h?ca=/a b%3F&prefix=",
            "redis+unix:///run/redis.sock?db=3&prefix=x%26y",
            "redis://a%3Ab%40@h",
        ] {
            assert_eq!(place(url).unwrap().to_string(), url);
        }
        for (url, shown) in [
            ("redis://:s3cret@h:6379/0", "redis://h"),
            ("redis://u:s3%40cret@h/?db=4", "redis://u@h/4"),
            ("redis+unix://u:s3cret@/s?prefix=membus:", "redis+unix://u@/s"),
        ] {
            let place = place(url).unwrap();
            assert_eq!(place.to_string(), shown);
            assert!(place.password.0.is_some() && place == shown.parse().map(of).unwrap());
            assert!(!format!("{place:?}").contains("s3"));
        }
        assert_eq!(
            place("redis://u:a%3A%2F%40:b@h").unwrap().password.0.as_deref(),
            Some("a:/@:b")
        );
        for url in [
            "redis:h",
            "redis://",
            "redis://:s3cret@",
            "redis://u:s3cret@h:0",
            "redis://u:s3cret@h:x",
            "redis://u:s3cret@h/x",
            "redis://u:s3cret@h?db=x",
            "redis://u:s3cret@h?x=1",
            "redis+unix://",
            "redis+unix://h/s",
            "redis+unix:///",
            "redis://[::1",
            "redis://[::1]x",
            "redis://u:s3cret@h?ca=x",
            "redis://u:%ff@h",
        ] {
            let error = place(url).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("s3cret"), "{url}: {error}");
        }
    }

    fn of(persist: Persist) -> RedisPlace {
        match persist {
            Persist::Redis(place) => place,
            other => panic!("{other}"),
        }
    }
}
