//! What does a save to Redis cost when little has changed since the last one?
//!
//! Back of the envelope: an entry of 64 B is a hash of some 200 bytes on the wire. A save that writes all of them sends
//! 40 MB of 200,000. One that names each, by its key and 22 letters, and writes what is new, sends a fifth of that.
//!
//! `cargo bench --features redis --bench redis -- [ENTRIES]`, with `redis-server` in the path
#![expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]

use membus::{Backend, BackendError, Persist, SnapshotEntry, SnapshotHead, Source};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

type Failure = Box<dyn std::error::Error>;

const ROUNDS: u64 = 5;
/// One in so many entries is changed before each save.
const SHARE: u64 = 100;
const PATIENCE: Duration = Duration::from_secs(10);

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// A server of this run, without files; it ends with this.
struct Server(Child);

impl Server {
    fn start(directory: &Path) -> Result<Self, Failure> {
        let socket = directory.join("redis.sock");
        let mut command = Command::new("redis-server");
        command.args(["--port", "0", "--save", "", "--appendonly", "no", "--daemonize", "no"]);
        command.arg("--dir").arg(directory).arg("--unixsocket").arg(&socket);
        let this = Self(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?);
        let begun = Instant::now();
        while UnixStream::connect(&socket).is_err() {
            if begun.elapsed() > PATIENCE {
                return Err("redis-server does not answer".into());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(this)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Fails only for one that has ended.
        let _killed = self.0.kill();
        let _ended = self.0.wait();
    }
}

/// What a bus of so many keys has after so many rounds of changes.
struct Entries {
    left: std::ops::Range<u64>,
    round: u64,
}

impl Source for Entries {
    fn next_entry(&mut self) -> Result<Option<SnapshotEntry>, BackendError> {
        Ok(self.left.next().map(|number| {
            // The last round in which it was changed, each round others.
            let changed = self.round.saturating_sub((self.round + SHARE - number % SHARE) % SHARE);
            let revision = changed * self.left.end + number + 1;
            let mut value = revision.to_le_bytes().repeat(8);
            value.truncate(64);
            SnapshotEntry {
                key: format!("key/{number:012}").into_bytes(),
                value,
                revision,
                time: 1_700_000_000_123_456_789 + revision,
                who: b"feeder".to_vec(),
                ..SnapshotEntry::default()
            }
        }))
    }
}

/// A figure that the server has.
fn figure(of: &mut redis::Connection, section: &str, name: &str) -> Result<f64, Failure> {
    let info: String = redis::cmd("INFO").arg(section).query(of)?;
    let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    Ok(line.ok_or("INFO lacks a figure")?.trim().parse()?)
}

fn save(to: &Arc<dyn Backend>, entries: u64, round: u64) -> Result<(), Failure> {
    let head = SnapshotHead { revision: round, ..SnapshotHead::default() };
    to.save(&head, &mut Entries { left: 0..entries, round })?;
    Ok(())
}

fn main() -> Result<(), Failure> {
    let entries =
        std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(200_000_u64);
    let place = tempfile::tempdir()?;
    let _server = Server::start(place.path())?;
    let socket = place.path().join("redis.sock");
    let url = format!("redis+unix://{}", socket.display()).parse::<Persist>()?;
    let store = url.backend(1)?.ok_or("no backend")?;
    let mut info = redis::Client::open(format!("unix://{}", socket.display()))?.get_connection()?;
    let mut measured = vec![Vec::new(); 5];
    for round in 0..=ROUNDS {
        let before = figure(&mut info, "stats", "total_net_input_bytes")?;
        let sent = figure(&mut info, "stats", "total_net_output_bytes")?;
        let busy = figure(&mut info, "cpu", "used_cpu_user")?;
        let begun = Instant::now();
        save(&store, entries, round)?;
        let figures = [
            begun.elapsed().as_secs_f64(),
            (figure(&mut info, "stats", "total_net_input_bytes")? - before) / 1e6,
            (figure(&mut info, "stats", "total_net_output_bytes")? - sent) / 1e6,
            figure(&mut info, "cpu", "used_cpu_user")? - busy,
            figure(&mut info, "memory", "used_memory")? / 1e6,
        ];
        let [seconds, to, from, cpu, memory] = figures;
        let what = if round == 0 { "first" } else { "next" };
        println!(
            "{what:6} {seconds:6.2} s, {to:6.2} MB to the server, {from:6.2} MB from it, \
             {cpu:5.2} s of its processor, {memory:6.1} MB in it then"
        );
        if round > 0 {
            measured.iter_mut().zip(figures).for_each(|(all, figure)| all.push(figure));
        }
    }
    let medians: Vec<_> = measured.into_iter().map(median).collect();
    println!("{entries} entries of 64 B, 1 in {SHARE} changed, medians of {ROUNDS}: {medians:.2?}");
    Ok(())
}
