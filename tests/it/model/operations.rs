//! The operations, and random sequences of them.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// Handles at a time.
pub(super) const HANDLES: usize = 3;
/// Watches at a time.
pub(super) const WATCHES: usize = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value {
    /// So many bytes of this.
    Bytes(usize, u8),
    Structure(i64),
    Counter(i64),
}

/// Long enough to be there throughout, or over at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ttl {
    Hour,
    Moment,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    Absent,
    /// The revision that is there, or one that never was.
    Present,
    /// A revision that something else has.
    Wrong,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Set {
        value: Value,
        ttl: Option<Ttl>,
        ephemeral: bool,
    },
    Add(i64),
    Delete,
    /// Only the condition of a batch.
    Require,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) key: u8,
    pub(super) action: Action,
    pub(super) condition: Option<Condition>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Update {
    Set(i64),
    Delete,
    Keep,
}

#[derive(Debug, Clone)]
pub(super) enum Operation {
    One {
        handle: usize,
        wish: Wish,
        who: bool,
    },
    Deadline {
        handle: usize,
        key: u8,
        ttl: Option<Ttl>,
    },
    Update {
        handle: usize,
        key: u8,
        update: Update,
    },
    Batch {
        handle: usize,
        wishes: Vec<Wish>,
        who: bool,
    },
    Clear {
        handle: usize,
    },
    Read {
        handle: usize,
        key: u8,
    },
    Scan {
        handle: usize,
        prefix: u8,
    },
    /// Begins a watch, with a listing or from some revision on.
    Watch {
        handle: usize,
        watch: usize,
        prefix: u8,
        from: Option<u8>,
    },
    /// Takes all that a watch has.
    Drain {
        watch: usize,
    },
    /// The handle goes, and another one comes.
    Anew {
        handle: usize,
    },
    /// A snapshot, the loss of all files, and the bus built anew.
    Lose {
        handle: usize,
    },
}

/// The key with this number: some are prefixes of others, one is as long as can be.
pub(super) fn key(number: u8) -> Vec<u8> {
    match number % 12 {
        0 => vec![b'z'; membus::limits::KEY_MAX],
        number => vec![b'a' + number % 3; usize::from(1 + number / 3)],
    }
}

/// A prefix: none, or one that some keys have.
pub(super) fn prefix(number: u8) -> Vec<u8> {
    match number % 5 {
        0 | 1 => Vec::new(),
        number => vec![b'a' + number % 3; usize::from(number / 3) + 1],
    }
}

fn value() -> impl Strategy<Value = Value> {
    let number = || prop_oneof![4 => -3..100_i64, 1 => Just(i64::MAX), 1 => Just(i64::MIN)];
    prop_oneof![
        4 => (0..200_usize, any::<u8>()).prop_map(|(size, fill)| Value::Bytes(size, fill)),
        1 => (900..4000_usize, any::<u8>()).prop_map(|(size, fill)| Value::Bytes(size, fill)),
        1 => (60_000..120_000_usize, any::<u8>()).prop_map(|(size, fill)| Value::Bytes(size, fill)),
        2 => number().prop_map(Value::Structure),
        3 => number().prop_map(Value::Counter),
    ]
}

fn ttl() -> impl Strategy<Value = Option<Ttl>> {
    prop_oneof![5 => Just(None), 1 => Just(Some(Ttl::Hour)), 1 => Just(Some(Ttl::Moment))]
}

fn condition() -> impl Strategy<Value = Option<Condition>> {
    let some = [Condition::Absent, Condition::Present, Condition::Wrong];
    option::weighted(0.25, proptest::sample::select(some.to_vec()))
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        5 => (value(), ttl(), proptest::bool::weighted(0.15))
            .prop_map(|(value, ttl, ephemeral)| Action::Set { value, ttl, ephemeral }),
        3 => prop_oneof![5 => -5..6_i64, 1 => Just(i64::MAX)].prop_map(Action::Add),
        3 => Just(Action::Delete),
    ]
}

fn wish() -> impl Strategy<Value = Wish> {
    (0..12_u8, action(), condition()).prop_map(|(key, action, condition)| Wish {
        key,
        action,
        condition,
    })
}

fn batch_wish() -> impl Strategy<Value = Wish> {
    let require = (0..12_u8, condition()).prop_map(|(key, condition)| {
        let condition = condition.or(Some(Condition::Present));
        Wish { key, action: Action::Require, condition }
    });
    prop_oneof![12 => wish().prop_map(|wish| Wish { condition: None, ..wish }), 2 => wish(), 1 => require]
}

fn operation() -> impl Strategy<Value = Operation> {
    let handle = || 0..HANDLES;
    let update = prop_oneof![
        3 => (0..9_i64).prop_map(Update::Set),
        1 => Just(Update::Delete),
        1 => Just(Update::Keep),
    ];
    prop_oneof![
        30 => (handle(), wish(), any::<bool>())
            .prop_map(|(handle, wish, who)| Operation::One { handle, wish, who }),
        3 => (handle(), 0..12_u8, ttl())
            .prop_map(|(handle, key, ttl)| Operation::Deadline { handle, key, ttl }),
        4 => (handle(), 0..12_u8, update)
            .prop_map(|(handle, key, update)| Operation::Update { handle, key, update }),
        8 => (handle(), vec(batch_wish(), 0..25), any::<bool>())
            .prop_map(|(handle, wishes, who)| Operation::Batch { handle, wishes, who }),
        1 => handle().prop_map(|handle| Operation::Clear { handle }),
        8 => (handle(), 0..12_u8).prop_map(|(handle, key)| Operation::Read { handle, key }),
        4 => (handle(), 0..5_u8).prop_map(|(handle, prefix)| Operation::Scan { handle, prefix }),
        4 => (handle(), 0..WATCHES, 0..5_u8, option::of(any::<u8>())).prop_map(
            |(handle, watch, prefix, from)| Operation::Watch { handle, watch, prefix, from }
        ),
        8 => (0..WATCHES).prop_map(|watch| Operation::Drain { watch }),
        2 => handle().prop_map(|handle| Operation::Anew { handle }),
        1 => handle().prop_map(|handle| Operation::Lose { handle }),
    ]
}

pub(super) fn sequences() -> impl Strategy<Value = Vec<Operation>> {
    vec(operation(), 1..120)
}
