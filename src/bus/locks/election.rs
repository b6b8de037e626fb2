//! Leader election: of those who campaign one leads, and renews a lease as long as it does.
//!
//! ```text
//! candidate thread   takes the lease ──► renews it every third of its time ──► lost, or resigned
//!                        │ gained                                                   │ lost
//! herald thread          on_gain ······························································ on_loss
//! ```
//!
//! 1. The callbacks run on the herald's thread, in order and one at a time, under no lock: however long
//!    one takes, the lease is renewed meanwhile.
//! 2. `is_leader` is false from the lease's deadline on, by the clock and not by a thread: who was stopped
//!    does not take itself for the leader when it goes on.
//! 3. Who resigns stops being leader, lets `on_loss` run to its end, and only then gives the lease back: so
//!    the next one begins after it.
//!
//! A death gives the lease to the next one at the burial; a stop, at the deadline.

use super::super::sleeper::Alarm;
use super::super::{Bus, Inner, reader::BusReader};
use super::hold::{Hold, holder, take};
use super::lock::checked_ttl;
use super::wait::{Cancel, Limit, until};
use super::{Address, Fence, Sort};
use crate::error::LockError;
use crate::types::{LockHolder, Revision};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// How many times within its time a lease is renewed.
const RENEWALS: u32 = 3;
/// The longest that a candidate waits before it tries again, having failed to try. Not longer with a longer
/// lease: nobody leads meanwhile, perhaps.
const RETRY_MAX: Duration = Duration::from_secs(1);

fn retry_after(ttl: Duration) -> Duration {
    (ttl / RENEWALS).min(RETRY_MAX)
}

/// An election by its name, and how long its leader may be silent. Cheap to make.
#[derive(Debug, Clone)]
pub struct Election {
    bus: Bus,
    address: Address,
    ttl: Duration,
}

/// That somebody leads: for [`Batch::require_lock`](crate::Batch::require_lock), and with its token. It may
/// be over already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leadership {
    fence: Fence,
    token: Revision,
}

impl Leadership {
    /// The fencing token: each leadership of this election has a higher one than all before it.
    #[must_use]
    pub fn token(&self) -> Revision {
        self.token
    }
}

impl AsRef<Fence> for Leadership {
    fn as_ref(&self) -> &Fence {
        &self.fence
    }
}

/// What the threads of a campaign and its handle share.
#[derive(Debug, Default)]
struct State {
    /// Whether it is to end.
    resigned: bool,
    /// The present leadership, and the boot time until which it is sure.
    leads: Option<(Leadership, u64)>,
    /// Wakes the candidate where it waits for the lease.
    alarm: Option<Alarm>,
}

/// The state, and word of its change.
#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
    fn is_resigned(&self) -> bool {
        self.state().resigned
    }
    fn resign(&self) {
        let alarm = {
            let mut state = self.state();
            state.resigned = true;
            state.leads = None;
            state.alarm.take()
        };
        self.changed.notify_all();
        if let Some(alarm) = alarm {
            alarm.cancel();
        }
    }
    /// Waits for the end, for so long: whether it came.
    fn pause(&self, time: Duration) -> bool {
        let state = self.state();
        let end = self.changed.wait_timeout_while(state, time, |state| !state.resigned);
        end.unwrap_or_else(PoisonError::into_inner).0.resigned
    }
}

/// What the herald is told.
enum News {
    Gained(Leadership),
    /// The sender is dropped when the callback has run.
    Lost(Sender<()>),
}

/// Somebody who campaigns, until it resigns or is dropped.
///
/// Killed: another candidate leads as soon as one of them finds the death, after 100 ms at the most. Stopped
/// or slow: another one leads when the time to live has passed; this one is not the leader from the same
/// instant on, and is told by `on_loss` when it goes on. A forked child's copy campaigns for nothing.
#[derive(Debug)]
#[must_use = "it resigns when it is dropped"]
pub struct Campaign {
    inner: Arc<Inner>,
    shared: Arc<Shared>,
    candidate: Option<JoinHandle<()>>,
    herald: std::thread::ThreadId,
    process: u64,
}

impl Campaign {
    /// Whether it leads now, by the clock alone. What is done on its word may be done too late, when this
    /// thread is stopped in between: a batch that requires the leadership is safe.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.leadership().is_some()
    }

    /// The present leadership.
    #[must_use]
    pub fn leadership(&self) -> Option<Leadership> {
        if self.process != crate::sys::fork::lineage() {
            return None;
        }
        let state = self.shared.state();
        let (leadership, deadline) = state.leads.as_ref()?;
        (!self.inner.core.is_past(*deadline)).then(|| leadership.clone())
    }

    /// Whether its threads still campaign: not when the bus is gone, and not in a forked child, which has none
    /// of them.
    #[must_use]
    pub fn is_running(&self) -> bool {
        let is_own = self.process == crate::sys::fork::lineage();
        is_own && self.candidate.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Ends the campaign. If it leads, `on_loss` has run when this returns, and after it another one may
    /// lead. Waits for a callback that runs; from inside of a callback it does not wait.
    pub fn resign(self) {
        drop(self);
    }
}

impl Drop for Campaign {
    fn drop(&mut self) {
        // A forked child has the handle, but not the threads, and perhaps a lock that one of them held.
        if self.process != crate::sys::fork::lineage() {
            std::mem::forget(self.candidate.take());
            return;
        }
        self.shared.resign();
        if let Some(candidate) = self.candidate.take()
            && self.herald != std::thread::current().id()
        {
            let _ended = candidate.join();
        }
    }
}

/// The thread that tries to lead.
struct Candidate {
    inner: Arc<Inner>,
    address: Address,
    ttl: Duration,
    shared: Arc<Shared>,
    news: Sender<News>,
}

impl Candidate {
    fn run(self) {
        while !self.shared.is_resigned() {
            match self.gain() {
                Ok(Some(hold)) => self.lead(hold),
                Ok(None) => {}
                Err(error) => {
                    let path = self.inner.path.display();
                    tracing::warn!(%error, bus = %path, "a candidate could not try to lead");
                    if self.inner.is_gone() || self.shared.pause(retry_after(self.ttl)) {
                        break;
                    }
                }
            }
        }
    }

    fn gain(&self) -> Result<Option<Hold>, LockError> {
        let wanted = || self.shared.is_resigned();
        let alarm = |alarm| self.shared.state().alarm = Some(alarm);
        let cancel = Cancel { wanted: &wanted, alarm: &alarm };
        let attempt = |probe| take(&self.inner, &self.address, Some(self.ttl), probe);
        until(&self.inner, &self.address, Limit::new(None), Some(cancel), attempt)
    }

    fn lead(&self, mut hold: Hold) {
        let leadership = Leadership { fence: hold.fence().clone(), token: hold.token() };
        if !self.note(&leadership, &hold) {
            // It resigned before it knew.
            let _end = hold.release();
            return;
        }
        // Its end is the herald's, who outlives this thread.
        let _told = self.news.send(News::Gained(leadership.clone()));
        let mut is_lost = false;
        while !is_lost && !self.shared.pause(self.ttl / RENEWALS) {
            is_lost = self.renew(&hold);
            if !is_lost {
                self.note(&leadership, &hold);
            }
        }
        self.shared.state().leads = None;
        let (done, is_done) = channel();
        let _told = self.news.send(News::Lost(done));
        if !is_lost {
            // Until the callback has run nobody else leads.
            while is_done.recv_timeout(self.ttl / RENEWALS)
                == Err(std::sync::mpsc::RecvTimeoutError::Timeout)
                && !self.renew(&hold)
            {}
        }
        let _end = hold.release();
    }

    /// Whether the lease is lost.
    fn renew(&self, hold: &Hold) -> bool {
        match hold.renew(self.ttl) {
            Ok(()) => false,
            Err(LockError::Lost { .. } | LockError::Forked) => true,
            // A full bus, or a stalled one: as long as there is time it is tried again.
            Err(_) => hold.left().is_none() || self.inner.is_gone(),
        }
    }

    /// Notes until when it leads; whether it may.
    fn note(&self, leadership: &Leadership, hold: &Hold) -> bool {
        let mut state = self.shared.state();
        if !state.resigned {
            state.leads = Some((leadership.clone(), hold.deadline()));
        }
        !state.resigned
    }
}

/// Runs the callbacks.
fn herald(news: &Receiver<News>, mut on_gain: impl FnMut(&Leadership), mut on_loss: impl FnMut()) {
    while let Ok(news) = news.recv() {
        let end = match news {
            News::Gained(leadership) => catch_unwind(AssertUnwindSafe(|| on_gain(&leadership))),
            News::Lost(_done) => catch_unwind(AssertUnwindSafe(&mut on_loss)),
        };
        if end.is_err() {
            tracing::error!("a callback of an election panicked; the campaign goes on");
        }
    }
}

impl Election {
    /// Who leads. For people, and for those who send to the leader: by the time it is read it may be another
    /// one.
    ///
    /// # Errors
    /// When the bus can't be read.
    pub fn leader(&self) -> Result<Option<LockHolder>, LockError> {
        holder(&self.bus.inner, &self.address)
    }

    /// Campaigns on threads of its own. `on_gain` runs when it leads, `on_loss` when it does not any more; they
    /// take turns, under no lock, and may call the bus. One that panics is told to `tracing`, and the campaign
    /// goes on. One that takes long is late for the next news, and the lease is renewed meanwhile.
    ///
    /// # Errors
    /// [`LockError::Io`] when a thread can't be started.
    pub fn campaign(
        &self,
        on_gain: impl FnMut(&Leadership) + Send + 'static,
        on_loss: impl FnMut() + Send + 'static,
    ) -> Result<Campaign, LockError> {
        let fail = |source| LockError::Io { what: "starting a thread of an election", source };
        let (inner, shared) = (Arc::clone(&self.bus.inner), Arc::<Shared>::default());
        let (news, told) = channel();
        let named = |name: &str| std::thread::Builder::new().name(name.into());
        let callbacks = named("membus-herald").spawn(move || herald(&told, on_gain, on_loss));
        let callbacks = callbacks.map_err(fail)?;
        let herald = callbacks.thread().id();
        let candidate = Candidate {
            inner: Arc::clone(&inner),
            address: self.address.clone(),
            ttl: self.ttl,
            shared: Arc::clone(&shared),
            news,
        };
        let run = move || {
            candidate.run();
            let _ended = callbacks.join();
        };
        let candidate = Some(named("membus-candidate").spawn(run).map_err(fail)?);
        let process = crate::sys::fork::lineage();
        Ok(Campaign { inner, shared, candidate, herald, process })
    }
}

impl Bus {
    /// An election, whose leader may be silent for `ttl` before another one leads. All candidates should say
    /// the same; each has its own while it leads.
    ///
    /// # Errors
    /// [`LockError::Name`]; [`LockError::Setting`] for no time.
    pub fn election(&self, name: impl AsRef<[u8]>, ttl: Duration) -> Result<Election, LockError> {
        let address = Address::new(Sort::Election, name)?;
        let ttl = checked_ttl(Sort::Election, ttl)?;
        Ok(Election { bus: self.clone(), address, ttl })
    }

    /// Who leads in an election: as [`Election::leader`].
    ///
    /// # Errors
    /// When the bus can't be read.
    pub fn leader(&self, name: impl AsRef<[u8]>) -> Result<Option<LockHolder>, LockError> {
        holder(&self.inner, &Address::new(Sort::Election, name)?)
    }
}

impl BusReader {
    /// Who leads in an election: as [`Election::leader`].
    ///
    /// # Errors
    /// When the bus can't be read.
    pub fn leader(&self, name: impl AsRef<[u8]>) -> Result<Option<LockHolder>, LockError> {
        holder(&self.inner, &Address::new(Sort::Election, name)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::testing::Place;

    /// Promise (locks): a forked child's copy campaigns for nothing, and says so.
    /// Plant: it asks for the thread alone.
    #[test]
    fn a_campaign_runs_in_the_process_that_began_it() {
        let place = Place::new();
        let election = place.make().election("e", Duration::from_secs(60)).unwrap();
        let mut campaign = election.campaign(|_| {}, || {}).unwrap();
        assert!(campaign.is_running());
        // As in a child.
        campaign.process += 1;
        assert!(!campaign.is_running() && !campaign.is_leader());
        campaign.process -= 1;
        campaign.resign();
    }

    /// Plant: a third of the lease, however long that is.
    #[test]
    fn who_failed_tries_again_soon_whatever_the_lease() {
        let milliseconds = |ttl| retry_after(Duration::from_millis(ttl)).as_millis();
        assert_eq!([30, 600, 3_600_000].map(milliseconds), [10, 200, 1000]);
    }
}
