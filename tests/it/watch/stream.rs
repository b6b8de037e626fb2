//! Streams: the events of a watch under any executor, none lost, none late.

use crate::harness::actor::actor;
use crate::harness::{Place, caught_up, eventually, heavy};
use futures_core::Stream;
use futures_core::stream::FusedStream;
use futures_lite::StreamExt;
use futures_lite::future::{block_on, poll_fn, poll_once, zip};
use membus::{BusReader, Cursor, Event, Notice, Streamed, Watch, WatchError};
use std::future::Future;
use std::task::Poll;
use std::time::Duration;

/// A wait that the stream ended by its own look, each second, shows by its length.
const LOST: Duration = Duration::from_millis(900);

/// Runs a future under one executor or the other.
fn run<T>(executor: &str, future: impl Future<Output = T>) -> T {
    match executor {
        "tokio" => tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future),
        _ => block_on(future),
    }
}

async fn next(stream: &mut (impl Stream<Item = Result<Event, WatchError>> + Unpin)) -> Event {
    stream.next().await.unwrap().unwrap()
}

fn streamed(mut watch: Watch) -> Streamed<Watch> {
    caught_up(&mut watch);
    watch.into_stream().unwrap()
}

/// Promise (streams): a stream gives what the watch tells, in order, woken by another process, under tokio and
/// under a bare executor; no wake-up is lost, at whatever moment of falling asleep the change comes.
/// Plants: `poll_readable` before `try_recv` and not after; a stream whose own look is all that wakes it.
#[test]
fn a_stream_is_woken_for_each_change() {
    const ROUNDS: u32 = 3000;
    let _alone = heavy();
    for executor in ["tokio", "futures-lite"] {
        let place = Place::new();
        let bus = place.options().keeper(false).open_at(place.bus()).unwrap();
        let mut stream = streamed(bus.watch_from("n", Cursor::NOW).unwrap());
        let mut writer = actor("watch_on_demand", &place).start();
        run(executor, async {
            for round in 0..ROUNDS {
                // Half of them come while it is being polled, half when it waits already.
                if round % 2 == 0 {
                    assert!(poll_once(stream.next()).await.is_none());
                }
                writer.tell("write");
                let Event::Change(change) = next(&mut stream).await else { panic!("no change") };
                let since = change.time.elapsed().unwrap_or_default();
                assert!(since < LOST, "{executor}, {round}: a lost wake-up, {since:?}");
                assert_eq!(stream.get_ref().cursor().revision, change.revision.get());
            }
            assert!(poll_once(stream.next()).await.is_none());
        });
        writer.end();
        let mut watch = stream.into_inner();
        assert_eq!(watch.try_recv().unwrap(), None);
    }
}

/// Waits for the next item of each; says it when all of them wait.
async fn next_of_all<S: Stream<Item = Result<Event, WatchError>> + Unpin>(
    streams: &mut [S],
    mut wait: impl FnMut(),
) -> Vec<Event> {
    let mut came: Vec<Option<Event>> = streams.iter().map(|_| None).collect();
    poll_fn(|context| {
        for (stream, came) in streams.iter_mut().zip(&mut came).filter(|of| of.1.is_none()) {
            if let Poll::Ready(item) = stream.poll_next(context) {
                *came = Some(item.unwrap().unwrap());
            }
        }
        wait();
        if came.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    came.into_iter().flatten().collect()
}

/// Promise (streams): many streams wait in one thread, those of readers and of messages too, and
/// each is woken.
/// Plant: `Pending` without the bell being waited for.
#[test]
fn many_streams_wait_in_one_thread() {
    let place = Place::new();
    let bus = place.options().keeper(false).open_at(place.bus()).unwrap();
    let reader = BusReader::open_at(place.bus()).unwrap();
    let mut streams: Vec<_> = std::iter::repeat_with(|| {
        [bus.watch_from("k", Cursor::NOW), reader.watch_from("k", Cursor::NOW)]
    })
    .flatten()
    .map(|watch| streamed(watch.unwrap()))
    .take(50)
    .collect();
    let mut calls = bus.subscribe("call/").unwrap().into_stream().unwrap();
    std::thread::scope(|scope| {
        let (waits, waiting) = std::sync::mpsc::channel();
        let bus = &bus;
        scope.spawn(move || {
            for number in waiting {
                bus.set("k", &number).unwrap();
                bus.publish("call/now", &number).unwrap();
            }
        });
        for number in 0..20 {
            let mut first = true;
            let all = next_of_all(&mut streams, || {
                if std::mem::take(&mut first) {
                    waits.send(number).unwrap();
                }
            });
            let (events, call) = block_on(zip(all, calls.next()));
            for event in events {
                let Event::Change(change) = event else { panic!("{event:?}") };
                assert_eq!(change.decode::<i32>().unwrap(), Some(number));
                let late = change.time.elapsed().unwrap_or_default();
                assert!(late < LOST, "{number}: a lost wake-up, {late:?}");
            }
            let Notice::Message(call) = call.unwrap().unwrap() else { panic!("no message") };
            assert_eq!(call.topic, "call/now");
        }
    });
}

/// Promise (streams): the first error is the last item: a cancelled stream, one of a bus that is gone.
/// Plant: `over` never set: errors without end.
#[test]
fn an_error_ends_a_stream() {
    let place = Place::new();
    let bus = place.options().keeper(false).open_at(place.bus()).unwrap();
    let mut stream = streamed(bus.watch_from("", Cursor::NOW).unwrap());
    let canceller = stream.get_ref().canceller();
    let (cancelled, heard) = std::sync::mpsc::channel();
    let waiter = std::thread::spawn(move || {
        block_on(async {
            assert!(poll_once(stream.next()).await.is_none());
            cancelled.send(()).unwrap();
            let error = stream.next().await.unwrap().unwrap_err();
            assert!(matches!(error, WatchError::Cancelled), "{error}");
            assert!(stream.is_terminated());
            assert!(stream.next().await.is_none() && stream.next().await.is_none());
        });
        stream.into_inner()
    });
    heard.recv().unwrap();
    canceller.cancel();
    eventually("a cancelled stream", || waiter.is_finished().then_some(()));
    let mut stream = waiter.join().unwrap().into_stream().unwrap();
    place.options().destroy_at(place.bus(), true).unwrap();
    block_on(async {
        assert!(matches!(stream.next().await.unwrap(), Err(WatchError::Read(_))));
        assert!(stream.next().await.is_none());
    });
}

/// Promise (streams): where nobody keeps the bus a stream looks by itself, so that a death costs a second at
/// the most.
/// Plant: no timer: the stream waits for ever.
#[test]
fn without_a_keeper_a_stream_looks_by_itself() {
    let place = Place::new();
    let bus = place.small().keeper(false).open_at(place.bus()).unwrap();
    let mut stream = streamed(bus.watch_from("k", Cursor::NOW).unwrap());
    // Without its socket no bell can ring.
    for bell in std::fs::read_dir(place.bus().join("bell")).unwrap() {
        std::fs::remove_file(bell.unwrap().path()).unwrap();
    }
    let (tell, thread) = std::sync::mpsc::channel();
    let waiter = std::thread::spawn(move || {
        tell.send(nix::unistd::gettid()).unwrap();
        block_on(next(&mut stream))
    });
    let stat = format!("/proc/self/task/{}/stat", thread.recv().unwrap());
    eventually("a stream that waits", || {
        std::fs::read_to_string(&stat).unwrap().contains(") S ").then_some(())
    });
    bus.set("k", &1).unwrap();
    eventually("a look by itself", || waiter.is_finished().then_some(()));
    assert!(matches!(waiter.join().unwrap(), Event::Change(_)));
}
