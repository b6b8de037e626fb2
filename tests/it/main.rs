//! membus as its users have it: the public interface, real files in `/dev/shm`, real processes.
//!
//! | module | promise |
//! | --- | --- |
//! | `values` | what goes in comes out; limits, conditions, revisions, batches, time to live |
//! | `cells` | what is read again and again is what is there, whoever changes it and dies |
//! | `locks` | one holds what one can hold; the dead hold nothing, the lost write nothing |
//! | `kill` | whoever is killed when: nothing torn, lost or leaked, and the others go on |
//! | `watch` | no gap, no repeat, an honest `Lagged`, no lost wake-up |
//! | `messages` | each to whom it is for, by priority, as long as it is alive; callbacks |
//! | `queue` | each item is one live consumer's and is finished once; room, order, times to live |
//! | `environment` | stopped members, forks, `exec`, namespaces, many members, files that go away |
//! | `files` | each bad file has its own error; creators that die stop nobody |
//! | `space` | full is an error with the old value intact |
//! | `snapshots` | of one revision, whole or refused; a bus that is rebuilt goes on |
//! | `model` | any sequence of operations does what a map would; real time is respected |
//! | `metrics` | what was done is counted, whoever is killed, leaves or forks |
//! | `threads` | one handle, many threads |
//!
//! Each test says first which promise it keeps, and names the faults that were planted to see it fail.
//! Longer runs by the environment:
//!
//! | variable | what | default |
//! | --- | --- | --- |
//! | `MEMBUS_IT_SEED` | the seed of a randomised test, as it told it | a fresh one |
//! | `MEMBUS_IT_KILLS` | processes killed under load | 300 |
//! | `MEMBUS_IT_SOAK_SECONDS` | how long one bus is worked on and killed at | 8 |
//! | `MEMBUS_IT_LOCK_KILLS` | processes killed that hold locks or wait for them | 60 |
//! | `MEMBUS_IT_SLEEPS` | sleeps of watches | 20,000 |
//! | `MEMBUS_IT_OPERATIONS` | operations whose order is checked | 600,000 |
//! | `MEMBUS_IT_CREATORS` | creators killed, and destroyers | 100 |
//! | `MEMBUS_IT_ITEMS` | items that a group of a queue works off while it is killed | 4,000 |
//! | `MEMBUS_IT_COUNT_KILLS` | processes killed that count what they do | 40 |
//! | `MEMBUS_IT_RESTORE_KILLS` | processes killed that restore | 40 |
//! | `MEMBUS_IT_JOURNAL_KILLS` | writers and keepers killed beside a journal | 24 |
//! | `PROPTEST_CASES` | sequences of operations against the model | 2,000 |

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that can not go on has failed")]

mod cells;
mod environment;
mod files;
mod harness;
mod kill;
mod locks;
mod messages;
mod metrics;
mod model;
mod queue;
mod snapshots;
mod space;
mod threads;
mod values;
mod watch;

/// The other processes of the tests: this binary, run anew. Does nothing unless it is told a part.
#[test]
fn actor() {
    harness::part::play(&[
        ("writer", environment::stopped::writer),
        ("keeper", environment::stopped::keeper),
        ("fork_holder", environment::fork::holder),
        ("fork_orphan", environment::fork::orphan),
        ("fork_leaver", environment::fork::leaver),
        ("fork_crowd", environment::fork::crowd),
        ("fork_becomes", environment::fork::becomes),
        ("members_many", environment::members::many),
        ("members_come_and_go", environment::members::comes_and_goes),
        ("gone_user", environment::gone::user),
        ("gone_wanderer", environment::gone::wanderer),
        ("watch_sleeper", environment::gone::sleeper),
        ("watch_writer", watch::writer),
        ("watch_on_demand", watch::bells::on_demand),
        ("idle_crowd", watch::idle::crowd),
        ("sleep_half", watch::sleep::half),
        ("sleep_many", watch::sleep::sleeper),
        ("sleep_dier", watch::sleep::dier),
        ("cells_writer", cells::writer),
        ("cells_reader", cells::reader),
        ("cells_told", cells::told),
        ("locks_player", locks::player),
        ("locks_crowd", locks::crowd::crowd),
        ("load", kill::load::load),
        ("flood", messages::flood::publisher),
        ("metrics_worker", metrics::worker),
        ("takeover_waiter", kill::takeover::waiter),
        ("files_nobody", files::bad::nobody),
        ("files_creator", files::create::creator),
        ("files_destroyer", files::destroy::destroyer),
        ("space_neighbour", space::neighbour),
        ("snapshots_opener", snapshots::damaged::opener),
        ("snapshots_saver", snapshots::damaged::saver),
        ("restorer", snapshots::restore::restorer),
        ("journaling", snapshots::journal::journaling),
        ("one_line", snapshots::simple::one_line),
        ("order_client", model::order::client),
        ("queue_producer", queue::group::producer),
        ("queue_consumer", queue::group::consumer),
        ("queue_holder", queue::hands::holder),
        ("queue_forks", queue::hands::forks),
        ("native", environment::namespaces::native),
        ("limits_user", environment::limits::user),
    ]);
}
