//! What is stepped through: operations of the public interface.

use crate::recover::State;
use crate::stage::Stage;
use membus::{Batch, Bus, Update};
use std::time::Duration;

/// One operation.
pub(crate) struct Operation {
    pub(crate) name: &'static str,
    /// What the bus has besides, before anybody comes.
    pub(crate) fill: fn(&Bus),
    /// Whether somebody died on the bus before.
    pub(crate) has_dead: bool,
    /// Whether the victim is attached when it begins.
    pub(crate) attaches: bool,
    /// What the victim does before.
    pub(crate) prepare: fn(&mut Stage),
    /// What is stepped through.
    pub(crate) run: fn(&mut Stage),
    /// What it changes: ephemeral keys, which go with the victim, left out.
    pub(crate) change: fn(&mut State),
    /// Whether it is one commit: nobody sees a state in between.
    pub(crate) is_one: bool,
}

const NOTHING: Operation = Operation {
    name: "",
    fill: |_| {},
    has_dead: false,
    attaches: true,
    prepare: |_| {},
    run: |_| {},
    change: |_| {},
    is_one: true,
};

/// It succeeds; what it answers is told by the state.
fn ok<T, E: std::fmt::Debug>(end: Result<T, E>) {
    end.unwrap();
}

fn put(state: &mut State, key: &str, value: impl Into<Vec<u8>>) {
    state.insert(key.into(), value.into());
}

fn remove(state: &mut State, key: &str) {
    state.remove(key.as_bytes());
}

/// Fills the file to the last block: the first value of another size must make it longer.
fn fill_up(bus: &Bus) {
    let mut number = 0;
    while bus.check().free_blocks > 0 {
        bus.set_bytes(format!("filler{number}"), [1; 1500]).unwrap();
        number += 1;
    }
}

fn batch(keys: impl Iterator<Item = u8>) -> Batch {
    let mut batch = Batch::new();
    for number in keys {
        batch.set_bytes(format!("k{number}"), [number; 41]);
    }
    batch
}

pub(crate) const OPERATIONS: &[Operation] = &[
    Operation {
        name: "replace",
        run: |stage| ok(stage.bus().set_bytes("k3", [33; 40])),
        change: |state| put(state, "k3", [33; 40]),
        ..NOTHING
    },
    Operation {
        name: "grow",
        fill: fill_up,
        run: |stage| ok(stage.bus().set_bytes("new", [9; 600])),
        change: |state| put(state, "new", [9; 600]),
        ..NOTHING
    },
    Operation {
        name: "batch",
        run: |stage| {
            let mut batch = batch(2..5);
            batch.set_bytes("new", "x").delete("k9").add("n", 1);
            stage.bus().commit(&batch).unwrap();
        },
        change: |state| {
            (2..5).for_each(|number| put(state, &format!("k{number}"), [number; 41]));
            put(state, "new", "x");
            remove(state, "k9");
            put(state, "n", 8_i64.to_le_bytes());
        },
        ..NOTHING
    },
    Operation {
        name: "big batch",
        // More changes than the commit's record holds, and more than half of the log.
        run: |stage| ok(stage.bus().commit(&batch(0..40))),
        change: |state| (0..40).for_each(|n| put(state, &format!("k{n}"), [n; 41])),
        ..NOTHING
    },
    Operation {
        name: "add",
        run: |stage| ok(stage.bus().add("n", 5)),
        change: |state| put(state, "n", 12_i64.to_le_bytes()),
        ..NOTHING
    },
    Operation {
        name: "update",
        prepare: |stage| ok(stage.bus().set("u", &1_u32)),
        run: |stage| {
            let next = |old: Option<u32>| Update::Set(old.unwrap_or(0) + 1);
            stage.bus().update("u", next).unwrap();
        },
        change: |state| put(state, "u", [2]),
        ..NOTHING
    },
    Operation {
        name: "delete",
        run: |stage| ok(stage.bus().delete("k3")),
        change: |state| remove(state, "k3"),
        ..NOTHING
    },
    Operation {
        name: "delete a prefix",
        run: |stage| ok(stage.bus().delete_prefix("k1")),
        change: |state| state.retain(|key, _| !key.starts_with(b"k1")),
        is_one: false,
        ..NOTHING
    },
    Operation {
        name: "clear",
        run: |stage| ok(stage.bus().clear()),
        change: State::clear,
        ..NOTHING
    },
    Operation {
        name: "set what was cleared",
        prepare: |stage| ok(stage.bus().clear()),
        run: |stage| ok(stage.bus().set_bytes("k3", [33; 40])),
        change: |state| put(state, "k3", [33; 40]),
        ..NOTHING
    },
    Operation {
        name: "set with time to live",
        run: |stage| {
            let put = stage.bus().put("timed").ttl(Duration::from_secs(3600)).who("me");
            put.set_bytes("t").unwrap();
        },
        change: |state| put(state, "timed", "t"),
        ..NOTHING
    },
    Operation {
        name: "give time to live",
        run: |stage| ok(stage.bus().expire("k3", Some(Duration::from_secs(3600)))),
        ..NOTHING
    },
    Operation {
        name: "set ephemeral",
        run: |stage| {
            let mut batch = Batch::new();
            batch.put("mine 1").ephemeral().set_bytes("x").put("mine 2").ephemeral().set_bytes("y");
            batch.delete("k3");
            stage.bus().commit(&batch).unwrap();
        },
        change: |state| remove(state, "k3"),
        ..NOTHING
    },
    Operation {
        name: "double a table",
        // Until a stripe is as full as its array may be; one of the next keys doubles it.
        fill: |bus| {
            for number in 0..DOUBLING {
                bus.set_bytes(format!("d{number}"), "d").unwrap();
            }
        },
        run: |stage| {
            for number in DOUBLING..DOUBLING + 16 {
                stage.bus().set_bytes(format!("d{number}"), "d").unwrap();
            }
        },
        change: |state| {
            (DOUBLING..DOUBLING + 16).for_each(|number| put(state, &format!("d{number}"), "d"));
        },
        is_one: false,
        ..NOTHING
    },
    Operation {
        name: "set when full",
        fill: |bus| {
            for size in [60_000, 15_000, 1500] {
                let fits = |n: &u32| bus.set_bytes(format!("{size}/{n}"), vec![1; size]).is_ok();
                (0..).take_while(fits).for_each(drop);
            }
            ok(bus.delete("60000/0"));
        },
        run: |stage| ok(stage.bus().set_bytes("new", [9; 600])),
        change: |state| put(state, "new", [9; 600]),
        ..NOTHING
    },
    Operation {
        name: "attach",
        attaches: false,
        run: |stage| stage.bus = Some(stage.attach()),
        ..NOTHING
    },
    Operation {
        name: "detach",
        prepare: |stage| {
            for key in ["mine 1", "mine 2"] {
                stage.bus().put(key).ephemeral().set_bytes(key).unwrap();
            }
        },
        run: |stage| drop(stage.bus.take()),
        is_one: false,
        ..NOTHING
    },
    Operation {
        name: "set what expired",
        prepare: |stage| {
            ok(stage.bus().put("timed").ttl(Duration::from_millis(1)).set_bytes("t"));
            std::thread::sleep(Duration::from_millis(10));
        },
        run: |stage| ok(stage.bus().set_bytes("timed", "anew")),
        change: |state| put(state, "timed", "anew"),
        ..NOTHING
    },
    Operation {
        name: "bury",
        has_dead: true,
        attaches: false,
        run: |stage| stage.bus = Some(stage.attach()),
        is_one: false,
        ..NOTHING
    },
    Operation {
        name: "pin",
        run: |stage| {
            let guard = std::mem::ManuallyDrop::new(stage.bus().read("k1").unwrap().unwrap());
            assert_eq!(guard.len(), 40);
        },
        ..NOTHING
    },
    Operation {
        name: "replace what is pinned",
        prepare: |stage| {
            let _guard = std::mem::ManuallyDrop::new(stage.bus().read("k1").unwrap().unwrap());
        },
        run: |stage| ok(stage.bus().set_bytes("k1", [11; 40])),
        change: |state| put(state, "k1", [11; 40]),
        ..NOTHING
    },
    Operation {
        name: "watch",
        run: |stage| {
            let mut watch = stage.bus().watch("k").unwrap();
            while watch.try_recv().unwrap().is_some() {}
            stage.watch = Some(watch);
        },
        ..NOTHING
    },
    Operation {
        name: "forget a watch",
        prepare: |stage| stage.watch = Some(stage.bus().watch("k").unwrap()),
        run: |stage| drop(stage.watch.take()),
        ..NOTHING
    },
    Operation {
        name: "ring",
        prepare: |stage| {
            let mut watch = stage.bus().watch("k").unwrap();
            while watch.try_recv().unwrap().is_some() {}
            stage.watch = Some(watch);
        },
        run: |stage| ok(stage.bus().set_bytes("k3", [33; 40])),
        change: |state| put(state, "k3", [33; 40]),
        ..NOTHING
    },
    Operation { name: "snapshot", run: |stage| ok(stage.bus().snapshot()), ..NOTHING },
];

/// Keys of a bus of which no array was doubled yet, or all were doubled once.
const DOUBLING: u32 = 400;

impl Operation {
    pub(crate) fn named(name: &str) -> &'static Self {
        OPERATIONS.iter().find(|operation| operation.name == name).unwrap()
    }
}
