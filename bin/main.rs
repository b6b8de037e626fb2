//! The command `membus`: a bus from the shell. Each command is a file of `commands`.
//!
//! Exit status 0: done; 1: absent, a condition that did not hold, the time ran out; 2: an error,
//! with one line on standard error; 128 and a signal's number: ended by it. A broken pipe is
//! success. Results go to standard output, all else to standard error.

mod commands;
mod error;
mod follow;
mod halt;
mod output;
mod place;
mod report;
mod tied;
mod tool;
mod units;
mod value;

use clap::Parser;
use commands::Args;
use error::{Failure, Outcome};
use output::say;
use std::io::{self, Write, stdout};
use std::process::ExitCode;

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(usage) => return explain(&usage),
    };
    let mut out = stdout().lock();
    let end = commands::run(&args, &mut out).and_then(|outcome| {
        out.flush()?;
        Ok(outcome)
    });
    match end {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Absent) => ExitCode::from(1),
        Ok(Outcome::Refused(why)) => {
            say(&why);
            ExitCode::from(1)
        }
        Ok(Outcome::Status(code, why)) => {
            if let Some(why) = why {
                say(&why);
            }
            ExitCode::from(code)
        }
        Err(error) if error.is_broken_pipe() => ExitCode::SUCCESS,
        Err(Failure::Interrupted(signal)) => {
            ExitCode::from(128_u8.saturating_add(u8::try_from(signal).unwrap_or(0)))
        }
        Err(error) => {
            say(&error.to_string());
            ExitCode::from(2)
        }
    }
}

/// Help and version on standard output; what is wrong with the command line on standard error.
fn explain(usage: &clap::Error) -> ExitCode {
    if !usage.use_stderr() {
        return match usage.print() {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                say(&Failure::Output(error).to_string());
                ExitCode::from(2)
            }
            _ => ExitCode::SUCCESS,
        };
    }
    let text = usage.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    // Nobody is left to tell when standard error is gone too.
    let _told = write!(io::stderr().lock(), "membus: {text}");
    ExitCode::from(2)
}
