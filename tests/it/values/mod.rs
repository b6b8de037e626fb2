//! What goes in comes out, by whom and when; what is refused changes nothing.

mod batches;
mod changes;
mod kinds;
mod limits;
mod owned;
