//! Callbacks: each subscription has a thread of its own, that calls under no lock.
//!
//! 1. A callback may call anything: read, write, publish, subscribe, unsubscribe itself and others.
//! 2. Who unsubscribes waits until the thread has ended, and so for the callback that runs; but not on a
//!    callback's thread, since two that end each other would wait for ever, and one that owns its own
//!    subscription for itself, when it is dropped with it at the thread's end.
//! 3. A panic ends the call, not the thread: it is counted and told.
//!
//! Nothing of it is in the region but the subscriber's watch slot; a forked child has no thread, and
//! waits for none.

use super::counters::Counter;
use super::subscribe::{Begin, Notice, Subscriber};
use super::{Bus, Inner, sleeper::Alarm};
use crate::error::{ReadError, WatchError};
use crate::message::Message;
use std::any::Any;
use std::cell::Cell;
use std::collections::HashMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

thread_local! {
    /// This thread calls callbacks. As long as it lives: it drops them too, and with them what they own.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// What a handle's subscription with a callback is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubscriptionId(u64);

impl fmt::Display for SubscriptionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How [`Bus::unsubscribe`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsubscribed {
    /// Its callback does not run, and will not any more.
    Done,
    /// It was called from inside a callback, or by the drop of one: no further call begins, but one may still run.
    Inside,
    /// There is no such subscription of this handle.
    Unknown,
}

/// What became of a subscription's messages.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Calls {
    /// Calls of the callback, those that panicked too.
    pub made: u64,
    /// Calls that panicked.
    pub panics: u64,
    /// What the last panic said.
    pub last_panic: Option<String>,
    /// Changes and messages of the bus that were missed, since the writers came round the log.
    pub missed: u64,
    /// Why no call is made any more, when it was not asked for: the bus is gone, for instance.
    pub ended_by: Option<String>,
}

#[derive(Debug, Default)]
struct State {
    calls: Calls,
    wanted_end: bool,
    ended: bool,
}

/// A subscription with a callback, as its thread and its handles share it.
#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    alarm: Alarm,
    /// The process that has the thread.
    process: u64,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this is a forked child's copy: it has no thread, and perhaps a lock that one of its parent's held.
    fn is_forked(&self) -> bool {
        self.process != crate::sys::fork::lineage()
    }

    fn end(&self) -> Unsubscribed {
        if self.is_forked() {
            return Unsubscribed::Done;
        }
        self.state().wanted_end = true;
        self.alarm.cancel();
        if INSIDE.get() {
            return Unsubscribed::Inside;
        }
        let waited = self.changed.wait_while(self.state(), |state| !state.ended);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
        Unsubscribed::Done
    }

    fn run(&self, mut subscriber: Subscriber, mut callback: impl FnMut(&Message)) {
        loop {
            if self.state().wanted_end {
                return;
            }
            match subscriber.recv() {
                Ok(Notice::Message(message)) => {
                    self.call(subscriber.sleeper().inner(), &mut callback, &message);
                }
                Ok(Notice::Lagged { missed, .. }) => self.state().calls.missed += missed,
                Err(WatchError::Cancelled) => {}
                Err(error) => {
                    self.state().calls.ended_by = Some(error.to_string());
                    return;
                }
            }
        }
    }

    fn call(&self, inner: &Inner, callback: &mut impl FnMut(&Message), message: &Message) {
        let end = catch_unwind(AssertUnwindSafe(|| callback(message)));
        inner.count(Counter::Callbacks);
        inner.count_many(Counter::CallbackPanics, end.is_err().into());
        let mut state = self.state();
        state.calls.made += 1;
        if let Err(panic) = end {
            let said = said(&*panic);
            tracing::warn!(topic = message.topic, panic = said, "a callback panicked");
            state.calls.panics += 1;
            state.calls.last_panic = Some(said);
        }
    }
}

/// Says that the thread has ended, however it did.
struct Ends<'a>(&'a Shared);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.state().ended = true;
        self.0.changed.notify_all();
    }
}

/// What a panic was raised with.
fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no text".into())
}

/// The subscriptions with callbacks of a handle and its clones.
#[derive(Debug, Default)]
pub(crate) struct Callbacks {
    all: Mutex<(u64, HashMap<u64, Arc<Shared>>)>,
}

impl Callbacks {
    fn add(&self, shared: &Arc<Shared>) -> SubscriptionId {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.0 += 1;
        // Another one than any of the process that this one was forked off.
        let id = crate::sys::fork::lineage() << 40 | all.0;
        all.1.insert(id, Arc::clone(shared));
        SubscriptionId(id)
    }

    fn remove(&self, id: SubscriptionId) -> Option<Arc<Shared>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).1.remove(&id.0)
    }
}

/// A subscription with a callback. Dropped, it ends, and the drop waits for the callback that runs,
/// unless it happens inside one, or with one: a callback may own its own. As long as it is there, its
/// member stays attached.
#[derive(Debug)]
#[must_use = "dropped, it ends; `keep` lets it go on"]
pub struct Subscription {
    inner: Arc<Inner>,
    shared: Arc<Shared>,
    id: SubscriptionId,
    kept: bool,
}

impl Subscription {
    /// By which [`Bus::unsubscribe`] ends it.
    #[must_use]
    pub fn id(&self) -> SubscriptionId {
        self.id
    }

    /// What became of its messages so far. In a forked child, which has no thread of it: nothing.
    #[must_use]
    pub fn calls(&self) -> Calls {
        if self.shared.is_forked() {
            return Calls::default();
        }
        self.shared.state().calls.clone()
    }

    /// Lets it go on without this value, until [`Bus::unsubscribe`] or the end of the process: its member
    /// stays attached as long.
    pub fn keep(mut self) -> SubscriptionId {
        self.kept = true;
        self.id
    }

    /// Ends it; waits for the callback that runs, unless it is called from inside one.
    pub fn unsubscribe(self) -> Unsubscribed {
        self.end()
    }

    fn end(&self) -> Unsubscribed {
        if !self.shared.is_forked() {
            let _known = self.inner.seat().map(|seat| seat.callbacks.remove(self.id));
        }
        self.shared.end()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if !self.kept {
            let _ended = self.end();
        }
    }
}

impl Bus {
    /// Calls `callback` with each message whose topic matches a pattern, and with what the bus tells of its
    /// own changes ([`subscribe`](Self::subscribe) says how patterns are written): on a thread of its own,
    /// under no lock, one after another. It may call anything, publish and unsubscribe itself
    /// included. A panic in it is contained and counted ([`Subscription::calls`]).
    ///
    /// ```
    /// # use membus::Bus;
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let options = Bus::options().directory(directory.path()).state(directory.path().join("state"));
    /// # let bus = options.open("orders")?;
    /// let (answers, from_callback) = std::sync::mpsc::channel();
    /// let subscription = bus.on("value_changed", move |message| {
    ///     let _nobody_listens = answers.send(message.key.clone());
    /// })?;
    /// bus.set("price/ACME", &101.5)?;
    /// assert_eq!(from_callback.recv().unwrap().as_deref(), Some(&b"price/ACME"[..]));
    /// subscription.unsubscribe();
    /// # Ok::<(), membus::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`subscribe`](Self::subscribe); [`WatchError::Io`] when no thread can be started.
    pub fn on(
        &self,
        pattern: &str,
        callback: impl FnMut(&Message) + Send + 'static,
    ) -> Result<Subscription, WatchError> {
        self.on_from(pattern, Begin::Now, callback)
    }

    /// Like [`on`](Self::on), with messages that are alive still, or after a cursor.
    ///
    /// # Errors
    /// As there, and as [`subscribe_from`](Self::subscribe_from).
    pub fn on_from(
        &self,
        pattern: &str,
        begin: Begin,
        callback: impl FnMut(&Message) + Send + 'static,
    ) -> Result<Subscription, WatchError> {
        let subscriber = self.subscribe_from(pattern, begin)?;
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            alarm: subscriber.sleeper().alarm(),
            process: crate::sys::fork::lineage(),
        });
        let of_thread = Arc::clone(&shared);
        let run = move || {
            INSIDE.set(true);
            let _ends = Ends(&of_thread);
            of_thread.run(subscriber, callback);
        };
        // Who watches has a seat.
        let gone = || ReadError::Gone { path: self.inner.path.clone() };
        let seat = self.inner.seat().ok_or_else(gone).map_err(WatchError::from)?;
        drop(std::thread::Builder::new().name("membus-callback".into()).spawn(run)?);
        let id = seat.callbacks.add(&shared);
        Ok(Subscription { inner: Arc::clone(&self.inner), shared, id, kept: false })
    }

    /// Ends a subscription of this handle, or of a clone of it: returns when its callback does not run
    /// any more, or says that it was called from inside a callback.
    pub fn unsubscribe(&self, id: SubscriptionId) -> Unsubscribed {
        match self.inner.seat().and_then(|seat| seat.callbacks.remove(id)) {
            Some(shared) => shared.end(),
            None => Unsubscribed::Unknown,
        }
    }
}
