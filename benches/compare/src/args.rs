//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use crate::engines::{Fail, Name};
use crate::figure::Pass;

/// Printed for `--help`.
pub(crate) const HELP: &str = "\
membus beside other stores, on the same data in the same run

  --keys N          keys stored (default 1000000)
  --value A[,B]     value sizes in bytes (default 64,1024)
  --only WORD[,..]  stores (membus dashmap rwlock lmdb redis) and figures (get-uniform get-zipf
                    get-miss set-uniform set-zipf add two); two is the figures of two processes
  --two-ms N        milliseconds of one figure of two processes (default 1000)
  --rounds N        rounds whose median counts (default 5)
  --quick           100000 keys, 3 rounds, short figures of two processes
  --json            the report as JSON
  --enforce         end with status 1 when a limit that is due is missed
";

/// The word in `--only` for the figures of two processes.
const TWO: &str = "two";

/// What to measure.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Keys stored.
    pub(crate) keys: u32,
    /// Value sizes in bytes.
    pub(crate) value_sizes: Vec<usize>,
    /// Rounds, of which the median counts.
    pub(crate) rounds: usize,
    /// Time of one figure of two processes.
    pub(crate) two_time: Duration,
    /// Stores to measure.
    pub(crate) engines: Vec<Name>,
    /// Figures to take of each.
    pub(crate) passes: Vec<Pass>,
    /// Whether two processes are measured.
    pub(crate) with_two: bool,
    /// Whether the report is JSON.
    pub(crate) json: bool,
    /// Whether a missed limit shows in the exit status.
    pub(crate) enforce: bool,
}

impl Plan {
    /// The command line for one size of this plan, answered in JSON.
    pub(crate) fn to_words(&self, value_size: usize, with_two: bool) -> Vec<String> {
        let engines = self.engines.iter().map(|name| name.word());
        let passes = self.passes.iter().map(|pass| pass.word());
        let only: Vec<&str> = engines.chain(passes).chain(with_two.then_some(TWO)).collect();
        [
            ["--keys", &self.keys.to_string()],
            ["--value", &value_size.to_string()],
            ["--rounds", &self.rounds.to_string()],
            ["--two-ms", &self.two_time.as_millis().to_string()],
            ["--only", &only.join(",")],
        ]
        .into_iter()
        .flatten()
        .chain(["--json"])
        .map(str::to_owned)
        .collect()
    }
}

/// One of the processes that the bench starts.
#[derive(Debug, Clone)]
pub(crate) struct Worker {
    /// The store to join.
    pub(crate) engine: Name,
    /// Where it lies.
    pub(crate) directory: PathBuf,
    /// Keys stored.
    pub(crate) keys: u32,
    /// Value size in bytes.
    pub(crate) value_size: usize,
    /// Reads in a hundred operations.
    pub(crate) reads: u32,
    /// The core to stay on.
    pub(crate) core: usize,
    /// How long to run.
    pub(crate) time: Duration,
}

/// What the command line asks for.
#[derive(Debug)]
pub(crate) enum Asked {
    /// The help text.
    Help,
    /// A run.
    Run(Plan),
    /// To be a process of a run.
    Work(Worker),
}

/// The first word of a worker's command line.
const WORKER: &str = "worker";

impl Worker {
    /// The command line that makes this worker.
    pub(crate) fn to_words(&self) -> Vec<String> {
        vec![
            WORKER.to_owned(),
            self.engine.word().to_owned(),
            self.directory.display().to_string(),
            self.keys.to_string(),
            self.value_size.to_string(),
            self.reads.to_string(),
            self.core.to_string(),
            self.time.as_millis().to_string(),
        ]
    }

    fn parse(words: &[String]) -> Result<Self, Fail> {
        let [engine, directory, keys, value_size, reads, core, time] = words else {
            return Err("a worker takes seven words".into());
        };
        Ok(Self {
            engine: Name::parse(engine).ok_or("no such store")?,
            directory: PathBuf::from(directory),
            keys: keys.parse()?,
            value_size: value_size.parse()?,
            reads: reads.parse()?,
            core: core.parse()?,
            time: Duration::from_millis(time.parse()?),
        })
    }
}

/// Reads the command line, its first word left out.
pub(crate) fn parse(words: &[String]) -> Result<Asked, Fail> {
    if words.first().is_some_and(|word| word == WORKER) {
        return Ok(Asked::Work(Worker::parse(&words[1..])?));
    }
    let mut plan = Plan {
        keys: 1_000_000,
        value_sizes: vec![64, 1024],
        rounds: 5,
        two_time: Duration::from_millis(1000),
        engines: Name::ALL.to_vec(),
        passes: Pass::ALL.to_vec(),
        with_two: true,
        json: false,
        enforce: false,
    };
    if words.iter().any(|word| word == "--quick") {
        (plan.keys, plan.rounds, plan.two_time) = (100_000, 3, Duration::from_millis(300));
    }
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        let mut argument = || rest.next().ok_or_else(|| format!("{word} wants an argument"));
        match word.as_str() {
            "--help" | "-h" => return Ok(Asked::Help),
            "--quick" => {}
            "--json" => plan.json = true,
            "--enforce" => plan.enforce = true,
            // `cargo bench` adds this to the words of every bench.
            "--bench" => {}
            "--keys" => plan.keys = argument()?.parse()?,
            "--rounds" => plan.rounds = argument()?.parse()?,
            "--two-ms" => plan.two_time = Duration::from_millis(argument()?.parse()?),
            "--only" => narrow(&mut plan, argument()?)?,
            "--value" => {
                let sizes = argument()?.split(',').map(str::parse);
                plan.value_sizes = sizes.collect::<Result<_, _>>()?;
            }
            other => return Err(format!("unknown option {other} (--help lists them)").into()),
        }
    }
    if plan.keys < 2 || plan.rounds == 0 || plan.value_sizes.is_empty() {
        return Err("there must be two keys, a round and a value size at least".into());
    }
    Ok(Asked::Run(plan))
}

/// Keeps the named stores, when stores are named, and the named figures, when figures are.
fn narrow(plan: &mut Plan, words: &str) -> Result<(), Fail> {
    let (mut engines, mut passes, mut two) = (Vec::new(), Vec::new(), false);
    for word in words.split(',') {
        match (Name::parse(word), Pass::parse(word)) {
            (Some(name), _) => engines.push(name),
            (None, Some(pass)) => passes.push(pass),
            (None, None) if word == TWO => two = true,
            (None, None) => return Err(format!("no store and no figure is named {word}").into()),
        }
    }
    if two || !passes.is_empty() {
        (plan.passes, plan.with_two) = (passes, two);
    }
    if !engines.is_empty() {
        plan.engines = engines;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(line: &str) -> Plan {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        match parse(&words).unwrap() {
            Asked::Run(plan) => plan,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_narrows_what_it_names() {
        let narrowed = plan("--only membus,get-zipf --value 64");
        assert_eq!(narrowed.engines, [Name::Membus]);
        assert_eq!(narrowed.passes, [Pass::GetZipf]);
        assert!(!narrowed.with_two);
        assert_eq!(plan("--only lmdb").passes.len(), Pass::ALL.len());
        assert!(parse(&["--only".to_owned(), "sqlite".to_owned()]).is_err());
    }

    #[test]
    fn a_worker_survives_its_command_line() {
        let worker = Worker {
            engine: Name::Lmdb,
            directory: PathBuf::from("/dev/shm/x"),
            keys: 7,
            value_size: 64,
            reads: 95,
            core: 1,
            time: Duration::from_millis(300),
        };
        let Asked::Work(again) = parse(&worker.to_words()).unwrap() else { panic!("a run") };
        assert_eq!(again.to_words(), worker.to_words());
    }
}
