//! SIGKILL at any moment: nothing torn, lost or leaked, and the others go on.

pub(crate) mod load;
mod oracle;
mod soak;
pub(crate) mod takeover;
mod under_load;
