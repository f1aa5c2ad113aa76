//! The Unix socket: one JSON object a line, one answer a line.

use crate::plant::{Fault, Plant};
use crate::sys;
use serde::Deserialize;
use serde_json::{Value, json};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// What can be asked.
#[derive(Debug, Deserialize)]
#[serde(tag = "cmd", rename_all = "snake_case", deny_unknown_fields)]
enum Request {
    Register { pid: i32, weight: f64, tree: bool },
    Unregister { pid: i32 },
    Energy { t0_ns: u64, t1_ns: u64 },
    Watts,
    Fault { kind: Fault, zone: String },
    SetWatts { watts: f64 },
    Stats,
    Quit,
}

/// What an answer brings about outside the plant.
pub struct Hooks {
    /// Names may have vanished or come back.
    pub faulted: Box<dyn Fn() + Send + Sync>,
    /// A client asks for the end.
    pub quit: Box<dyn Fn() + Send + Sync>,
}

/// Answers every client in a thread of its own.
pub fn serve(listener: &UnixListener, plant: &Arc<Plant>, hooks: Hooks) {
    let hooks = Arc::new(hooks);
    for stream in listener.incoming().flatten() {
        let (plant, hooks) = (Arc::clone(plant), Arc::clone(&hooks));
        std::thread::spawn(move || {
            // A client that hangs up is no news.
            let _ = converse(&stream, &plant, &hooks);
        });
    }
}

fn converse(stream: &UnixStream, plant: &Plant, hooks: &Hooks) -> io::Result<()> {
    let mut out = stream;
    for line in BufReader::new(stream).lines() {
        let request = serde_json::from_str::<Request>(&line?).map_err(io::Error::from);
        let ends = matches!(request, Ok(Request::Quit));
        let faulted = matches!(request, Ok(Request::Fault { .. }));
        let reply = match request.and_then(|r| answer(r, plant)) {
            Ok(mut reply) => {
                reply["ok"] = json!(true);
                reply
            }
            Err(e) => json!({"ok": false, "error": e.to_string(), "errno": e.raw_os_error()}),
        };
        if faulted {
            (hooks.faulted)();
        }
        out.write_all(format!("{reply}\n").as_bytes())?;
        if ends {
            (hooks.quit)();
        }
    }
    Ok(())
}

fn answer(request: Request, plant: &Plant) -> io::Result<Value> {
    Ok(match request {
        Request::Register { pid, weight, tree } => {
            json!({"clock": plant.register(pid, weight, tree)?})
        }
        Request::Unregister { pid } => {
            plant.unregister(pid)?;
            json!({})
        }
        Request::Energy { t0_ns, t1_ns } => serde_json::to_value(plant.energy(t0_ns, t1_ns)?)?,
        Request::Watts => {
            let (package, cpus) = plant.watts();
            json!({
                "package": package,
                "machine": package * (1.0 + plant.dram_share()),
                "load_cpus": cpus,
            })
        }
        Request::Fault { kind, zone } => json!({"zones": plant.fault(kind, &zone)?}),
        Request::SetWatts { watts } => {
            plant.set_watts(watts)?;
            json!({})
        }
        Request::Stats => {
            let (steps, longest, source) = plant.steps();
            json!({
                "reads": plant.reads.load(Relaxed),
                "own_cpu_ns": sys::own_cpu_ns(),
                "now_ns": sys::now_ns(),
                "steps": steps,
                "longest_step_ns": longest,
                "machine_clock": source,
            })
        }
        Request::Quit => json!({}),
    })
}
