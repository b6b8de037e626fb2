//! SQLite: a table whose rows are the entries, and beside it one that says what they are a snapshot of.
//!
//! 1. A save is one transaction. Whoever reads sees the one before or the new one, and is not waited for:
//!    the journal is a write-ahead log. Where the file system can't have one, SQLite stays with its rollback
//!    journal, and a reader makes a save wait.
//! 2. `synchronous` is EXTRA: at the commit the log is on the disk, and with a rollback journal its removal
//!    is, too, without which a power cut would take back what a save has promised.
//! 3. Only what changed is written: a row that says the same stays untouched, whoever wrote it. So a row that
//!    was edited or damaged is mended by the next save.
//! 4. Rows that no entry has asked for are deleted at the end. Which were asked for is a bit each in memory.
//! 5. The snapshot's row has the count of entries and the seal of what they say; a load reads all rows once
//!    before it hands out any, both in one transaction.

mod row;

use super::content::Content;
use super::{Backend, BackendError, Loaded, Saved, Sink, Source, text};
use crate::snapshot_entry::{SnapshotEntry, SnapshotHead};
use crate::sys::file;
use nix::fcntl::OFlag;
use row::{COLUMNS, Columns, entry};
use rusqlite::{
    Connection, ErrorCode, OpenFlags, OptionalExtension, Transaction, TransactionBehavior, ffi,
    params,
};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Version of the tables.
const VERSION: u32 = 1;
/// How long a save waits for another program's lock.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
/// Rows that are looked at together when some are to go.
const SWEEP: usize = 1000;

/// A table of a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SqliteFile {
    pub(crate) path: PathBuf,
    /// A name of letters, digits and underlines.
    pub(crate) table: String,
    pub(crate) patience: Duration,
}

/// Why something did not work out: the database's word, or ours.
enum Failure {
    Sql(rusqlite::Error),
    Backend(BackendError),
    /// What the database holds makes no sense.
    Damaged(String),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}
impl From<BackendError> for Failure {
    fn from(error: BackendError) -> Self {
        Self::Backend(error)
    }
}

/// Ids of rows, a bit each.
#[derive(Default)]
struct Seen {
    words: BTreeMap<i64, u64>,
    count: u64,
}

impl Seen {
    /// Whether it is new.
    fn insert(&mut self, id: i64) -> bool {
        let (word, bit) = (self.words.entry(id >> 6).or_default(), 1 << (id & 63));
        let is_new = *word & bit == 0;
        *word |= bit;
        self.count += u64::from(is_new);
        is_new
    }
    fn has(&self, id: i64) -> bool {
        self.words.get(&(id >> 6)).is_some_and(|word| word & 1 << (id & 63) != 0)
    }
}

impl SqliteFile {
    fn at(&self) -> String {
        self.path.display().to_string()
    }

    fn refused(&self, reason: impl Into<String>) -> BackendError {
        BackendError::Refused { at: self.at(), reason: reason.into() }
    }

    fn explain(&self, failure: Failure) -> BackendError {
        let error = match failure {
            Failure::Backend(error) => return error,
            Failure::Damaged(reason) => return BackendError::Damaged { at: self.at(), reason },
            Failure::Sql(error) => error,
        };
        let (code, reason) = (error.sqlite_error_code(), error.to_string());
        // No room for the index of the write-ahead log is told as a failed call.
        let is_full = error.sqlite_error().is_some_and(|error| {
            matches!(error.extended_code, ffi::SQLITE_FULL | ffi::SQLITE_IOERR_SHMSIZE)
        });
        match code {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => self.refused(format!(
                "another program has it locked, for {:?} and longer; its snapshot stays as it is \
                 until that program ends its transaction ({reason})",
                self.patience
            )),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                BackendError::Damaged { at: self.at(), reason }
            }
            _ if is_full => {
                BackendError::io(&self.path)(io::Error::new(io::ErrorKind::StorageFull, reason))
            }
            _ => self.refused(reason),
        }
    }

    /// Opens the database; nothing when there is none.
    fn open(&self) -> Result<Option<Connection>, Failure> {
        let there = match file::stat_path(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            there => there.map_err(BackendError::io(&self.path))?,
        };
        if there.kind != file::Kind::Regular {
            return Err(self.refused(format!("it is {}", there.kind)).into());
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let database = Connection::open_with_flags(&self.path, flags)?;
        database.busy_timeout(self.patience)?;
        // What stands in the file is data: it calls no functions, and lengths in it are checked.
        database.pragma_update(None, "trusted_schema", false)?;
        database.pragma_update(None, "cell_size_check", true)?;
        Ok(Some(database))
    }

    /// The same, and makes it for this user alone when there is none.
    fn create(&self) -> Result<Connection, Failure> {
        let fail = |error| BackendError::io(&self.path)(error);
        let directory = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = directory.unwrap_or(Path::new("."));
        file::make_directories(directory).map_err(fail)?;
        // One that is there is SQLite's alone to open: a descriptor that is closed takes the locks of all of the process's
        // connections along (sqlite.org: How To Corrupt, "POSIX advisory locks canceled").
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL;
        match file::open_file(&self.path, flags, 0o600) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            new => {
                drop(new.map_err(fail)?);
                file::sync_directory(directory).map_err(fail)?;
            }
        }
        let database = self.open()?.ok_or_else(|| fail(io::ErrorKind::NotFound.into()))?;
        // The mode that it has is the answer: another one than asked for is no error.
        database.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
        database.pragma_update(None, "synchronous", "extra")?;
        Ok(database)
    }

    /// Which of the two tables are there.
    fn tables(&self, of: &Connection) -> Result<(bool, bool), Failure> {
        let sql =
            "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = ?1 COLLATE NOCASE";
        let mut find = of.prepare(sql)?;
        let mut is_there =
            |name: String| find.query_row([name], |row| row.get::<_, i64>(0)).map(|n| n > 0);
        Ok((is_there(self.table.clone())?, is_there(format!("{}_snapshot", self.table))?))
    }

    fn make_tables(&self, of: &Transaction<'_>) -> Result<(), Failure> {
        let table = &self.table;
        match self.tables(of)? {
            (true, true) => return Ok(()),
            (false, false) => {}
            (true, false) => {
                let what = format!("its table {table} was not made by membus: choose another name");
                return Err(self.refused(format!("{what} (sqlite:FILE?table=NAME)")).into());
            }
            (false, true) => {
                return Err(Failure::Damaged(format!("it has {table}_snapshot and no {table}")));
            }
        }
        of.execute_batch(&format!(
            "CREATE TABLE {table} (id INTEGER PRIMARY KEY, key NOT NULL UNIQUE, value, kind TEXT NOT NULL,
                revision INTEGER NOT NULL, created_at TEXT NOT NULL, updated_at TEXT NOT NULL, who, expires_at TEXT);
             CREATE TABLE {table}_snapshot (id INTEGER PRIMARY KEY CHECK (id = 1), version INTEGER NOT NULL,
                bus_id TEXT NOT NULL, incarnation TEXT NOT NULL, revision INTEGER NOT NULL, created TEXT NOT NULL,
                entries INTEGER NOT NULL, checksum TEXT);"
        ))?;
        Ok(())
    }

    /// Writes what is not there already.
    fn write(
        &self,
        to: &Transaction<'_>,
        entries: &mut dyn Source,
    ) -> Result<(Content, Seen), Failure> {
        let table = &self.table;
        let mut find = to.prepare(&format!("SELECT id, {COLUMNS} FROM {table} WHERE key = ?1"))?;
        let mut update = to.prepare(&format!(
            "UPDATE {table} SET value = ?2, kind = ?3, revision = ?4, updated_at = ?5, who = ?6,
                expires_at = ?7 WHERE key = ?1"
        ))?;
        let mut insert = to.prepare(&format!(
            "INSERT INTO {table} ({COLUMNS}, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?5)"
        ))?;
        let (mut content, mut seen) = (Content::default(), Seen::default());
        while let Some(entry) = entries.next_entry()? {
            content.add(&entry);
            let columns = Columns::of(&entry);
            let found = find.query_row([columns.key()], |row| {
                Ok((row.get::<_, i64>(0)?, columns.are_in(row, 1)?))
            });
            let id = match found.optional()? {
                Some((id, true)) => id,
                Some((id, false)) => {
                    update.execute(columns.values())?;
                    id
                }
                None => {
                    insert.execute(columns.values())?;
                    to.last_insert_rowid()
                }
            };
            if !seen.insert(id) {
                let key = entry.key.escape_ascii();
                return Err(self.refused(format!("the snapshot has `{key}` twice")).into());
            }
        }
        Ok((content, seen))
    }

    /// Deletes the rows that are not of this snapshot.
    fn delete_others(&self, of: &Transaction<'_>, seen: &Seen) -> Result<(), Failure> {
        let table = &self.table;
        let count = format!("SELECT count(*) FROM {table}");
        if of.query_row(&count, [], |row| row.get::<_, i64>(0))? == seen.count.cast_signed() {
            return Ok(());
        }
        let sql = format!("SELECT id FROM {table} WHERE id > ?1 ORDER BY id LIMIT {SWEEP}");
        let (mut next, mut last) = (of.prepare(&sql)?, i64::MIN);
        let mut delete = of.prepare(&format!("DELETE FROM {table} WHERE id = ?1"))?;
        loop {
            let ids = next.query_map([last], |row| row.get::<_, i64>(0))?;
            let ids: Vec<i64> = ids.collect::<Result<_, _>>()?;
            let Some(greatest) = ids.last() else { break };
            last = *greatest;
            for id in ids.iter().filter(|id| !seen.has(**id)) {
                delete.execute([id])?;
            }
        }
        let left = of.query_row(&count, [], |row| row.get::<_, i64>(0))?;
        if left == seen.count.cast_signed() {
            return Ok(());
        }
        // An index that leads nowhere.
        Err(Failure::Damaged(format!("{left} rows stay, and should be {}", seen.count)))
    }

    fn save_in(
        &self,
        database: &mut Connection,
        head: &SnapshotHead,
        entries: &mut dyn Source,
    ) -> Result<u64, Failure> {
        let all = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
        self.make_tables(&all)?;
        let (content, seen) = self.write(&all, entries)?;
        self.delete_others(&all, &seen)?;
        all.execute(
            &format!(
                "INSERT OR REPLACE INTO {}_snapshot VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                self.table
            ),
            params![
                VERSION,
                format!("{:032x}", head.bus_id),
                format!("{:016x}", head.incarnation),
                head.revision.cast_signed(),
                text::time(head.created),
                content.count.cast_signed(),
                content.seal(head).to_string(),
            ],
        )?;
        all.commit()?;
        Ok(content.count)
    }

    /// What the snapshot's row says: the head, the count and the seal; nothing when there is no snapshot.
    fn head(
        &self,
        of: &Connection,
    ) -> Result<Option<(SnapshotHead, u64, Option<String>)>, Failure> {
        let table = &self.table;
        match self.tables(of)? {
            (true, true) => {}
            (false, false) => {
                // SQLite takes a file for an empty database that has less than a page.
                let size = file::stat_path(&self.path).map_err(BackendError::io(&self.path))?.size;
                let pages: i64 = of.query_row("PRAGMA page_count", [], |row| row.get(0))?;
                return match (size, pages) {
                    (1.., 0) => Err(Failure::Damaged("it ends in the first page".to_owned())),
                    _ => Ok(None),
                };
            }
            (has_rows, _) => {
                let (one, other) = if has_rows { ("", "_snapshot") } else { ("_snapshot", "") };
                return Err(Failure::Damaged(format!("it has {table}{one} and no {table}{other}")));
            }
        }
        let sql = format!(
            "SELECT version, bus_id, incarnation, revision, created, entries, checksum FROM {table}_snapshot"
        );
        let wrong = || Failure::Damaged(format!("what stands in {table}_snapshot makes no sense"));
        let row = of.query_row(&sql, [], |row| {
            let head: (u32, String, String, i64) =
                (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
            let end: (String, i64, Option<String>) = (row.get(4)?, row.get(5)?, row.get(6)?);
            Ok((head, end))
        });
        let ((version, bus_id, incarnation, revision), (created, entries, checksum)) = match row {
            Err(rusqlite::Error::QueryReturnedNoRows) => return Err(wrong()),
            row => row?,
        };
        if version != VERSION {
            let what = format!("it has version {version}, this membus reads {VERSION}");
            return Err(Failure::Damaged(what));
        }
        let head = SnapshotHead {
            bus_id: u128::from_str_radix(&bus_id, 16).map_err(|_| wrong())?,
            incarnation: u64::from_str_radix(&incarnation, 16).map_err(|_| wrong())?,
            revision: revision.cast_unsigned(),
            created: text::parse_time(&created).ok_or_else(wrong)?,
        };
        Ok(Some((head, entries.cast_unsigned(), checksum)))
    }

    /// Reads all rows.
    fn each(
        &self,
        of: &Connection,
        each: &mut dyn FnMut(SnapshotEntry) -> Result<(), BackendError>,
    ) -> Result<(), Failure> {
        let mut all = of.prepare(&format!("SELECT {COLUMNS} FROM {} ORDER BY id", self.table))?;
        let mut rows = all.query([])?;
        while let Some(row) = rows.next()? {
            let entry = entry(row)?;
            let wrong = |column| Failure::Damaged(format!("`{column}` of a row makes no sense"));
            each(entry.map_err(wrong)?)?;
        }
        Ok(())
    }

    fn load_from(
        &self,
        database: &mut Connection,
        sink: &mut dyn Sink,
    ) -> Result<Option<Loaded>, Failure> {
        // Both times the same rows.
        let all = database.transaction_with_behavior(TransactionBehavior::Deferred)?;
        let Some((head, count, seal)) = self.head(&all)? else { return Ok(None) };
        let mut content = Content::default();
        self.each(&all, &mut |entry| {
            content.add(&entry);
            Ok(())
        })?;
        // Who edits it on purpose puts NULL there.
        let refusal = seal.and_then(|seal| content.refusal(&head, count, &seal));
        if let Some(reason) = refusal {
            let table = &self.table;
            let hint = format!("to take it as it is, UPDATE {table}_snapshot SET checksum = NULL");
            return Err(Failure::Damaged(format!("{reason} ({hint})")));
        }
        sink.expect(content.count);
        sink.begin(&head)?;
        self.each(&all, &mut |entry| sink.entry(&entry))?;
        Ok(Some(Loaded { head, entries: content.count, refused: Vec::new() }))
    }
}

/// Whether an error is of the file system or of other programs. Our statements are right: whatever else is
/// wrong is what the database holds.
fn is_of_the_place(error: &rusqlite::Error) -> bool {
    use ErrorCode::{
        CannotOpen, DatabaseBusy, DatabaseLocked, DiskFull, OutOfMemory, PermissionDenied,
        ReadOnly, SystemIoFailure,
    };
    error.sqlite_error_code().is_some_and(|code| {
        matches!(
            code,
            CannotOpen
                | DatabaseBusy
                | DatabaseLocked
                | DiskFull
                | OutOfMemory
                | PermissionDenied
                | ReadOnly
                | SystemIoFailure
        )
    })
}

impl Backend for SqliteFile {
    fn save(&self, head: &SnapshotHead, entries: &mut dyn Source) -> Result<Saved, BackendError> {
        let mut save = || {
            let mut database = self.create()?;
            let entries = self.save_in(&mut database, head, entries)?;
            // The last one to close moves the log into the file; one that can't leaves it for the next.
            let _closed = database.close();
            Ok(entries)
        };
        let entries = save().map_err(|failure| self.explain(failure))?;
        let bytes = file::stat_path(&self.path).map_err(BackendError::io(&self.path))?.size;
        Ok(Saved { entries, bytes, path: Some(self.path.clone()) })
    }

    fn load(&self, sink: &mut dyn Sink) -> Result<Option<Loaded>, BackendError> {
        let mut load = || match self.open()? {
            Some(mut database) => self.load_from(&mut database, sink),
            None => Ok(None),
        };
        load().map_err(|failure| match failure {
            Failure::Sql(error) if !is_of_the_place(&error) => {
                BackendError::Damaged { at: self.at(), reason: error.to_string() }
            }
            failure => self.explain(failure),
        })
    }

    fn exists(&self) -> Result<bool, BackendError> {
        let exists = || match self.open()? {
            Some(database) => self.tables(&database).map(|(rows, snapshot)| rows || snapshot),
            None => Ok(false),
        };
        match exists().map_err(|failure| self.explain(failure)) {
            // There is something, good or not.
            Err(BackendError::Damaged { .. }) => Ok(true),
            end => end,
        }
    }

    /// Both tables go at once; the file stays, since others may have tables in it.
    fn delete(&self) -> Result<(), BackendError> {
        let delete = || {
            let Some(mut database) = self.open()? else { return Ok(()) };
            database.pragma_update(None, "synchronous", "extra")?;
            let all = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let table = &self.table;
            if let (true, false) = self.tables(&all)? {
                return Err(self
                    .refused(format!("its table {table} was not made by membus"))
                    .into());
            }
            let tables =
                format!("DROP TABLE IF EXISTS {table}; DROP TABLE IF EXISTS {table}_snapshot;");
            all.execute_batch(&tables)?;
            all.commit()?;
            Ok(())
        };
        delete().map_err(|failure| self.explain(failure))
    }
}

#[cfg(test)]
mod tests;
