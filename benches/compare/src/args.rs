//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use crate::engines::{Fail, Name};
use crate::figure::Pass;
use crate::role::{self, Role};

/// Printed for `--help`.
pub(crate) const HELP: &str = "\
membus beside other stores, on the same data in the same run

  --keys N          keys stored (default 1000000)
  --value A[,B]     value sizes in bytes (default 64,1024)
  --only WORD[,..]  stores (membus dashmap rwlock lmdb redis) and figures (get-uniform get-zipf
                    get-miss set-uniform set-zipf add two cell wake owners watches snapshot);
                    two is the figures of two processes, cell those of reading one value, wake
                    those of waking another, owners what a killed one leaves, watches what a
                    set costs beside watches of other keys, snapshot saving and coming back
  --disk DIR        where snapshots go: a directory of a real disk (default beside this program)
  --two-ms N        milliseconds of one figure of two processes (default 1000)
  --rounds N        rounds whose median counts (default 5; more, where they are short)
  --quick           100000 keys, 3 rounds, short figures of two processes
  --json            the report as JSON
  --enforce         end with status 1 when a limit that is due is missed
";

/// Figures that are no passes over all keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Two processes with one store.
    Two,
    /// One value that is read again and again.
    Cell,
    /// One process that wakes another.
    Wake,
    /// What a killed process leaves to the others.
    Owners,
    /// A writer beside watches of keys that it does not write.
    Watches,
    /// What is saved onto a disk, and comes back.
    Snapshot,
}

impl Part {
    const ALL: [Self; 6] =
        [Self::Two, Self::Cell, Self::Wake, Self::Owners, Self::Watches, Self::Snapshot];

    /// The word for it in `--only`.
    fn word(self) -> &'static str {
        match self {
            Self::Two => "two",
            Self::Cell => "cell",
            Self::Wake => "wake",
            Self::Owners => "owners",
            Self::Watches => "watches",
            Self::Snapshot => "snapshot",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|part| part.word() == word)
    }
}

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
    /// What else to measure.
    pub(crate) parts: Vec<Part>,
    /// Where snapshots go, when it was said.
    pub(crate) disk: Option<PathBuf>,
    /// Whether the report is JSON.
    pub(crate) json: bool,
    /// Whether a missed limit shows in the exit status.
    pub(crate) enforce: bool,
}

impl Plan {
    /// Whether a part is asked for.
    pub(crate) fn has(&self, part: Part) -> bool {
        self.parts.contains(&part)
    }

    /// Rounds of what others disturb much.
    pub(crate) fn more_rounds(&self) -> usize {
        2 * self.rounds + 1
    }

    /// Rounds that are shorter than a turn of the scheduler, so that others who run meanwhile do
    /// not lengthen each of them.
    pub(crate) fn short_rounds(&self) -> usize {
        20 * self.rounds + 1
    }

    /// The command line for one size of this plan, answered in JSON.
    pub(crate) fn to_words(&self, value_size: usize, with_two: bool) -> Vec<String> {
        let engines = self.engines.iter().map(|name| name.word());
        let passes = self.passes.iter().map(|pass| pass.word());
        let only: Vec<&str> =
            engines.chain(passes).chain(with_two.then_some(Part::Two.word())).collect();
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

/// What the command line asks for.
#[derive(Debug)]
pub(crate) enum Asked {
    /// The help text.
    Help,
    /// A run.
    Run(Plan),
    /// To be a process of a run.
    Part(Role),
}

/// Reads the command line, its first word left out.
pub(crate) fn parse(words: &[String]) -> Result<Asked, Fail> {
    if words.first().is_some_and(|word| word == role::PART) {
        return Ok(Asked::Part(Role::parse(&words[1..])?));
    }
    let mut plan = Plan {
        keys: 1_000_000,
        value_sizes: vec![64, 1024],
        rounds: 5,
        two_time: Duration::from_millis(1000),
        engines: Name::ALL.to_vec(),
        passes: Pass::ALL.to_vec(),
        parts: Part::ALL.to_vec(),
        disk: None,
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
            "--disk" => plan.disk = Some(PathBuf::from(argument()?)),
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
    let (mut engines, mut passes, mut parts) = (Vec::new(), Vec::new(), Vec::new());
    for word in words.split(',') {
        match (Name::parse(word), Pass::parse(word), Part::parse(word)) {
            (Some(name), ..) => engines.push(name),
            (_, Some(pass), _) => passes.push(pass),
            (.., Some(part)) => parts.push(part),
            (None, None, None) => {
                return Err(format!("no store and no figure is named {word}").into());
            }
        }
    }
    if !parts.is_empty() || !passes.is_empty() {
        (plan.passes, plan.parts) = (passes, parts);
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
        assert_eq!(narrowed.parts, []);
        assert_eq!(plan("--only wake,two").parts, [Part::Wake, Part::Two]);
        assert_eq!(plan("--only wake,two").passes, []);
        let snapshot = plan("--only snapshot --disk /mnt");
        assert_eq!((snapshot.parts, snapshot.disk), (vec![Part::Snapshot], Some("/mnt".into())));
        assert_eq!(plan("--only lmdb").passes.len(), Pass::ALL.len());
        assert!(parse(&["--only".to_owned(), "sqlite".to_owned()]).is_err());
    }
}
