//! What can be measured on this machine, why not, and the one command that changes it.
//!
//! Each source knows why it is not there and what would bring it
//! ([`Unavailable`](crate::source::Unavailable)); here they are collected. What one fix makes
//! needless is left out.

use std::path::Path;

use serde::Serialize;

use crate::sampler::Hub;
use crate::source::traffic::Traffic;
use crate::source::{Domain, Method, Methods, Zone, as_root, guest, hwmon};

/// What a guest's host is to do: a command, and what it cannot do …
const ON_HOST: &str = concat!("on the host: ", as_root!("agent --guest NAME=PID"));
const SHARED: &str = "its /run/lithowatt/guests/NAME is to be shared with this machine as \"lithowatt\" \
                      (docs/how-to/virtual-machines.md)";

/// … and then the guest.
const MOUNT: &str = "sudo mount --mkdir -t virtiofs -o ro lithowatt /var/lithowatt";

/// One line of the diagnosis.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// The method.
    pub method: Method,
    /// It can be used now.
    pub available: bool,
    /// What it gives here: domains, counters or the model's name.
    pub gives: Vec<String>,
    /// Why not, where it is not available or only in part.
    pub reason: Option<String>,
    /// The one command that fixes it.
    pub fix: Option<String>,
}

impl Finding {
    fn advise(&mut self, text: &str) {
        self.reason = Some(match self.reason.take() {
            Some(reason) => format!("{reason}; {text}"),
            None => text.to_owned(),
        });
    }

    /// Takes out counters that show nothing, with the reason. Without one of the packages there are no
    /// joules of the machine.
    fn leave_out(&mut self, silent: &[&(Zone, String)]) {
        for (zone, why) in silent {
            self.gives.retain(|name| *name != zone.name);
            self.advise(&format!("{}: {why}", zone.name));
            if zone.domain == Domain::Package {
                self.available = false;
            }
        }
    }
}

/// A time in words.
fn span(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7_200.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.0} h", s / 3_600.0),
        s => format!("{:.0} days", s / 86_400.0),
    }
}

/// Whether another counter than the host's has the packages: by what was found of it, else by a look.
fn others_count(root: &Path, findings: &[Finding]) -> bool {
    let mut others = Method::energy_counters().filter(|(method, _)| *method != Method::Guest);
    others.any(
        |(method, open)| match findings.iter().find(|one| one.method == method) {
            Some(found) => found.available,
            None => open(root).is_ok_and(|counter| {
                let mut zones = counter.zones().iter();
                zones.any(|zone| zone.domain == Domain::Package)
            }),
        },
    )
}

/// Looks at `methods` below `root`: counters of the machine first, then GPUs, then what divides their
/// joules and the model. Where it `waits`, it does so until each counter has moved, some seconds at most;
/// else a counter that stands still is taken for one that counts.
pub fn examine(root: &Path, methods: Methods, waits: bool) -> Vec<Finding> {
    // By its name more would be done for a method: probes would be loaded.
    let asked = Method::ALL.iter().copied();
    let methods = Methods::of(&asked.filter(|m| methods.has(*m)).collect::<Vec<_>>());
    let hub = Hub::apart(root);
    let facts = hub.facts();
    let mut findings = Vec::new();
    // Looked for again afterwards: what stands in for a counter that stands still is there then.
    hub.probe(methods);
    let silent = hub.silent(methods, waits);
    for (method, result) in hub.probe(methods) {
        let catalog = hub.catalog();
        let (notes, hardware) = (&catalog.notes, catalog.hardware_missing.as_ref());
        let mut finding = Finding {
            method,
            available: result.is_ok(),
            gives: Vec::new(),
            reason: None,
            fix: None,
        };
        let mut needs_driver = false;
        let is_open = result.is_ok();
        match result {
            Ok(zones) => {
                finding.gives = zones.iter().map(|z| z.name.clone()).collect();
                let left_out: Vec<String> = notes
                    .iter()
                    .filter(|(of, _)| *of == method)
                    .map(|(_, note)| note.to_string())
                    .collect();
                if !left_out.is_empty() {
                    finding.reason = Some(left_out.join("; "));
                }
                // The machine's joules are those of its packages.
                let counts = method.energy_counter().is_some();
                if counts && !zones.iter().any(|zone| zone.domain == Domain::Package) {
                    finding.available = false;
                    finding.advise("it has no counter of packages");
                }
            }
            Err(why) => {
                needs_driver = why.driver;
                finding.reason = Some(why.reason);
                finding.fix = why.fix;
            }
        }
        let silent = silent.iter().filter(|(zone, _)| zone.method == method);
        finding.leave_out(&silent.collect::<Vec<_>>());
        if needs_driver {
            // Loading a driver helps only where there is hardware for it.
            if facts.cpu.hypervisor {
                finding.fix = None;
                finding.advise("this is a virtual machine: only its host has the counter");
            } else if !facts.cpu.architecture.starts_with("x86") {
                finding.fix = None;
                finding.advise("processors of this architecture have no such counter");
            } else if facts.environment.container_runtime.is_some() {
                finding.fix = None;
                finding.advise("mount the host's /sys and pass root=");
            }
        }
        match method {
            Method::Perf => {
                let counters = hub.tree_counters();
                // Counters of the process are there with or without the power PMU.
                finding
                    .gives
                    .extend(counters.iter().map(|c| (*c).to_owned()));
                if let Some(why) = hardware {
                    finding.advise(&why.reason);
                    finding.fix = finding.fix.or_else(|| why.fix.clone());
                }
            }
            Method::Psutil => {
                finding.gives = vec!["machine".into(), "process tree".into()];
            }
            Method::Tdp => {
                finding.gives = vec![facts.model.describe()];
                finding.reason = Some(facts.model.tdp().1);
                let missing = match Traffic::open(root, true) {
                    Ok(mut traffic) => {
                        let checked = traffic.check();
                        if checked.is_ok() {
                            let text = format!("memory's traffic ({})", traffic.describe());
                            finding.gives.push(text);
                        }
                        checked.err()
                    }
                    Err(why) => Some(why).filter(|why| why.fix.is_some()),
                };
                if let Some(why) = missing {
                    finding.advise(&format!("memory's traffic is not counted: {}", why.reason));
                    finding.fix = why.fix;
                }
            }
            Method::Nvml => match hub.gpus() {
                Ok(gpus) => {
                    for (name, shares) in gpus {
                        finding.advise(&format!("{name}: {shares}"));
                        finding.gives.push(name);
                    }
                }
                Err(why) => {
                    finding.available = false;
                    (finding.reason, finding.fix) = (Some(why.reason), why.fix);
                }
            },
            Method::Hwmon => {
                for (name, shares) in hwmon::Cards::below(root).survey() {
                    finding.advise(&format!("GPU {name}: {shares}"));
                }
                let others = hwmon::survey(root);
                if !others.is_empty() {
                    finding.advise(&format!("shown and not counted: {}", others.join("; ")));
                }
            }
            Method::Ebpf => finding.gives = hub.probes_give(),
            Method::Guest if is_open && !finding.available => {
                for (path, seconds) in guest::ages(root) {
                    finding.advise(&format!(
                        "{} was last written {} ago, by this machine's clock",
                        path.display(),
                        span(seconds)
                    ));
                }
            }
            // Where another counter has the packages nothing is missing.
            Method::Guest
                if !finding.available && facts.cpu.hypervisor && !others_count(root, &findings) =>
            {
                finding.advise(ON_HOST);
                finding.advise(SHARED);
                finding.fix = finding.fix.or_else(|| Some(MOUNT.into()));
            }
            _ => {}
        }
        findings.push(finding);
    }
    findings.sort_by_key(|finding| match finding.method {
        method if method.energy_counter().is_some() => 0,
        Method::Nvml => 1,
        _ => 2,
    });
    findings
}
