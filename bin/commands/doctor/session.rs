//! systemd removes what a user left in `/dev/shm` when his last session ends.

use super::Finding;
use super::host::Host;
use nix::unistd::{Uid, User};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The users whose files stay: those of the system.
const SYSTEM_USERS: u32 = 999;
/// Where settings are, the strongest first.
const SETTINGS: [&str; 4] =
    ["/etc/systemd", "/run/systemd", "/usr/local/lib/systemd", "/usr/lib/systemd"];

/// Whether a logout removes the buses.
pub(super) fn removes_ipc(host: &Host, directory: &Path) -> Finding {
    let uid = Uid::effective();
    let name = User::from_uid(uid).ok().flatten().map(|user| user.name);
    judge(host, directory, uid.as_raw(), &name.unwrap_or_else(|| uid.to_string()))
}

fn judge(host: &Host, directory: &Path, uid: u32, name: &str) -> Finding {
    let about = "RemoveIPC";
    if !directory.starts_with("/dev/shm") {
        return Finding::good(about, "the buses are not in /dev/shm, which it is about");
    }
    if !host.at("/run/systemd/system").exists() {
        return Finding::good(about, "no systemd here");
    }
    if uid <= SYSTEM_USERS {
        return Finding::good(about, format!("{name} is a system user, whose files stay"));
    }
    if host.at("/var/lib/systemd/linger").join(name).exists() {
        return Finding::good(about, format!("{name} lingers: there is no last logout"));
    }
    if !is_on(host) {
        return Finding::good(about, "off: files in /dev/shm stay after the last logout");
    }
    let what = format!("on: when {name} logs out for the last time, systemd removes the buses");
    let advice = format!(
        "loginctl enable-linger {name}, or RemoveIPC=no in logind.conf, or MEMBUS_DIR under /run"
    );
    Finding::danger(about, what, advice)
}

/// The last setting wins: of the strongest `logind.conf`, then of the drop-ins by name.
fn is_on(host: &Host) -> bool {
    let mains = SETTINGS.map(|place| host.at(place).join("logind.conf"));
    let main = mains.into_iter().find(|path| path.exists());
    let mut extras = BTreeMap::<_, PathBuf>::new();
    for place in SETTINGS.iter().rev() {
        let directory = host.at(place).join("logind.conf.d");
        for file in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            if file.path().extension().is_some_and(|kind| kind == "conf") {
                // One of the same name in a stronger place hides it.
                extras.insert(file.file_name(), file.path());
            }
        }
    }
    let mut on = true;
    for path in main.into_iter().chain(extras.into_values()) {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        for line in text.lines() {
            if let Some(value) = line.trim().strip_prefix("RemoveIPC=") {
                let value = value.trim().to_ascii_lowercase();
                on = !matches!(value.as_str(), "no" | "false" | "off" | "0" | "n" | "f");
            }
        }
    }
    on
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    /// Promise: danger is told where a logout removes the buses, and nowhere else.
    /// Plants: drop-ins that are not read; a comment that is taken for a setting.
    #[test]
    fn who_loses_buses_at_logout() {
        let place = tempfile::tempdir().unwrap();
        let host = Host::new(place.path());
        let write = |path: &str, text: &str| host.plant(path, text);
        let shm = Path::new("/dev/shm/membus-1000");
        let state = |uid, directory| judge(&host, directory, uid, "ann").state;
        assert_eq!(state(1000, shm), State::Good, "no systemd");
        std::fs::create_dir_all(host.at("/run/systemd/system")).unwrap();
        assert_eq!(state(1000, shm), State::Danger, "the default is on");
        assert_eq!(state(999, shm), State::Good);
        assert_eq!(state(1000, Path::new("/run/buses")), State::Good);
        write("/etc/systemd/logind.conf", "[Login]\n#RemoveIPC=no\n");
        assert_eq!(state(1000, shm), State::Danger, "a comment");
        write("/usr/lib/systemd/logind.conf.d/50-ipc.conf", "[Login]\nRemoveIPC=no\n");
        assert_eq!(state(1000, shm), State::Good);
        write("/etc/systemd/logind.conf.d/50-ipc.conf", "[Login]\nRemoveIPC=yes\n");
        assert_eq!(state(1000, shm), State::Danger, "a stronger file of the same name");
        write("/var/lib/systemd/linger/ann", "");
        assert_eq!(state(1000, shm), State::Good);
    }
}
