//! Which container, pod or runtime a cgroup belongs to, by the names that container managers give.

use serde::Serialize;

use crate::source::ring::layout::Kind;

/// Whose cgroup it is, by the name of its directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Identity {
    /// What it is.
    pub kind: Kind,
    /// The pod's UID, as Kubernetes writes it.
    pub pod_uid: Option<String>,
    /// The container's id, 64 hexadecimal digits.
    pub container_id: Option<String>,
    /// "containerd", "cri-o", "docker", "podman", where the name shows it.
    pub runtime: Option<&'static str>,
}

/// Runtimes by how they begin the names of containers' cgroups.
const RUNTIMES: [(&str, &str); 4] = [
    ("cri-containerd-", "containerd"),
    ("crio-", "cri-o"),
    ("docker-", "docker"),
    ("libpod-", "podman"),
];

/// Whose cgroup a directory of this name is; `None` where it is no container's and no pod's.
///
/// ```
/// use lithowatt::cgroup::identity::identify;
/// use lithowatt::source::ring::layout::Kind;
/// let uid = "3f1c2a90-7a51-4c0e-9f57-1c1d7a6f0e11";
/// let pod = identify("kubepods-burstable-pod3f1c2a90_7a51_4c0e_9f57_1c1d7a6f0e11.slice").unwrap();
/// assert_eq!((pod.kind, pod.pod_uid.as_deref()), (Kind::Pod, Some(uid)));
/// assert_eq!(identify(&format!("pod{uid}")).unwrap().kind, Kind::Pod);
/// let id = "0123456789abcdef".repeat(4);
/// let container = identify(&format!("cri-containerd-{id}.scope")).unwrap();
/// assert_eq!(container.container_id, Some(id.clone()));
/// assert_eq!(container.runtime, Some("containerd"));
/// assert_eq!(identify(&format!("crio-conmon-{id}.scope")), None);
/// assert_eq!(identify("system.slice"), None);
/// ```
pub fn identify(name: &str) -> Option<Identity> {
    let stem = name
        .strip_suffix(".scope")
        .or_else(|| name.strip_suffix(".slice"))
        .unwrap_or(name);
    if stem.contains("conmon-") {
        return None;
    }
    let hex = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit());
    let pod = stem.rsplit_once("-pod").map(|(_, uid)| uid);
    if let Some(uid) = pod.or_else(|| stem.strip_prefix("pod")) {
        let uid = uid.replace('_', "-");
        // A static pod's is a hash of 32 digits.
        let plain = uid.replace('-', "");
        if plain.len() == 32 && hex(&plain) {
            return Some(Identity {
                kind: Kind::Pod,
                pod_uid: Some(uid),
                container_id: None,
                runtime: None,
            });
        }
    }
    let runtime = RUNTIMES.iter().find(|(start, _)| stem.starts_with(start));
    let id = match runtime {
        Some((start, _)) => &stem[start.len()..],
        // containerd's cgroupfs names may be "default:cri:<id>" or the id alone.
        None => stem.rsplit([':', '-']).next()?,
    };
    (id.len() == 64 && hex(id)).then(|| Identity {
        kind: Kind::Container,
        pod_uid: None,
        container_id: Some(id.to_owned()),
        runtime: runtime.map(|(_, name)| *name),
    })
}

/// The container runtime by the text of /proc/self/cgroup: container managers name their groups.
///
/// ```
/// use lithowatt::cgroup::identity::runtime_of_cgroup;
/// assert_eq!(runtime_of_cgroup("4:cpu,cpuacct:/docker/3f2a\n"), Some("docker"));
/// assert_eq!(runtime_of_cgroup("0::/kubepods.slice/kubepods-pod1.slice/x\n"), Some("kubernetes"));
/// assert_eq!(runtime_of_cgroup("0::/user.slice/user-1000.slice\n"), None);
/// ```
pub fn runtime_of_cgroup(text: &str) -> Option<&'static str> {
    const NAMES: [(&str, &str); 8] = [
        ("kubepods", "kubernetes"),
        ("ecs", "ecs"),
        ("docker", "docker"),
        ("libpod", "podman"),
        ("containerd", "containerd"),
        ("cri-", "containerd"),
        ("crio", "cri-o"),
        ("lxc", "lxc"),
    ];
    let parts = || {
        text.lines()
            .filter_map(|line| line.splitn(3, ':').nth(2))
            .flat_map(|path| path.split('/'))
    };
    NAMES.iter().find_map(|(start, name)| {
        // The services that run containers are no containers: docker.service, containerd.service.
        parts()
            .any(|part| part.starts_with(start) && !part.ends_with(".service"))
            .then_some(*name)
    })
}
