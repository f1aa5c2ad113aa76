//! Writes the index of the processor table, and puts the functions that a worker runs beside each
//! other in the extension.
//!
//! A worker runs a fifth of the code, from all over it, and the kernel maps what is touched in
//! pieces of 64 KiB: nearly all of it would be in every worker's memory, and each process that a
//! worker forks for a call would pay for mapping it again. `linker/worker_functions.ld` lists these
//! functions by name; `make worker-functions` writes it. Names it lists that are not there, and a
//! linker that does not understand it, change nothing but the order.

use std::env;
use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::Command;

#[path = "src/model/pattern.rs"]
mod pattern;

const CPUS: &str = "src/model/cpus.csv";

const ORDER: &str = "linker/worker_functions.ld";

fn main() -> Result<(), Box<dyn Error>> {
    write_cpu_index()?;
    order_functions();
    Ok(())
}

/// Where each row of the processor table begins, by the last part of its pattern.
fn write_cpu_index() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={CPUS}");
    println!("cargo:rerun-if-changed=src/model/pattern.rs");
    let csv = fs::read_to_string(CPUS)?;
    let mut index = Vec::new();
    for row in pattern::rows(&csv) {
        let start = row.as_ptr() as usize - csv.as_ptr() as usize;
        let pattern = row.split(',').next().unwrap_or(row).trim();
        let last = pattern::last_part(pattern).unwrap_or("");
        index.push((pattern::key(last), u32::try_from(start)?));
    }
    index.sort_unstable();
    let path = Path::new(&env::var("OUT_DIR")?).join("cpu_index.rs");
    fs::write(path, format!("{index:?}"))?;
    Ok(())
}

fn order_functions() {
    println!("cargo:rerun-if-changed={ORDER}");
    println!("cargo:rerun-if-changed=build.rs");
    let variable = |name: &str| env::var(name).unwrap_or_default();
    // Users' workers gain by it. With symbols for debuggers functions stay where they would be:
    // valgrind, which the list is made with, has no names for those outside `.text`.
    let released = variable("PROFILE") == "release"
        && variable("DEBUG") == "false"
        && variable("CARGO_CFG_TARGET_OS") == "linux"
        && env::var_os("CARGO_FEATURE_EXTENSION_MODULE").is_some();
    if !released {
        return;
    }
    let order = Path::new(&variable("CARGO_MANIFEST_DIR")).join(ORDER);
    let argument = format!("-Wl,-T,{}", order.display());
    if understood(&argument, &variable) {
        println!("cargo:rustc-cdylib-link-arg={argument}");
    }
}

/// Whether the linker takes that argument: GNU ld and lld do, mold and gold do not.
fn understood(argument: &str, variable: &dyn Fn(&str) -> String) -> bool {
    let linker = match variable("RUSTC_LINKER") {
        none if none.is_empty() => "cc".to_owned(),
        linker => linker,
    };
    let flags = variable("CARGO_ENCODED_RUSTFLAGS");
    let chosen = flags
        .split(['\u{1f}', ' '])
        .filter_map(|flag| flag.split_once("-fuse-ld="));
    let tried = Path::new(&variable("OUT_DIR")).join("tried.so");
    let found = Command::new(linker)
        .args([
            "-shared",
            "-nostdlib",
            "-x",
            "c",
            "/dev/null",
            argument,
            "-o",
        ])
        .arg(&tried)
        .args(chosen.map(|(_, name)| format!("-fuse-ld={name}")))
        .output();
    found.is_ok_and(|found| found.status.success())
}
