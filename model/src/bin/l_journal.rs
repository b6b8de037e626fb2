//! L: the journal: groups, syncs, segments, snapshots, takeover by another keeper, power cuts.
//!
//! *Modelled:* what a journaler stores in the region and does to files, one step each: new segments, groups,
//! syncs, the word `journaled`, the deletion of what a snapshot made superfluous; writers that are faster than it,
//! so that the log loses records; restores, whose content no record has; the journaler's death, and the next
//! one's beginning; syncs that fail. The power is cut at any moment: of what was not synced
//! any part may be lost. Then the newest snapshot, or the one before, is loaded with the journal on top, and the bus
//! goes on in a new life. The snapshot file itself is whole or absent; that is another protocol's matter.
//!
//! *A state* has the true sequence of changes of this life, the words of the region, the log's oldest record, the
//! segments and snapshots on the disk, and the steps of journaler and saver.
//!
//! *Checked:* what is loaded is the state as of one revision of this life, and of none before `journaled`, unless
//! a snapshot is damaged: then it is still the state as of some revision.
//!
//! *Rules that can be broken:* see [`Plant`].

#[path = "l_journal/disk.rs"]
mod disk;
#[path = "l_journal/power.rs"]
mod power;

use membus_model::{Model, Steps, Suite};
use std::process::ExitCode;

/// A rule that is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plant {
    /// `journaled` is stored before the sync.
    EarlyJournaled,
    /// A sync that failed is taken for a good one when it is tried again on the same file.
    RetriedSync,
    /// Segments are deleted up to the newest snapshot, not up to the oldest that is kept.
    DeletesToNewest,
    /// Segments are deleted before the next one is on the disk.
    DeletesFirst,
    /// A journaler that lost records goes on as if it had them.
    MindsNoGap,
    /// A restore is passed over like a message.
    MindsNoRestore,
    /// A new chain counts before a snapshot of it is there.
    CountsUnbased,
    /// A new journaler goes on after what it finds in the file, synced or not.
    TrustsTail,
    /// A segment of a new life says nothing of the one before: it is taken to go on after anything.
    NoContinues,
    /// Replay takes segments as they come, gaps or not.
    ReplaysGaps,
}

/// Revisions: sixteen of a life.
const LIFE: u8 = 16;
/// Records that the log holds.
const RING: u8 = 2;

struct Journal {
    changes: u8,
    restores: bool,
    cuts: u8,
    deaths: u8,
    failures: u8,
    damage: bool,
    plant: Option<Plant>,
}

/// One change: its revision, and a number that no other change of any life has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Change {
    revision: u8,
    id: u8,
    is_restore: bool,
}

/// A revision of a life. Lives have numbers of their own, like incarnations: two may have the same revisions,
/// when nothing of the first is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Point {
    life: u8,
    revision: u8,
}

/// Where a bus begins that nobody knows of.
const NOTHING: Point = Point { life: 0, revision: 0 };

/// What a bus holds: the changes that it has come to.
type Content = Vec<u8>;

fn apply(content: &mut Content, change: &Change) {
    if change.is_restore {
        content.clear();
    }
    content.push(change.id);
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Segment {
    /// The life that it is of, and the revision after which it goes on.
    at: Point,
    /// What it goes on after in the life before, where it is the first of its life; else `at`.
    continues: Point,
    groups: Vec<Vec<Change>>,
    /// How many groups are on the disk for sure.
    synced: usize,
    /// Groups that a failed sync may have dropped, though the next one reports success.
    dropped: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Snapshot {
    at: Point,
    content: Content,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum At {
    Begin,
    /// A new chain, from this revision.
    Chain(u8),
    Segment(u8),
    Base(u8),
    Read,
    Write,
    Sync,
    Journaled,
    /// A snapshot was saved: a new segment is begun, and old ones are deleted. What was passed is synced.
    Rotate,
    Delete,
}

#[derive(Debug, Clone, Hash)]
struct State {
    // The truth: of this life, and all states that ever were.
    life: u8,
    first: u8,
    base: Content,
    changes: Vec<Change>,
    ever: Vec<(Point, Content)>,
    // The region.
    journaled: u8,
    chain: u8,
    continues: Point,
    saved: u8,
    // The disk.
    segments: Vec<Segment>,
    snapshots: Vec<Snapshot>,
    // The journaler.
    at: At,
    passed: u8,
    group: Vec<Change>,
    rotated: u8,
    // The saver: what it is saving.
    saving: Option<Snapshot>,
    next_id: u8,
    cuts: u8,
    deaths: u8,
    failures: u8,
    restored: bool,
}

impl State {
    fn head(&self) -> u8 {
        self.changes.last().map_or(self.first, |change| change.revision)
    }

    fn point(&self, revision: u8) -> Point {
        Point { life: self.life, revision }
    }

    /// A new segment after a revision.
    fn segment(&self, after: u8) -> Segment {
        let at = self.point(after);
        let continues = if after == self.first { self.continues } else { at };
        Segment { at, continues, groups: Vec::new(), synced: 0, dropped: false }
    }

    fn content_at(&self, revision: u8) -> Content {
        let mut content = self.base.clone();
        self.changes.iter().filter(|c| c.revision <= revision).for_each(|c| apply(&mut content, c));
        content
    }

    /// The next record, when the log still has it.
    fn record(&self, after: u8) -> Option<&Change> {
        let oldest = self.head().saturating_sub(RING);
        self.changes.iter().find(|c| c.revision == after + 1 && c.revision > oldest)
    }
}

impl Journal {
    fn breaks(&self, plant: Plant) -> bool {
        self.plant == Some(plant)
    }

    fn write(&self, state: &State, steps: &mut Steps<State>) {
        if state.next_id > self.changes {
            return;
        }
        let mut add = |is_restore, what| {
            let mut next = state.clone();
            next.changes.push(Change { revision: state.head() + 1, id: state.next_id, is_restore });
            next.next_id += 1;
            next.ever.push((next.point(next.head()), next.content_at(next.head())));
            next.restored |= is_restore;
            steps.go("writer", what, next);
        };
        add(false, "commits a change");
        if self.restores && !state.restored {
            add(true, "commits a restore");
        }
    }

    fn save(&self, state: &State, steps: &mut Steps<State>) {
        let mut next = state.clone();
        match state.saving.clone() {
            None if state.head() != state.saved => {
                let (at, content) = (state.point(state.head()), state.content_at(state.head()));
                next.saving = Some(Snapshot { at, content });
                steps.go("saver", "begins a snapshot", next);
            }
            None => {}
            Some(snapshot) => {
                next.saved = snapshot.at.revision;
                next.snapshots.push(snapshot);
                let superfluous = next.snapshots.len().saturating_sub(2);
                next.snapshots.drain(..superfluous);
                next.saving = None;
                steps.go("saver", "has saved it", next);
            }
        }
    }

    fn is_based(&self, state: &State) -> bool {
        state.chain == state.first
            || state.saved >= state.chain
            || self.breaks(Plant::CountsUnbased)
    }

    fn journal(&self, state: &State, steps: &mut Steps<State>) {
        let mut next = state.clone();
        let what = match state.at {
            At::Begin | At::Chain(_) | At::Base(_) | At::Segment(_) => {
                self.begin_segment(state, &mut next)
            }
            At::Read if state.saved > state.rotated => {
                next.at = At::Rotate;
                "sees that a snapshot was saved"
            }
            At::Read if state.passed == state.head() => {
                // A chain that was not based may be by now.
                if state.journaled < state.passed && self.is_based(state) {
                    next.at = At::Sync;
                    steps.go("journaler", "looks at the snapshots", next);
                }
                return;
            }
            At::Read => self.read(state, &mut next),
            At::Write | At::Sync | At::Journaled => self.write_out(state, &mut next, steps),
            At::Rotate | At::Delete => self.clean(state, &mut next),
        };
        steps.go("journaler", what, next);
        if state.deaths > 0 {
            let mut dead = state.clone();
            dead.deaths -= 1;
            (dead.at, dead.group, dead.rotated) = (At::Begin, Vec::new(), dead.saved);
            steps.dies("journaler", dead);
        }
    }

    fn begin_segment(&self, state: &State, next: &mut State) -> &'static str {
        let head = state.head();
        match state.at {
            At::Begin => {
                let mut from = state.journaled;
                if self.breaks(Plant::TrustsTail)
                    && let Some(last) = state.segments.last()
                    && let Some(change) = last.groups.last().and_then(|group| group.last())
                    && change.revision > state.first
                {
                    from = change.revision;
                }
                let is_there = from >= head || state.record(from).is_some();
                next.at = if is_there { At::Segment(from) } else { At::Chain(head) };
                "begins"
            }
            At::Chain(from) => {
                next.at = At::Base(from);
                if self.breaks(Plant::MindsNoGap) {
                    next.at = At::Segment(from);
                }
                "begins a new chain"
            }
            At::Base(from) => {
                next.chain = from;
                next.at = At::Segment(from);
                "stores the base"
            }
            At::Segment(from) => {
                next.segments.push(state.segment(from));
                next.passed = from;
                next.at = At::Read;
                "has a new segment on the disk"
            }
            _ => "has begun",
        }
    }

    fn read(&self, state: &State, next: &mut State) -> &'static str {
        let head = state.head();
        let mut passed = state.passed;
        next.group.clear();
        next.at = At::Write;
        while passed < head {
            match state.record(passed) {
                Some(change) if !change.is_restore => next.group.push(*change),
                Some(_) if self.breaks(Plant::MindsNoRestore) => {}
                None if self.breaks(Plant::MindsNoGap) => {}
                _ => {
                    next.group.clear();
                    next.at = At::Chain(head);
                    break;
                }
            }
            passed += 1;
        }
        if next.at == At::Write {
            next.passed = passed;
        }
        "reads the log"
    }
}

impl Model for Journal {
    type State = State;

    fn begin(&self) -> Vec<State> {
        vec![State {
            life: 1,
            first: LIFE,
            base: Vec::new(),
            changes: Vec::new(),
            ever: vec![(Point { life: 1, revision: LIFE }, Vec::new())],
            journaled: LIFE,
            chain: LIFE,
            continues: NOTHING,
            saved: LIFE,
            segments: Vec::new(),
            snapshots: Vec::new(),
            at: At::Begin,
            passed: LIFE,
            group: Vec::new(),
            rotated: LIFE,
            saving: None,
            next_id: 1,
            cuts: self.cuts,
            deaths: self.deaths,
            failures: self.failures,
            restored: false,
        }]
    }

    fn next(&self, state: &State, steps: &mut Steps<State>) {
        self.write(state, steps);
        self.save(state, steps);
        self.journal(state, steps);
        self.cut(state, steps);
    }

    fn check(&self, state: &State) -> Result<(), String> {
        if state.journaled > state.head() {
            return Err("more is journaled than was committed".to_owned());
        }
        Ok(())
    }

    fn end(&self, state: &State) -> Result<(), String> {
        if state.journaled != state.head() {
            return Err("the last changes are never durable".to_owned());
        }
        Ok(())
    }
}

fn main() -> ExitCode {
    let mut suite = Suite::from_arguments("L: journal");
    let base = || Journal {
        changes: 4,
        restores: false,
        cuts: 2,
        deaths: 1,
        failures: 1,
        damage: false,
        plant: None,
    };
    suite.holds("2 changes, 2 cuts, a death, a failed sync", 400_000, {
        Journal { changes: 2, ..base() }
    });
    suite.holds("3 changes, 1 cut, one of them a restore, a death", 400_000, {
        Journal { changes: 3, cuts: 1, restores: true, failures: 0, ..base() }
    });
    suite.holds("4 changes, 2 cuts, a damaged snapshot", 200_000, {
        Journal { damage: true, deaths: 0, failures: 0, ..base() }
    });
    suite.holds_in_full("4 changes, 2 cuts, a death, a failed sync", base());
    suite.holds_in_full("4 changes, 1 cut, all else", {
        Journal { cuts: 1, restores: true, damage: true, ..base() }
    });
    let one = || Journal { cuts: 1, deaths: 0, failures: 0, ..base() };
    let damaged = || Journal { damage: true, ..one() };
    let restored = || Journal { changes: 2, restores: true, ..one() };
    let dies = || Journal { changes: 2, cuts: 2, deaths: 1, ..one() };
    for (name, plant, base) in [
        ("`journaled` before the sync", Plant::EarlyJournaled, one()),
        ("a failed sync is tried again", Plant::RetriedSync, Journal { failures: 1, ..one() }),
        ("segments are deleted up to the newest snapshot", Plant::DeletesToNewest, damaged()),
        ("segments are deleted before the next is there", Plant::DeletesFirst, one()),
        ("a gap is not minded", Plant::MindsNoGap, one()),
        ("a restore is not minded", Plant::MindsNoRestore, restored()),
        ("a chain counts before its snapshot", Plant::CountsUnbased, one()),
        ("a new journaler trusts the file's tail", Plant::TrustsTail, dies()),
        ("a segment of a new life goes on after anything", Plant::NoContinues, {
            Journal { changes: 3, cuts: 2, ..damaged() }
        }),
        ("replay passes over gaps", Plant::ReplaysGaps, one()),
    ] {
        suite.plant(name, Journal { plant: Some(plant), ..base });
    }
    suite.run()
}
