//! The backend that a text names.

use super::options::Options;
use crate::backend::Backend;
use crate::backend::image::ImageDirectory;
use crate::config::Persist;
use std::sync::Arc;

impl Persist {
    /// The backend itself, which keeps so many snapshots: to copy from it or to it, or to look what is
    /// there, without a bus. Nothing is opened or connected to by this call. `None` for
    /// [`Persist::None`] and [`Persist::Own`].
    #[must_use]
    pub fn backend(&self, keep: usize) -> Option<Arc<dyn Backend>> {
        match self {
            Self::None | Self::Own => None,
            Self::Image(directory) => {
                Some(Arc::new(ImageDirectory { directory: directory.clone(), keep }))
            }
        }
    }
}

/// The backend that a handle saves to; none for a backend of another program's own.
pub(super) fn backend_of(
    persist: &Persist,
    keep: usize,
    options: &Options,
) -> Option<Arc<dyn Backend>> {
    match persist {
        Persist::Own => options.backend.clone(),
        persist => persist.backend(keep),
    }
}
