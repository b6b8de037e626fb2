//! Names of buses and queues, and the directory that a bus's name stands for.

use crate::error::OpenError;
use crate::types::limits::NAME_MAX;
use std::path::{Path, PathBuf};

/// Whether a name keeps the rules: `[A-Za-z0-9_][A-Za-z0-9._-]{0,63}`.
pub(crate) fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let rest = bytes.all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    first && rest && name.len() <= NAME_MAX
}

/// The same of a bus.
pub(crate) fn check(name: &str) -> Result<(), OpenError> {
    if is_name(name) { Ok(()) } else { Err(OpenError::Name { name: name.to_owned() }) }
}

/// The directory of all buses: `given`, else `$MEMBUS_DIR`, else `/dev/shm/membus-UID`. It need not
/// be there.
#[must_use]
pub fn directory(given: Option<&Path>) -> PathBuf {
    if let Some(given) = given {
        return given.to_owned();
    }
    match std::env::var_os("MEMBUS_DIR").filter(|value| !value.is_empty()) {
        Some(value) => PathBuf::from(value),
        None => standard(),
    }
}

/// `/dev/shm/membus-UID`.
pub(crate) fn standard() -> PathBuf {
    PathBuf::from(format!("/dev/shm/membus-{}", crate::sys::process::uid()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plant: `<=` to `<` refuses the longest name.
    #[test]
    fn names_keep_the_rules() {
        let longest = "x".repeat(NAME_MAX);
        for good in ["a", "_", "0.b-c", &longest] {
            assert!(check(good).is_ok(), "{good}");
        }
        let longer = "x".repeat(NAME_MAX + 1);
        for bad in ["", ".", "-a", "a/b", "a b", "\u{e9}", &longer] {
            assert!(matches!(check(bad), Err(OpenError::Name { .. })), "{bad}");
        }
    }
}
