//! Warnings about CPU time of a window that was not seen.

use std::collections::BTreeMap;

use super::MethodReading;
use crate::sampler::Outcome;
use crate::source::{Domain, Method};

/// How much CPU time may be used unseen: up to one look of the sampler, or all of the window.
fn looks(outcome: &Outcome) -> String {
    match outcome.interval_ns {
        Some(ns) if !outcome.sampler_refused => {
            format!(
                "it was looked at every {:.3} s",
                (ns as f64 * 1e-9).max(0.1)
            )
        }
        _ => "it was looked at when the window began and ended".into(),
    }
}

/// Notes CPU time that may be missing from the function's.
pub(super) fn note_missed(outcome: &Outcome, warnings: &mut Vec<String>) {
    let missed = outcome.missed;
    if missed.root_ended {
        warnings.push(format!(
            "the metered process ended within the window: what it used after it was last seen is \
             missing ({})",
            looks(outcome)
        ));
    }
    if missed.unwaited > 0 {
        warnings.push(format!(
            "{} descendant(s) ended without being waited for (orphans, or SIGCHLD is ignored): \
             what they used after they were last seen is missing ({})",
            missed.unwaited,
            looks(outcome)
        ));
    }
    if missed.discarding > 0 {
        warnings.push(format!(
            "a process ignores SIGCHLD, so the kernel discards its children as they end: what those \
             used that ended between two looks is missing ({})",
            looks(outcome)
        ));
    }
    if missed.hidden {
        warnings.push(
            "/proc does not show the descendants of the metered process: their CPU time counts \
             once they have been waited for"
                .into(),
        );
    }
    if missed.removed > 0 {
        warnings.push(format!(
            "the cgroup was removed {} time(s) within the window: what was used in it after it was \
             last seen is missing ({})",
            missed.removed,
            looks(outcome)
        ));
    }
    if missed.unreadable > 0 {
        warnings.push(format!(
            "the CPU time of the cgroup could not be read, or was lower than before, {} time(s) \
             within the window",
            missed.unreadable
        ));
    }
}

/// Notes what is not known of the machine's busy time.
pub(super) fn note_busy(outcome: &Outcome, warnings: &mut Vec<String>) {
    match (outcome.ledger.busy_known, outcome.busy_doubt.as_deref()) {
        (true, None) => {}
        (true, Some(doubt)) => warnings.push(doubt.into()),
        (false, why) => {
            let why = why.map_or_else(String::new, |why| format!(": {why}"));
            warnings.push(format!(
                "how busy the machine was is unknown, so others' work may be counted as ours{why}"
            ));
        }
    }
}

/// Why no counter gave the machine's energy: of those that were asked for by their names each, else of the
/// first choice.
pub(super) fn no_counter(outcome: &Outcome, counters: &BTreeMap<Method, MethodReading>) -> String {
    let why = |(method, reading): (&Method, &MethodReading)| {
        let of_package = || reading.reasons.get(&Domain::Package).cloned();
        let why = outcome.missing(*method).or_else(of_package);
        why.unwrap_or_else(|| "no reading".into())
    };
    let by_name = counters
        .iter()
        .filter(|(of, _)| outcome.methods.has_by_name(**of));
    let by_name: Vec<_> = by_name.collect();
    match by_name[..] {
        [] => counters.first_key_value().map(why).unwrap_or_default(),
        [only] => why(only),
        _ => {
            let each = by_name.into_iter();
            let each = each.map(|counter| format!("{}: {}", counter.0.name(), why(counter)));
            each.collect::<Vec<_>>().join("; ")
        }
    }
}

/// Why there is no headline though the model was asked for, or that it was not.
pub(super) fn no_model(outcome: &Outcome) -> &'static str {
    if outcome.missing(Method::Tdp).is_some() {
        "the model was not asked for"
    } else if !outcome.own_known {
        "the model was not used: the CPU time of what is metered is unknown"
    } else {
        "the model gives nothing for it"
    }
}
