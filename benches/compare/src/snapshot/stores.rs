//! The stores that are saved, each with its ways to save and to come back.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use membus::{Backend, Bus, Options, Persist, ReadBus};
use redis::cmd;
use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};
use serde::{Deserialize, Serialize};

use super::{Kind, VALUE_SIZE, Way};
use crate::engines::{self, Engine, Fail, RedisServer};
use crate::workload::{Key, value};

/// Room to grow to: for what is there, and for what is restored beside it.
const CAPACITY_MAX: u64 = 4 << 30;
/// How often Redis is asked whether it has saved.
const ASK: Duration = Duration::from_millis(2);
/// How long a writer of SQLite waits for another.
const PATIENCE: Duration = Duration::from_secs(60);
/// Sets a key, or makes it.
const SET: &str =
    "INSERT INTO entries VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value";

/// A way to come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Return {
    /// membus, opened where there is nothing but an image.
    OpenImage,
    /// The same from JSON.
    OpenJson,
    /// The same from a SQLite table.
    OpenTable,
    /// An image into a bus that has as much, which is saved first.
    Restore,
    /// A Redis server that begins with the file.
    Server,
    /// SQLite's backup API, back into memory.
    Backup,
}

impl Return {
    /// What the table calls it.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::OpenImage => "membus, open from an image",
            Self::OpenJson => "membus, open from JSON",
            Self::OpenTable => "membus, open from SQLite",
            Self::Restore => "membus, restore in place of as much",
            Self::Server => "Redis, a server begins with the file",
            Self::Backup => "SQLite, backup API",
        }
    }
}

/// A store with what saves it.
pub(super) trait Store {
    /// Its ways to save.
    fn ways(&self) -> Vec<Way>;
    /// Its ways to come back, once it was saved by all of those.
    fn returns(&self) -> Vec<Return>;
    /// Sets each key.
    fn load(&mut self, keys: &[Key]) -> Result<(), Fail>;
    /// Removes what was saved, so that the next save can spare nothing.
    fn forget(&mut self, way: Way) -> Result<(), Fail>;
    /// Saves, and says how many bytes; they are on the disk.
    fn save(&mut self, way: Way) -> Result<u64, Fail>;
    /// Comes back from what was saved last: how long that took.
    fn come_back(&mut self, by: Return, keys: usize) -> Result<Duration, Fail>;
    /// What it takes of memory now; 0 where nobody can tell.
    fn memory(&mut self) -> Result<u64, Fail>;
    /// What the last save made it take beside that, where it says so itself.
    fn copied(&mut self, way: Way) -> Result<Option<u64>, Fail>;
    /// Ends it.
    fn close(self: Box<Self>) -> Result<(), Fail>;
}

fn all_there(found: u64, keys: usize) -> Result<(), Fail> {
    if found == keys as u64 { Ok(()) } else { Err(format!("{found} of {keys} came back").into()) }
}

/// A bus in memory, and where its snapshots go.
pub(super) struct Membus {
    bus: Bus,
    memory: PathBuf,
    disk: PathBuf,
}

fn options(state: PathBuf) -> Options {
    Bus::options().max_capacity(CAPACITY_MAX).state(state).label("compare")
}

impl Membus {
    pub(super) fn open(memory: &Path, disk: &Path) -> Result<Self, Fail> {
        let options = options(disk.join("state")).persist(Persist::None);
        let bus = options.create_at(bus_path(memory))?;
        Ok(Self { bus, memory: memory.to_owned(), disk: disk.to_owned() })
    }

    fn persist(&self, way: Way) -> Result<Persist, Fail> {
        let file = |name| self.disk.join(name);
        Ok(match way {
            Way::Image => Persist::Image(file("images")),
            Way::Json => Persist::Json(file("state.json")),
            Way::Table => Persist::Sqlite { path: file("state.db"), table: "membus".to_owned() },
            _ => return Err("no way to save a bus".into()),
        })
    }

    fn backend(&self, way: Way) -> Result<Arc<dyn Backend>, Fail> {
        Ok(self.persist(way)?.backend(1)?.ok_or("no backend")?)
    }

    /// A bus that is not there, opened: it is what was saved.
    fn open_lost(&self, way: Way, keys: usize) -> Result<Duration, Fail> {
        let (path, state) = (self.memory.join("lost"), self.disk.join("state-of-lost"));
        let lost = options(state.clone()).keeper(false).persist(self.persist(way)?);
        let start = Instant::now();
        let bus = lost.open_at(&path)?;
        let took = start.elapsed();
        all_there(bus.len()?, keys)?;
        drop(bus);
        fs::remove_dir_all(path)?;
        fs::remove_dir_all(state)?;
        Ok(took)
    }
}

impl Store for Membus {
    fn ways(&self) -> Vec<Way> {
        vec![Way::Image, Way::Json, Way::Table]
    }
    fn returns(&self) -> Vec<Return> {
        vec![Return::OpenImage, Return::OpenJson, Return::OpenTable, Return::Restore]
    }
    fn load(&mut self, keys: &[Key]) -> Result<(), Fail> {
        let content = value(VALUE_SIZE);
        keys.iter().try_for_each(|key| Ok(self.bus.set_bytes(key, &content).map(drop)?))
    }
    fn forget(&mut self, way: Way) -> Result<(), Fail> {
        Ok(self.backend(way)?.delete()?)
    }
    fn save(&mut self, way: Way) -> Result<u64, Fail> {
        Ok(self.bus.backup(&*self.backend(way)?)?.bytes)
    }
    fn come_back(&mut self, by: Return, keys: usize) -> Result<Duration, Fail> {
        match by {
            Return::OpenImage => self.open_lost(Way::Image, keys),
            Return::OpenJson => self.open_lost(Way::Json, keys),
            Return::OpenTable => self.open_lost(Way::Table, keys),
            _ => {
                let restored = self.bus.restore(&*self.backend(Way::Image)?, "compare")?;
                all_there(restored.entries, keys)?;
                Ok(restored.took)
            }
        }
    }
    fn memory(&mut self) -> Result<u64, Fail> {
        bus_memory(&self.memory)
    }
    fn copied(&mut self, _: Way) -> Result<Option<u64>, Fail> {
        Ok(None)
    }
    fn close(self: Box<Self>) -> Result<(), Fail> {
        self.bus.close()?;
        Ok(fs::remove_dir_all(bus_path(&self.memory))?)
    }
}

/// Where a writer joins the bus of this directory.
fn bus_path(memory: &Path) -> PathBuf {
    memory.join(engines::Name::Membus.word())
}

/// What the bus under a directory takes, with the anonymous memory of this process, which saves it.
pub(super) fn bus_memory(memory: &Path) -> Result<u64, Fail> {
    Ok(engines::anonymous_memory()?.held + engines::file_memory(&bus_path(memory))?)
}

/// A Redis server in memory, which saves on the disk.
pub(super) struct Redis {
    server: Box<RedisServer>,
    memory: PathBuf,
    disk: PathBuf,
}

impl Redis {
    /// `None` when this machine has no `redis-server`.
    pub(super) fn open(memory: &Path, disk: &Path) -> Result<Option<Self>, Fail> {
        let server = RedisServer::start(&memory.join(engines::Name::Redis.word()), disk)?;
        let new = |server| Self {
            server: Box::new(server),
            memory: memory.to_owned(),
            disk: disk.to_owned(),
        };
        Ok(server.map(new))
    }

    fn file(&self) -> PathBuf {
        self.disk.join("dump.rdb")
    }

    fn persistence(&mut self, field: &str) -> Result<u64, Fail> {
        let info: String = cmd("INFO").arg("persistence").query(self.server.connection())?;
        let line = info.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        Ok(line.ok_or("INFO lacks a field")?.trim().parse()?)
    }
}

impl Store for Redis {
    fn ways(&self) -> Vec<Way> {
        vec![Way::Save, Way::Bgsave]
    }
    fn returns(&self) -> Vec<Return> {
        vec![Return::Server]
    }
    fn load(&mut self, keys: &[Key]) -> Result<(), Fail> {
        self.server.load(keys, &value(VALUE_SIZE))
    }
    fn forget(&mut self, _: Way) -> Result<(), Fail> {
        remove(&self.file())
    }
    fn save(&mut self, way: Way) -> Result<u64, Fail> {
        if way == Way::Save {
            cmd("SAVE").exec(self.server.connection())?;
        } else {
            cmd("BGSAVE").exec(self.server.connection())?;
            while self.persistence("rdb_bgsave_in_progress")? != 0 {
                thread::sleep(ASK);
            }
        }
        Ok(fs::metadata(self.file())?.len())
    }
    fn come_back(&mut self, _: Return, keys: usize) -> Result<Duration, Fail> {
        let (start, directory) = (Instant::now(), self.memory.join("again"));
        let mut server = RedisServer::start(&directory, &self.disk)?.ok_or("no redis-server")?;
        // It answers before it has read all, and says that it is loading.
        let found = loop {
            match cmd("DBSIZE").query::<u64>(server.connection()) {
                Ok(found) => break found,
                Err(_) if start.elapsed() < PATIENCE => thread::sleep(ASK),
                Err(error) => return Err(error.into()),
            }
        };
        let took = start.elapsed();
        all_there(found, keys)?;
        Box::new(server).close()?;
        Ok(took)
    }
    fn memory(&mut self) -> Result<u64, Fail> {
        Ok(self.server.memory()?.held)
    }
    fn copied(&mut self, way: Way) -> Result<Option<u64>, Fail> {
        let is_forked = way == Way::Bgsave;
        is_forked.then(|| self.persistence("rdb_last_cow_size")).transpose()
    }
    fn close(self: Box<Self>) -> Result<(), Fail> {
        self.server.close()
    }
}

/// A SQLite database in memory, in write-ahead mode, and its copy on the disk.
pub(super) struct Sqlite {
    database: Connection,
    memory: PathBuf,
    disk: PathBuf,
}

fn database(directory: &Path) -> Result<Connection, Fail> {
    let database = Connection::open(directory.join("state.db"))?;
    database.busy_timeout(PATIENCE)?;
    // What lies in memory need not be synced.
    database.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;")?;
    Ok(database)
}

/// Removes a file that may be there.
fn remove(path: &Path) -> Result<(), Fail> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// Copies all pages, in one transaction.
fn copy(from: &Connection, to: &mut Connection) -> Result<(), Fail> {
    let backup = Backup::new(from, to)?;
    while backup.step(-1)? != StepResult::Done {
        thread::sleep(ASK);
    }
    Ok(())
}

impl Sqlite {
    pub(super) fn open(memory: &Path, disk: &Path) -> Result<Self, Fail> {
        let database = database(memory)?;
        database.execute_batch(
            "CREATE TABLE entries (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
        )?;
        Ok(Self { database, memory: memory.to_owned(), disk: disk.to_owned() })
    }

    fn file(&self) -> PathBuf {
        self.disk.join("backup.db")
    }
}

impl Store for Sqlite {
    fn ways(&self) -> Vec<Way> {
        vec![Way::Backup]
    }
    fn returns(&self) -> Vec<Return> {
        vec![Return::Backup]
    }
    fn load(&mut self, keys: &[Key]) -> Result<(), Fail> {
        let content = value(VALUE_SIZE);
        let all = self.database.transaction()?;
        let mut set = all.prepare(SET)?;
        for key in keys {
            set.execute((key, &content))?;
        }
        drop(set);
        Ok(all.commit()?)
    }
    fn forget(&mut self, _: Way) -> Result<(), Fail> {
        remove(&self.file())
    }
    fn save(&mut self, _: Way) -> Result<u64, Fail> {
        let path = self.file();
        copy(&self.database, &mut Connection::open(&path)?)?;
        // SQLite has synced it; the name in its directory it has not.
        File::open(&self.disk)?.sync_all()?;
        Ok(fs::metadata(path)?.len())
    }
    fn come_back(&mut self, _: Return, keys: usize) -> Result<Duration, Fail> {
        let directory = self.memory.join("again");
        fs::create_dir_all(&directory)?;
        let start = Instant::now();
        let mut again = database(&directory)?;
        copy(&Connection::open(self.file())?, &mut again)?;
        let took = start.elapsed();
        let count = "SELECT count(*) FROM entries";
        let found: i64 = again.query_row(count, (), |row| row.get(0))?;
        all_there(u64::try_from(found)?, keys)?;
        drop(again);
        fs::remove_dir_all(directory)?;
        Ok(took)
    }
    fn memory(&mut self) -> Result<u64, Fail> {
        Ok(0)
    }
    fn copied(&mut self, _: Way) -> Result<Option<u64>, Fail> {
        Ok(None)
    }
    fn close(self: Box<Self>) -> Result<(), Fail> {
        self.database.close().map_err(|(_, error)| error)?;
        Ok(())
    }
}

/// A store as its writer has it.
pub(super) enum Target {
    Membus(Bus),
    Redis(redis::Connection),
    Sqlite(Connection),
}

impl Target {
    /// Joins the store of this directory.
    pub(super) fn join(kind: Kind, memory: &Path) -> Result<Self, Fail> {
        Ok(match kind {
            Kind::Membus => Self::Membus(engines::join_bus(memory)?),
            Kind::Redis => {
                let path = engines::redis_socket(memory);
                let path = path.to_str().ok_or("a path that is not UTF-8")?;
                let client = redis::Client::open(format!("unix://{path}"))?;
                Self::Redis(client.get_connection()?)
            }
            Kind::Sqlite => Self::Sqlite(database(memory)?),
        })
    }

    /// Sets a key.
    #[inline]
    pub(super) fn set(&mut self, key: &Key, value: &[u8]) -> Result<(), Fail> {
        match self {
            Self::Membus(bus) => drop(bus.set_bytes(key, value)?),
            Self::Redis(connection) => {
                cmd("SET").arg(key.as_slice()).arg(value).exec(connection)?;
            }
            Self::Sqlite(database) => {
                database.prepare_cached(SET)?.execute((key, value))?;
            }
        }
        Ok(())
    }
}
