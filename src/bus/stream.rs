//! Watches and subscribers as streams, for programs that wait by futures (feature `stream`).
//!
//! What wakes the task is the doorbell's descriptor, which `async-io` waits for on a thread of its own:
//! so a stream works under any executor. It arms as a blocking wait does: `try_recv` gives nothing
//! and says that it sleeps, then the descriptor is waited for; a ring that came between is there.

use super::event::Event;
use super::sleeper::Sleeper;
use super::subscribe::{Notice, Subscriber};
use super::watch::Watch;
use crate::error::WatchError;
use crate::sys::socket::SELF_LOOK;
use async_io::{Async, Timer};
use futures_core::Stream;
use futures_core::stream::FusedStream;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};

/// A [`Watch`] or a [`Subscriber`] as a [`Stream`]; made by [`Watch::into_stream`] and
/// [`Subscriber::into_stream`]. **The first error is the last item**, as of an iterator; a
/// [`Canceller`](crate::Canceller) ends it so. Dropping a future that waits for the next item loses none.
///
/// It may be polled under any executor: the descriptors are waited for by the thread of `async-io`, one for
/// the process. Polling never blocks. The stream takes a second descriptor for its doorbell. Like a
/// blocking wait it looks by itself each second, so that a writer that dies before it rings costs a
/// second at the most where nobody keeps the bus.
#[derive(Debug)]
pub struct Streamed<W> {
    source: W,
    /// A copy of the source's descriptor: the reactor knows it as long as the stream lives.
    bell: Async<OwnedFd>,
    look: Timer,
    over: bool,
}

impl<W> Streamed<W> {
    fn new(source: W, sleeper: impl Fn(&W) -> &Sleeper) -> Result<Self, WatchError> {
        let bell = sleeper(&source).as_fd().try_clone_to_owned()?;
        let bell = Async::new_nonblocking(bell)?;
        Ok(Self { source, bell, look: Timer::interval(SELF_LOOK), over: false })
    }

    /// What is streamed, say to ask for its cursor.
    #[must_use]
    pub fn get_ref(&self) -> &W {
        &self.source
    }

    /// What was streamed: it goes on where the stream was.
    #[must_use]
    pub fn into_inner(self) -> W {
        self.source
    }

    fn poll_with<T>(
        &mut self,
        context: &mut Context<'_>,
        try_recv: impl Fn(&mut W) -> Result<Option<T>, WatchError>,
    ) -> Poll<Option<Result<T, WatchError>>> {
        while !self.over {
            let item = match try_recv(&mut self.source) {
                Ok(None) => match self.bell.poll_readable(context) {
                    Poll::Ready(Ok(())) => continue,
                    Poll::Ready(Err(error)) => Err(error.into()),
                    Poll::Pending if Pin::new(&mut self.look).poll_next(context).is_ready() => {
                        continue;
                    }
                    Poll::Pending => return Poll::Pending,
                },
                Ok(Some(item)) => Ok(item),
                Err(error) => Err(error),
            };
            self.over = item.is_err();
            return Poll::Ready(Some(item));
        }
        Poll::Ready(None)
    }
}

impl Stream for Streamed<Watch> {
    type Item = Result<Event, WatchError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_with(context, Watch::try_recv)
    }
}

impl Stream for Streamed<Subscriber> {
    type Item = Result<Notice, WatchError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_with(context, Subscriber::try_recv)
    }
}

impl<W> FusedStream for Streamed<W>
where
    Self: Stream,
{
    fn is_terminated(&self) -> bool {
        self.over
    }
}

impl Watch {
    /// The events as a stream, for any executor.
    ///
    /// ```
    /// use futures_lite::StreamExt;
    /// use membus::{Bus, Event};
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let options = Bus::options().directory(directory.path()).state(directory.path().join("state"));
    /// # let bus = options.open("orders")?;
    /// let mut events = bus.watch("order/")?.into_stream()?;
    /// bus.set("order/1", &"filled")?;
    /// futures_lite::future::block_on(async {
    ///     while let Some(event) = events.next().await {
    ///         if let Event::Change(change) = event? {
    ///             assert_eq!(change.decode::<String>()?.as_deref(), Some("filled"));
    ///             break;
    ///         }
    ///     }
    ///     Ok::<(), membus::Error>(())
    /// })?;
    /// # Ok::<(), membus::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`WatchError::Io`] when there is no descriptor, or no thread, to wait by.
    pub fn into_stream(self) -> Result<Streamed<Self>, WatchError> {
        Streamed::new(self, Self::sleeper)
    }
}

impl Subscriber {
    /// The messages as a stream, as [`Watch::into_stream`].
    ///
    /// # Errors
    /// As there.
    pub fn into_stream(self) -> Result<Streamed<Self>, WatchError> {
        Streamed::new(self, Self::sleeper)
    }
}
