//! Each bus: its files, its members, its keeper, and how full it is.

use super::Finding;
use super::host::Host;
use crate::error::Failure;
use crate::units::{show_duration, show_size, show_time};
use membus::{BusReader, HeaderError, Info, MemberInfo, OpenError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// What is younger may still be at work.
const FRESH: Duration = Duration::from_secs(60);
/// Clocks of one host differ by nothing; a step of the wall clock is more than this.
const SKEW: Duration = Duration::from_secs(60);
/// A keeper that gave no sign for so long does not work.
const SILENT: Duration = Duration::from_secs(10);

/// A bus's directory, and what can be read of it.
#[derive(Debug)]
pub(super) struct Seen {
    name: String,
    path: PathBuf,
    members: Vec<MemberInfo>,
    /// Snapshots that failed since the last good one.
    failures: u64,
    pub(super) info: Result<Info, membus::Error>,
}

/// All directories in the one of all buses.
pub(super) fn all(directory: &Path) -> Result<Vec<Seen>, Failure> {
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(Failure::io("reading", directory))?,
    };
    let mut seen = Vec::new();
    for entry in entries {
        let path = entry.map_err(Failure::io("reading", directory))?.path();
        if path.is_dir() {
            seen.push(see(path));
        }
    }
    seen.sort_unstable_by(|one, two| one.name.cmp(&two.name));
    Ok(seen)
}

fn see(path: PathBuf) -> Seen {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let look = || -> Result<_, membus::Error> {
        let reader = BusReader::open_at(&path)?;
        let failures = reader.metrics()?.persistence.failures_in_a_row;
        Ok((reader.members()?, failures, reader.info()?))
    };
    match look() {
        Ok((members, failures, info)) => Seen { name, path, members, failures, info: Ok(info) },
        Err(error) => Seen { name, path, members: Vec::new(), failures: 0, info: Err(error) },
    }
}

/// What endangers one bus; one line that it is well if nothing does.
pub(super) fn examine(host: &Host, bus: &Seen) -> Vec<Finding> {
    let about = format!("bus {}", bus.name);
    let about = about.as_str();
    let mut found = leftovers(about, bus);
    match &bus.info {
        Err(error) => found.push(unreadable(about, bus, error)),
        Ok(info) => {
            found.extend(room(about, info));
            found.extend(members(about, host, bus, info));
            found.extend(keeping(about, bus, info));
        }
    }
    if let (true, Ok(info)) = (found.is_empty(), &bus.info) {
        let living = bus.members.iter().filter(|member| member.alive).count();
        let what = format!(
            "{living} members, {} entries, {} of at most {}",
            info.entries,
            show_size(info.capacity),
            show_size(info.max_capacity)
        );
        found.push(Finding::good(about, what));
    }
    found
}

fn unreadable(about: &str, bus: &Seen, error: &membus::Error) -> Finding {
    let name = &bus.name;
    match error {
        membus::Error::Open(OpenError::OtherBoot { .. }) => Finding::note(
            about,
            "its region is of an earlier boot of this host, or of another boot id",
            format!("open it (membus keep {name}): it is rebuilt from its newest snapshot"),
        ),
        membus::Error::Open(OpenError::Absent { .. }) if bus.path.join("region").exists() => {
            Finding::note(
                about,
                "whoever destroyed it died before all files were gone",
                format!("membus destroy {name}"),
            )
        }
        membus::Error::Open(OpenError::Absent { .. }) => Finding::note(
            about,
            "a directory without a region",
            format!("open it (membus keep {name}), or remove {}", bus.path.display()),
        ),
        membus::Error::Open(OpenError::Owner { .. }) => {
            Finding::note(about, error.to_string(), "its owner may look at it, and root")
        }
        membus::Error::Open(OpenError::Io { source, .. })
            if source.kind() == std::io::ErrorKind::PermissionDenied =>
        {
            Finding::note(
                about,
                error.to_string(),
                "run it as a user who may read the bus".to_owned(),
            )
        }
        // It says itself what to do; `check` can't read it either.
        membus::Error::Open(OpenError::Header {
            source: HeaderError::Version { .. } | HeaderError::Print { .. },
            ..
        }) => Finding::danger(
            about,
            error.to_string(),
            format!("its directory is {}; no `membus destroy`", bus.path.display()),
        ),
        error => Finding::danger(
            about,
            error.to_string(),
            format!(
                "membus check {name}; if it is damaged, end its members, remove {} and open it: it is rebuilt from its newest snapshot",
                bus.path.display()
            ),
        ),
    }
}

/// What the dead left in the directory.
fn leftovers(about: &str, bus: &Seen) -> Vec<Finding> {
    let mut found = Vec::new();
    let age = |name: &str| {
        let changed = std::fs::metadata(bus.path.join(name)).ok()?.modified().ok()?;
        SystemTime::now().duration_since(changed).ok()
    };
    if age("region.new").is_some_and(|age| age > FRESH) {
        let what = "region.new is left of a creator that died";
        found.push(Finding::note(about, what, "the next creator replaces it; or remove it"));
    }
    if age("region.torn").is_some() {
        let what = "region.torn is the region of an earlier boot, set aside when it was rebuilt";
        found.push(Finding::note(about, what, "remove it when nothing is missing"));
    }
    let bells = std::fs::read_dir(bus.path.join("bell")).map_or(0, Iterator::count);
    if let Ok(info) = &bus.info
        && bells > info.watches as usize + bus.members.len()
    {
        let what = format!("{bells} doorbell sockets for {} watches", info.watches);
        let advice = "nothing depends on them: the next watches take their place";
        found.push(Finding::note(about, what, advice));
    }
    found
}

fn room(about: &str, info: &Info) -> Option<Finding> {
    let left = info.free + info.max_capacity.saturating_sub(info.capacity);
    (left < info.max_capacity / 10).then(|| {
        let (left, max) = (show_size(left), show_size(info.max_capacity));
        let what = format!("{left} of {max} are left: writes will be refused as Full");
        let advice = "delete keys, give them times to live, or make the bus anew with a larger \
                      --max-capacity (snapshot, end its members, remove its directory, create)";
        Finding::danger(about, what, advice)
    })
}

/// The state of a process, by its letter, when it is one of this PID namespace that has the bus open.
fn process_state(host: &Host, pid: u32, bus: &Path) -> Option<char> {
    let maps = host.read(&format!("/proc/{pid}/maps"))?;
    let region = bus.join("region");
    // The namespace may give this number to somebody else.
    maps.contains(region.to_str()?).then_some(())?;
    let stat = host.read(&format!("/proc/{pid}/stat"))?;
    // After the name, which may hold anything.
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

fn members(about: &str, host: &Host, bus: &Seen, info: &Info) -> Vec<Finding> {
    let mut found = Vec::new();
    for member in bus.members.iter().filter(|member| member.alive) {
        let (pid, label) = (member.pid, member.label.as_deref().unwrap_or("no label"));
        if matches!(process_state(host, pid, &bus.path), Some('T' | 't')) {
            let what = format!(
                "member {} ({label}, pid {pid}) is stopped: others wait for what it locks",
                member.slot
            );
            let advice = format!("kill -CONT {pid}; or kill -KILL {pid}, which frees its locks");
            found.push(Finding::danger(about, what, advice));
        }
    }
    let dead = bus.members.iter().filter(|member| !member.alive).count();
    if dead > 0 && info.keeper.is_none() {
        let what = format!("{dead} dead members are not buried, and there is no keeper");
        let advice = format!("membus keep {}; whoever attaches buries some, too", bus.name);
        found.push(Finding::note(about, what, advice));
    }
    let later = SystemTime::now() + SKEW;
    let joined = bus.members.iter().map(|member| member.joined);
    if let Some(time) = joined.chain(info.last_snapshot_time).filter(|time| *time > later).max() {
        let time = show_time(time).unwrap_or_default();
        let what =
            format!("something happened at {time}, which is to come: the wall clock was set back");
        let advice =
            "times of changes are off by that; times to live are not, they go by boot time";
        found.push(Finding::note(about, what, advice));
    }
    found
}

fn keeping(about: &str, bus: &Seen, info: &Info) -> Vec<Finding> {
    let mut found = Vec::new();
    let is_known = info.persist != "unknown";
    if !is_known {
        let what = format!("where it is saved is not known to {}", info.state.display());
        let advice = "ask as the user, or with the state directory, of who made it";
        found.push(Finding::note(about, what, advice));
    }
    let failures = bus.failures;
    if failures > 0 {
        let last = info.last_snapshot_time.and_then(show_time);
        let last = last.map_or("none was taken yet".to_owned(), |time| {
            format!("the last good one is of {time}")
        });
        let what = format!("failed snapshots to {}: {failures}; {last}", info.persist);
        let advice = format!("membus snapshot {} says why", bus.name);
        found.push(Finding::danger(about, what, advice));
    }
    if let Some(seen) = info.keeper_seen.filter(|seen| *seen > SILENT) {
        let what = format!("its keeper gave no sign for {}", show_duration(seen));
        let advice =
            "see whether it is stopped or starved; when it ends, another member takes over";
        found.push(Finding::danger(about, what, advice));
    }
    let is_unsaved = info.revision > info.last_snapshot_revision;
    if info.keeper.is_none() && is_known && info.persist != "none" && is_unsaved {
        let what = format!(
            "no keeper: revisions after {} are in no snapshot",
            info.last_snapshot_revision
        );
        let advice = format!("membus keep {0}, or membus snapshot {0}", bus.name);
        found.push(Finding::note(about, what, advice));
    }
    found
}
