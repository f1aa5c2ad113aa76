//! Which processes have queues of ROCm on a card of AMD? Their work goes past the kernel's scheduler
//! (`/dev/kfd`), so no fdinfo counts its time (drivers/gpu/drm/amd/amdkfd).

use std::fs;
use std::path::Path;

use super::numbers;
use crate::source::plain;

/// Processes with their queues, below the root.
const PROCESSES: &str = "sys/class/kfd/kfd/proc";

/// The GPUs, with where they are on the PCI bus.
const NODES: &str = "sys/class/kfd/kfd/topology/nodes";

/// No file of it is longer, bytes.
const MOST: u64 = 4096;

/// The processes that have a queue on the card at `slot`, by the machine's numbers.
pub fn users(root: &Path, slot: &str) -> Vec<i32> {
    let processes = root.join(PROCESSES);
    let pids: Vec<i32> = numbers(&processes).collect();
    if pids.is_empty() {
        return pids;
    }
    let nodes = root.join(NODES);
    let ids: Vec<u64> = numbers(&nodes)
        .map(|node| nodes.join(node.to_string()))
        .filter(|node| is_at(node, slot))
        .filter_map(|node| number(&node.join("gpu_id")))
        .collect();
    let uses = |pid: &i32| {
        let queues = processes.join(pid.to_string()).join("queues");
        numbers(&queues).any(|queue| {
            number(&queues.join(queue.to_string()).join("gpuid"))
                .is_some_and(|id| ids.contains(&id))
        })
    };
    pids.into_iter().filter(uses).collect()
}

fn number(file: &Path) -> Option<u64> {
    plain::read_text(file, MOST).ok()?.trim().parse().ok()
}

/// Whether a node of the topology is the card at `slot`. Partitions of a card differ in the function
/// only, or in the highest bits of the place.
fn is_at(node: &Path, slot: &str) -> bool {
    let Ok(text) = fs::read_to_string(node.join("properties")) else {
        return false;
    };
    let told = |key: &str| -> Option<u32> {
        let mut lines = text.lines();
        lines.find_map(|line| {
            line.strip_prefix(key)?
                .strip_prefix(' ')?
                .trim()
                .parse()
                .ok()
        })
    };
    let Some(place) = told("location_id") else {
        return false;
    };
    let (domain, bus, device) = (
        told("domain").unwrap_or(0),
        place >> 8 & 0xff,
        place >> 3 & 0x1f,
    );
    slot.split('.').next() == Some(&format!("{domain:04x}:{bus:02x}:{device:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_are_found_by_the_place_of_their_gpu() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path();
        assert_eq!(users(root, "0000:03:00.0"), Vec::<i32>::new());
        let write = |file: &str, text: &str| {
            let path = root.join("sys/class/kfd/kfd").join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("topology/nodes/0/gpu_id", "0\n");
        write("topology/nodes/0/properties", "cpu_cores_count 16\n");
        write("topology/nodes/1/gpu_id", "51110\n");
        let properties = "simd_count 304\nlocation_id 768\ndomain 0\n";
        write("topology/nodes/1/properties", properties);
        write("proc/71/queues/0/gpuid", "51110");
        write("proc/72/queues/0/gpuid", "9");
        write("proc/73/pasid", "32770");
        assert_eq!(users(root, "0000:03:00.0"), [71]);
        assert_eq!(users(root, "0000:04:00.0"), Vec::<i32>::new());
    }
}
