//! Nodes of iceoryx2, whose files lie under the run's directory.

use std::fs;
use std::path::{Path, PathBuf};

use iceoryx2::config::Config;
use iceoryx2::node::Node;
use iceoryx2::prelude::{
    FileName, NodeBuilder, Path as IceoryxPath, SemanticString, SignalHandlingMode, ipc,
};

use crate::engines::Fail;

/// Where POSIX shared memory has its names, of which iceoryx2 leaves some behind.
const SHARED_NAMES: &str = "/dev/shm";

/// What the names of the run's files begin with, in the one place where they all lie. It is short,
/// since they become addresses of sockets.
fn prefix(directory: &Path) -> String {
    let name = directory.file_name().unwrap_or_default().to_string_lossy();
    format!("iox2-{}-", name.rsplit('-').next().unwrap_or_default())
}

/// Removes, when dropped, what nodes with this directory left in the common place.
#[derive(Debug)]
pub(crate) struct Sweep(pub(crate) PathBuf);

impl Drop for Sweep {
    fn drop(&mut self) {
        let prefix = prefix(&self.0);
        for file in fs::read_dir(SHARED_NAMES).into_iter().flatten().flatten() {
            if file.file_name().to_string_lossy().starts_with(&prefix) {
                fs::remove_file(file.path()).ok();
            }
        }
    }
}

/// A node with its files under `directory`.
pub(crate) fn node(directory: &Path) -> Result<Node<ipc::Service>, Fail> {
    let root = directory.join("iceoryx2");
    let root = root.to_str().ok_or("the temporary directory's path is not UTF-8")?;
    let mut config = Config::default();
    config.global.set_root_path(&IceoryxPath::new(root.as_bytes())?);
    config.global.prefix = FileName::new(prefix(directory).as_bytes())?;
    let node = NodeBuilder::new().config(&config);
    Ok(node.signal_handling_mode(SignalHandlingMode::Disabled).create::<ipc::Service>()?)
}
