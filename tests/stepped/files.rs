//! Creating, rebuilding and destroying: what others find of the files, whenever it ends.
//!
//! There is no region yet, or it goes; so a state is all that is below a directory: of the bus, and of what
//! outlives it. Files are kept by the path of the bus. So each state is laid out at the victim's own place, and
//! the victim's files, which it has open while it stands, are out of the way meanwhile.

use crate::recover::{State, clean, goes_on, state};
use crate::stage::{MAX, bus_at, command, kill};
use crate::trace::{Eye, Traced, map_region};
use membus::{Bus, OpenError, Options};
use memmap2::Mmap;
use nix::unistd::Pid;
use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File, Permissions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What is stepped through, from nothing but files.
pub(crate) struct Story {
    pub(crate) name: &'static str,
    /// What is there before.
    prepare: fn(&Path),
    pub(crate) run: fn(&Path),
    /// Who finds a bus, in any state, finds these entries.
    found: fn() -> State,
    /// Who opens it where none is found gets these.
    opened: fn() -> State,
}

/// Snapshots go where nobody said, so they go with the bus.
pub(crate) fn options(place: &Path) -> Options {
    let options = Bus::options().keeper(false).state(place.join("state"));
    options.max_capacity(MAX as u64).capacity(0).log_size(4096)
}

fn entries() -> State {
    let values = (0..12).map(|n| (format!("k{n}").into_bytes(), vec![n; 40]));
    values.chain([(b"n".to_vec(), 7_i64.to_le_bytes().to_vec())]).collect()
}

fn saved(place: &Path) {
    let bus = options(place).create_at(bus_at(place)).unwrap();
    for (key, value) in entries().iter().filter(|(key, _)| *key != b"n") {
        bus.set_bytes(key, value).unwrap();
    }
    bus.add("n", 7).unwrap();
    bus.snapshot().unwrap();
}

pub(crate) const STORIES: &[Story] = &[
    Story {
        name: "create",
        prepare: |_| {},
        run: |place| drop(options(place).create_at(bus_at(place)).unwrap()),
        found: State::new,
        opened: State::new,
    },
    Story {
        name: "rebuild",
        prepare: |place| {
            saved(place);
            fs::remove_dir_all(bus_at(place)).unwrap();
        },
        run: |place| drop(options(place).create_at(bus_at(place)).unwrap()),
        found: entries,
        opened: entries,
    },
    Story {
        name: "destroy",
        prepare: |place| {
            saved(place);
            kill("story's dead", place);
        },
        run: |place| options(place).destroy_at(bus_at(place), false).unwrap(),
        found: entries,
        opened: State::new,
    },
];

impl Story {
    pub(crate) fn named(name: &str) -> &'static Self {
        STORIES.iter().find(|story| story.name == name).unwrap()
    }
}

/// A file, or a directory without content; a socket is a file without any.
type Node = (u32, Option<Arc<Vec<u8>>>);

/// All below a directory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct Tree(BTreeMap<PathBuf, Node>);

impl Tree {
    fn read(top: &Path) -> Self {
        let (mut tree, mut todo) = (BTreeMap::new(), vec![PathBuf::new()]);
        while let Some(directory) = todo.pop() {
            for entry in fs::read_dir(top.join(&directory)).unwrap() {
                let entry = entry.unwrap();
                let (path, meta) = (directory.join(entry.file_name()), entry.metadata().unwrap());
                let content = match meta.file_type() {
                    kind if kind.is_dir() => None,
                    kind if kind.is_file() => Some(Arc::new(fs::read(entry.path()).unwrap())),
                    _ => Some(Arc::default()),
                };
                if content.is_none() {
                    todo.push(path.clone());
                }
                tree.insert(path, (meta.mode() & 0o777, content));
            }
        }
        Self(tree)
    }

    fn lay_out(&self, top: &Path) {
        fs::create_dir(top).unwrap();
        for (path, (mode, content)) in &self.0 {
            let at = top.join(path);
            match content {
                None => fs::create_dir(&at).unwrap(),
                Some(content) => fs::write(&at, &**content).unwrap(),
            }
            fs::set_permissions(&at, Permissions::from_mode(*mode)).unwrap();
        }
    }

    fn hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for (path, (mode, content)) in &self.0 {
            let content = content.as_ref().map(|content| xxhash_rust::xxh3::xxh3_64(content));
            (path, mode, content).hash(&mut hasher);
        }
        hasher.finish()
    }
}

/// Looks at all files below a place.
struct TreeEye {
    place: PathBuf,
    victim: Pid,
    /// Where the victim has mapped a region.
    mapped: Vec<Range<u64>>,
    /// What it is called in the tree, and its content now.
    region: Option<(PathBuf, File, Mmap)>,
    last: Tree,
}

impl TreeEye {
    /// What the victim has mapped, after a system call: it may have another name now.
    fn find_mapped(&mut self) {
        let maps = fs::read_to_string(format!("/proc/{}/maps", self.victim)).unwrap();
        self.region = None;
        let mut mapped = Vec::new();
        for line in maps.lines() {
            let (range, rest) = line.split_once(' ').unwrap();
            let (start, end) = range.split_once('-').unwrap();
            let number = |text| u64::from_str_radix(text, 16).unwrap();
            let range = number(start)..number(end);
            // What is guarded says that it is not written to.
            let is_written = rest.starts_with("rw-s") || self.mapped.contains(&range);
            let path = rest.find('/').map(|at| PathBuf::from(&rest[at..]));
            let Some(path) = path.filter(|path| is_written && path.is_file()) else { continue };
            let Ok(name) = path.strip_prefix(&self.place) else { continue };
            let file = File::open(&path).unwrap();
            let map = map_region(&file);
            self.region = Some((name.to_owned(), file, map));
            mapped.push(range);
        }
        self.mapped = mapped;
    }
}

impl Eye for TreeEye {
    type Look = Tree;
    const IS_GUARDED: bool = true;

    fn update(&mut self, called: bool) -> bool {
        if called {
            self.find_mapped();
            let now = Tree::read(&self.place);
            let changed = now != self.last;
            self.last = now;
            return changed;
        }
        let Some((name, file, map)) = &self.region else { return false };
        let Some((_, Some(last))) = self.last.0.get_mut(name) else { return false };
        let now = &map[..file.metadata().unwrap().len() as usize];
        let changed = now != &***last;
        if changed {
            *last = Arc::new(now.to_vec());
        }
        changed
    }
    fn look(&self) -> Tree {
        self.last.clone()
    }
    fn mapped(&self) -> &[Range<u64>] {
        &self.mapped
    }
}

/// A state, and what is tried with it.
struct Scene<'a> {
    story: &'static Story,
    place: &'a Path,
    tree: &'a Tree,
    what: String,
}

impl Scene<'_> {
    /// Does something where a process died that left these files.
    fn there(&self, act: impl FnOnce()) {
        let aside = self.place.with_extension("aside");
        fs::rename(self.place, &aside).unwrap();
        self.tree.lay_out(self.place);
        act();
        fs::remove_dir_all(self.place).unwrap();
        fs::rename(&aside, self.place).unwrap();
    }

    /// What who attaches finds; `None`: no bus.
    fn found(&self) -> Option<State> {
        let what = &self.what;
        let seen = match options(self.place).reader_at(bus_at(self.place)) {
            Ok(reader) => Some(state(&reader)),
            Err(OpenError::Absent { .. }) => None,
            Err(error) => panic!("{what}: a reader: {error}"),
        };
        let found = match options(self.place).attach_at(bus_at(self.place)) {
            Ok(bus) => Some(state(&bus)),
            Err(OpenError::Absent { .. }) => None,
            Err(error) => panic!("{what}: {error}"),
        };
        assert_eq!(seen, found, "{what}: a reader finds what a member does not");
        let is_whole = found.as_ref().is_none_or(|found| *found == (self.story.found)());
        assert!(is_whole, "{what}: a state that never was: {found:?}");
        found
    }

    /// It is whole, and as good as any.
    fn holds(&self, bus: &Bus, expected: &State) {
        let what = &self.what;
        assert_eq!(state(bus), *expected, "{what}");
        assert!(!bus_at(self.place).join("region.new").exists(), "{what}: a half-made region");
        clean(bus, what);
        assert_eq!(bus.members().unwrap().len(), 1, "{what}: members");
    }

    /// Whoever opens, creates or destroys next does it, whatever of the work was done.
    fn whole(&self) {
        let (what, bus_at) = (&self.what, bus_at(self.place));
        let open =
            || options(self.place).open_at(&bus_at).unwrap_or_else(|e| panic!("{what}: {e}"));
        let opened = |found: Option<State>| found.unwrap_or_else(self.story.opened);
        self.there(|| {
            let expected = opened(self.found());
            let bus = open();
            self.holds(&bus, &expected);
            goes_on(&bus, what);
            drop(bus);
            options(self.place).destroy_at(&bus_at, false).unwrap();
            assert!(!bus_at.exists(), "{what}: files of the bus are left");
            let left = Tree::read(&self.place.join("state"));
            assert!(left.0.is_empty(), "{what}: left of a bus that was destroyed: {:?}", left.0);
        });
        self.there(|| match options(self.place).create_at(&bus_at) {
            Ok(bus) => self.holds(&bus, &(self.story.opened)()),
            Err(OpenError::Exists { .. }) => self.holds(&open(), &(self.story.found)()),
            Err(error) => panic!("{what}: {error}"),
        });
        self.there(|| {
            match options(self.place).destroy_at(&bus_at, false) {
                Ok(()) | Err(OpenError::Absent { .. }) => {}
                Err(error) => panic!("{what}: {error}"),
            }
            assert_eq!(self.found(), None, "{what}: destroyed");
            self.holds(&open(), &State::new());
        });
    }
}

/// Steps through it, and recovers every state on the way.
pub(crate) fn step_through(name: &str) {
    let story = Story::named(name);
    let parent = tempfile::tempdir_in("/dev/shm").unwrap();
    let place = parent.path().join("place");
    fs::create_dir(&place).unwrap();
    (story.prepare)(&place);
    let eye = |victim| TreeEye {
        place: place.clone(),
        victim,
        mapped: Vec::new(),
        region: None,
        last: Tree::read(&place),
    };
    let mut victim = match Traced::start(command(&format!("story {name}"), &place), eye) {
        Ok(victim) => victim,
        Err(refused) => return println!("skipped: no process may be traced here: {refused}"),
    };
    let begun = std::time::Instant::now();
    let mut seen = HashSet::new();
    let stops = victim.step_to_the_end(|stop, tree| {
        if seen.insert(tree.hash()) {
            let what = format!("{name}, killed after {stop} stops");
            Scene { story, place: &place, tree: &tree, what }.whole();
        }
        true
    });
    let (took, states) = (begun.elapsed().as_secs_f64(), seen.len());
    println!("{name}: {stops} stops, {states} states recovered, {took:.1} s");
    println!("earned {states} states between instructions");
    assert!(stops > 100 && states > 10, "{name}: it was stepped through");
}
