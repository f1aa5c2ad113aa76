#!/usr/bin/env bash
# perf-event-data 0.1.8 (crates.io), as perf-event2 0.7.4 uses it; Rust 1.95
#
# Parser::parse_slice: "Attempt to directly transmute a slice in the source buffer and, if that fails, parse it
# instead."
#
# Expected: of the bytes of the numbers 1 to 8 the first four are 1, 2, 3, 4, wherever the bytes lie.
# Seen: where they do not begin at a multiple of 8 they are 5, 6, 7, 8, and where there are only four, "unexpected
# EOF during parsing": the direct way has consumed the bytes when it finds that they are not aligned, and the
# other begins behind them. Counter::read_group of perf-event2 reads into a Vec<u8>, which may begin anywhere with
# an allocator that gives no more alignment than was asked for; seven of eight reads of a group are then errors.
#
# Needs cargo.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
mkdir src
cat > Cargo.toml <<'TOML'
[package]
name = "shown"
version = "0.0.0"
edition = "2021"

[dependencies]
perf-event-data = "=0.1.8"
TOML
cat > src/main.rs <<'RUST'
use perf_event_data::endian::Native;
use perf_event_data::parse::{ParseConfig, Parser};

#[repr(align(8))]
struct Aligned([u8; 72]);

fn main() {
    let mut buffer = Aligned([0; 72]);
    for shift in [0, 1] {
        for count in [8u64, 4] {
            let mut end = shift;
            for number in 1..=count {
                buffer.0[end..end + 8].copy_from_slice(&number.to_ne_bytes());
                end += 8;
            }
            let config = ParseConfig::<Native>::default();
            let mut parser = Parser::new(&buffer.0[shift..end], config);
            // Any bytes are a valid u64.
            let four = unsafe { parser.parse_slice::<u64>(4) };
            println!("{shift} {count} {:?}", four.map_err(|why| why.to_string()));
        }
    }
}
RUST
cargo run --quiet > shown
cat shown
cat > expected <<'TEXT'
0 8 Ok([1, 2, 3, 4])
0 4 Ok([1, 2, 3, 4])
1 8 Ok([5, 6, 7, 8])
1 4 Err("unexpected EOF during parsing")
TEXT
diff expected shown
echo "seen as stated"
