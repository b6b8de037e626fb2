//! How far a save or a load has come.

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Stage {
    /// What the bus has is read and saved.
    #[default]
    Saving,
    /// What a backend has is read, checked and copied to this host.
    Loading,
    /// The bus is filled with what was loaded: one change, which is told once, before it begins.
    Filling,
    /// A snapshot goes from one backend to another.
    Copying,
}

/// How far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Progress {
    /// What is being done.
    pub stage: Stage,
    /// Entries of this stage so far. A snapshot that gave way to writers and is begun again begins at 0.
    pub entries: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
    /// Entries of this stage in all, where that is known. Of [`Saving`](Stage::Saving) it is about: others go on writing,
    /// and ephemeral keys are counted and not saved.
    pub total: Option<u64>,
}
