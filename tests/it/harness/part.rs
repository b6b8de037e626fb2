//! The other side of an [`Actor`](super::actor::Actor): what a child process does.
//!
//! The test binary is run anew with one test, `actor`, and `MEMBUS_IT_PART` names what it plays. A line of
//! the protocol begins with `@` on standard output; on standard input come lines for the part, and
//! its end means: end.

use super::Place;
use membus::{Bus, Options};
use std::collections::VecDeque;
use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// How long a part may go on after its standard input ended.
const GRACE: Duration = Duration::from_secs(20);

/// What came on standard input.
#[derive(Default)]
struct Lines {
    lines: VecDeque<String>,
    over: bool,
}

/// The same, and word of it.
type Heard = (Mutex<Lines>, Condvar);

/// A part that is being played.
pub(crate) struct Part {
    pub(crate) place: Place,
    heard: Arc<Heard>,
}

/// How a part is played.
type Play = fn(&Part);

/// Plays the part that the environment names; nothing when it names none.
pub(crate) fn play(parts: &[(&str, Play)]) {
    let Ok(name) = std::env::var("MEMBUS_IT_PART") else { return };
    let (_, run) = parts.iter().find(|part| part.0 == name).unwrap_or_else(|| panic!("{name}?"));
    let heard = Arc::<Heard>::default();
    let listener = Arc::clone(&heard);
    std::thread::spawn(move || listen(&listener));
    // At once: while a backtrace is written the test may kill it, and take it for one that went on.
    let tells = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        tells(panic);
        super::os::exit_at_once(101);
    }));
    let place = Place::of(PathBuf::from(std::env::var_os("MEMBUS_IT_PLACE").unwrap()));
    // What the test runner has begun to write is a line of its own.
    std::io::stdout().write_all(b"\n").unwrap();
    run(&Part { place, heard });
}

fn listen((heard, changed): &Heard) {
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        heard.lock().unwrap().lines.push_back(line);
        changed.notify_all();
    }
    heard.lock().unwrap().over = true;
    changed.notify_all();
    std::thread::sleep(GRACE);
    super::os::exit_at_once(3);
}

/// Says a line of the part that this process plays, from any of its threads.
pub(crate) fn say(line: &str) {
    // The test is gone: so is the reason to go on.
    if std::io::stdout().write_all(format!("@{line}\n").as_bytes()).is_err() {
        super::os::exit_at_once(4);
    }
}

impl Part {
    /// An argument.
    pub(crate) fn word(&self, name: &str) -> String {
        std::env::var(format!("MEMBUS_IT_ARG_{name}")).unwrap_or_else(|_| panic!("no {name}"))
    }
    pub(crate) fn number(&self, name: &str) -> u64 {
        self.word(name).parse().unwrap()
    }
    /// Whether there is such an argument.
    pub(crate) fn has(&self, name: &str) -> bool {
        std::env::var_os(format!("MEMBUS_IT_ARG_{name}")).is_some()
    }

    /// Says a line, at once.
    pub(crate) fn say(&self, line: &str) {
        say(line);
    }

    /// Whether the test wants this part to end.
    pub(crate) fn is_over(&self) -> bool {
        self.heard.0.lock().unwrap().over
    }

    /// The next line, waiting for it; nothing at the end.
    pub(crate) fn hear(&self) -> Option<String> {
        let (heard, changed) = &*self.heard;
        let heard = heard.lock().unwrap();
        let mut heard = changed.wait_while(heard, |h| h.lines.is_empty() && !h.over).unwrap();
        heard.lines.pop_front()
    }

    /// The next line, when there is one.
    pub(crate) fn overhear(&self) -> Option<String> {
        self.heard.0.lock().unwrap().lines.pop_front()
    }

    /// As the part is asked to: `keeper` and `deadline_ms` are arguments, `label` too.
    pub(crate) fn options(&self) -> Options {
        let mut options = self.place.options().keeper(self.has("keeper"));
        if self.has("label") {
            options = options.label(&self.word("label"));
        }
        if self.has("deadline_ms") {
            options = options.deadline(Duration::from_millis(self.number("deadline_ms")));
        }
        options
    }

    pub(crate) fn attach(&self) -> Bus {
        self.options().attach_at(self.place.bus()).unwrap()
    }
}
