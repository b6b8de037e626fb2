//! Files that are not what they should be, and creators that died.

pub(crate) mod bad;
mod boot;
pub(crate) mod create;
pub(crate) mod destroy;
