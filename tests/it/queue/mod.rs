//! Work queues: each item is one live consumer's, whoever dies, stops or forks; room, order, times to live.

pub(crate) mod group;
pub(crate) mod hands;
pub(crate) mod order;
