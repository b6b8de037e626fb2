//! The commands, one file each: its arguments and its `run`.

mod add;
mod backup;
mod bar;
mod batch;
mod buses;
mod check;
mod clear;
mod convert;
mod create;
mod delete;
mod demo;
mod destroy;
mod doctor;
mod export;
mod get;
mod health;
mod import;
mod info;
mod keep;
mod keys;
mod lock;
mod members;
mod metrics;
mod publish;
mod queue;
mod restore;
mod scan;
mod set;
mod snapshot;
mod subscribe;
mod sync;
mod tied;
mod top;
mod ttl;
mod wait;
mod watch;

use crate::error::{Failure, Outcome};
use crate::output::may_colour;
use crate::tool::Tool;
use std::io::Write;
use std::path::PathBuf;

/// A shared-memory state bus for the processes of this host.
///
/// NAME is a bus in the directory of buses, or a path when it contains a `/`. Only `create`,
/// `keep`, `restore` and `import` make a bus. Exit status 0: done; 1: absent, or the condition did not hold, or the time
/// ran out; 2: an error.
#[derive(Debug, clap::Parser)]
#[command(name = "membus", version, max_term_width = 100)]
pub(crate) struct Args {
    /// Directory of all buses [default: $MEMBUS_DIR, else /dev/shm/membus-UID]
    #[arg(long, global = true, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// One JSON object a line
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

/// The commands and their order in the help text.
macro_rules! commands {
    ($($(#[$note:meta])* $name:ident($module:ident)),* $(,)?) => {
        #[derive(Debug, clap::Subcommand)]
        enum Command {
            $($(#[$note])* $name($module::Args),)*
        }

        /// Runs what was asked for.
        pub(crate) fn run(args: &Args, out: &mut impl Write) -> Result<Outcome, Failure> {
            let directory = args.dir.clone();
            let tool = Tool { directory, json: args.json, colours: may_colour() && !args.json };
            match &args.command {
                $(Command::$name(command) => command.run(&tool, out),)*
            }
        }
    };
}

use demo::{watcher as demo_watcher, worker as demo_worker};

commands! {
    Create(create),
    Set(set),
    Get(get),
    Delete(delete),
    Clear(clear),
    Keys(keys),
    Scan(scan),
    Add(add),
    Batch(batch),
    Ttl(ttl),
    Watch(watch),
    Wait(wait),
    Publish(publish),
    Subscribe(subscribe),
    Lock(lock),
    Queue(queue),
    Sync(sync),
    Snapshot(snapshot),
    Backup(backup),
    Restore(restore),
    Convert(convert),
    Export(export),
    Import(import),
    Buses(buses),
    Info(info),
    Members(members),
    Metrics(metrics),
    Health(health),
    Top(top),
    Check(check),
    Doctor(doctor),
    Keep(keep),
    Destroy(destroy),
    Demo(demo),
    #[command(hide = true)]
    Tied(tied),
    #[command(hide = true)]
    DemoWorker(demo_worker),
    #[command(hide = true)]
    DemoWatcher(demo_watcher),
}
