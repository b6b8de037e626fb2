//! Raw Unix sockets: the kernel's own way from one process to another.

use std::io::{Read, Write};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use super::Side;
use super::end::End;
use crate::engines::Fail;

fn expect(found: [u8; 8], number: u64) -> Result<(), Fail> {
    if found == number.to_le_bytes() {
        return Ok(());
    }
    Err(format!("{} instead of ring {number}", u64::from_le_bytes(found)).into())
}

/// A datagram socket with a name on each side.
#[derive(Debug)]
pub(super) struct Datagram {
    socket: UnixDatagram,
    others: PathBuf,
}

impl Datagram {
    /// Binds this side's name in `directory`.
    pub(super) fn join(directory: &Path, side: Side) -> Result<Self, Fail> {
        let name = |side: Side| directory.join(format!("datagram-{}", side.word()));
        Ok(Self { socket: UnixDatagram::bind(name(side))?, others: name(side.other()) })
    }

    /// The near side starts before the far one has a name, so it connects with its first ring.
    fn connect(&mut self) -> Result<(), Fail> {
        if !self.others.as_os_str().is_empty() {
            self.socket.connect(&self.others)?;
            self.others.clear();
        }
        Ok(())
    }
}

impl End for Datagram {
    fn ring(&mut self, number: u64) -> Result<(), Fail> {
        self.connect()?;
        self.socket.send(&number.to_le_bytes())?;
        Ok(())
    }

    fn wait(&mut self, number: u64) -> Result<(), Fail> {
        let mut found = [0; 8];
        self.socket.recv(&mut found)?;
        expect(found, number)
    }
}

/// A connection; the near side listens.
#[derive(Debug)]
pub(super) struct Stream {
    listener: Option<UnixListener>,
    connection: Option<UnixStream>,
}

impl Stream {
    /// Listens in `directory`, or connects to who listens there.
    pub(super) fn join(directory: &Path, side: Side) -> Result<Self, Fail> {
        let path = directory.join("stream");
        Ok(match side {
            Side::Near => Self { listener: Some(UnixListener::bind(path)?), connection: None },
            Side::Far => Self { listener: None, connection: Some(UnixStream::connect(path)?) },
        })
    }

    fn connection(&mut self) -> Result<&mut UnixStream, Fail> {
        if let Some(listener) = self.listener.take() {
            self.connection = Some(listener.accept()?.0);
        }
        Ok(self.connection.as_mut().ok_or("no connection")?)
    }
}

impl End for Stream {
    fn ring(&mut self, number: u64) -> Result<(), Fail> {
        Ok(self.connection()?.write_all(&number.to_le_bytes())?)
    }

    fn wait(&mut self, number: u64) -> Result<(), Fail> {
        let mut found = [0; 8];
        self.connection()?.read_exact(&mut found)?;
        expect(found, number)
    }
}
