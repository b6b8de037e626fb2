//! Places of their own for buses, and the tool as a process in them.

use membus::{Bus, Options};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value as Json;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long anything is waited for before a test has failed. No promise: a bound for hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The tool.
pub(crate) const TOOL: &str = env!("CARGO_BIN_EXE_membus");

/// Directories for buses, state and temporary files, gone at the end.
pub(crate) struct Place(TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        let place = Self(tempfile::tempdir_in("/dev/shm").unwrap());
        for name in ["buses", "state", "tmp"] {
            std::fs::create_dir(place.path(name)).unwrap();
        }
        place
    }

    /// With a bus `b` in it.
    pub(crate) fn with_bus() -> Self {
        let place = Self::new();
        place.run(&["create", "b"]).done();
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The directory of a bus by name.
    pub(crate) fn bus(&self, name: &str) -> PathBuf {
        self.path("buses").join(name)
    }

    /// The same bus as a Rust program has it.
    pub(crate) fn options(&self) -> Options {
        Bus::options().keeper(false).state(self.path("state/membus"))
    }

    pub(crate) fn attach(&self, name: &str) -> Bus {
        self.options().attach_at(self.bus(name)).unwrap()
    }

    pub(crate) fn command<S: AsRef<OsStr>>(&self, words: &[S]) -> Command {
        let mut command = Command::new(TOOL);
        command.args(words);
        command.env("MEMBUS_DIR", self.path("buses"));
        command.env("XDG_STATE_HOME", self.path("state"));
        command.env("TMPDIR", self.path("tmp"));
        command.current_dir(self.0.path()).stdin(Stdio::null());
        command
    }

    pub(crate) fn run<S: AsRef<OsStr>>(&self, words: &[S]) -> Ran {
        let output = self.command(words).output().unwrap();
        let (stdout, stderr) = (output.stdout, String::from_utf8(output.stderr).unwrap());
        let words = words.iter().map(|word| word.as_ref().to_string_lossy().into_owned());
        Ran { what: words.collect::<Vec<_>>().join(" "), status: output.status, stdout, stderr }
    }

    pub(crate) fn run_with(&self, words: &[&str], input: &[u8]) -> Ran {
        let mut command = self.command(words);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        let output = child.wait_with_output().unwrap();
        let (stdout, stderr) = (output.stdout, String::from_utf8(output.stderr).unwrap());
        Ran { what: words.join(" "), status: output.status, stdout, stderr }
    }

    pub(crate) fn spawn(&self, words: &[&str]) -> Running {
        // What this test was started to ignore, as by a script's `&`, the tool would ignore as well.
        match ignored(std::process::id()) {
            0 => self.spawn_by(&[TOOL], words),
            _ => self.spawn_by(&["env", "--default-signal", TOOL], words),
        }
    }

    /// A program that is the tool, or becomes it.
    pub(crate) fn spawn_by(&self, program: &[&str], words: &[&str]) -> Running {
        let plain = self.command(words);
        let mut command = Command::new(program[0]);
        command.args(&program[1..]).args(words);
        command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.current_dir(plain.get_current_dir().unwrap());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Running::new(command.process_group(0).spawn().unwrap())
    }

    /// What a check says; it must be clean.
    pub(crate) fn is_whole(&self, name: &str) {
        self.run(&["check", name]).done();
    }

    /// Everything below a directory.
    pub(crate) fn tree(&self, name: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut open = vec![self.path(name)];
        while let Some(directory) = open.pop() {
            for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    open.push(entry.path());
                }
                found.push(entry.path());
            }
        }
        found
    }
}

/// What a finished command said.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) what: String,
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Ran {
    #[track_caller]
    fn ended(&self, code: i32) -> &Self {
        assert_eq!(self.status.code(), Some(code), "membus {}: {self:?}", self.what);
        self
    }

    /// Exit status 0 and nothing on standard error; gives standard output.
    #[track_caller]
    pub(crate) fn done(&self) -> String {
        self.ended(0);
        assert_eq!(self.stderr, "", "membus {}", self.what);
        self.text()
    }

    /// Exit status 1 and nothing on standard error; gives standard output.
    #[track_caller]
    pub(crate) fn absent(&self) -> String {
        self.ended(1);
        assert_eq!(self.stderr, "", "membus {}", self.what);
        self.text()
    }

    /// Exit status 1 and why, on one line.
    #[track_caller]
    pub(crate) fn refused(&self) -> &str {
        self.ended(1).complaint()
    }

    /// Exit status 2, one line on standard error, nothing on standard output.
    #[track_caller]
    pub(crate) fn failed(&self) -> &str {
        let complaint = self.ended(2).complaint();
        assert_eq!(self.text(), "", "membus {}", self.what);
        complaint
    }

    #[track_caller]
    pub(crate) fn complaint(&self) -> &str {
        let lines: Vec<_> = self.stderr.split_inclusive('\n').collect();
        assert_eq!(lines.len(), 1, "membus {}: {:?}", self.what, self.stderr);
        let line = self.stderr.strip_suffix('\n').and_then(|line| line.strip_prefix("membus: "));
        line.unwrap_or_else(|| panic!("membus {}: {:?}", self.what, self.stderr))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.stdout.clone()).unwrap()
    }

    /// Each line as a JSON object.
    #[track_caller]
    pub(crate) fn json(&self) -> Vec<Json> {
        self.ended(0);
        self.text().lines().map(json).collect()
    }
}

/// A line that must be one JSON object.
#[track_caller]
pub(crate) fn json(line: &str) -> Json {
    let value: Json = serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    assert!(value.is_object(), "{line}");
    value
}

/// A running command; killed when it is dropped.
pub(crate) struct Running {
    child: Child,
    lines: Receiver<String>,
    /// What it said on standard error so far, and who reads that.
    said: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Running {
    pub(crate) fn new(mut child: Child) -> Self {
        let (sender, lines) = channel();
        let stdout = child.stdout.take().unwrap();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let stderr = child.stderr.take().unwrap();
        let said = Arc::new(Mutex::new(String::new()));
        let to = Arc::clone(&said);
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                to.lock().unwrap().extend([line.as_str(), "\n"]);
            }
        });
        Self { child, lines, said, reader: Some(reader) }
    }

    /// The next line of its output; nothing at its end.
    #[track_caller]
    pub(crate) fn line(&self) -> Option<String> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("no line came"),
        }
    }

    /// The rest of its output.
    pub(crate) fn rest(&self) -> Vec<String> {
        std::iter::from_fn(|| self.line()).collect()
    }

    /// Reads until a line that begins like this; gives that line.
    #[track_caller]
    pub(crate) fn until(&self, begin: &str) -> String {
        loop {
            let line = self.line().unwrap_or_else(|| panic!("the end came before `{begin}`"));
            if line.starts_with(begin) {
                return line;
            }
        }
    }

    /// Waits until it has said this on standard error.
    #[track_caller]
    pub(crate) fn says(&self, text: &str) {
        eventually(text, || self.said.lock().unwrap().contains(text).then_some(()));
    }

    /// Waits until it has said this on standard error and hears SIGTERM, or has ended: whether it still runs.
    pub(crate) fn says_or_ends(&mut self, text: &str) -> bool {
        let (child, said) = (&mut self.child, &self.said);
        eventually(text, || {
            let hears = hears(child.id(), Signal::SIGTERM);
            match child.try_wait().unwrap() {
                Some(_) => Some(false),
                None => (hears && said.lock().unwrap().contains(text)).then_some(true),
            }
        })
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// To it and all that it started, as a terminal does.
    pub(crate) fn signal_all(&self, signal: Signal) {
        kill(Pid::from_raw(-(self.child.id() as i32)), signal).unwrap();
    }

    /// Waits for its end; gives its status and what it said on standard error.
    #[track_caller]
    pub(crate) fn end(mut self) -> (ExitStatus, String) {
        drop(self.child.stdin.take());
        let child = &mut self.child;
        let status = eventually("the end", || child.try_wait().unwrap());
        self.reader.take().unwrap().join().unwrap();
        let said = self.said.lock().unwrap().clone();
        (status, said)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Fails only for one that has ended.
        let _killed = self.child.kill();
        let _ended = self.child.wait();
    }
}

/// A mask of signals in what the kernel says of a process.
fn mask(pid: u32, name: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let mask = status.lines().find_map(|line| line.strip_prefix(name))?;
    u64::from_str_radix(mask.trim(), 16).ok()
}

/// Those of the signals that end a process which it ignores.
fn ignored(pid: u32) -> u64 {
    let ends = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM];
    let ends = ends.iter().fold(0, |mask, signal| mask | 1 << (*signal as i32 - 1));
    mask(pid, "SigIgn:").unwrap_or(0) & ends
}

/// Whether a process is the tool, and not yet to become it, and has a handler for a signal.
pub(crate) fn hears(pid: u32, signal: Signal) -> bool {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let caught = mask(pid, "SigCgt:").unwrap_or(0);
    name == "membus\n" && caught >> (signal as i32 - 1) & 1 == 1
}

/// Looks again and again until there is something, or patience ends.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "{what}: waited in vain");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Processes whose command line holds this path.
pub(crate) fn processes_with(path: &Path) -> Vec<u32> {
    let wanted = path.as_os_str().as_encoded_bytes();
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.windows(wanted.len().max(1)).any(|part| part == wanted)
    })
    .collect()
}
