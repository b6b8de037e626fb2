//! What a process that the bench starts is to be, as a command line and back.

use std::path::PathBuf;
use std::time::Duration;

use crate::engines::{Fail, Name};
use crate::owners::Held;
use crate::snapshot::Kind;
use crate::wake::{Means, Side};

/// The first word of the command line of a process that the bench starts.
pub(crate) const PART: &str = "part";

/// One of two processes that read and write one store.
#[derive(Debug, Clone)]
pub(crate) struct Worker {
    /// The store to join.
    pub(crate) engine: Name,
    /// Where it lies.
    pub(crate) directory: PathBuf,
    /// Keys stored.
    pub(crate) keys: u32,
    /// Value size in bytes.
    pub(crate) value_size: usize,
    /// Reads in a hundred operations.
    pub(crate) reads: u32,
    /// The core to stay on.
    pub(crate) core: usize,
    /// How long to run.
    pub(crate) time: Duration,
}

/// What a process is.
#[derive(Debug, Clone)]
pub(crate) enum Role {
    /// One of two that read and write one store.
    Worker(Worker),
    /// One of two that wake each other.
    End {
        /// By what.
        means: Means,
        /// Which of the two.
        side: Side,
        /// Where the means lies.
        directory: PathBuf,
        /// The core to stay on.
        core: usize,
    },
    /// One that is killed while it holds something.
    Owner {
        /// What.
        held: Held,
        /// Where that lies.
        directory: PathBuf,
    },
    /// One whose watches sleep.
    Watcher {
        /// How many.
        watches: usize,
        /// Where the bus lies.
        directory: PathBuf,
    },
    /// One that writes while snapshots are taken.
    Setter {
        /// The store to join.
        kind: Kind,
        /// Keys stored.
        keys: u32,
        /// Where it lies.
        directory: PathBuf,
    },
}

impl Role {
    /// The command line that makes it.
    pub(crate) fn to_words(&self) -> Vec<String> {
        let mut words = vec![PART.to_owned()];
        words.extend(match self {
            Self::Worker(worker) => vec![
                "worker".to_owned(),
                worker.engine.word().to_owned(),
                worker.directory.display().to_string(),
                worker.keys.to_string(),
                worker.value_size.to_string(),
                worker.reads.to_string(),
                worker.core.to_string(),
                worker.time.as_millis().to_string(),
            ],
            Self::End { means, side, directory, core } => vec![
                "end".to_owned(),
                means.word().to_owned(),
                side.word().to_owned(),
                directory.display().to_string(),
                core.to_string(),
            ],
            Self::Owner { held, directory } => {
                vec!["owner".to_owned(), held.word().to_owned(), directory.display().to_string()]
            }
            Self::Watcher { watches, directory } => {
                vec!["watcher".to_owned(), watches.to_string(), directory.display().to_string()]
            }
            Self::Setter { kind, keys, directory } => vec![
                "setter".to_owned(),
                kind.word().to_owned(),
                keys.to_string(),
                directory.display().to_string(),
            ],
        });
        words
    }

    /// Reads a command line without its first word.
    pub(crate) fn parse(words: &[String]) -> Result<Self, Fail> {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        Ok(match words[..] {
            ["worker", engine, directory, keys, value_size, reads, core, time] => {
                Self::Worker(Worker {
                    engine: Name::parse(engine).ok_or("no such store")?,
                    directory: PathBuf::from(directory),
                    keys: keys.parse()?,
                    value_size: value_size.parse()?,
                    reads: reads.parse()?,
                    core: core.parse()?,
                    time: Duration::from_millis(time.parse()?),
                })
            }
            ["end", means, side, directory, core] => Self::End {
                means: Means::parse(means).ok_or("no such means")?,
                side: Side::parse(side).ok_or("no such side")?,
                directory: PathBuf::from(directory),
                core: core.parse()?,
            },
            ["owner", held, directory] => Self::Owner {
                held: Held::parse(held).ok_or("nothing to hold")?,
                directory: PathBuf::from(directory),
            },
            ["watcher", watches, directory] => {
                Self::Watcher { watches: watches.parse()?, directory: PathBuf::from(directory) }
            }
            ["setter", kind, keys, directory] => Self::Setter {
                kind: Kind::parse(kind).ok_or("no such store")?,
                keys: keys.parse()?,
                directory: PathBuf::from(directory),
            },
            _ => return Err("no process of the bench is called so".into()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plant: an owner's word is always that of the key.
    #[test]
    fn a_role_survives_its_command_line() {
        let directory = PathBuf::from("/dev/shm/x");
        let worker = Worker {
            engine: Name::Lmdb,
            directory: directory.clone(),
            keys: 7,
            value_size: 64,
            reads: 95,
            core: 1,
            time: Duration::from_millis(300),
        };
        let mut roles = vec![Role::Worker(worker)];
        for means in Means::ALL {
            let (side, directory) = (Side::Far, directory.clone());
            roles.push(Role::End { means, side, directory, core: 3 });
        }
        for held in Held::ALL {
            roles.push(Role::Owner { held, directory: directory.clone() });
        }
        for kind in Kind::ALL {
            roles.push(Role::Setter { kind, keys: 9, directory: directory.clone() });
        }
        roles.push(Role::Watcher { watches: 1000, directory });
        for role in roles {
            let words = role.to_words();
            assert_eq!(words[0], PART);
            let again = Role::parse(&words[1..]).unwrap();
            assert_eq!(format!("{again:?}"), format!("{role:?}"));
        }
    }
}
