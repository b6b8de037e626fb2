//! What there is to count: text files, cut into pieces.
//!
//! Directories are walked in the order of their names; symbolic links are not followed. A file is
//! text when its first 8,192 bytes hold no NUL. A directory or file that can't be read is skipped
//! and counted. Files are taken until the bound is reached; one that would pass it is left out.
//!
//! A piece ends at white space, or where there is none for long at another ASCII separator, so that no
//! word lies across; and it has at most [`DISTINCT_MAX`] distinct words, so that its counts, the end
//! of its claim and its mark fit into one batch.

use super::words::each_word;
use crate::error::Failure;
use crate::halt::Halt;
use std::collections::HashSet;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Distinct words of a piece at the most.
pub(super) const DISTINCT_MAX: usize = 8192;
/// Bytes of a piece, as far as its separators allow.
const PIECE_MAX: u64 = 64 << 10;
/// Bytes of a piece of a small directory at the least.
const PIECE_MIN: u64 = 512;
/// So many pieces are cut even from a small directory.
const PIECES_WANTED: u64 = 96;
/// Where a NUL says that a file is no text.
const SNIFFED: usize = 8192;

/// A file that is counted, as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Text {
    pub(super) path: PathBuf,
    size: u64,
    modified: Option<SystemTime>,
}

/// A part of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cut {
    /// Which of the files.
    pub(super) text: usize,
    pub(super) start: u64,
    pub(super) len: u64,
}

/// All that is to be counted.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) texts: Vec<Text>,
    pub(super) pieces: Vec<Cut>,
    pub(super) bytes: u64,
    /// Files that are no text.
    pub(super) binary: u64,
    /// Directories and files that could not be read.
    pub(super) unreadable: u64,
}

impl Plan {
    /// Finds files under `root` of up to `bytes_max` bytes in all, and cuts them.
    pub(super) fn of(root: &Path, bytes_max: u64, halt: &Halt) -> Result<Self, Failure> {
        let mut plan = Self::default();
        // The root itself must be there; below it, what can't be read is skipped.
        fs::read_dir(root).map_err(Failure::io("reading", root))?;
        plan.walk(root, bytes_max, halt)?;
        if plan.bytes == 0 {
            let path = root.display();
            return Err(Failure::Demo(format!("there are no text files under {path}")));
        }
        plan.cut(halt)?;
        Ok(plan)
    }

    fn walk(&mut self, directory: &Path, bytes_max: u64, halt: &Halt) -> Result<(), Failure> {
        let entries = fs::read_dir(directory).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let Ok(mut entries) = entries else {
            self.unreadable += 1;
            return Ok(());
        };
        entries.sort_unstable_by_key(fs::DirEntry::file_name);
        for entry in entries {
            halt.check()?;
            if self.bytes >= bytes_max {
                break;
            }
            match entry.metadata() {
                Ok(found) if found.is_dir() => self.walk(&entry.path(), bytes_max, halt)?,
                Ok(found) if found.is_file() && found.len() > 0 => {
                    if found.len() <= bytes_max - self.bytes {
                        self.take(entry.path(), &found);
                    }
                }
                Ok(_) => {}
                Err(_) => self.unreadable += 1,
            }
        }
        Ok(())
    }

    fn take(&mut self, path: PathBuf, found: &Metadata) {
        match is_text(&path) {
            Ok(true) => {
                self.bytes += found.len();
                let (size, modified) = (found.len(), found.modified().ok());
                self.texts.push(Text { path, size, modified });
            }
            Ok(false) => self.binary += 1,
            Err(_) => self.unreadable += 1,
        }
    }

    fn cut(&mut self, halt: &Halt) -> Result<(), Failure> {
        let aim = (self.bytes / PIECES_WANTED).clamp(PIECE_MIN, PIECE_MAX) as usize;
        let mut seen = HashSet::new();
        for (index, text) in self.texts.iter().enumerate() {
            halt.check()?;
            let bytes = text.read()?;
            let mut start = 0;
            while let Some(rest) = bytes.get(start..).filter(|rest| !rest.is_empty()) {
                let len = piece_len(rest, aim, &mut seen);
                let (start_at, len_at) = (start as u64, len as u64);
                self.pieces.push(Cut { text: index, start: start_at, len: len_at });
                start += len;
            }
        }
        Ok(())
    }

    /// Whether every file is still as it was found; otherwise the first that is not.
    pub(super) fn changed(&self) -> Option<&Path> {
        let changed = self.texts.iter().find(|text| !text.is_unchanged());
        changed.map(|text| text.path.as_path())
    }
}

impl Text {
    /// All of it, of the size that it was found with.
    pub(super) fn read(&self) -> Result<Vec<u8>, Failure> {
        let bytes = fs::read(&self.path).map_err(Failure::io("reading", &self.path))?;
        if bytes.len() as u64 != self.size {
            return Err(changed(&self.path));
        }
        Ok(bytes)
    }

    fn is_unchanged(&self) -> bool {
        fs::symlink_metadata(&self.path)
            .is_ok_and(|now| now.len() == self.size && now.modified().ok() == self.modified)
    }
}

/// Nobody can count what changes meanwhile.
pub(super) fn changed(path: &Path) -> Failure {
    Failure::Demo(format!("{} changed meanwhile; choose a directory at rest", path.display()))
}

fn is_text(path: &Path) -> io::Result<bool> {
    let mut start = Vec::with_capacity(SNIFFED);
    File::open(path)?.take(SNIFFED as u64).read_to_end(&mut start)?;
    Ok(!start.contains(&0))
}

/// How much of `rest` the next piece takes.
fn piece_len(rest: &[u8], aim: usize, seen: &mut HashSet<String>) -> usize {
    let mut len = cut_at(rest, aim);
    // Each word takes a byte and a separator at least.
    while len > 2 * DISTINCT_MAX && distinct(rest.get(..len).unwrap_or(rest), seen) > DISTINCT_MAX {
        let shorter = cut_at(rest, len / 2);
        if shorter >= len {
            break;
        }
        len = shorter;
    }
    len
}

/// The last end of a piece up to `aim`: behind white space, or else behind another ASCII character that
/// is in no word; or the first such end after `aim`; or all.
fn cut_at(rest: &[u8], aim: usize) -> usize {
    let Some(head) = rest.get(..aim).filter(|_| rest.len() > aim) else { return rest.len() };
    let separates = |byte: &u8| byte.is_ascii() && !byte.is_ascii_alphanumeric();
    let space = head.iter().rposition(u8::is_ascii_whitespace);
    let last = space.or_else(|| head.iter().rposition(separates));
    let next = || rest.iter().skip(aim).position(separates).map(|at| aim + at);
    last.or_else(next).map_or(rest.len(), |at| at + 1)
}

fn distinct(bytes: &[u8], seen: &mut HashSet<String>) -> usize {
    seen.clear();
    each_word(bytes, |word| {
        if !seen.contains(word) {
            seen.insert(word.to_owned());
        }
    });
    seen.len()
}

#[cfg(test)]
mod tests {
    use super::super::words::count_words;
    use super::*;
    use std::collections::HashMap;

    fn deaf() -> Halt {
        Halt::deaf().unwrap().0
    }

    fn place(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let place = tempfile::tempdir_in("/dev/shm").unwrap();
        for (name, bytes) in files {
            let path = place.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        place
    }

    /// Promise: the words of the pieces are the words of the files, and no piece has too many.
    /// Plants: `at + 1` to `at + 2` in `cut_at` cuts words in two; without the loop in `piece_len` a
    /// piece has 20,000 distinct words.
    #[test]
    fn pieces_hold_the_words_of_the_files() {
        let many: String = (0..20_000).map(|n| format!("{n:x},")).collect();
        let line = "x".repeat(300_000);
        let spaced: String = (0..50_000).map(|n| format!("w{} ", n % 977)).collect();
        let place = place(&[
            ("a/many.txt", many.as_bytes()),
            ("a/line.txt", line.as_bytes()),
            ("b.txt", spaced.as_bytes()),
            ("c.txt", b"\xff\xfe no UTF-8"),
        ]);
        let plan = Plan::of(place.path(), 1 << 30, &deaf()).unwrap();
        let (mut whole, mut parts, mut bytes) = (HashMap::new(), HashMap::new(), 0);
        for text in &plan.texts {
            count_words(&text.read().unwrap(), &mut whole);
        }
        for piece in &plan.pieces {
            let text = plan.texts[piece.text].read().unwrap();
            let cut = &text[piece.start as usize..(piece.start + piece.len) as usize];
            assert!(distinct(cut, &mut HashSet::new()) <= DISTINCT_MAX);
            count_words(cut, &mut parts);
            bytes += piece.len;
        }
        assert_eq!(whole, parts);
        assert_eq!(bytes, plan.bytes);
        assert!(plan.pieces.len() > 8, "{} pieces", plan.pieces.len());
        let all = many.as_bytes();
        let len = piece_len(all, all.len(), &mut HashSet::new());
        assert!(distinct(&all[..len], &mut HashSet::new()) <= DISTINCT_MAX);
        assert_eq!(plan.changed(), None);
    }

    /// Promise: binary files, links and what does not fit are left out, and the bound holds.
    /// Plant: `metadata` to following `fs::metadata` walks round and round the link.
    #[test]
    fn the_walk_takes_texts_alone() {
        let place = place(&[
            ("a.txt", b"one two"),
            ("b.bin", b"\x7fELF\0\0"),
            ("c/d.txt", &[b'x'; 5000]),
            ("e.txt", b"three"),
            ("empty", b""),
        ]);
        std::os::unix::fs::symlink(place.path(), place.path().join("c/round")).unwrap();
        std::os::unix::fs::symlink("a.txt", place.path().join("link.txt")).unwrap();
        let plan = Plan::of(place.path(), 1000, &deaf()).unwrap();
        let names: Vec<_> = plan.texts.iter().map(|text| text.path.file_name().unwrap()).collect();
        assert_eq!(names, ["a.txt", "e.txt"]);
        assert_eq!((plan.bytes, plan.binary, plan.unreadable), (12, 1, 0));
        fs::write(place.path().join("e.txt"), b"other").unwrap();
        fs::write(place.path().join("a.txt"), b"one two three").unwrap();
        assert_eq!(plan.changed().unwrap(), place.path().join("a.txt"));
        assert!(Plan::of(&place.path().join("nowhere"), 1000, &deaf()).is_err());
        assert!(Plan::of(&place.path().join("a.txt"), 1000, &deaf()).is_err());
        let none = tempfile::tempdir_in("/dev/shm").unwrap();
        assert!(
            Plan::of(none.path(), 1000, &deaf()).unwrap_err().to_string().contains("no text files")
        );
    }
}
