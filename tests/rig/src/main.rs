//! The simulated machine: a live powercap tree whose joules are known.
//!
//! Started by `rig.py`; see README.md. `power` is the model, `ledger` the truth, `cpu` the load,
//! `plant` puts them together, `tree` shows the counters, `control` answers, `mounts` makes it
//! visible in the right places.

mod config;
mod control;
mod cpu;
mod ledger;
mod mounts;
mod plant;
mod power;
mod sys;
mod tree;

use config::Config;
use plant::Plant;
use std::ffi::OsString;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

const USAGE: &str = "usage: lithowatt-rig serve FOLDER | lithowatt-rig exec FOLDER -- COMMAND...";

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let verb = arguments.first().and_then(|a| a.to_str());
    let outcome = match (verb, arguments.get(1)) {
        (Some("serve"), Some(base)) => serve(Path::new(base)),
        (Some("exec"), Some(base)) if arguments.get(2).is_some_and(|a| a == "--") => {
            Err(mounts::exec(Path::new(base), &arguments[3..]))
        }
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, USAGE)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("lithowatt-rig: {e}");
            ExitCode::FAILURE
        }
    }
}

/// Serves a rig until it is asked to stop, or its parent ends; then leaves nothing behind.
fn serve(base: &Path) -> io::Result<()> {
    let base: PathBuf = base.canonicalize()?;
    let config = Config::load(&base.join("config.json"))?;
    let _lock = mounts::claim(&base)?;
    mounts::sweep(&base);
    let termination = sys::termination()?;
    let parent = sys::pidfd(config.parent)?;
    let outcome = run(&base, &config, &termination, &parent);
    mounts::remove(&base);
    outcome
}

fn run(base: &Path, config: &Config, termination: &OwnedFd, parent: &OwnedFd) -> io::Result<()> {
    let plant = Arc::new(Plant::new(config)?);
    // All threads inherit it: on a busy machine the counters must not wait their turn, as the
    // hardware would not, nor must anyone who holds the lock. Where it is not allowed, reads are
    // late and steps longer.
    let realtime = config.realtime && sys::realtime().is_ok();
    let tree = tree::Tree::new(Arc::clone(&plant), config.mode);
    let (session, refresh) = tree.mount(&base.join("live"))?;
    if plant.follows_load() {
        let plant = Arc::clone(&plant);
        std::thread::Builder::new()
            .name("integrator".to_owned())
            .spawn(move || plant.integrate())?;
    }
    mounts::bind_all(base, &config.binds)?;

    let listener = UnixListener::bind(base.join("control"))?;
    let (asked, bell) = io::pipe()?;
    let hooks = control::Hooks {
        faulted: Box::new(move || refresh.now()),
        quit: Box::new(move || {
            let _ = (&bell).write_all(b"q");
        }),
    };
    std::thread::Builder::new()
        .name("control".to_owned())
        .spawn(move || control::serve(&listener, &plant, hooks))?;

    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{}",
        serde_json::json!({"ready": true, "realtime": realtime})
    )?;
    out.flush()?;
    sys::wait_readable(&[termination, parent, &OwnedFd::from(asked)])?;
    // The mounts are taken away by path, lazily: dropping the session would wait for open files.
    std::mem::forget(session);
    Ok(())
}
