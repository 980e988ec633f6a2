//! Programs that die with the process that started them, however that one ends.
//!
//! A process that is killed runs no destructor: its agents and databases would go on for ever. So the kernel is asked:
//! `setpriv` (util-linux) asks for a SIGKILL when its parent dies, and then becomes the program, whose id is the same. To
//! the kernel the parent is the thread that started it. Threads of tests and runtimes end early, so one thread that lasts
//! as long as the process starts all of these programs.
//!
//! A parent that dies before `setpriv` has asked is not heard of any more. So a shell stands between the two: it compares its
//! parent with the one that was to be, and becomes the program only if that one still lives.
//!
//! What such a program starts itself is not tied. PostgreSQL's processes end with their server. Where there is no such
//! habit (a shell, a namespace) the caller has to see to it.

use std::ffi::OsStr;
use std::io;
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::sync::mpsc::{self, Sender};

use tokio::runtime::Handle;

/// The words that stand before a program's own on a command line that runs it tied, but for the moment before `setpriv`
/// has asked. They are for who can give a list of words only.
pub const WORDS: [&str; 4] = ["setpriv", "--pdeathsig", "KILL", "--"];

type Work = Box<dyn FnOnce() + Send>;

/// A command that runs `program` tied, once it is started by [`start`] or [`spawn`].
pub fn command(program: impl AsRef<OsStr>) -> Command {
    child_of(std::process::id(), program.as_ref())
}

/// Runs only as a child of the process `parent`: where that one has died, something else is its parent by then.
fn child_of(parent: u32, program: &OsStr) -> Command {
    let [setpriv, arguments @ ..] = WORDS;
    let mut command = Command::new(setpriv);
    command.args(arguments).args(["sh", "-c", r#"test "$PPID" = "$0" && exec "$@""#]);
    command.arg(parent.to_string()).arg(program);
    command
}

/// The same program with the same arguments, environment and folder, tied.
#[must_use]
pub fn like(other: &Command) -> Command {
    let mut tied = command(other.get_program());
    tied.args(other.get_args());
    for (name, value) in other.get_envs() {
        match value {
            Some(value) => tied.env(name, value),
            None => tied.env_remove(name),
        };
    }
    if let Some(folder) = other.get_current_dir() {
        tied.current_dir(folder);
    }
    tied
}

/// Starts a command of [`command`] or [`like`].
///
/// # Errors
/// When it cannot be started. A program that is not there ends at once with 127 instead.
pub fn start(mut command: Command) -> io::Result<Child> {
    on_the_lasting_thread(move || command.spawn())
}

/// The same within tokio's runtime.
///
/// # Errors
/// As [`start`].
pub fn spawn(mut command: tokio::process::Command) -> io::Result<tokio::process::Child> {
    let runtime = Handle::current();
    on_the_lasting_thread(move || {
        let _entered = runtime.enter();
        command.spawn()
    })
}

fn on_the_lasting_thread<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    static LASTING: OnceLock<Option<Sender<Work>>> = OnceLock::new();
    let lasting = LASTING.get_or_init(|| {
        let (sender, receiver) = mpsc::channel::<Work>();
        let run = move || receiver.into_iter().for_each(|work| work());
        std::thread::Builder::new().name("starts programs".to_owned()).spawn(run).ok().map(|_| sender)
    });
    let gone = || io::Error::other("there is no thread that starts programs");
    let (done, result) = mpsc::channel();
    let work: Work = Box::new(move || {
        // The caller waits below.
        let _heard = done.send(work());
    });
    lasting.as_ref().ok_or_else(gone)?.send(work).map_err(|_| gone())?;
    result.recv().map_err(|_| gone())?
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::process::Stdio;
    use std::time::{Duration, Instant};

    use rustix::process::Pid;

    use super::*;
    use crate::testkit::postgres::Postgres;
    use crate::testkit::proc_stat::{Stat, tree_of};

    /// Names what a run of this program is to start, as a process of its own that is killed.
    const STARTER: &str = "BRIDGE_TEST_STARTS";

    /// Not a test of its own: with the variable it starts something, tells its id and waits to be killed.
    #[tokio::test]
    async fn a_starter_starts_what_it_is_told_and_waits() {
        match std::env::var(STARTER).as_deref() {
            Ok("program") => {
                let mut sleep = command("sleep");
                sleep.arg("600");
                // By a thread that has ended when the id is told.
                let started = std::thread::spawn(|| start(sleep)).join().expect("no panic");
                let mut sleep = started.expect("setpriv");
                tell(Pid::from_child(&sleep));
                sleep.wait().expect("it is ours");
            }
            Ok("postgres") => {
                let cluster = Postgres::start().await.expect("PostgreSQL");
                tell(cluster.server().expect("it runs"));
                std::future::pending().await
            }
            _ => {}
        }
    }

    fn tell(started: Pid) {
        writeln!(io::stdout(), "\nstarted {}", started.as_raw_nonzero()).expect("somebody listens");
    }

    /// What lives below the program that a starter started, before the starter is killed and soon after.
    fn lives_before_and_after_a_kill(what: &str) -> (usize, usize) {
        let mut starter = Command::new(std::env::current_exe().expect("this program"));
        let name = "testkit::tied::tests::a_starter_starts_what_it_is_told_and_waits";
        starter.args(["--exact", name, "--nocapture"]).env(STARTER, what).stdout(Stdio::piped());
        let mut starter = starter.spawn().expect("this program starts");
        let said = BufReader::new(starter.stdout.take().expect("a pipe"));
        let id = said.lines().find_map(|line| line.expect("text").strip_prefix("started ")?.parse().ok());
        let program = id.and_then(Pid::from_raw).expect("it tells what it started");
        let tree = tree_of(program);
        let alive = || tree.iter().filter(|pid| Stat::of(**pid).is_some_and(|stat| stat.is_alive())).count();
        let before = alive();
        starter.kill().expect("it is ours");
        starter.wait().expect("it is ours");
        let until = Instant::now() + Duration::from_secs(60);
        while alive() > 0 && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        (before, alive())
    }

    #[test]
    fn a_program_dies_with_its_parent_process_not_with_the_thread() {
        assert_eq!(lives_before_and_after_a_kill("program"), (1, 0));
    }

    #[test]
    fn a_program_whose_parent_has_died_already_does_not_run() {
        for (parent, told) in [(std::process::id(), "it runs\n"), (1, "")] {
            let mut program = child_of(parent, "echo".as_ref());
            program.arg("it runs").stdout(Stdio::piped());
            let output = start(program).and_then(Child::wait_with_output).expect("it ends");
            assert_eq!(String::from_utf8_lossy(&output.stdout), told, "a child of {parent}");
        }
    }

    #[test]
    fn a_cluster_dies_with_the_process_that_started_it() {
        let (before, after) = lives_before_and_after_a_kill("postgres");
        assert!(before > 3, "a server and its processes: {before}");
        assert_eq!(after, 0);
    }
}
