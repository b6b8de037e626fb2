//! The backend that a text names.

use super::options::Options;
use crate::backend::Backend;
use crate::backend::image::ImageDirectory;
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
            #[cfg(not(feature = "json"))]
            Self::Json(_) => return Err(PersistError::Feature { scheme: "json", feature: "json" }),
        }))
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
