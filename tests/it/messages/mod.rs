//! Messages: each to whom it is for, by priority, as long as it is alive; callbacks that may do anything.

mod callbacks;
pub(crate) mod flood;

use crate::harness::{PATIENCE, Place};
use membus::{
    Begin, BusReader, Cursor, Kind, MemberId, Message, Notice, ReadError, Subscriber, Target,
    WatchError, WriteError, limits,
};
use std::time::{Duration, SystemTime};

/// The next message, which must come.
#[track_caller]
pub(crate) fn next(subscriber: &mut Subscriber) -> Message {
    match subscriber.recv_timeout(PATIENCE).unwrap() {
        Some(Notice::Message(message)) => message,
        other => panic!("{other:?}, no message"),
    }
}

/// Topics of the messages that wait.
fn topics(subscriber: &mut Subscriber) -> Vec<String> {
    let mut topics = Vec::new();
    while let Some(notice) = subscriber.try_recv().unwrap() {
        match notice {
            Notice::Message(message) => topics.push(message.topic),
            other => topics.push(format!("{other:?}")),
        }
    }
    topics
}

/// Promise (messages): every field arrives as it was given, typed or bytes, in another handle.
/// Plants: the source of a message that is its sender's label whatever was said; the kind of its payload.
#[test]
fn every_field_arrives() {
    let place = Place::new();
    let bus = place.small().label("feeder").open_at(place.bus()).unwrap();
    let other = place.small().label("viewer").attach_at(place.bus()).unwrap();
    let mut subscriber = other.subscribe("*").unwrap();
    let before = SystemTime::now();
    let revision = bus.publish("plain", &("a", 1)).unwrap();
    let plain = next(&mut subscriber);
    assert_eq!((plain.topic.as_str(), plain.source.as_deref()), ("plain", Some("feeder")));
    assert_eq!((plain.priority, &plain.target, plain.expires_in), (0, &None, None));
    assert_eq!(plain.cursor.revision, revision.get());
    assert_eq!(plain.id, plain.cursor.to_string());
    assert!(plain.time >= before && plain.time <= SystemTime::now());
    assert_eq!(plain.kind, Kind::Structure);
    assert!(matches!(plain.decode::<String>(), Err(ReadError::Decode { .. })));
    let long = Duration::from_secs(600);
    let full =
        bus.message("full/ü").source("me").id("no 7").priority(-3).ttl(long).target("viewer");
    full.send_bytes([0, 255]).unwrap();
    let full = next(&mut subscriber);
    assert_eq!((full.source.as_deref(), full.id.as_str()), (Some("me"), "no 7"));
    assert_eq!((full.priority, &full.target), (-3, &Some(Target::from("viewer"))));
    assert!(full.expires_in.is_some_and(|left| left <= long && left > long / 2));
    assert_eq!((full.kind, &full.payload[..]), (Kind::Bytes, &[0, 255][..]));
    let decoded = full.decode::<String>();
    assert!(matches!(decoded, Err(ReadError::NotThisKind { .. })), "{decoded:?}");
}

/// Promise (messages): one with a target reaches the members with this label, or the one member, and
/// nobody else; a reader has neither.
/// Plants: the slot alone compared, not its generation; an empty label that is everybody's.
#[test]
fn a_target_is_the_only_one_to_see_it() {
    let place = Place::new();
    let attach = |label| place.small().label(label).open_at(place.bus()).unwrap();
    let (bus, one, two) = (attach("feeder"), attach("one"), attach("two"));
    let reader = BusReader::open_at(place.bus()).unwrap();
    let unnamed = place.attach();
    let members = [&one, &two, &unnamed].into_iter().map(|bus| bus.subscribe("*").unwrap());
    let mut all: Vec<_> = members.chain([reader.subscribe("*").unwrap()]).collect();
    let MemberId { slot, generation } = two.member_id().unwrap();
    let past = MemberId { slot, generation: generation - 1 };
    for (topic, target) in [
        ("label", Target::from("one")),
        ("member", Target::from(two.member_id().unwrap())),
        ("nobody", Target::from("")),
        ("stranger", Target::from("three")),
        ("past", Target::from(past)),
    ] {
        bus.message(topic).target(target).send(&1).unwrap();
    }
    bus.publish("all", &1).unwrap();
    let seen: Vec<_> = all.iter_mut().map(topics).collect();
    assert_eq!(seen, [vec!["label", "all"], vec!["member", "all"], vec!["all"], vec!["all"]]);
}

/// Promise (messages): of what waits the highest priority comes first, and among equals the oldest; the
/// cursor leaves nothing out that was not given.
/// Plants: the lowest first; the newest of equals first; a cursor behind all that was read.
#[test]
fn priority_orders_what_waits() {
    let place = Place::new();
    let bus = place.open_small();
    let mut subscriber = bus.subscribe("*").unwrap();
    for (topic, priority) in [("a", 0), ("b", 5), ("c", -1), ("d", 5), ("e", i32::MAX)] {
        bus.message(topic).priority(priority).send(&1).unwrap();
    }
    assert_eq!(next(&mut subscriber).topic, "e");
    assert_eq!(next(&mut subscriber).topic, "b");
    let mut again = bus.subscribe_from("*", Begin::After(subscriber.cursor())).unwrap();
    assert_eq!(topics(&mut again), ["e", "b", "d", "a", "c"]);
    bus.message("late").priority(6).send(&1).unwrap();
    assert_eq!(topics(&mut subscriber), ["late", "d", "a", "c"]);
    assert_eq!(subscriber.cursor().revision, bus.info().unwrap().revision);
}

/// Promise (messages): after its time to live a message is never delivered, whether it waited in the log or
/// with its subscriber; a late subscriber gets those that are alive.
/// Plant: no look at the deadline when it is given.
#[test]
fn what_expired_is_never_delivered() {
    let place = Place::new();
    let bus = place.open_small();
    let mut early = bus.subscribe("*").unwrap();
    let mut holds = bus.subscribe("*").unwrap();
    let short = Duration::from_millis(30);
    bus.message("first").priority(9).send(&1).unwrap();
    bus.message("short").ttl(short).send(&1).unwrap();
    bus.message("long").ttl(Duration::from_secs(600)).send(&1).unwrap();
    bus.publish("ever", &1).unwrap();
    assert_eq!(next(&mut holds).topic, "first");
    assert_eq!(holds.waiting(), 3);
    std::thread::sleep(short * 2);
    assert_eq!(topics(&mut holds), ["long", "ever"], "it expired while it waited here");
    assert_eq!(topics(&mut early), ["first", "long", "ever"]);
    let mut late = bus.subscribe_from("*", Begin::Alive).unwrap();
    assert_eq!(topics(&mut late), ["first", "long", "ever"]);
    let mut now = bus.subscribe("*").unwrap();
    assert!(topics(&mut now).is_empty());
}

/// Promise (messages): the bus tells its changes under the names that the replaced module had, to who
/// names them; a wildcard alone means what people publish.
/// Plants: a pattern of `*` gets them too; locks and messages counted among changes.
#[test]
fn changes_are_told_as_topics() {
    let place = Place::new();
    let bus = place.open_small();
    let mut all = bus.subscribe("*").unwrap();
    let mut changed = bus.subscribe("value_changed").unwrap();
    let mut both = bus.subscribe("value_*").unwrap();
    let mut cleared = bus.subscribe("cache_cleared").unwrap();
    bus.put("k").who("me").set(&5).unwrap();
    bus.delete("k").unwrap();
    bus.publish("value", &1).unwrap();
    bus.put("t").ttl(Duration::from_millis(1)).set(&1).unwrap();
    std::thread::sleep(Duration::from_millis(2));
    bus.set("t", &2).unwrap();
    bus.clear().unwrap();
    let told = next(&mut changed);
    assert_eq!((told.key.as_deref(), told.source.as_deref()), (Some(&b"k"[..]), Some("me")));
    assert_eq!(told.decode::<i32>().unwrap(), 5);
    assert_eq!(topics(&mut changed), ["value_changed"; 2]);
    let kinds =
        ["value_changed", "value_deleted", "value_changed", "value_deleted", "value_changed"];
    assert_eq!(topics(&mut both), kinds);
    assert_eq!(topics(&mut cleared), ["cache_cleared"]);
    assert_eq!(topics(&mut all), ["value"]);
}

/// Promise (bad input): each has its own error, and nothing is published.
/// Plant: a limit less by one, or more.
#[test]
fn what_can_not_be_published_says_why() {
    let place = Place::new();
    let bus = place.small().log_size(64 << 10).open_at(place.bus()).unwrap();
    let before = bus.info().unwrap().revision;
    let refused = |topic: &str| bus.publish(topic, &1).unwrap_err();
    for topic in ["", "value_changed", "data_restored", &"x".repeat(limits::TOPIC_MAX + 1)] {
        assert!(matches!(refused(topic), WriteError::Topic { .. }), "{topic}");
    }
    let limit = (64 << 10) / 8 - 32;
    let error = bus.message("t").send_bytes(vec![1; limit + 1]).unwrap_err();
    assert!(
        matches!(error, WriteError::MessageTooLarge { size, limit: l } if size == l + 1 && l == limit as u64)
    );
    let long = "x".repeat(limits::LABEL_MAX + 1);
    assert!(matches!(bus.message("t").source(&long).send(&1), Err(WriteError::Label { .. })));
    assert!(matches!(bus.message("t").id(&long).send(&1), Err(WriteError::Label { .. })));
    assert!(matches!(
        bus.message("t").target(long.as_str()).send(&1),
        Err(WriteError::Label { .. })
    ));
    for pattern in ["", "a\\", &"x".repeat(limits::TOPIC_MAX + 1)] {
        assert!(matches!(bus.subscribe(pattern), Err(WatchError::Pattern { .. })), "{pattern}");
    }
    let head = bus.info().unwrap().revision;
    assert_eq!(head, before, "something was published");
    let future = Cursor { incarnation: 0, revision: head + 1 };
    assert!(matches!(
        bus.subscribe_from("*", Begin::After(future)),
        Err(WatchError::Future { .. })
    ));
    let mut subscriber = bus.subscribe("*").unwrap();
    let most = bus.message(&"x".repeat(limits::TOPIC_MAX)).send_bytes(vec![1; limit]).unwrap();
    assert_eq!(next(&mut subscriber).cursor.revision, most.get());
}

/// Promise (messages): whoever is too slow is told how much it missed, and by another life's cursor too.
/// Plant: `Lagged` after what waits, instead of before it.
#[test]
fn who_falls_behind_is_told() {
    let place = Place::new();
    let bus = place.small().log_size(4096).open_at(place.bus()).unwrap();
    let mut subscriber = bus.subscribe("*").unwrap();
    for number in 0..100 {
        bus.publish("t", &number).unwrap();
    }
    let Some(Notice::Lagged { missed, resume }) = subscriber.try_recv().unwrap() else {
        panic!("not lagged")
    };
    assert_eq!(missed, resume.revision);
    for number in missed..100 {
        assert_eq!(next(&mut subscriber).decode::<u64>().unwrap(), number);
    }
    let strange = Cursor { incarnation: 7, revision: 50 };
    let strange = bus.subscribe_from("*", Begin::After(strange)).unwrap().try_recv().unwrap();
    assert!(matches!(strange, Some(Notice::Lagged { .. } | Notice::Message(_))), "{strange:?}");
}
