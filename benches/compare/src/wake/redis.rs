//! Redis publish and subscribe: each side has a connection for either.

use std::path::Path;

use redis::{Client, Connection, Msg, cmd};

use super::Side;
use super::end::End;
use crate::engines::{self, Fail};

/// One side's connections.
pub(super) struct Channels {
    publisher: Connection,
    subscriber: Connection,
    others: &'static str,
}

impl Channels {
    /// Connects to the server under `directory`.
    pub(super) fn join(directory: &Path, side: Side) -> Result<Self, Fail> {
        let socket = engines::redis_socket(directory);
        let client = Client::open(format!("unix://{}", socket.display()))?;
        let mut subscriber = client.get_connection()?;
        // Not by the crate's `PubSub`, which borrows the connection.
        let subscribe = cmd("SUBSCRIBE").arg(side.word()).get_packed_command();
        subscriber.send_packed_command(&subscribe)?;
        subscriber.recv_response()?;
        Ok(Self { publisher: client.get_connection()?, subscriber, others: side.other().word() })
    }
}

impl End for Channels {
    fn ring(&mut self, number: u64) -> Result<(), Fail> {
        let mut publish = cmd("PUBLISH");
        let heard: u64 = publish
            .arg(self.others)
            .arg(number.to_le_bytes().as_slice())
            .query(&mut self.publisher)?;
        if heard == 1 { Ok(()) } else { Err(format!("{heard} subscribers instead of one").into()) }
    }

    fn wait(&mut self, number: u64) -> Result<(), Fail> {
        let answer = self.subscriber.recv_response()?;
        let message = Msg::from_value(&answer).ok_or("no message")?;
        if message.get_payload_bytes() == number.to_le_bytes() {
            return Ok(());
        }
        Err(format!("{:?} instead of ring {number}", message.get_payload_bytes()).into())
    }
}
