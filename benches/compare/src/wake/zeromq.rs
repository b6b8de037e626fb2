//! A pair of ZeroMQ sockets over `ipc`, which is a Unix socket.

use std::path::Path;

use zmq::{Context, PAIR, Socket};

use super::Side;
use super::end::End;
use crate::engines::Fail;

/// One of the pair.
pub(super) struct Pair {
    socket: Socket,
}

impl Pair {
    /// Binds in `directory`, or connects to who is bound there.
    pub(super) fn join(directory: &Path, side: Side) -> Result<Self, Fail> {
        let socket = Context::new().socket(PAIR)?;
        let address = format!("ipc://{}", directory.join("zeromq").display());
        match side {
            Side::Near => socket.bind(&address)?,
            Side::Far => socket.connect(&address)?,
        }
        Ok(Self { socket })
    }
}

impl End for Pair {
    fn ring(&mut self, number: u64) -> Result<(), Fail> {
        Ok(self.socket.send(number.to_le_bytes().as_slice(), 0)?)
    }

    fn wait(&mut self, number: u64) -> Result<(), Fail> {
        let mut found = [0; 8];
        self.socket.recv_into(&mut found, 0)?;
        if found == number.to_le_bytes() {
            return Ok(());
        }
        Err(format!("{} instead of ring {number}", u64::from_le_bytes(found)).into())
    }
}
