//! Energy counters in plain files, `energy/NAME` below the root, each a number of µJ: what a new
//! source looks like, and what tests send through everything that reads one.

use std::path::Path;

use super::kept::Kept;
use super::{Domain, EnergyCounter, Method, Note, ReadFault, Unavailable, Zone};

/// The files and the domains that they count.
const FILES: [(&str, Domain); 2] = [("package", Domain::Package), ("dram", Domain::Dram)];

#[derive(Debug)]
struct Files {
    zones: Vec<Zone>,
    kept: Vec<Kept>,
    notes: Vec<Note>,
}

pub(super) fn open(root: &Path) -> Result<Box<dyn EnergyCounter>, Unavailable> {
    let mut files = Files {
        zones: Vec::new(),
        kept: Vec::new(),
        notes: Vec::new(),
    };
    for (name, domain) in FILES {
        match Kept::open(&root.join("energy").join(name)) {
            Ok(kept) => {
                files.kept.push(kept);
                files.zones.push(Zone {
                    method: Method::Files,
                    domain,
                    package: 0,
                    name: format!("file {name}"),
                    unit_joules: 1e-6,
                    modulus: None,
                });
            }
            Err(e) => files.notes.push(Note {
                domain: Some(domain),
                about: name.into(),
                why: format!("it has no file ({})", e.kind()),
            }),
        }
    }
    if files.zones.is_empty() {
        return Err(Unavailable::absent("there are no counter files"));
    }
    Ok(Box::new(files))
}

impl EnergyCounter for Files {
    fn zones(&self) -> &[Zone] {
        &self.zones
    }

    fn read(&mut self, out: &mut Vec<Result<u64, ReadFault>>) {
        let mut buffer = [0u8; 32];
        out.extend(self.kept.iter().map(|kept| {
            let text = kept.read(&mut buffer).map_err(|_| ReadFault::Failed)?;
            text.trim().parse().map_err(|_| ReadFault::Malformed)
        }));
    }

    fn notes(&self) -> &[Note] {
        &self.notes
    }
}
