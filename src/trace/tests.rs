use super::*;
use crate::source::Domain;
use crate::source::busy::BusyCpus;

fn zones() -> Vec<Zone> {
    [Method::Rapl, Method::Perf]
        .map(|method| Zone {
            method,
            domain: Domain::Package,
            package: 0,
            name: "package-0".into(),
            unit_joules: 2f64.powi(-32),
            modulus: None,
        })
        .to_vec()
}

/// A frame without anything empty in it.
fn full() -> Frame {
    Frame {
        kind: Kind::End,
        t_ns: u64::MAX / 3,
        slack_ns: 17,
        asleep_ns: Some(0),
        reads: vec![
            Some((u64::MAX / 3 - 900, 40)),
            Some((u64::MAX / 3 + 900, 0)),
        ],
        raw: vec![Ok(u64::MAX), Err(ReadFault::Vanished)],
        cpu: Some(CpuTimes {
            own_ns: Some(9),
            inside_ns: Some(7),
            may_be_late: true,
            began_ns: 1,
            ended_ns: u64::MAX / 3 + 5,
            tree: Some(TreeCount {
                task_clock_ns: Some(3),
                cycles: None,
                instructions: Some(4),
            }),
        }),
        busy: Some(MachineShown {
            cpus: 4,
            turns: 2,
            looked_at_ns: 8,
            capacity_ns: 1 << 60,
            idle_ns: Some(1),
            waiting_ns: 10_000_000,
            witness: 3,
            unknown: Some(5),
            genuine: true,
        }),
        sandbox: Some(SandboxCount {
            used_ns: None,
            periods: 1,
            throttled_periods: 2,
            throttled_ns: 3,
        }),
        rss_bytes: Some(1),
        high_water_bytes: None,
        missed: Missed {
            unwaited: 1,
            discarding: 2,
            root_ended: true,
            hidden: true,
            ..Missed::default()
        },
        system: Some(SystemEdge {
            stat: Some(StatLine {
                user: 1,
                system: 2,
                idle: 3,
                iowait: 4,
                steal: 5,
            }),
            disk: None,
            net: Some(InOut {
                input: 6,
                output: 7,
            }),
        }),
        state: Some(SystemState {
            memory: Some(Memory {
                total: 8,
                available: 9,
            }),
            load_1m: Some(0.1 + 0.2),
            frequency_mhz: None,
            temperature_celsius: Some(-0.0),
        }),
        traffic: Some(Stretch {
            counter: Counter::Resctrl,
            from_ns: u64::MAX / 3 - 7,
            to_ns: u64::MAX / 3 + 7,
            bytes: 1 << 40,
        }),
        work: Some(busy::Stretch {
            from_ns: u64::MAX / 3 - 7,
            to_ns: u64::MAX / 3 + 7,
            seen: BusyCpus {
                spread: Some(0.1 + 0.2),
                threads: Some(1.0 + 0.1 + 0.2),
                clock: Some(Clock {
                    low: 1.5,
                    mhz: 2500.1,
                    high: 2600.0,
                }),
            },
        }),
        drift_ns: Some(-12),
        refused: true,
    }
}

#[test]
fn a_frame_is_read_as_it_was_written() {
    let layout = Layout::of(&zones());
    let width = layout.columns().len();
    let mut rows = Vec::new();
    let mut frames = [full(), layout.frame(), full()];
    frames[2].cpu = Some(CpuTimes::default());
    for frame in &mut frames {
        layout.write(frame, &mut rows);
    }
    assert_eq!(rows.len(), 3 * width);
    let again = decode(&encode(&rows, width), width).unwrap();
    assert_eq!(again, rows);
    for (frame, row) in frames.iter().zip(again.chunks_exact(width)) {
        assert_eq!(format!("{:?}", layout.read(row)), format!("{frame:?}"));
    }
}

#[test]
fn what_cannot_be_of_cpus_that_work_is_not_read() {
    let layout = Layout::of(&zones());
    let place = |name: &str| layout.columns().iter().position(|c| c == name).unwrap();
    let mut row = Vec::new();
    layout.write(&mut full(), &mut row);
    for number in [f64::NAN, f64::INFINITY, -1.0, 1e300] {
        let mut row = row.clone();
        for name in ["work.spread", "work.threads", "work.mhz"] {
            row[place(name)] = number.to_bits() as i64;
        }
        let seen = layout.read(&row).work.unwrap().seen;
        assert_eq!(seen, BusyCpus::default(), "{number}");
    }
}

#[test]
fn every_column_has_a_name_of_its_own() {
    let columns = Layout::of(&zones()).columns();
    let mut sorted = columns.clone();
    sorted.sort();
    sorted.dedup();
    assert_eq!(sorted.len(), columns.len());
    assert!(columns.contains(&"zone.1.fault".to_owned()));
}

#[test]
fn extremes_survive_and_what_is_no_block_is_refused() {
    let rows = [i64::MAX, NONE, NONE + 1, 0, -1, i64::MAX, NONE, 1];
    for width in [1, 2, 4, 8] {
        assert_eq!(decode(&encode(&rows, width), width), Some(rows.to_vec()));
    }
    let whole = encode(&rows, 2);
    assert!((0..whole.len()).all(|length| decode(&whole[..length], 2).is_none()));
    assert!(decode(&[&whole[..], &[0]].concat(), 2).is_none());
    assert!(decode(&whole, 0).is_none() && decode(&encode(&[], 2), 2).is_none());
    // More rows than a block may have, in a few bytes.
    let mut many = Vec::new();
    push_varint(&mut many, 1 << 40);
    assert!(decode(&many, 1).is_none());
    let mut state = 1u64;
    for _ in 0..2_000 {
        let noise: Vec<u8> = (0..40)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                (state >> 56) as u8
            })
            .collect();
        let _ = decode(&noise, 3);
    }
}

#[test]
fn numbers_of_a_header_are_exact() {
    for number in [
        0.1 + 0.2,
        7.762_378_692_626_953,
        5e-324,
        2.220_446_049_250_313e-16,
    ] {
        let text = serde_json::to_vec(&number).unwrap();
        let read: f64 = json::read(&text).unwrap();
        assert_eq!(read.to_bits(), f64::to_bits(number));
    }
}
