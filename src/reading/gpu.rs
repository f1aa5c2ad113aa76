//! Energy of the machine's GPUs in a window, and the function's part of it.

use serde::Serialize;

use super::{Availability, Energy, ZoneReading};
use crate::sampler::{GpuSeen, Outcome};
use crate::source::Domain;

/// What the GPUs used, beside and apart from the energy of packages and memory.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct GpuReading {
    /// Which GPUs it is of and how they were read, or why they were not.
    #[serde(flatten)]
    pub availability: Availability,
    /// Energy of all GPUs that this process sees.
    pub energy: Option<Energy>,
    /// The function's part of it above the power at rest, by how busy its processes kept the GPUs.
    pub attributed: Option<Energy>,
    /// How that part was found, or why it is not known.
    #[serde(serialize_with = "super::as_text")]
    pub attributed_source: Availability,
}

impl GpuReading {
    /// Nothing was read, and why.
    pub fn absent(reason: &str) -> Self {
        Self {
            availability: Availability::Unavailable(reason.into()),
            attributed_source: Availability::Unavailable(reason.into()),
            ..Self::default()
        }
    }
}

/// What the window has of GPUs, device by device, and what is to be warned of.
pub(super) fn gpu_reading(
    outcome: &Outcome,
    zones: &mut Vec<ZoneReading>,
    warnings: &mut Vec<String>,
) -> GpuReading {
    let seen = match &outcome.gpus {
        Ok(seen) => &seen.gpus,
        Err(why) => return GpuReading::absent(why),
    };
    zones.extend(seen.iter().map(zone));
    warnings.extend(seen.iter().flat_map(|gpu| gpu.notes.iter().cloned()));
    let energy = sum(seen, |gpu| &gpu.energy);
    let availability = match &energy {
        Ok(_) => Availability::From(format!("measured: {}", names(seen))),
        Err(why) => Availability::Unavailable(why.clone()),
    };
    // A part of what is not known is no part of anything.
    let attributed = energy
        .as_ref()
        .map_err(Clone::clone)
        .and_then(|_| sum(seen, |gpu| &gpu.attributed));
    let attributed_source = match &attributed {
        Ok(_) => Availability::From(how_shared(seen)),
        Err(why) => Availability::Unavailable(why.clone()),
    };
    GpuReading {
        availability,
        energy: energy.ok(),
        attributed: attributed.ok(),
        attributed_source,
    }
}

fn zone(gpu: &GpuSeen) -> ZoneReading {
    ZoneReading {
        method: gpu.method,
        domain: Domain::Gpu,
        package: Some(gpu.index),
        name: gpu.name.clone(),
        energy: gpu.energy.as_ref().ok().copied(),
        reason: gpu.energy.as_ref().err().cloned(),
    }
}

fn names(seen: &[GpuSeen]) -> String {
    let names = seen.iter().map(|gpu| match gpu.by_counter {
        true => gpu.name.clone(),
        false => format!("{} (power, integrated)", gpu.name),
    });
    names.collect::<Vec<_>>().join(", ")
}

fn how_shared(seen: &[GpuSeen]) -> String {
    let guessed: Vec<&str> = seen
        .iter()
        .filter(|gpu| !gpu.rest_seen)
        .map(|gpu| gpu.name.as_str())
        .collect();
    let mut how = "attributed: by how busy processes kept the GPUs, above power at rest".to_owned();
    if !guessed.is_empty() {
        how += &format!(", which is guessed of {}", guessed.join(", "));
    }
    if seen.iter().any(|gpu| !gpu.others_seen) {
        how += "; as if no process used them that cannot be read (as root all can be)";
    }
    how
}

/// The sum over all GPUs, or what the first of them lacks. Their sensors may all be off the same way,
/// so the bands add up.
fn sum(seen: &[GpuSeen], of: fn(&GpuSeen) -> &Result<Energy, String>) -> Result<Energy, String> {
    let mut sum = Energy {
        joules: 0.0,
        low: 0.0,
        high: 0.0,
    };
    for gpu in seen {
        let energy = of(gpu).as_ref();
        let energy = energy.map_err(|why| format!("{}: {why}", gpu.name))?;
        sum.joules += energy.joules;
        sum.low += energy.low;
        sum.high += energy.high;
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Method;

    fn gpu(index: u32, joules: Result<f64, &str>) -> GpuSeen {
        let energy = joules.map_err(str::to_owned).map(|joules| Energy {
            joules,
            low: 0.9 * joules,
            high: 1.1 * joules,
        });
        GpuSeen {
            method: Method::Nvml,
            index,
            name: format!("gpu-{index} X"),
            by_counter: index == 0,
            rest_seen: index == 0,
            others_seen: index == 0,
            attributed: energy.clone(),
            energy,
            notes: Vec::new(),
        }
    }

    #[test]
    fn a_sum_is_of_all_gpus_or_of_none() {
        let both = [gpu(0, Ok(10.0)), gpu(1, Ok(20.0))];
        let energy = sum(&both, |gpu| &gpu.energy).unwrap();
        assert_eq!((energy.joules, energy.low), (30.0, 27.0));
        assert_eq!(names(&both), "gpu-0 X, gpu-1 X (power, integrated)");
        let how = how_shared(&both);
        assert!(
            how.contains("guessed of gpu-1 X; as if no process"),
            "{how}"
        );
        let one = [gpu(0, Ok(10.0)), gpu(1, Err("gone"))];
        assert_eq!(sum(&one, |gpu| &gpu.energy), Err("gpu-1 X: gone".into()));
    }
}
