//! What must hold in every state, and at the end.

use super::{
    At, Commit, FIRST, KEYS, NAMES, PINNED, PLACES, ROUND, Set, State, bit, initial, value_of,
};

impl Commit {
    /// The value of a key after the changes up to the head, and its revision; absent: zeros.
    fn expected(&self, state: &State, key: usize) -> (u8, u8) {
        let mut value = (initial(key), FIRST);
        for revision in FIRST + 1..=state.head {
            let name = state.committed[usize::from(revision - FIRST - 1)];
            let (round, number) = (name / ROUND, usize::from(name % ROUND) - 1);
            let (who, change) = (number / KEYS, number % KEYS);
            if let Some((_, action)) = self.changes(who).get(change).filter(|(k, _)| *k == key) {
                value = if *action == Set { (value_of(round, who), revision) } else { (0, 0) };
            }
        }
        value
    }

    /// The value and revision that READ gives at one instant, or what is wrong with the entry.
    fn looked_up(state: &State, key: usize) -> Result<(u8, u8), String> {
        let entry = usize::from(state.slot_word[key]);
        if entry == 0 {
            return Ok((0, 0));
        }
        let seen = |entry: usize| (state.value[entry], state.born[entry]);
        if state.born[entry] == 0 || state.occupied & bit(entry as u8) == 0 {
            return Err(format!("key {key}: its slot names an entry that is free or unborn"));
        }
        if state.born[entry] <= state.head {
            let gone = (1..=state.head).contains(&state.died[entry]);
            return Ok(if gone { (0, 0) } else { seen(entry) });
        }
        let pred = usize::from(state.pred[entry]);
        match pred {
            0 => Ok((0, 0)),
            _ if state.born[pred] == 0 => Err(format!("key {key}: its predecessor is free")),
            _ => Ok(seen(pred)),
        }
    }

    pub(super) fn check_state(&self, state: &State) -> Result<(), String> {
        for revision in FIRST + 1..=state.head {
            let index = usize::from(revision - FIRST - 1);
            if state.log[index] != state.committed[index] {
                return Err("the log tells another change than was committed".to_owned());
            }
        }
        if state.born.iter().chain(&state.died).any(|revision| *revision > state.last) {
            return Err("a revision stands in an entry before its commit".to_owned());
        }
        if state.ready == 0 && state.head != state.last {
            return Err("a committed change is forgotten".to_owned());
        }
        if state.occupied & bit(PINNED) == 0 || state.born[usize::from(PINNED)] == 0 {
            return Err("a pinned entry was freed".to_owned());
        }
        for place in 1..PLACES {
            let dead = state.born[place] != 0 && state.died[place] != 0;
            if state.spare & bit(place as u8) != 0 && !dead {
                return Err("a spare entry is not dead".to_owned());
            }
        }
        for key in 0..KEYS {
            if Self::looked_up(state, key)? != self.expected(state, key) {
                return Err(format!("key {key} is not what the changes up to the head make of it"));
            }
        }
        Ok(())
    }

    pub(super) fn check_end(state: &State) -> Result<(), String> {
        if let Some(who) = (0..3).find(|who| {
            let at = state.process[*who].at;
            !matches!(at, At::Dead | At::Done | At::Outside)
        }) {
            return Err(format!("{} waits for ever", NAMES[who]));
        }
        if state.list.iter().any(|list| list.used) {
            return Err("the list of a batch stays".to_owned());
        }
        if state.lock != [0; 3] {
            return Err("a lock stays taken".to_owned());
        }
        for place in 1..PLACES {
            let named = state.slot_word.contains(&(place as u8));
            let (born, died) = (state.born[place] != 0, state.died[place] != 0);
            let good = match state.occupied & bit(place as u8) != 0 {
                false => !born && !died && !named,
                true => born && named != died,
            };
            if !good {
                return Err("a place is lost".to_owned());
            }
        }
        Ok(())
    }
}
