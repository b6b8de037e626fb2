//! The processes of the demo: workers that come and go, and the watcher. None outlives the demo: what
//! is still there when a value here is dropped is killed and waited for.

use super::job::Site;
use super::watcher::Latency;
use crate::error::Failure;
use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// How long a process gets to do what it was told.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long the watcher gets to clear its bar.
const FAREWELL: Duration = Duration::from_secs(1);
/// How often a process is asked whether it ended.
const LOOK: Duration = Duration::from_millis(2);

/// This program, as a process of the demo.
fn command(verb: &str, site: &Site) -> Command {
    let mut command = crate::tied::this_program();
    command.arg(verb).arg("--bus").arg(&site.bus).arg("--store").arg(&site.store);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

fn spawn(command: &mut Command, label: &str) -> Result<Child, Failure> {
    command.spawn().map_err(|error| Failure::Demo(format!("starting {label}: {error}")))
}

/// A process that is killed with its owner.
#[derive(Debug)]
struct Process {
    label: String,
    child: Child,
}

impl Process {
    /// Waits for its end, but not for ever.
    fn wait(&mut self) -> Result<(), Failure> {
        let begun = Instant::now();
        loop {
            if self.is_over()? {
                return Ok(());
            }
            if begun.elapsed() > PATIENCE {
                return Err(Failure::Demo(format!("{} does not end", self.label)));
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Whether it ended well; anything but a good end is a failure.
    fn is_over(&mut self) -> Result<bool, Failure> {
        let ended = self.child.try_wait();
        let ended = ended.map_err(|error| Failure::Demo(format!("{}: {error}", self.label)))?;
        match ended {
            None => Ok(false),
            Some(status) if status.success() => Ok(true),
            Some(status) => {
                let mut said = String::new();
                if let Some(stderr) = &mut self.child.stderr {
                    // Without its words the status has to do.
                    let _read = stderr.read_to_string(&mut said);
                }
                let said = said.trim();
                Err(Failure::Demo(format!("{} ended with {status}: {said}", self.label)))
            }
        }
    }

    fn kill(&mut self) {
        // Fails only for a process that has ended, which is what was wanted.
        let _killed = self.child.kill();
        let _ended = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The workers.
#[derive(Debug)]
pub(super) struct Crew {
    site: Site,
    pace: Duration,
    workers: Vec<Process>,
    hired: u32,
    pub(super) kills: u32,
}

impl Crew {
    pub(super) fn new(site: &Site, pace: Duration) -> Self {
        Self { site: site.clone(), pace, workers: Vec::new(), hired: 0, kills: 0 }
    }

    /// Starts one more worker.
    pub(super) fn hire(&mut self) -> Result<(), Failure> {
        self.hired += 1;
        let label = format!("worker-{}", self.hired);
        let mut command = command("demo-worker", &self.site);
        command.arg("--label").arg(&label);
        command.arg("--begin").arg(fastrand::u16(0..1000).to_string());
        command.arg("--pace").arg(self.pace.as_millis().to_string());
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let child = spawn(&mut command, &label)?;
        self.workers.push(Process { label, child });
        Ok(())
    }

    /// Kills a worker, if one is there: at random among those who are at work, else among all.
    pub(super) fn kill_one(&mut self, at_work: &HashSet<String>) -> bool {
        let all = 0..self.workers.len();
        let busy = |index: &usize| {
            self.workers.get(*index).is_some_and(|worker| at_work.contains(&worker.label))
        };
        let mut chosen: Vec<usize> = all.clone().filter(busy).collect();
        if chosen.is_empty() {
            chosen = all.collect();
        }
        let Some(index) = fastrand::choice(chosen) else { return false };
        drop(self.workers.swap_remove(index));
        self.kills += 1;
        true
    }

    /// Lets those go who have ended; a bad end is a failure.
    pub(super) fn look(&mut self) -> Result<(), Failure> {
        let mut index = 0;
        while let Some(worker) = self.workers.get_mut(index) {
            if worker.is_over()? {
                drop(self.workers.swap_remove(index));
            } else {
                index += 1;
            }
        }
        Ok(())
    }

    /// Tells all to end after the piece they have, and waits for it.
    pub(super) fn dismiss(&mut self) -> Result<(), Failure> {
        for worker in &mut self.workers {
            drop(worker.child.stdin.take());
        }
        for worker in &mut self.workers {
            worker.wait()?;
        }
        self.workers.clear();
        Ok(())
    }
}

/// The watcher.
#[derive(Debug)]
pub(super) struct Watcher {
    process: Process,
    answers: Receiver<String>,
}

impl Watcher {
    pub(super) fn start(site: &Site, bytes: u64, pieces: usize) -> Result<Self, Failure> {
        let mut command = command("demo-watcher", site);
        command.arg("--bytes").arg(bytes.to_string());
        command.arg("--pieces").arg(pieces.to_string());
        let label = "the watcher".to_owned();
        let mut process = Process { child: spawn(&mut command, &label)?, label };
        let stdout = process.child.stdout.take();
        let stdout = stdout.ok_or_else(|| Failure::Demo("the watcher has no output".to_owned()))?;
        let (sender, answers) = channel();
        let read = move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        };
        let spawned = std::thread::Builder::new().name("watcher".into()).spawn(read);
        spawned.map_err(|error| Failure::Demo(format!("starting a thread: {error}")))?;
        Ok(Self { process, answers })
    }

    /// Says something to the watcher and waits for its answer.
    pub(super) fn tell(&mut self, word: &str) -> Result<String, Failure> {
        if let Some(stdin) = &mut self.process.child.stdin {
            // A watcher that is gone is found out below.
            let _told = writeln!(stdin, "{word}");
        }
        match self.answers.recv_timeout(PATIENCE) {
            Ok(answer) => Ok(answer),
            Err(RecvTimeoutError::Timeout) => {
                Err(Failure::Demo(format!("the watcher does not {word}")))
            }
            Err(RecvTimeoutError::Disconnected) => {
                self.process.wait()?;
                Err(Failure::Demo("the watcher has left".to_owned()))
            }
        }
    }

    /// Ends it; gives what it measured.
    pub(super) fn end(mut self) -> Result<Latency, Failure> {
        let answer = self.tell("end")?;
        self.process.wait()?;
        serde_json::from_str(&answer)
            .map_err(|error| Failure::Demo(format!("the watcher says {answer}: {error}")))
    }
}

impl Drop for Watcher {
    /// Lets it clear its bar; that it ends is seen to after this.
    fn drop(&mut self) {
        if let Some(stdin) = &mut self.process.child.stdin {
            // One that has ended already needs no word.
            let _told = writeln!(stdin, "end");
        }
        let begun = Instant::now();
        while begun.elapsed() < FAREWELL && self.process.is_over().is_ok_and(|is_over| !is_over) {
            std::thread::sleep(LOOK);
        }
    }
}
