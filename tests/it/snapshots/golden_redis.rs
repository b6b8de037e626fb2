//! Golden keys: what a version of membus stored in a Redis server, as the commands that bring it back.
//!
//! `tests/data/redis/VERSION.resp` holds the snapshot of `golden::version_1` in each version of the keys. A file that
//! was released is never changed. That of a new version is made by
//!
//! ```text
//! cargo test --all-features --test it -- --ignored golden_keys_are_made
//! ```

use super::backends::Redis;
use super::golden::{All, data, sorted, version_1};
use crate::harness::Place;
use membus::{Backend, Persist};
use redis::ConnectionLike;
use std::sync::Arc;

/// Of the keys that this version writes.
const VERSION: u32 = 2;

fn server(place: &Place) -> Option<(Redis, redis::Connection, Arc<dyn Backend>)> {
    let server = Redis::start("golden keys", place.path())?;
    let socket = place.path().join("redis.sock");
    let client = redis::Client::open(format!("unix://{}", socket.display())).unwrap();
    let url = format!("redis+unix://{}?prefix=golden:", socket.display());
    let backend = url.parse::<Persist>().unwrap().backend(1).unwrap().unwrap();
    Some((server, client.get_connection().unwrap(), backend))
}

fn keys(of: &mut redis::Connection) -> Vec<Vec<u8>> {
    let mut keys: Vec<Vec<u8>> = redis::cmd("KEYS").arg("*").query(of).unwrap();
    keys.sort_unstable();
    keys
}

fn load(from: &Arc<dyn Backend>) -> All {
    let mut all = All::default();
    let loaded = from.load(&mut all).unwrap().unwrap();
    assert_eq!(loaded.refused, []);
    sorted(all)
}

/// Promise (formats): every later version reads the keys of this one, to the last bit of each field, and its next save
/// puts its own in their place.
/// Plants, in writer and reader alike: another name of the field `expires`; the hash before the key. And no removal of
/// the parts of version 1.
#[test]
fn golden_keys_are_read() {
    for version in 1..=VERSION {
        let place = Place::new();
        let Some((_server, mut connection, backend)) = server(&place) else { return };
        let commands = std::fs::read(data().join(format!("redis/{version}.resp"))).unwrap();
        let count = commands.windows(3).filter(|part| part == b"\r\n*").count() + 1;
        for answer in connection.req_packed_commands(&commands, 0, count).unwrap() {
            answer.extract_error().unwrap();
        }
        let before = keys(&mut connection);
        let (head, entries) = version_1();
        let expected = sorted(All(head, entries));
        assert!(load(&backend) == expected, "version {version}");
        let claims = keys(&mut connection).into_iter().filter(|key| key.ends_with(b":loading"));
        redis::cmd("DEL").arg(claims.collect::<Vec<_>>()).query::<()>(&mut connection).unwrap();
        let (head, entries) = version_1();
        backend.save(&head, &mut All(head, entries)).unwrap();
        assert!(load(&backend) == expected, "version {version}, saved again");
        let after = keys(&mut connection);
        let names = |keys: &[Vec<u8>]| {
            let entries = keys.iter().filter(|key| key.starts_with(b"golden:entry:"));
            entries.count()
        };
        // Current, versions, sequence; head, index and that it is read.
        assert_eq!((names(&after), after.len()), (expected.1.len(), expected.1.len() + 6));
        let same = before.iter().filter(|key| after.contains(key)).count();
        assert_eq!(same, if version == VERSION { expected.1.len() + 3 } else { 3 });
    }
}

/// Makes the file of a version that has none; see the head of this file.
#[test]
#[ignore = "makes files in the source tree, once a version"]
fn golden_keys_are_made() {
    let file = data().join(format!("redis/{VERSION}.resp"));
    let place = Place::new();
    let (_server, mut connection, backend) = server(&place).unwrap();
    let (head, entries) = version_1();
    backend.save(&head, &mut All(head, entries)).unwrap();
    let mut commands = redis::pipe();
    for key in keys(&mut connection) {
        let ask = |name: &str, more: &[&str]| redis::cmd(name).arg(&key).arg(more).to_owned();
        let kind: String = ask("TYPE", &[]).query(&mut connection).unwrap();
        let (read, write) = match kind.as_str() {
            "string" => (ask("GET", &[]), "SET"),
            "hash" => (ask("HGETALL", &[]), "HSET"),
            "zset" => (ask("ZRANGE", &["0", "-1", "WITHSCORES"]), "ZADD"),
            other => panic!("{other}"),
        };
        let found: redis::Value = read.query(&mut connection).unwrap();
        let mut words: Vec<Vec<u8>> = match found {
            redis::Value::BulkString(one) => vec![one],
            many => redis::from_redis_value(many).unwrap(),
        };
        if kind == "zset" {
            words.chunks_exact_mut(2).for_each(|pair| pair.reverse());
        }
        commands.cmd(write).arg(key.as_slice()).arg(words);
    }
    if !file.exists() {
        std::fs::write(file, commands.get_packed_pipeline()).unwrap();
    }
}
