//! A disk whose power may go: what is synced is there for sure, of all else it has what it likes.
//!
//! * Bytes that were written: each sector of 512 bytes came to the disk or did not, in any order. The
//!   file is as long as what came, or as long as it was to be, with zeros.
//! * Names in a directory: changes come in the order in which they were made, but how many is open. Names
//!   in different directories, and names and bytes, know nothing of each other.

use crate::sys::seam::Deed;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const SECTOR: u64 = 512;

/// Random numbers (`SplitMix64`).
#[derive(Debug)]
pub(in crate::bus) struct Dice(pub(in crate::bus) u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }
    pub(in crate::bus) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

#[derive(Debug, Clone)]
enum Change {
    Truncate,
    Write(u64, Vec<u8>),
}

#[derive(Debug, Clone)]
enum Naming {
    Add(String, usize),
    Remove(String),
    Rename(String, String),
}

type Names = BTreeMap<String, usize>;

#[derive(Debug, Clone)]
enum Node {
    File { synced: Vec<u8>, since: Vec<Change> },
    Directory { synced: Names, since: Vec<Naming>, now: Names },
}

/// A directory with all below it, as a disk and the kernel's memory have it.
#[derive(Debug, Clone)]
pub(in crate::bus) struct Disk {
    root: PathBuf,
    nodes: Vec<Node>,
    inodes: BTreeMap<u64, usize>,
}

fn write(bytes: &mut Vec<u8>, at: u64, new: &[u8]) {
    let (at, end) = (at as usize, at as usize + new.len());
    bytes.resize(bytes.len().max(end), 0);
    bytes[at..end].copy_from_slice(new);
}

fn rename(names: &mut Names, naming: &Naming) {
    match naming {
        Naming::Add(name, node) => drop(names.insert(name.clone(), *node)),
        Naming::Remove(name) => drop(names.remove(name)),
        Naming::Rename(from, to) => {
            if let Some(node) = names.remove(from) {
                names.insert(to.clone(), node);
            }
        }
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

impl Disk {
    /// What is below `root` now, all of it synced.
    pub(in crate::bus) fn of(root: &Path) -> Self {
        let mut this =
            Self { root: root.to_owned(), nodes: Vec::new(), inodes: BTreeMap::default() };
        this.take_in(root);
        this
    }

    fn take_in(&mut self, path: &Path) -> usize {
        let place = self.nodes.len();
        if path.is_file() {
            self.inodes.insert(path.metadata().unwrap().ino(), place);
            let synced = std::fs::read(path).unwrap();
            self.nodes.push(Node::File { synced, since: Vec::new() });
            return place;
        }
        self.nodes.push(Self::directory());
        let entries = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
        let names: Names = entries.map(|path| (name_of(&path), self.take_in(&path))).collect();
        self.nodes[place] =
            Node::Directory { synced: names.clone(), since: Vec::new(), now: names };
        place
    }

    fn directory() -> Node {
        Node::Directory { synced: Names::new(), since: Vec::new(), now: Names::new() }
    }

    /// What a path names; nothing outside of the disk.
    fn find(&self, path: &Path) -> Option<usize> {
        let mut place = 0;
        for name in path.strip_prefix(&self.root).ok()? {
            let Node::Directory { now, .. } = &self.nodes[place] else { return None };
            place = *now.get(name.to_str()?)?;
        }
        Some(place)
    }

    fn name(&mut self, parent: usize, naming: Naming) {
        let Node::Directory { since, now, .. } = &mut self.nodes[parent] else {
            panic!("{naming:?} in a file")
        };
        rename(now, &naming);
        since.push(naming);
    }

    fn add(&mut self, path: &Path, node: Node) -> Option<usize> {
        let parent = self.find(path.parent()?)?;
        self.nodes.push(node);
        self.name(parent, Naming::Add(name_of(path), self.nodes.len() - 1));
        Some(self.nodes.len() - 1)
    }

    fn change(&mut self, place: usize, change: Change) {
        let Node::File { since, .. } = &mut self.nodes[place] else { panic!("{change:?}") };
        since.push(change);
    }

    /// Does what was done; nothing to what is elsewhere.
    pub(in crate::bus) fn replay(&mut self, deed: &Deed) {
        match deed {
            Deed::Open { path, inode, truncates } => {
                let file = Node::File { synced: Vec::new(), since: Vec::new() };
                let found = self.find(path);
                let Some(place) = found.or_else(|| self.add(path, file)) else { return };
                self.inodes.insert(*inode, place);
                if *truncates && found.is_some() {
                    self.change(place, Change::Truncate);
                }
            }
            Deed::Write { inode, at, bytes } => {
                let Some(place) = self.inodes.get(inode) else { return };
                self.change(*place, Change::Write(*at, bytes.clone()));
            }
            Deed::Sync { inode } => {
                let Some(place) = self.inodes.get(inode) else { return };
                if let Node::File { synced, since } = &mut self.nodes[*place] {
                    *synced = whole(synced, since);
                    since.clear();
                }
            }
            Deed::MakeDirectory { path } => {
                self.add(path, Self::directory());
            }
            Deed::Rename { from, to } => {
                assert_eq!(from.parent(), to.parent(), "renamed in one directory");
                let Some(parent) = from.parent().and_then(|path| self.find(path)) else { return };
                self.name(parent, Naming::Rename(name_of(from), name_of(to)));
            }
            Deed::Link { from, to } => {
                let Some(node) = self.find(from) else { return };
                let Some(parent) = to.parent().and_then(|path| self.find(path)) else { return };
                self.name(parent, Naming::Add(name_of(to), node));
            }
            Deed::Unlink { path } => {
                let Some(parent) = path.parent().and_then(|path| self.find(path)) else { return };
                self.name(parent, Naming::Remove(name_of(path)));
            }
            Deed::SyncDirectory { path } => {
                let Some(place) = self.find(path) else { return };
                if let Node::Directory { synced, since, now } = &mut self.nodes[place] {
                    *synced = now.clone();
                    since.clear();
                }
            }
            Deed::Mark => {}
        }
    }

    /// Lays out, in place of the root, what the disk may have when the power goes now.
    pub(in crate::bus) fn cut(&self, dice: &mut Dice) {
        if self.root.exists() {
            std::fs::remove_dir_all(&self.root).unwrap();
        }
        self.lay_out(0, &self.root, dice);
    }

    fn lay_out(&self, place: usize, path: &Path, dice: &mut Dice) {
        match &self.nodes[place] {
            Node::File { synced, since } => {
                std::fs::write(path, torn(synced, since, dice)).unwrap();
            }
            Node::Directory { synced, since, .. } => {
                let mut names = synced.clone();
                let kept = dice.below(since.len() + 1);
                since[..kept].iter().for_each(|naming| rename(&mut names, naming));
                std::fs::create_dir(path).unwrap();
                for (name, place) in names {
                    self.lay_out(place, &path.join(name), dice);
                }
            }
        }
    }
}

/// A file when everything came.
fn whole(synced: &[u8], since: &[Change]) -> Vec<u8> {
    let mut bytes = synced.to_vec();
    for change in since {
        match change {
            Change::Truncate => bytes.clear(),
            Change::Write(at, new) => write(&mut bytes, *at, new),
        }
    }
    bytes
}

/// A file of which some came.
fn torn(synced: &[u8], since: &[Change], dice: &mut Dice) -> Vec<u8> {
    // Of four sectors come none, one, .. all.
    let luck = dice.below(5);
    let mut bytes = synced.to_vec();
    for change in since {
        match change {
            Change::Truncate if dice.below(4) < luck => bytes.clear(),
            Change::Truncate => {}
            Change::Write(at, new) => {
                let mut from = *at;
                let end = from + new.len() as u64;
                while from < end {
                    let to = (from / SECTOR * SECTOR + SECTOR).min(end);
                    if dice.below(4) < luck {
                        write(&mut bytes, from, &new[(from - at) as usize..(to - at) as usize]);
                    }
                    from = to;
                }
            }
        }
    }
    // The length may have come although the bytes have not.
    if dice.below(2) == 0 {
        bytes.resize(bytes.len().max(whole(synced, since).len()), 0);
    }
    bytes
}
