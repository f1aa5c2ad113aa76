//! Which container, pod or runtime a cgroup belongs to, by the names that container managers give.
//!
//! The one table of these names: the agent, the surroundings of a meter and `lithowatt top` ask here.

use serde::Serialize;

use crate::source::ring::layout::Kind;

/// Whose cgroup it is, by the name of its directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Identity {
    /// What it is.
    pub kind: Kind,
    /// The pod's UID, as Kubernetes writes it.
    pub pod_uid: Option<String>,
    /// The container's id, 64 hexadecimal digits; of LXC and systemd-nspawn its name.
    pub container_id: Option<String>,
    /// "containerd", "cri-o", "docker", "podman", "lxc", "nspawn", where the name shows it.
    pub runtime: Option<&'static str>,
}

/// Managers by the word with which they begin the names of containers' cgroups (`docker-<id>.scope`)
/// or name the directory of them all (`docker/<id>`). A longer word stands before its beginning.
const MANAGERS: [(&str, &str); 10] = [
    ("kubepods", "kubernetes"),
    ("ecs", "ecs"),
    ("docker", "docker"),
    ("libpod", "podman"),
    ("cri-containerd", "containerd"),
    ("containerd", "containerd"),
    ("nerdctl", "containerd"),
    ("crio", "cri-o"),
    ("cri-", "containerd"),
    ("lxc", LXC),
];

const LXC: &str = "lxc";
/// systemd-nspawn, and virtual machines of libvirt: systemd-machined registers both.
const NSPAWN: &str = "nspawn";

/// Whose cgroup a directory of this name below one called `above` is; `None` where it is no
/// container's and no pod's.
///
/// ```
/// use lithowatt::cgroup::identity::identify;
/// use lithowatt::source::ring::layout::Kind;
/// let uid = "3f1c2a90-7a51-4c0e-9f57-1c1d7a6f0e11";
/// let slice = "kubepods-burstable-pod3f1c2a90_7a51_4c0e_9f57_1c1d7a6f0e11.slice";
/// let pod = identify("kubepods.slice", slice).unwrap();
/// assert_eq!((pod.kind, pod.pod_uid.as_deref()), (Kind::Pod, Some(uid)));
/// assert_eq!(identify("kubepods", &format!("pod{uid}")).unwrap().kind, Kind::Pod);
/// let id = "0123456789abcdef".repeat(4);
/// let container = identify("", &format!("cri-containerd-{id}.scope")).unwrap();
/// assert_eq!(container.container_id, Some(id.clone()));
/// assert_eq!(container.runtime, Some("containerd"));
/// assert_eq!(identify("docker", &id).unwrap().runtime, Some("docker"));
/// assert_eq!(identify("", &format!("nerdctl-{id}.scope")).unwrap().runtime, Some("containerd"));
/// let web = identify("", "lxc.payload.web").unwrap();
/// assert_eq!((web.container_id.as_deref(), web.runtime), (Some("web"), Some("lxc")));
/// // Those watch a container from outside.
/// assert_eq!(identify("", &format!("crio-conmon-{id}.scope")), None);
/// assert_eq!(identify("", "lxc.monitor.web"), None);
/// assert_eq!(identify("", "system.slice"), None);
/// ```
pub fn identify(above: &str, name: &str) -> Option<Identity> {
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
    let container = |id: String, runtime: Option<&'static str>| Identity {
        kind: Kind::Container,
        pod_uid: None,
        container_id: Some(id),
        runtime,
    };
    // containerd's cgroupfs names may be "default:cri:<id>", and any may be the id alone.
    let at = stem.rfind([':', '-']).map_or(0, |at| at + 1);
    let (before, id) = (stem[..at].trim_end_matches([':', '-']), &stem[at..]);
    if id.len() == 64 && hex(id) {
        let before = before.rsplit(':').next().unwrap_or_default();
        let word = if before.is_empty() { above } else { before };
        let is_it = |start: &str| start.trim_end_matches('-') == word;
        let known = MANAGERS.iter().find(|(start, _)| is_it(start));
        return Some(container(id.to_owned(), known.map(|(_, name)| *name)));
    }
    if let Some(name) = stem.strip_prefix("lxc.payload.") {
        return Some(container(name.to_owned(), Some(LXC)));
    }
    if above == "lxc" {
        return Some(container(name.to_owned(), Some(LXC)));
    }
    let machine = name.strip_suffix(".scope")?.strip_prefix("machine-")?;
    (above == "machine.slice").then(|| container(unescaped(machine), Some(NSPAWN)))
}

/// What a cgroup is, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// "kubernetes", a runtime of [`Identity::runtime`], "container" where the name tells none,
    /// "unit" (systemd), "cgroup" or "none" (the top).
    pub kind: &'static str,
    /// Pod and container, container, unit or path. It is not to be trusted by a terminal.
    pub name: String,
}

/// What the cgroup at `path` below its hierarchy's top is.
///
/// ```
/// use lithowatt::cgroup::identity::place_of;
/// let path = format!("/system.slice/docker-{}.scope", "a".repeat(64));
/// assert_eq!(place_of(&path).name, "docker aaaaaaaaaaaa");
/// assert_eq!(place_of("/user.slice/user-1000.slice/session-3.scope").kind, "unit");
/// ```
pub fn place_of(path: &str) -> Place {
    let parts: Vec<&str> = path
        .split('/')
        .filter(|part| !matches!(*part, "" | "." | ".."))
        .collect();
    let Some(last) = parts.last() else {
        return Place {
            kind: "none",
            name: String::new(),
        };
    };
    let above = std::iter::once("").chain(parts.iter().copied());
    let found: Vec<Identity> = above
        .zip(&parts)
        .filter_map(|(above, part)| identify(above, part))
        .collect();
    let pod = found.iter().find_map(|one| one.pod_uid.as_deref());
    let has_id = |one: &&Identity| {
        let id = one.container_id.as_deref();
        id.is_some_and(|_| !matches!(one.runtime, Some(LXC | NSPAWN)))
    };
    // The innermost: what runs in a container may make cgroups, and containers, of its own.
    let innermost = found.iter().rfind(has_id);
    let short = |one: &Identity| -> String {
        let id = one.container_id.as_deref().unwrap_or_default();
        id.chars().take(12).collect()
    };
    if let Some(uid) = pod {
        let inner = innermost.map_or(String::new(), |one| format!(" / {}", short(one)));
        return Place {
            kind: "kubernetes",
            name: format!("pod {uid}{inner}"),
        };
    }
    if let Some(one) = innermost {
        let kind = one.runtime.unwrap_or("container");
        return Place {
            kind,
            name: format!("{kind} {}", short(one)),
        };
    }
    if let Some(one) = found.first() {
        let kind = one.runtime.unwrap_or("container");
        let word = if kind == NSPAWN { "machine" } else { kind };
        return Place {
            kind,
            name: format!("{word} {}", one.container_id.as_deref().unwrap_or(last)),
        };
    }
    const UNITS: [&str; 6] = [".service", ".scope", ".slice", ".socket", ".mount", ".swap"];
    let is_unit = |part: &&&str| UNITS.iter().any(|end| part.ends_with(end));
    match parts.iter().rev().find(is_unit) {
        Some(unit) => Place {
            kind: "unit",
            name: unescaped(unit),
        },
        None => Place {
            kind: "cgroup",
            name: path.to_owned(),
        },
    }
}

/// A unit's name without the escapes of systemd.unit(5), "String Escaping for Inclusion in Unit
/// Names".
fn unescaped(unit: &str) -> String {
    let mut parts = unit.split("\\x");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part
            .get(..2)
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match code {
            Some(byte) => {
                text.push(char::from(byte));
                text.push_str(&part[2..]);
            }
            None => {
                text.push_str("\\x");
                text.push_str(part);
            }
        }
    }
    text
}

/// The container runtime by the text of /proc/self/cgroup: container managers name their groups.
///
/// ```
/// use lithowatt::cgroup::identity::runtime_of_cgroup;
/// assert_eq!(runtime_of_cgroup("4:cpu,cpuacct:/docker/3f2a\n"), Some("docker"));
/// assert_eq!(runtime_of_cgroup("0::/kubepods.slice/kubepods-pod1.slice/x\n"), Some("kubernetes"));
/// assert_eq!(runtime_of_cgroup("0::/default/nerdctl-3f2a.scope\n"), Some("containerd"));
/// assert_eq!(runtime_of_cgroup("0::/machine.slice/machine-box.scope\n"), Some("nspawn"));
/// assert_eq!(runtime_of_cgroup("0::/machine.slice/machine-qemu\\x2d1.scope\n"), None);
/// assert_eq!(runtime_of_cgroup("0::/user.slice/user-1000.slice\n"), None);
/// ```
pub fn runtime_of_cgroup(text: &str) -> Option<&'static str> {
    let parts = || {
        text.lines()
            .filter_map(|line| line.splitn(3, ':').nth(2))
            .flat_map(|path| path.split('/'))
    };
    let named = MANAGERS.iter().find_map(|(start, name)| {
        // The services that run containers are no containers: docker.service, containerd.service.
        parts()
            .any(|part| part.starts_with(start) && !part.ends_with(".service"))
            .then_some(*name)
    });
    named.or_else(|| {
        let machine = |line: &str| {
            let path = line.splitn(3, ':').nth(2).unwrap_or_default();
            // Of libvirt it is a virtual machine, and this process its emulator.
            let place = place_of(path);
            place.kind == NSPAWN && !place.name.starts_with("machine qemu-")
        };
        text.lines().any(machine).then_some(NSPAWN)
    })
}
