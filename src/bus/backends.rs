//! The backend that a text names.

use super::options::Options;
use crate::backend::Backend;
use crate::backend::image::ImageDirectory;
#[cfg(feature = "redis")]
use crate::config::RedisPlace;
#[cfg(any(feature = "redis", not(feature = "redis-tls")))]
use crate::config::RedisServer;
use crate::config::{Persist, PersistError};
use std::path::PathBuf;
use std::sync::Arc;

impl Persist {
    /// The backend itself, which keeps so many snapshots: to copy from it or to it, or to look what is
    /// there, without a bus. Nothing is opened or connected to by this call. `None` for
    /// [`Persist::None`] and [`Persist::Own`].
    ///
    /// # Errors
    /// [`PersistError::Feature`]: this build of membus has no such backend.
    pub fn backend(&self, keep: usize) -> Result<Option<Arc<dyn Backend>>, PersistError> {
        let image = |directory: &PathBuf, is_compressed| {
            let directory = directory.clone();
            ImageDirectory { directory, is_compressed, keep }
        };
        Ok(Some(match self {
            Self::None | Self::Own => return Ok(None),
            Self::Image(directory) => Arc::new(image(directory, false)),
            Self::CompressedImage(_) if !cfg!(feature = "gzip") => {
                return Err(PersistError::Feature { scheme: "image", feature: "gzip" });
            }
            Self::CompressedImage(directory) => Arc::new(image(directory, true)),
            #[cfg(feature = "json")]
            Self::Json(path) => {
                Arc::new(crate::backend::json::JsonFile { path: path.clone(), keep })
            }
            #[cfg(not(feature = "redis-tls"))]
            Self::Redis(place) if matches!(place.server, RedisServer::Tls { .. }) => {
                return Err(PersistError::Feature { scheme: "rediss", feature: "redis-tls" });
            }
            #[cfg(feature = "redis")]
            Self::Redis(place) => Arc::new(redis(place, keep)),
            #[cfg(not(feature = "redis"))]
            Self::Redis(_) => {
                return Err(PersistError::Feature { scheme: "redis", feature: "redis" });
            }
            #[cfg(feature = "sqlite")]
            Self::Sqlite { path, table } => {
                let (path, table) = (path.clone(), table.clone());
                let patience = crate::backend::sqlite::PATIENCE;
                Arc::new(crate::backend::sqlite::SqliteFile { path, table, patience })
            }
            #[cfg(not(feature = "sqlite"))]
            Self::Sqlite { .. } => {
                return Err(PersistError::Feature { scheme: "sqlite", feature: "sqlite" });
            }
            #[cfg(not(feature = "json"))]
            Self::Json(_) => return Err(PersistError::Feature { scheme: "json", feature: "json" }),
        }))
    }
}

/// Where a password is looked for that is not in the URL.
#[cfg(feature = "redis")]
const PASSWORD: &str = "MEMBUS_REDIS_PASSWORD";

#[cfg(feature = "redis")]
fn redis(place: &RedisPlace, keep: usize) -> crate::backend::redis::RedisStore {
    use crate::backend::redis::{CLAIM, PATIENCE, Password, RedisStore, Server};
    let server = match place.server.clone() {
        RedisServer::Tcp { host, port } => Server::Tcp { host, port },
        RedisServer::Tls { host, port, authorities } => Server::Tls { host, port, authorities },
        RedisServer::Unix(path) => Server::Unix(path),
    };
    let given = place.password.0.clone();
    let password = given.or_else(|| std::env::var(PASSWORD).ok().filter(|text| !text.is_empty()));
    RedisStore {
        server,
        user: place.user.clone(),
        password: Password(password),
        database: place.database,
        prefix: place.prefix.clone(),
        keep,
        patience: PATIENCE,
        claim: CLAIM,
    }
}

/// The backend that a handle saves to; none for a backend of another program's own.
pub(super) fn backend_of(
    persist: &Persist,
    keep: usize,
    options: &Options,
) -> Result<Option<Arc<dyn Backend>>, PersistError> {
    match persist {
        Persist::Own => Ok(options.backend.clone()),
        persist => persist.backend(keep),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Promise: a backend that this build lacks is an error that names the feature.
    /// Plant: a backend left out of the features.
    #[test]
    fn what_a_build_has_not_it_says() {
        for (url, feature, has) in [
            ("image:/x", "", true),
            ("image:/x?compress=gzip", "gzip", cfg!(feature = "gzip")),
            ("json:/x", "json", cfg!(feature = "json")),
            ("sqlite:/x", "sqlite", cfg!(feature = "sqlite")),
            ("redis://h", "redis", cfg!(feature = "redis")),
            ("redis+unix:///s", "redis", cfg!(feature = "redis")),
            ("rediss://h", "redis-tls", cfg!(feature = "redis-tls")),
        ] {
            match url.parse::<Persist>().unwrap().backend(1) {
                Ok(backend) => assert!(has && backend.is_some(), "{url}"),
                Err(error) => {
                    assert!(!has && error.to_string().contains(&format!("`{feature}`")), "{error}");
                }
            }
        }
    }
}
