//! What can be measured on this machine, why not, and the one command that changes it.

use std::path::Path;

use serde::Serialize;

use crate::sampler::Hub;
use crate::source::{Method, Methods};

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

/// Looks at every method below `root`.
pub fn examine(root: &Path) -> Vec<Finding> {
    let hub = Hub::get(root);
    let facts = hub.facts();
    let mut findings = Vec::new();
    for (method, result) in hub.probe(Methods::AUTO) {
        let catalog = hub.catalog();
        let (notes, hardware) = (&catalog.notes, catalog.hardware_missing.as_ref());
        let prefix = format!("{}: ", method.name());
        let mut finding = Finding {
            method,
            available: result.is_ok(),
            gives: Vec::new(),
            reason: None,
            fix: None,
        };
        match result {
            Ok(zones) => {
                finding.gives = zones.iter().map(|z| z.name.clone()).collect();
                let left_out: Vec<_> = notes
                    .iter()
                    .filter_map(|n| n.strip_prefix(&prefix))
                    .collect();
                if !left_out.is_empty() {
                    finding.reason = Some(left_out.join("; "));
                }
            }
            Err(why) => {
                finding.reason = Some(why.reason);
                finding.fix = why.fix;
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
                    let known = finding.reason.take();
                    finding.reason = Some(match known {
                        Some(known) => format!("{known}; {why}"),
                        None => why.reason.clone(),
                    });
                    finding.fix = finding.fix.or_else(|| why.fix.clone());
                }
            }
            Method::Psutil => {
                finding.gives = vec!["machine".into(), "process tree".into()];
            }
            Method::Tdp => {
                finding.gives = vec![facts.model.describe()];
                finding.reason = Some(facts.model.tdp().1);
            }
            Method::Rapl | Method::Ebpf => {}
        }
        findings.push(finding);
    }
    findings
}
