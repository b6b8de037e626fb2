//! Redis over a Unix socket: a server of the bench's own, without snapshots, stopped by its pid.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use redis::{Client, Connection, cmd, pipe};

use super::{Engine, Fail, Memory, Name};
use crate::workload::Key;

/// Longest wait for the server's socket.
const START_MAX: Duration = Duration::from_secs(10);
/// Sets sent together while loading.
const LOAD_BATCH: usize = 1000;

/// The socket of the server in `directory`.
pub(super) fn socket(directory: &Path) -> PathBuf {
    directory.join("redis.sock")
}

/// The server process; its end ends the server.
#[derive(Debug)]
struct Server(Child);

impl Server {
    /// Asks the server to end and waits until it has.
    fn stop(mut self) -> Result<(), Fail> {
        kill(Pid::from_raw(i32::try_from(self.0.id())?), Signal::SIGTERM)?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // After `stop` the child has been waited for, and the standard library signals nobody.
        self.0.kill().and_then(|()| self.0.wait()).ok();
    }
}

/// A connection to the server, and the server.
pub(crate) struct Redis {
    connection: Connection,
    server: Server,
}

impl Redis {
    /// Starts a server in `directory`; `None` when this machine has no `redis-server`.
    pub(super) fn start_in(directory: &Path) -> Result<Option<Self>, Fail> {
        Self::start(directory, directory)
    }

    /// Its connection.
    pub(crate) fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// Starts a server in `directory` that saves in `snapshots`, and begins with what is there; `None`
    /// when this machine has no `redis-server`. It may still be loading.
    pub(crate) fn start(directory: &Path, snapshots: &Path) -> Result<Option<Self>, Fail> {
        fs::create_dir_all(directory)?;
        let socket = socket(directory);
        let started = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--appendonly", "no", "--daemonize", "no"])
            .arg("--dir")
            .arg(snapshots)
            .arg("--unixsocket")
            .arg(&socket)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        let server = match started {
            Ok(child) => Server(child),
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        let path = socket.to_str().ok_or("the temporary directory's path is not UTF-8")?;
        let (client, start) = (Client::open(format!("unix://{path}"))?, Instant::now());
        loop {
            match client.get_connection() {
                Ok(connection) => return Ok(Some(Self { connection, server })),
                Err(e) if start.elapsed() > START_MAX => return Err(e.into()),
                Err(_) => std::thread::sleep(Duration::from_millis(2)),
            }
        }
    }
}

impl Engine for Redis {
    fn name(&self) -> Name {
        Name::Redis
    }

    fn get(&mut self, key: &Key, buffer: &mut Vec<u8>) -> Result<bool, Fail> {
        let found: Option<Vec<u8>> = cmd("GET").arg(key.as_slice()).query(&mut self.connection)?;
        let Some(value) = found else { return Ok(false) };
        buffer.clear();
        buffer.extend_from_slice(&value);
        Ok(true)
    }

    fn set(&mut self, key: &Key, value: &[u8]) -> Result<(), Fail> {
        cmd("SET").arg(key.as_slice()).arg(value).exec(&mut self.connection)?;
        Ok(())
    }

    fn add(&mut self, key: &Key, by: i64) -> Result<i64, Fail> {
        Ok(cmd("INCRBY").arg(key.as_slice()).arg(by).query(&mut self.connection)?)
    }

    fn load(&mut self, keys: &[Key], value: &[u8]) -> Result<(), Fail> {
        for batch in keys.chunks(LOAD_BATCH) {
            let mut sets = pipe();
            for key in batch {
                sets.cmd("SET").arg(key.as_slice()).arg(value).ignore();
            }
            sets.exec(&mut self.connection)?;
        }
        Ok(())
    }

    fn memory(&mut self) -> Result<Memory, Fail> {
        let info: String = cmd("INFO").arg("memory").query(&mut self.connection)?;
        let field = |name: &str| -> Result<u64, Fail> {
            let line = info.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|rest| rest.strip_prefix(':'));
            Ok(number.ok_or("INFO lacks a field")?.trim().parse()?)
        };
        Ok(Memory { used: field("used_memory")?, held: field("used_memory_rss")? })
    }

    fn close(self: Box<Self>) -> Result<(), Fail> {
        drop(self.connection);
        self.server.stop()
    }
}
