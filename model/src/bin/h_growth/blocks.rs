//! Claiming blocks, making spans of them and ending spans, by the holders of two stripes.
//!
//! *Checked:* a span has all its blocks, as long as its first one says so; nobody writes into or gives
//! back a block of the other stripe. At the end every block is free or in a span.

use membus_model::{Model, Steps, Suite};

const BLOCKS: usize = 5;
const NAMES: [&str; 2] = ["stripe 0", "stripe 1"];

/// A rule that is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plant {
    /// A block is claimed by a load and a store instead of a compare-and-swap.
    ClaimsByStore,
    /// A run that met a taken block is kept.
    KeepsPart,
    /// Giving a run back gives back the block that was met, too.
    ReleasesMet,
    /// The first block says HEAD before the others are tails.
    HeadFirst,
    /// A span's end frees its tails while the first block still says HEAD.
    EndsFromTail,
    /// Repair frees claimed blocks of any stripe.
    RepairsAll,
    /// Repair frees claimed blocks, but no tails without a head.
    KeepsTails,
    /// Nobody repairs.
    NoRepair,
}

/// What the holder of a stripe does, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Task {
    Make(u8),
    /// Ends the first span of the stripe.
    End,
}
use Task::{End, Make};

struct Blocks {
    tasks: [&'static [Task]; 2],
    deaths: u8,
    plant: Option<Plant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
enum Kind {
    #[default]
    Free,
    Claimed,
    Head,
    Tail,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Word {
    kind: Kind,
    stripe: u8,
    distance: u8,
    generation: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
enum At {
    #[default]
    Task,
    Look,
    Load,
    Swap,
    Write,
    Mark,
    ReleaseRun,
    ReleaseTails,
    ReleaseHead,
    EndHead,
    RepairLook,
    RepairFree,
}

/// The holder of a stripe's lock: a dead one's place is taken by who repairs.
#[derive(Debug, Clone, Copy, Hash, Default)]
struct Holder {
    at: At,
    task: u8,
    first: u8,
    count: u8,
    /// The block in hand.
    block: u8,
    /// The end of what is given back.
    end: u8,
    /// Where the search goes on after giving back.
    resume: u8,
    seen: Word,
    /// Blocks of no span that repair has found, a bit each.
    lost: u8,
}

#[derive(Debug, Clone, Copy, Hash)]
struct State {
    word: [Word; BLOCKS],
    /// Length of the span that begins in a block.
    length: [u8; BLOCKS],
    holder: [Holder; 2],
    deaths: u8,
}

impl Blocks {
    fn breaks(&self, plant: Plant) -> bool {
        self.plant == Some(plant)
    }

    fn begin_task(&self, state: &State, who: usize, steps: &mut Steps<State>) {
        let holder = &state.holder[who];
        match self.tasks[who].get(usize::from(holder.task)) {
            None => {}
            Some(Make(count)) => {
                // The hint says where to look first; it may say anything.
                for first in [0, 2] {
                    let mut next = *state;
                    let (task, count) = (holder.task, *count);
                    let block = first + count - 1;
                    next.holder[who] =
                        Holder { at: At::Look, task, first, count, block, ..Holder::default() };
                    steps.go(NAMES[who], "looks for a run of free blocks", next);
                }
            }
            Some(End) => {
                let mut next = *state;
                let mine = |word: &Word| word.kind == Kind::Head && usize::from(word.stripe) == who;
                let q = &mut next.holder[who];
                match state.word.iter().position(mine) {
                    Some(first) => {
                        (q.first, q.count, q.at) = (first as u8, state.length[first], At::EndHead);
                        if self.breaks(Plant::EndsFromTail) {
                            (q.at, q.block) = (At::ReleaseTails, q.first + 1);
                            q.end = q.first + q.count;
                        }
                    }
                    None => q.task += 1,
                }
                steps.go(NAMES[who], "is to end a span", next);
            }
        }
    }

    /// Looking at a run from its end, then claiming it from its beginning.
    fn claim(&self, state: &State, who: usize, steps: &mut Steps<State>) {
        let (mut next, h) = (*state, &state.holder[who]);
        let block = usize::from(h.block);
        if h.at == At::Look && usize::from(h.first + h.count) > BLOCKS {
            next.holder[who] = Holder { task: h.task + 1, ..Holder::default() };
            return steps.go(NAMES[who], "finds no room", next);
        }
        let word = state.word[block];
        let q = &mut next.holder[who];
        let what = match h.at {
            At::Look if word.kind != Kind::Free => {
                (q.first, q.block) = (h.block + 1, h.block + h.count);
                "meets a block that is taken"
            }
            At::Look if h.block > h.first => {
                q.block -= 1;
                "sees a free block"
            }
            At::Look => {
                q.at = At::Load;
                "sees a run of free blocks"
            }
            At::Load if word.kind == Kind::Free => {
                (q.seen, q.at) = (word, At::Swap);
                "loads a block word"
            }
            At::Swap if word == h.seen || self.breaks(Plant::ClaimsByStore) => {
                next.word[block] = Word {
                    kind: Kind::Claimed,
                    stripe: who as u8,
                    distance: 0,
                    generation: h.seen.generation + 1,
                };
                (q.block, q.at, q.seen) = (h.block + 1, At::Load, Word::default());
                if q.block == h.first + h.count {
                    (q.block, q.at) = (h.first, At::Write);
                }
                "claims a block"
            }
            _ => {
                let met = u8::from(self.breaks(Plant::ReleasesMet));
                (q.resume, q.seen) = (h.block + 1, Word::default());
                (q.block, q.end, q.at) = (h.first, h.block + met, At::ReleaseRun);
                if self.breaks(Plant::KeepsPart) {
                    q.block = q.end;
                }
                "meets a block that somebody else was faster to get"
            }
        };
        steps.go(NAMES[who], what, next);
    }

    /// From a claimed run to a span: its bytes, then the words from the end, the first one last.
    fn make(&self, state: &State, who: usize, steps: &mut Steps<State>) {
        let (mut next, h) = (*state, &state.holder[who]);
        let (first, block) = (usize::from(h.first), usize::from(h.block));
        let head_first = self.breaks(Plant::HeadFirst);
        let q = &mut next.holder[who];
        if h.at == At::Write {
            let run = &state.word[first..first + usize::from(h.count)];
            if run.iter().any(|w| w.kind != Kind::Claimed || usize::from(w.stripe) != who) {
                let why = "bytes of somebody else's block are overwritten";
                return steps.wrong(NAMES[who], "writes into its run", why, state);
            }
            next.length[first] = h.count;
            (q.block, q.at) = (h.first + h.count - 1, At::Mark);
            if head_first {
                q.block = h.first;
            }
            return steps.go(NAMES[who], "writes the span's first bytes", next);
        }
        let kind = if block == first { Kind::Head } else { Kind::Tail };
        let distance = h.block - h.first;
        next.word[block] = Word { kind, distance, ..state.word[block] };
        let last = if head_first { h.first + h.count - 1 } else { h.first };
        q.block = if head_first { h.block + 1 } else { h.block.saturating_sub(1) };
        if h.block == last {
            *q = Holder { task: h.task + 1, ..Holder::default() };
        }
        steps.go(NAMES[who], "stores a block word of its span", next);
    }

    /// Giving blocks back, one by one: a part of a run that met a taken block, or a span's blocks,
    /// its first one last.
    fn release(&self, state: &State, who: usize, steps: &mut Steps<State>) {
        let (mut next, h) = (*state, &state.holder[who]);
        let block = usize::from(h.block);
        let q = &mut next.holder[who];
        if h.at != At::ReleaseHead && h.block == h.end {
            if h.at == At::ReleaseTails {
                (q.at, q.block) = (At::ReleaseHead, h.first);
                return steps.go(NAMES[who], "has given the tails back", next);
            }
            let (task, count, first) = (h.task, h.count, h.resume);
            let block = first + count - 1;
            *q = Holder { at: At::Look, task, first, count, block, ..Holder::default() };
            return steps.go(NAMES[who], "has given its part back and looks on", next);
        }
        let word = state.word[block];
        if usize::from(word.stripe) != who && word.kind != Kind::Free {
            let why = "a block of the other stripe is given back";
            return steps.wrong(NAMES[who], "gives a block back", why, state);
        }
        next.word[block] = Word { generation: word.generation, ..Word::default() };
        q.block += 1;
        if h.at == At::ReleaseHead {
            *q = Holder { task: h.task + 1, ..Holder::default() };
        }
        steps.go(NAMES[who], "gives a block back", next);
    }

    /// REPAIR: whatever bears the stripe's number and belongs to no span is given back.
    fn repair(&self, state: &State, who: usize, steps: &mut Steps<State>) {
        let (mut next, h) = (*state, &state.holder[who]);
        let block = usize::from(h.block);
        let q = &mut next.holder[who];
        if h.at == At::RepairFree {
            if h.lost == 0 {
                *q = Holder { task: h.task, ..Holder::default() };
                return steps.go(NAMES[who], "REPAIR: done", next);
            }
            let lost = h.lost.trailing_zeros() as usize;
            if usize::from(state.word[lost].stripe) != who && state.word[lost].kind != Kind::Free {
                let why = "repair frees a block of the other stripe";
                return steps.wrong(NAMES[who], "REPAIR: frees a block", why, state);
            }
            q.lost &= q.lost - 1;
            let generation = state.word[lost].generation;
            next.word[lost] = Word { generation, ..Word::default() };
            return steps.go(NAMES[who], "REPAIR: frees a block of no span", next);
        }
        if block == BLOCKS {
            q.at = At::RepairFree;
            return steps.go(NAMES[who], "REPAIR: has seen all blocks", next);
        }
        let word = state.word[block];
        let mine = usize::from(word.stripe) == who || self.breaks(Plant::RepairsAll);
        q.block += 1;
        match word.kind {
            Kind::Head if usize::from(word.stripe) == who => {
                q.block = h.block + state.length[block];
            }
            Kind::Tail if self.breaks(Plant::KeepsTails) => {}
            Kind::Claimed | Kind::Tail if mine => q.lost |= 1 << block,
            _ => {}
        }
        steps.go(NAMES[who], "REPAIR: looks at a block", next);
    }

    fn end_head(&self, state: &State, who: usize, steps: &mut Steps<State>) {
        let (mut next, h) = (*state, &state.holder[who]);
        let first = usize::from(h.first);
        let word = state.word[first];
        let generation = word.generation + 1;
        next.word[first] = Word { kind: Kind::Claimed, generation, ..word };
        let q = &mut next.holder[who];
        (q.at, q.block, q.end) = (At::ReleaseTails, h.first + 1, h.first + h.count);
        steps.go(NAMES[who], "says that its span has ended", next);
    }
}

impl Model for Blocks {
    type State = State;

    fn begin(&self) -> Vec<State> {
        vec![State {
            word: [Word::default(); BLOCKS],
            length: [0; BLOCKS],
            holder: [Holder::default(); 2],
            deaths: 0,
        }]
    }

    fn next(&self, state: &State, steps: &mut Steps<State>) {
        for (who, holder) in state.holder.iter().enumerate() {
            match holder.at {
                At::Task => self.begin_task(state, who, steps),
                At::Look | At::Load | At::Swap => self.claim(state, who, steps),
                At::Write | At::Mark => self.make(state, who, steps),
                At::ReleaseRun | At::ReleaseTails | At::ReleaseHead => {
                    self.release(state, who, steps);
                }
                At::EndHead => self.end_head(state, who, steps),
                At::RepairLook | At::RepairFree => self.repair(state, who, steps),
            }
            if state.deaths < self.deaths && holder.at != At::Task {
                let mut next = *state;
                next.deaths += 1;
                let repairing = matches!(holder.at, At::RepairLook | At::RepairFree);
                let task = holder.task + u8::from(!repairing);
                next.holder[who] = Holder { at: At::RepairLook, task, ..Holder::default() };
                if self.breaks(Plant::NoRepair) {
                    next.holder[who].at = At::Task;
                }
                steps.dies(NAMES[who], next);
            }
        }
    }

    fn check(&self, state: &State) -> Result<(), String> {
        for first in 0..BLOCKS {
            let head = state.word[first];
            if head.kind != Kind::Head {
                continue;
            }
            for distance in 1..usize::from(state.length[first]) {
                let tail = state.word[first + distance];
                let belongs = tail.kind == Kind::Tail
                    && tail.stripe == head.stripe
                    && usize::from(tail.distance) == distance;
                if !belongs {
                    return Err("a span has lost a block".to_owned());
                }
            }
        }
        Ok(())
    }

    fn end(&self, state: &State) -> Result<(), String> {
        let mut block = 0;
        while block < BLOCKS {
            match state.word[block].kind {
                Kind::Free => block += 1,
                Kind::Head => block += usize::from(state.length[block]),
                _ => return Err("a block belongs to no span and is not free".to_owned()),
            }
        }
        Ok(())
    }
}

pub(super) fn cases(suite: &mut Suite<'_>) {
    let base = |tasks, deaths| Blocks { tasks, deaths, plant: None };
    let short: [&'static [Task]; 2] = [&[Make(2), End, Make(3)], &[Make(2), Make(1)]];
    let long: [&'static [Task]; 2] = [&[Make(2), End, Make(3), End], &[Make(1), Make(2), End]];
    suite.holds("blocks: 3 tasks and 2, 2 deaths", 3_000_000, base(short, 2));
    suite.holds_in_full("blocks: 4 tasks and 3, 3 deaths", base(long, 3));
    for (name, plant) in [
        ("blocks: claimed by load and store", Plant::ClaimsByStore),
        ("blocks: a part of a run is kept", Plant::KeepsPart),
        ("blocks: the block that was met is given back", Plant::ReleasesMet),
        ("blocks: HEAD before the tails", Plant::HeadFirst),
        ("blocks: a span's end begins with its tails", Plant::EndsFromTail),
        ("blocks: repair minds no stripe", Plant::RepairsAll),
        ("blocks: repair leaves tails without a head", Plant::KeepsTails),
        ("blocks: no repair", Plant::NoRepair),
    ] {
        suite.plant(name, Blocks { plant: Some(plant), ..base(short, 2) });
    }
}
