//! A web server of several processes that share a cache and a rate limiter.
//!
//! The parent binds the port and starts workers, which accept from the same socket. What one worker has
//! computed the others serve from the cache; a client is counted across all of them. One worker is
//! killed under load: the others go on, and a new one takes its place.
//!
//!     cargo run --example web_server

#![expect(clippy::print_stdout, reason = "it shows what it does")]

use membus::{Bus, ReadBus};
use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

/// Requests that a client has a second.
const LIMIT: i64 = 50;

/// Whether a client may ask once more in this second.
fn may_ask(bus: &Bus, client: &str) -> Result<bool, membus::Error> {
    let second =
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |t| t.as_secs());
    let key = format!("rate/{client}/{second}");
    // The first to ask makes the counter, with an end; to be second is no failure.
    let _made = bus.put(&key).if_absent().ttl(Duration::from_secs(2)).set_counter(0);
    Ok(bus.add(&key, 1)? <= LIMIT)
}

/// A page: from the cache, or computed.
fn page(bus: &Bus, path: &str) -> Result<String, membus::Error> {
    let key = format!("cache{path}");
    if let Some(page) = bus.get::<String>(&key)? {
        bus.add("hits", 1)?;
        return Ok(page);
    }
    std::thread::sleep(Duration::from_millis(5));
    let page = format!("<h1>{path}</h1>\n");
    bus.put(&key).ttl(Duration::from_secs(60)).set(&page)?;
    bus.add("misses", 1)?;
    Ok(page)
}

fn answer(bus: &Bus, mut stream: TcpStream) -> Result<(), Box<dyn Error>> {
    let mut line = String::new();
    if BufReader::new(&stream).read_line(&mut line).is_err() {
        return Ok(());
    }
    // `GET /path?client HTTP/1.0`
    let target = line.split(' ').nth(1).unwrap_or("/");
    let (path, client) = target.split_once('?').unwrap_or((target, "nobody"));
    let (status, body) = if may_ask(bus, client)? {
        ("200 OK", page(bus, path)?)
    } else {
        ("429 Too Many Requests", String::new())
    };
    // The client may be gone: that is its affair.
    let _sent = write!(stream, "HTTP/1.0 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    Ok(())
}

/// The listening socket came as standard input.
fn work(bus: &Bus) -> Result<(), Box<dyn Error>> {
    let socket: OwnedFd = std::io::stdin().as_fd().try_clone_to_owned()?;
    for stream in TcpListener::from(socket).incoming().map_while(Result::ok) {
        answer(bus, stream)?;
    }
    Ok(())
}

fn start(listener: &TcpListener, path: &Path) -> std::io::Result<Child> {
    let socket = OwnedFd::from(listener.try_clone()?);
    let me = std::env::current_exe()?;
    let mut command = Command::new(me);
    command.arg(path).stdin(Stdio::from(socket)).spawn()
}

/// The status of an answer; 0 when the worker died over it.
fn ask(server: SocketAddr, target: &str) -> u32 {
    let mut text = String::new();
    let asked = TcpStream::connect(server).and_then(|mut stream| {
        write!(stream, "GET {target} HTTP/1.0\r\n\r\n")?;
        stream.read_to_string(&mut text)
    });
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
    asked.ok().and(status).unwrap_or(0)
}

fn main() -> Result<(), Box<dyn Error>> {
    if let Some(path) = std::env::args().nth(1) {
        return work(&Bus::attach_at(path)?);
    }
    let directory = tempfile::tempdir_in("/dev/shm")?;
    let path = directory.path().join("web");
    let bus = Bus::options().state(directory.path()).open_at(&path)?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let server = listener.local_addr()?;
    let workers = (0..3).map(|_| start(&listener, &path));
    let mut workers = workers.collect::<Result<Vec<_>, _>>()?;
    let mut counts = std::collections::BTreeMap::<u32, u32>::new();
    for number in 0..600 {
        let client = if number % 20 == 0 { "polite" } else { "greedy" };
        *counts.entry(ask(server, &format!("/page{}?{client}", number % 10))).or_default() += 1;
        if number == 300 {
            workers[0].kill()?;
            workers.push(start(&listener, &path)?);
        }
    }
    for worker in &mut workers {
        // It accepts for ever; the first one is dead already.
        let _ended = worker.kill().and_then(|()| worker.wait());
    }
    let served = bus.get::<i64>("hits")?.unwrap_or(0) + bus.get::<i64>("misses")?.unwrap_or(0);
    println!(
        "answers by status: {counts:?}; {served} pages, {:?} from the cache",
        bus.get::<i64>("hits")?
    );
    assert!(counts[&200] > 0 && served >= i64::from(counts[&200]));
    Ok(())
}
