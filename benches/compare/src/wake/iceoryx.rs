//! An event of iceoryx2, one service each way.

use std::path::Path;

use iceoryx2::node::Node;
use iceoryx2::port::listener::Listener;
use iceoryx2::port::notifier::Notifier;
use iceoryx2::prelude::ipc;

use super::Side;
use super::end::End;
use crate::engines::Fail;
use crate::iceoryx;

/// One side's ports.
#[derive(Debug)]
pub(super) struct Events {
    listener: Listener<ipc::Service>,
    notifier: Notifier<ipc::Service>,
    _node: Node<ipc::Service>,
}

impl Events {
    /// Joins the services under `directory`, made by whoever comes first.
    pub(super) fn join(directory: &Path, side: Side) -> Result<Self, Fail> {
        let node = iceoryx::node(directory)?;
        let service = |side: Side| -> Result<_, Fail> {
            Ok(node.service_builder(&side.word().try_into()?).event().open_or_create()?)
        };
        let listener = service(side)?.listener_builder().create()?;
        let notifier = service(side.other())?.notifier_builder().create()?;
        Ok(Self { listener, notifier, _node: node })
    }
}

impl End for Events {
    fn ring(&mut self, _: u64) -> Result<(), Fail> {
        match self.notifier.notify()? {
            1 => Ok(()),
            other => Err(format!("{other} listeners instead of one").into()),
        }
    }

    fn wait(&mut self, _: u64) -> Result<(), Fail> {
        while self.listener.blocking_wait(|_| {})? == 0 {}
        Ok(())
    }
}
