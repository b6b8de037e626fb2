//! What a host does to processes and files: it stops them, forks them, puts them into namespaces, takes
//! their files away.

pub(crate) mod fork;
pub(crate) mod gone;
pub(crate) mod limits;
pub(crate) mod members;
pub(crate) mod namespaces;
pub(crate) mod stopped;
