//! A change between its decision and its commit.

use crate::commit::Stored;
use crate::log::RecordKind;
use crate::word::Realm;

/// A change that is decided and filled, but not committed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) wish: u32,
    pub(crate) stripe: u32,
    pub(crate) stored: Stored,
    /// The new value of a counter.
    pub(crate) number: [u8; 8],
    pub(crate) kind: RecordKind,
    pub(crate) value_kind: u8,
    /// +1 or -1 to the stripe's count of entries.
    pub(crate) grows: i8,
    /// Whether it sets a key that was absent.
    pub(crate) is_new: bool,
    /// Whether the new entry has a deadline or an owner.
    pub(crate) is_timed: bool,
    pub(crate) realm: Realm,
}

/// Takes the changes that a wish comes to: none, one, or two when an expired entry goes.
pub(crate) trait Plans {
    fn push(&mut self, plan: Plan);
}

impl Plans for Vec<Plan> {
    fn push(&mut self, plan: Plan) {
        self.push(plan);
    }
}

/// The changes of one wish, in place.
#[derive(Debug)]
pub(crate) struct Pair {
    plans: [Plan; 2],
    len: usize,
}

impl Pair {
    #[inline]
    pub(crate) fn new() -> Self {
        let stored = Stored { slot: 0, new: 0, old: 0 };
        let (kind, number) = (RecordKind::Set, [0; 8]);
        let realm = Realm::Keys;
        let (wish, stripe, value_kind, grows) = (0, 0, 0, 0);
        let (is_new, is_timed) = (false, false);
        let none =
            Plan { wish, stripe, stored, number, kind, value_kind, grows, is_new, is_timed, realm };
        Self { plans: [none; 2], len: 0 }
    }
    #[inline]
    pub(crate) fn as_slice(&self) -> &[Plan] {
        self.plans.get(..self.len).unwrap_or_default()
    }
}

impl Plans for Pair {
    #[inline]
    fn push(&mut self, plan: Plan) {
        if let Some(place) = self.plans.get_mut(self.len) {
            *place = plan;
            self.len += 1;
        }
    }
}
