//! A worker: claims pieces, counts their words, adds the counts to the bus.
//!
//! Whoever dies when: a claim is an ephemeral key, so it goes with its worker; the counts, the mark
//! and the end of the claim are one batch that holds only while the claim is this worker's own. So a
//! piece is counted once, or not yet.
//!
//! A worker ends when every piece has its mark, or when its standard input does: the demo closes it
//! to say so, and the kernel closes it when the demo is gone.

use super::job::{CLAIM, COUNT, DONE, Mark, Piece, Site, TODO, behind, key};
use super::plan::changed;
use super::words::count_words;
use crate::error::{Failure, Outcome};
use crate::tool::Tool;
use membus::{Batch, BatchError, Bus, ReadBus, Revision, Watch, WriteError};
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write, stdin};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long a worker without a piece waits for one to come free.
const IDLE: Duration = Duration::from_millis(50);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    site: Site,
    #[arg(long)]
    label: String,
    /// Where in the list of pieces it begins, in thousandths
    #[arg(long, default_value_t = 0)]
    begin: usize,
    /// Milliseconds that each piece takes longer
    #[arg(long, default_value_t = 0)]
    pace: u64,
}

/// A piece that waits for its mark.
type Open = (String, Piece);

impl Args {
    pub(crate) fn run(&self, _tool: &Tool, _out: &mut impl Write) -> Result<Outcome, Failure> {
        let stop = stop_at_end_of_input()?;
        let bus = self.site.options(&self.label).attach_at(&self.site.bus)?;
        // Claims that come free end a wait.
        let mut freed = bus.watch_from(CLAIM, membus::Cursor::NOW)?;
        let mut open = open_pieces(&bus)?;
        let begin = open.len() * self.begin.min(1000) / 1000;
        open.rotate_left(begin);
        while !open.is_empty() {
            let before = open.len();
            let mut left = Vec::new();
            for (id, piece) in open {
                if stop.load(Ordering::Relaxed) {
                    return Ok(Outcome::Done);
                }
                if !self.take(&bus, &id, &piece)? {
                    left.push((id, piece));
                }
            }
            if left.len() == before {
                wait(&mut freed)?;
            }
            open = left;
        }
        Ok(Outcome::Done)
    }

    /// Counts a piece, if nobody did or is about to. Gives whether it has its mark.
    fn take(&self, bus: &Bus, id: &str, piece: &Piece) -> Result<bool, Failure> {
        let (claim, done) = (key(CLAIM, id), key(DONE, id));
        if bus.contains(&done)? {
            return Ok(true);
        }
        let claimed = match bus.put(&claim).if_absent().ephemeral().set(&self.label) {
            Ok(claimed) => claimed,
            Err(WriteError::Conflict { .. }) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        // Its mark may have come since the first look, but not since the claim.
        if bus.contains(&done)? {
            bus.delete(&claim)?;
            return Ok(true);
        }
        let text = read(piece)?;
        let mut counts = HashMap::new();
        let words = count_words(&text, &mut counts);
        std::thread::sleep(Duration::from_millis(self.pace));
        let batch = batch(&claim, claimed, &done, Mark { bytes: piece.len, words }, &counts)?;
        match bus.commit(&batch) {
            Ok(_) => Ok(true),
            // Not this worker's claim any more, so not its piece.
            Err(BatchError { source: WriteError::Conflict { .. }, .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// The mark, the counts and the end of the claim, all or none.
fn batch(
    claim: &str,
    claimed: Revision,
    done: &str,
    mark: Mark,
    counts: &HashMap<String, u64>,
) -> Result<Batch, Failure> {
    let mut batch = Batch::new();
    batch.put(done).if_absent().set(&mark)?;
    batch.put(claim).if_revision(claimed).delete();
    for (word, count) in counts {
        let by = i64::try_from(*count).unwrap_or(i64::MAX);
        batch.add(key(COUNT, word), by);
    }
    Ok(batch)
}

fn open_pieces(bus: &Bus) -> Result<Vec<Open>, Failure> {
    let mut open = Vec::new();
    for found in bus.scan::<Piece>(TODO) {
        let (key, piece) = found?;
        if let Some(id) = behind(TODO, &key) {
            open.push((id.to_owned(), piece));
        }
    }
    open.sort_unstable_by(|one, two| one.0.cmp(&two.0));
    Ok(open)
}

fn read(piece: &Piece) -> Result<Vec<u8>, Failure> {
    let path = piece.path();
    let file = File::open(path).map_err(Failure::io("opening", path))?;
    let mut text = vec![0; usize::try_from(piece.len).unwrap_or(usize::MAX)];
    file.read_exact_at(&mut text, piece.start).map_err(|_| changed(path))?;
    Ok(text)
}

/// Until something happens to a claim, but not for long.
fn wait(freed: &mut Watch) -> Result<(), Failure> {
    freed.recv_timeout(IDLE)?;
    while freed.try_recv()?.is_some() {}
    Ok(())
}

/// Becomes true when standard input ends.
fn stop_at_end_of_input() -> Result<Arc<AtomicBool>, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    let read = move || {
        // An error of a pipe is an end too.
        let _end = stdin().lock().read_to_end(&mut Vec::new());
        told.store(true, Ordering::Relaxed);
    };
    let spawned = std::thread::Builder::new().name("input".into()).spawn(read);
    spawned.map_err(|error| Failure::Demo(format!("starting a thread: {error}")))?;
    Ok(stop)
}
