//! Watches.
use super::Inner;
impl Inner {
    /// Rings the watches that sleep.
    pub(crate) fn ring_watches(&self) {}
}
