//! How batch systems name the cgroups of their jobs.
//!
//! The one table of these names. Each row is what the system's own source or documentation writes;
//! where a site may choose the name, it is the default.

/// A batch system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum System {
    /// Slurm; also a step of a job, as `4711.0` or `4711.batch`.
    Slurm,
    /// OAR.
    Oar,
    /// OpenPBS, PBS Professional and TORQUE; with or without the server's name.
    Pbs,
    /// HTCondor, whose cgroups have the name of the slot, as `slot1_2`, and not of the job.
    Condor,
}

impl System {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Slurm, Self::Oar, Self::Pbs, Self::Condor];

    /// The word before the id: `slurm:4711`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Slurm => "slurm",
            Self::Oar => "oar",
            Self::Pbs => "pbs",
            Self::Condor => "condor",
        }
    }
}

/// Where a system puts a job: below the mount of a hierarchy, `{id}` for the job, `*` for what is not
/// known of it.
struct Row {
    system: System,
    /// Of the hierarchy: 2, or 1 with `cpuacct`.
    version: u32,
    path: &'static str,
}

const fn row(system: System, version: u32, path: &'static str) -> Row {
    Row {
        system,
        version,
        path,
    }
}

/// Slurm 22.05 and later: `src/plugins/cgroup/v2/cgroup_v2.c` (`_set_int_cg_ns`,
/// `cgroup_p_step_create`) and `v1/xcgroup.c` (`xcgroup_create_hierarchy`, `xcgroup_create_slurm_cg`)
/// of <https://github.com/SchedMD/slurm>; the node's name is in it where a machine runs several
/// slurmd. On version 1 there is a group in `cpuacct` only with `JobAcctGatherType=jobacct_gather/cgroup`:
/// <https://slurm.schedmd.com/cgroups.html>.
///
/// OAR 2.5 and 3: `job_resource_manager_systemd.pl` (version 2) and `job_resource_manager_cgroups.pl`
/// (version 1, `CPUSET_PATH` is `/oar`) of <https://github.com/oar-team/oar> and oar3.
///
/// OpenPBS: `src/hooks/cgroups/pbs_cgroups.PY` of <https://github.com/openpbs/openpbs>, its tests in
/// `test/tests/functional/pbs_cgroups_hook.py` (the older prefixes as well); version 2 by the names of
/// <https://github.com/0nebody/pbs_exporter>. TORQUE 6: `src/resmom/trq_cgroups.c` of
/// <https://github.com/adaptivecomputing/torque>.
///
/// HTCondor: `Starter::ChooseCGroup` in `src/condor_starter.V6.1/vanilla_proc.cpp` of
/// <https://github.com/htcondor/htcondor>; `BASE_CGROUP` is `htcondor`, from version 23 on beside the
/// service's own group.
const ROWS: [Row; 20] = [
    row(System::Slurm, 2, "system.slice/slurmstepd.scope/job_{id}"),
    row(System::Slurm, 2, "system.slice/*_slurmstepd.scope/job_{id}"),
    row(System::Slurm, 1, "slurm/uid_*/job_{id}"),
    row(System::Slurm, 1, "slurm_*/uid_*/job_{id}"),
    row(System::Oar, 2, "oar.slice/oar-u*.slice/oar-u*-j{id}.slice"),
    row(System::Oar, 1, "oar/*_{id}"),
    row(System::Pbs, 2, "pbs_jobs.service/jobs/{id}"),
    row(System::Pbs, 2, "pbs_jobs.service/jobs/{id}.*"),
    row(System::Pbs, 1, "pbs_jobs.service/jobid/{id}"),
    row(System::Pbs, 1, "pbs_jobs.service/jobid/{id}.*"),
    row(System::Pbs, 1, "pbs.service/jobid/{id}"),
    row(System::Pbs, 1, "pbs.service/jobid/{id}.*"),
    row(System::Pbs, 1, "torque/{id}"),
    row(System::Pbs, 1, "torque/{id}.*"),
    row(System::Condor, 2, "system.slice/htcondor/condor_*_{id}@*"),
    row(System::Condor, 2, "system.slice/htcondor/condor_*_{id}"),
    row(System::Condor, 2, "htcondor/condor_*_{id}@*"),
    row(System::Condor, 2, "htcondor/condor_*_{id}"),
    row(System::Condor, 1, "htcondor/condor_*_{id}@*"),
    row(System::Condor, 1, "htcondor/condor_*_{id}"),
];

/// Patterns of the paths that a job's cgroups may have below the mount of a hierarchy; none where the
/// system has no such ids.
///
/// ```
/// use lithowatt::cgroup::jobs::{System, patterns};
/// let step = patterns(System::Slurm, "4711.batch", 2);
/// assert_eq!(step[0], "system.slice/slurmstepd.scope/job_4711/step_batch");
/// assert_eq!(patterns(System::Slurm, "4711", 1)[0], "slurm/uid_*/job_4711");
/// assert_eq!(patterns(System::Oar, "42", 1), ["oar/*_42"]);
/// // An array's job of PBS: its brackets stand for themselves.
/// assert_eq!(patterns(System::Pbs, "7[1]", 2)[0], "pbs_jobs.service/jobs/7[[]1]");
/// assert!(patterns(System::Slurm, "../..", 2).is_empty());
/// ```
pub fn patterns(system: System, id: &str, version: u32) -> Vec<String> {
    let plain = |text: &str| {
        !text.is_empty()
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"_-.+@[]".contains(&b))
            && text.bytes().any(|b| b != b'.')
    };
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let (job, step) = match (system, id.split_once('.')) {
        (System::Slurm, Some((job, step))) => (job, Some(step)),
        _ => (id, None),
    };
    let accepted = match system {
        System::Slurm => number(job) && step.is_none_or(plain),
        System::Oar => number(job),
        System::Pbs => plain(job) && job.as_bytes()[0].is_ascii_digit(),
        System::Condor => plain(job) && job.starts_with("slot"),
    };
    if !accepted {
        return Vec::new();
    }
    let (job, below) = (
        escaped(job),
        step.map_or_else(String::new, |step| format!("/step_{}", escaped(step))),
    );
    let rows = ROWS.iter().filter(|row| row.system == system);
    rows.filter(|row| row.version == version)
        .map(|row| row.path.replace("{id}", &job) + &below)
        .collect()
}

/// A text as a pattern that it alone matches.
pub(super) fn escaped(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '*' | '?' | '[' => pattern.extend(['[', letter, ']']),
            _ => pattern.push(letter),
        }
    }
    pattern
}
