//! Sleeping and ringing, with deaths of writers and of those who bury them.

use membus_model::{Model, Steps, Suite};

const WRITERS: [&str; 2] = ["writer 1", "writer 2"];
const BURIERS: [&str; 2] = ["burier 1", "burier 2"];
/// Messages that a queue holds; one more is dropped, and that is as good.
const QUEUE: u8 = 2;
/// Steps within which a watch has to sleep when nobody else moves.
const ALONE: usize = 16;

/// A rule that is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plant {
    /// The head is not looked at again after the bit was set.
    NoLookAgain,
    /// Writers send first and then clear the bit.
    SendFirst,
    /// A burial rings nobody.
    BurialSilent,
    /// A burial rings only watches whose bit is set.
    BurialRingsSleepers,
    /// A burial is noted as done before it rings, as the code stood.
    BurialNotedFirst,
    /// A watch that wakes takes the messages out only when its bit was cleared by another, as the
    /// code stood.
    DrainsSeldom,
}

struct Doorbell {
    commits: u8,
    deaths: u8,
    /// Whether the watch may stop waiting by itself.
    impatient: bool,
    plant: Option<Plant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
enum WriterAt {
    #[default]
    Commit,
    LookAtBit,
    ClearBit,
    Send,
    Dead,
    Buried,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
enum BurierAt {
    #[default]
    Idle,
    ClearBit,
    Send,
    Note,
    Dead,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
enum WatchAt {
    #[default]
    Look,
    SetBit,
    LookAgain,
    Blocked,
    Wake,
    Drain,
}

#[derive(Debug, Clone, Copy, Hash, Default)]
struct State {
    head: u8,
    asleep: bool,
    messages: u8,
    writer: [WriterAt; 2],
    left: [u8; 2],
    burier: [BurierAt; 2],
    /// Whom each burier buries.
    grave: [u8; 2],
    watch: WatchAt,
    cursor: u8,
    deaths: u8,
}

impl Doorbell {
    fn breaks(&self, plant: Plant) -> bool {
        self.plant == Some(plant)
    }

    fn write(&self, state: &State, who: usize, steps: &mut Steps<State>) {
        let mut next = *state;
        let send_first = self.breaks(Plant::SendFirst);
        let what = match state.writer[who] {
            WriterAt::Dead | WriterAt::Buried => return,
            WriterAt::Commit if state.left[who] == 0 => return,
            WriterAt::Commit => {
                (next.head, next.left[who]) = (state.head + 1, state.left[who] - 1);
                next.writer[who] = WriterAt::LookAtBit;
                "stores the head"
            }
            WriterAt::LookAtBit => {
                next.writer[who] = match (state.asleep, send_first) {
                    (false, _) => WriterAt::Commit,
                    (true, false) => WriterAt::ClearBit,
                    (true, true) => WriterAt::Send,
                };
                "looks at the bit"
            }
            WriterAt::ClearBit => {
                next.asleep = false;
                let rings = state.asleep && !send_first;
                next.writer[who] = if rings { WriterAt::Send } else { WriterAt::Commit };
                "clears the bit"
            }
            WriterAt::Send => {
                next.ring();
                next.writer[who] = if send_first { WriterAt::ClearBit } else { WriterAt::Commit };
                "sends"
            }
        };
        steps.go(WRITERS[who], what, next);
        if state.deaths < self.deaths && state.writer[who] != WriterAt::Commit {
            let mut next = *state;
            (next.deaths, next.writer[who]) = (state.deaths + 1, WriterAt::Dead);
            steps.dies(WRITERS[who], next);
        }
    }

    /// What a newcomer in the dead one's slot does: until it has noted that the burial is done, the
    /// next one does it again.
    fn bury(&self, state: &State, who: usize, steps: &mut Steps<State>) {
        let (mut next, grave) = (*state, usize::from(state.grave[who]));
        let noted_first = self.breaks(Plant::BurialNotedFirst);
        let what = match state.burier[who] {
            BurierAt::Dead => return,
            BurierAt::Idle => {
                let other = state.burier[1 - who];
                let busy = !matches!(other, BurierAt::Idle | BurierAt::Dead);
                let dead = |w: &usize| {
                    state.writer[*w] == WriterAt::Dead
                        && !(busy && usize::from(state.grave[1 - who]) == *w)
                };
                let Some(found) = (0..2).find(dead) else { return };
                next.grave[who] = found as u8;
                let silent = self.breaks(Plant::BurialSilent) || noted_first;
                next.burier[who] = if silent { BurierAt::Note } else { BurierAt::ClearBit };
                "takes a dead writer's byte"
            }
            BurierAt::ClearBit => {
                next.asleep = false;
                let skips = self.breaks(Plant::BurialRingsSleepers) && !state.asleep;
                next.burier[who] = if skips { BurierAt::Note } else { BurierAt::Send };
                "clears the bit for the dead"
            }
            BurierAt::Send => {
                next.ring();
                next.burier[who] = if noted_first { BurierAt::Idle } else { BurierAt::Note };
                "rings for the dead"
            }
            BurierAt::Note => {
                next.writer[grave] = WriterAt::Buried;
                next.burier[who] = if noted_first { BurierAt::ClearBit } else { BurierAt::Idle };
                "notes that the burial is done"
            }
        };
        steps.go(BURIERS[who], what, next);
        if who == 0 && state.deaths < self.deaths && state.burier[0] != BurierAt::Idle {
            let mut next = *state;
            (next.deaths, next.burier[0], next.grave[0]) = (state.deaths + 1, BurierAt::Dead, 0);
            steps.dies(BURIERS[0], next);
        }
    }

    /// One step of the watch, when it has one.
    fn watch(&self, state: &State) -> Option<(&'static str, State)> {
        let mut next = *state;
        let due = state.head > state.cursor;
        let what = match state.watch {
            WatchAt::Look if due => {
                next.cursor = state.head;
                "tells what is new"
            }
            WatchAt::Look => {
                next.watch = WatchAt::SetBit;
                "finds nothing new"
            }
            WatchAt::SetBit => {
                (next.asleep, next.watch) = (true, WatchAt::LookAgain);
                if self.breaks(Plant::NoLookAgain) {
                    next.watch = WatchAt::Blocked;
                }
                "sets its bit"
            }
            WatchAt::LookAgain => {
                next.watch = if due { WatchAt::Wake } else { WatchAt::Blocked };
                "looks at the head again"
            }
            WatchAt::Blocked if state.messages == 0 => return None,
            WatchAt::Blocked => {
                next.watch = WatchAt::Wake;
                "is woken"
            }
            WatchAt::Wake => {
                let skips = self.breaks(Plant::DrainsSeldom) && state.asleep;
                next.watch = if skips { WatchAt::Look } else { WatchAt::Drain };
                next.asleep = false;
                "clears its bit"
            }
            WatchAt::Drain => {
                (next.messages, next.watch) = (0, WatchAt::Look);
                "takes the messages out"
            }
        };
        Some((what, next))
    }
}

impl State {
    fn ring(&mut self) {
        self.messages = (self.messages + 1).min(QUEUE);
    }
}

impl Model for Doorbell {
    type State = State;

    fn begin(&self) -> Vec<State> {
        vec![State { left: [self.commits; 2], ..State::default() }]
    }

    fn next(&self, state: &State, steps: &mut Steps<State>) {
        for who in 0..2 {
            self.write(state, who, steps);
            self.bury(state, who, steps);
        }
        if let Some((what, next)) = self.watch(state) {
            steps.go("watch", what, next);
        }
        if self.impatient && state.watch == WatchAt::Blocked && state.head == state.cursor {
            let mut next = *state;
            next.watch = WatchAt::Wake;
            // A watch that has to look by itself has lost its wake-up.
            steps.aside("watch", "is tired of waiting", next);
        }
    }

    fn check(&self, state: &State) -> Result<(), String> {
        if state.watch != WatchAt::Look {
            return Ok(());
        }
        let mut alone = *state;
        for _ in 0..ALONE {
            match self.watch(&alone) {
                Some((_, next)) => alone = next,
                None => return Ok(()),
            }
        }
        Err("a watch with nothing to tell does not come to sleep".to_owned())
    }

    fn end(&self, state: &State) -> Result<(), String> {
        if state.head > state.cursor {
            return Err("a wake-up was lost".to_owned());
        }
        Ok(())
    }
}

pub(super) fn cases(suite: &mut Suite<'_>) {
    let base = |commits, deaths| Doorbell { commits, deaths, impatient: true, plant: None };
    suite.holds("doorbell: 3 commits each, no death", 2_000_000, base(3, 0));
    suite.holds("doorbell: 3 commits each, 3 deaths", 2_000_000, base(3, 3));
    suite.holds_in_full("doorbell: 6 commits each, 3 deaths", base(6, 3));
    for (name, plant) in [
        ("doorbell: the head is not looked at again", Plant::NoLookAgain),
        ("doorbell: send, then clear the bit", Plant::SendFirst),
        ("doorbell: a burial rings nobody", Plant::BurialSilent),
        ("doorbell: a burial rings sleepers only", Plant::BurialRingsSleepers),
        ("as the code stood: a burial is noted before it rings", Plant::BurialNotedFirst),
        ("as the code stood: messages stay when the bit is set", Plant::DrainsSeldom),
    ] {
        suite.plant(name, Doorbell { plant: Some(plant), ..base(2, 2) });
    }
}
