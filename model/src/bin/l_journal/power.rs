//! The power is cut: what remains, and what is loaded of it.

use super::{At, Content, Journal, LIFE, NOTHING, Plant, Point, Segment, Snapshot, State, apply};
use membus_model::Steps;

/// What is loaded: of when, and the content.
type Loaded = (Point, Content);

impl Journal {
    /// Replays segments over what a snapshot has. One that does not go on after what was reached is passed
    /// over: it is of a future that was lost, or its chain never had a snapshot.
    fn load(&self, snapshot: Option<&Snapshot>, segments: &[Segment]) -> Loaded {
        let (mut reached, mut content) =
            snapshot.map_or((NOTHING, Vec::new()), |s| (s.at, s.content.clone()));
        for segment in segments {
            let is_same_life = segment.at.life == reached.life;
            let goes_on = match is_same_life {
                true => segment.at.revision <= reached.revision,
                false => segment.continues == reached,
            };
            let is_taken = goes_on
                || self.breaks(Plant::ReplaysGaps)
                || self.breaks(Plant::NoContinues) && !is_same_life;
            if !is_taken {
                continue;
            }
            if !is_same_life || segment.at.revision > reached.revision {
                reached = segment.at;
            }
            for change in segment.groups.iter().flatten() {
                if change.revision > reached.revision {
                    apply(&mut content, change);
                    reached.revision = change.revision;
                }
            }
        }
        (reached, content)
    }

    /// Every way in which what was not synced may be lost.
    fn remains(state: &State) -> Vec<Vec<Segment>> {
        let mut all = vec![Vec::new()];
        for segment in &state.segments {
            let mut longer = Vec::new();
            for before in &all {
                for kept in segment.synced..=segment.groups.len() {
                    let mut segments: Vec<Segment> = before.clone();
                    let (groups, synced) = (segment.groups[..kept].to_vec(), kept);
                    segments.push(Segment { groups, synced, ..segment.clone() });
                    longer.push(segments);
                }
            }
            all = longer;
        }
        all
    }

    pub(super) fn cut(&self, state: &State, steps: &mut Steps<State>) {
        if state.cuts == 0 {
            return;
        }
        for segments in Self::remains(state) {
            let newest = state.snapshots.last();
            self.rebuild(state, steps, newest, &segments, false);
            if self.damage && state.snapshots.len() == 2 {
                self.rebuild(state, steps, state.snapshots.first(), &segments, true);
            }
        }
    }

    fn rebuild(
        &self,
        state: &State,
        steps: &mut Steps<State>,
        snapshot: Option<&Snapshot>,
        segments: &[Segment],
        is_damaged: bool,
    ) {
        let is_promised = !is_damaged;
        let (reached, content) = self.load(snapshot, segments);
        let found = (reached, content.clone());
        if found != (NOTHING, Vec::new()) && !state.ever.contains(&found) {
            return steps.wrong("power", "is cut", "what is loaded was never there", state);
        }
        let needed = state.journaled.max(state.saved);
        let is_this_life = reached.life == state.life;
        // With the newest damaged, the one before and the journal have as much, where its chain reaches back to it.
        let reaches_back = |s: &Snapshot| {
            s.at.life == state.life && (state.chain == state.first || s.at.revision >= state.chain)
        };
        let needed = if is_promised { needed } else { state.journaled };
        let is_promised = is_promised || snapshot.is_some_and(reaches_back);
        if is_promised && needed > state.first && (!is_this_life || reached.revision < needed) {
            return steps.wrong("power", "is cut", "a durable change is lost", state);
        }
        if is_promised && !is_this_life && reached != state.continues {
            return steps.wrong("power", "is cut", "the life before is lost", state);
        }
        let first = (reached.revision / LIFE + 1) * LIFE;
        let life = state.life + 1;
        let mut ever = state.ever.clone();
        ever.push((Point { life, revision: first }, content.clone()));
        let mut next = State {
            life,
            first,
            base: content,
            changes: Vec::new(),
            ever,
            journaled: first,
            chain: first,
            continues: reached,
            saved: first,
            segments: segments.to_vec(),
            at: At::Begin,
            passed: first,
            group: Vec::new(),
            rotated: first,
            saving: None,
            cuts: state.cuts - 1,
            ..state.clone()
        };
        if is_damaged {
            // The damaged one is found damaged each time.
            next.snapshots.truncate(1);
        }
        steps.go("power", "is cut; the bus is built anew", next);
    }
}
