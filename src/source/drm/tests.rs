use super::*;

const SLOT: &str = "0000:03:00.0";

/// Processes that have files of `/dev/dri` open, below a root.
struct Machine {
    root: tempfile::TempDir,
    nodes: Vec<String>,
}

impl Machine {
    fn new() -> Self {
        let machine = Self {
            root: tempfile::tempdir().unwrap(),
            nodes: vec!["card1".into(), "renderD128".into()],
        };
        fs::create_dir_all(machine.process(1).join("fd")).unwrap();
        machine
    }

    fn process(&self, pid: i32) -> PathBuf {
        self.root.path().join(format!("proc/{pid}"))
    }

    fn open(&self, pid: i32, fd: u32, text: &str) {
        let process = self.process(pid);
        for name in ["fd", "fdinfo"] {
            fs::create_dir_all(process.join(name)).unwrap();
        }
        let link = process.join(format!("fd/{fd}"));
        if !link.is_symlink() {
            std::os::unix::fs::symlink("/dev/dri/renderD128", link).unwrap();
        }
        fs::write(process.join(format!("fdinfo/{fd}")), text).unwrap();
    }

    /// The answer of the look that is due, however early it is.
    fn look(&self, clients: &mut Clients) -> Option<Told> {
        clients.due_ns = 0;
        self.again(clients)
    }

    fn again(&self, clients: &mut Clients) -> Option<Told> {
        clients.again_ns = 0;
        let place = Place {
            slot: SLOT,
            nodes: &self.nodes,
            asleep: false,
        };
        clients.look(&[place]).remove(SLOT)
    }

    fn clients(&self) -> Clients {
        Clients::below(self.root.path())
    }
}

fn amdgpu(client: u64, engines: &[(&str, u64)]) -> String {
    let mut text =
        format!("pos:\t0\ndrm-driver:\tamdgpu\ndrm-client-id:\t{client}\ndrm-pdev:\t{SLOT}\n");
    for (name, ms) in engines {
        text += &format!("drm-engine-{name}:\t{} ns\n", ms * 1_000_000);
    }
    text
}

fn xe(client: u64, cycles: u64, total: u64) -> String {
    format!(
        "drm-driver:\txe\ndrm-client-id:\t{client}\ndrm-pdev:\t{SLOT}\n\
         drm-cycles-rcs:\t{cycles}\ndrm-total-cycles-rcs:\t{total}\n"
    )
}

/// Each use's processes and busy ms.
fn busy(told: &Told) -> Vec<(Vec<i32>, i64)> {
    let ms = |one: &Use| (one.percent * told.seconds * 10.0).round() as i64;
    let mut all: Vec<_> = told
        .uses
        .iter()
        .map(|one| (one.pids.clone(), ms(one)))
        .collect();
    all.sort();
    all
}

#[test]
fn a_client_is_counted_once_however_often_it_is_open() {
    let machine = Machine::new();
    let mut clients = machine.clients();
    let show = |own: u64, other: u64| {
        for fd in [5, 6, 9] {
            machine.open(70, fd, &amdgpu(7, &[("gfx", own)]));
        }
        machine.open(71, 4, &amdgpu(8, &[("gfx", 0), ("compute", other)]));
        machine.open(72, 4, &amdgpu(8, &[("gfx", 0), ("compute", other)]));
    };
    show(9000, 100);
    assert_eq!(machine.look(&mut clients), None);
    show(9040, 120);
    let told = machine.look(&mut clients).unwrap();
    assert_eq!(busy(&told), [(vec![70], 40), (vec![71, 72], 20)]);
    assert!(!told.hidden && !told.silent && told.unreadable.is_empty());
    // Nothing more, and numbers that went back.
    show(9035, 120);
    assert_eq!(busy(&machine.look(&mut clients).unwrap()), []);
}

#[test]
fn what_ends_has_what_it_was_last_seen_with_and_is_then_forgotten() {
    let machine = Machine::new();
    let mut clients = machine.clients();
    machine.open(70, 5, &amdgpu(7, &[("gfx", 100)]));
    machine.look(&mut clients);
    machine.open(70, 5, &amdgpu(7, &[("gfx", 130)]));
    // Between two looks through all processes.
    assert_eq!(machine.again(&mut clients), None);
    fs::remove_dir_all(machine.process(70)).unwrap();
    let told = machine.look(&mut clients).unwrap();
    assert_eq!(busy(&told), [(vec![70], 30)]);
    assert_eq!(busy(&machine.look(&mut clients).unwrap()), []);
    assert!(clients.known.is_empty());
}

#[test]
fn a_client_that_is_new_began_at_nothing_and_had_no_more_than_there_was() {
    let machine = Machine::new();
    let mut clients = machine.clients();
    machine.open(70, 5, &amdgpu(7, &[("gfx", 0)]));
    machine.look(&mut clients);
    std::thread::sleep(std::time::Duration::from_millis(30));
    machine.open(71, 5, &amdgpu(8, &[("gfx", 20)]));
    machine.open(72, 5, &amdgpu(9, &[("gfx", 3_600_000)]));
    let told = machine.look(&mut clients).unwrap();
    let most = (told.seconds * 1e3).round() as i64;
    assert_eq!(busy(&told), [(vec![71], 20), (vec![72], most)]);
}

#[test]
fn copying_is_use_only_where_nothing_else_works() {
    let machine = Machine::new();
    let mut clients = machine.clients();
    let show = |work: u64, copy: u64| {
        machine.open(70, 5, &amdgpu(7, &[("gfx", work), ("enc", work)]));
        machine.open(71, 5, &amdgpu(8, &[("dma", copy)]));
    };
    show(0, 0);
    machine.look(&mut clients);
    show(10, 50);
    let told = machine.look(&mut clients).unwrap();
    assert_eq!(busy(&told), [(vec![70], 20)]);
    show(10, 90);
    let told = machine.look(&mut clients).unwrap();
    assert_eq!(busy(&told), [(vec![71], 40)]);
}

#[test]
fn cycles_are_a_part_of_the_timestamp() {
    let machine = Machine::new();
    let mut clients = machine.clients();
    machine.open(70, 5, &xe(3, 500, 1_000_000));
    machine.look(&mut clients);
    machine.open(70, 5, &xe(3, 500 + 4_000, 1_010_000));
    machine.open(71, 5, &xe(4, 1_000, 1_010_000));
    let told = machine.look(&mut clients).unwrap();
    let mut percents: Vec<i64> = told
        .uses
        .iter()
        .map(|one| one.percent.round() as i64)
        .collect();
    percents.sort_unstable();
    assert_eq!(percents, [10, 40]);
}

#[test]
fn other_devices_are_passed_over_and_a_silent_driver_is_told() {
    let machine = Machine::new();
    let mut clients = machine.clients();
    let other = amdgpu(7, &[("gfx", 10)]).replace(SLOT, "0000:33:00.0");
    machine.open(70, 5, &other);
    machine.open(70, 6, "drm-driver:\tmsm\ndrm-client-id:\t1\n");
    machine.look(&mut clients);
    assert!(!machine.look(&mut clients).unwrap().silent);
    machine.open(71, 5, "pos:\t0\nflags:\t02\n");
    assert!(machine.look(&mut clients).unwrap().silent);
    fs::remove_dir_all(machine.process(71)).unwrap();
    assert!(!machine.look(&mut clients).unwrap().silent);
}

#[test]
fn where_process_1_is_not_shown_others_may_not_be_either() {
    let machine = Machine::new();
    let mut clients = machine.clients();
    machine.look(&mut clients);
    fs::remove_dir_all(machine.process(1)).unwrap();
    assert!(machine.look(&mut clients).unwrap().hidden);
}

#[test]
fn a_card_that_sleeps_is_not_asked() {
    let machine = Machine::new();
    let mut clients = machine.clients();
    machine.open(70, 5, &amdgpu(7, &[("gfx", 100)]));
    let sleeping = Place {
        slot: SLOT,
        nodes: &machine.nodes,
        asleep: true,
    };
    let (other, nodes) = ("0000:05:00.0", ["renderD129".to_owned()]);
    let awake = Place {
        slot: other,
        nodes: &nodes,
        asleep: false,
    };
    assert!(clients.look(&[sleeping]).is_empty() && clients.looks == 0);
    clients.look(&[sleeping, awake]);
    assert!(!clients.files.is_empty() && clients.known.is_empty());
    // It sleeps since its files were found.
    machine.look(&mut clients);
    machine.open(70, 5, &amdgpu(7, &[("gfx", 900)]));
    clients.again_ns = 0;
    clients.look(&[sleeping, awake]);
    let known = &clients.known[&(SLOT.to_owned(), 7)];
    assert_eq!(known.now["gfx"].busy, 100_000_000);
}

#[test]
fn looks_are_as_seldom_as_their_cost_asks_for() {
    let machine = Machine::new();
    for pid in 100..600 {
        for fd in 0..20 {
            machine.open(pid, fd, "");
            let link = machine.process(pid).join(format!("fd/{fd}"));
            fs::remove_file(&link).unwrap();
            std::os::unix::fs::symlink("/dev/null", link).unwrap();
        }
    }
    let mut clients = machine.clients();
    for _ in 0..3 {
        machine.look(&mut clients);
    }
    let (spent_ns, began_ns) = (clock::own_thread_cpu_ns(), clock::monotonic_ns());
    machine.look(&mut clients);
    let cost_ns = clock::own_thread_cpu_ns() - spent_ns;
    eprintln!(
        "{:.1} ms for 500 processes with 20 files each",
        cost_ns as f64 * 1e-6
    );
    let pause_ns = clients.due_ns - began_ns;
    assert!(pause_ns >= LOOK_NS && pause_ns as f64 >= 0.9 * 125.0 * cost_ns as f64);
}

/// Runs `f` without the right to read what is root's, where this process is root.
fn as_another_user<T>(f: impl FnOnce() -> T) -> T {
    // SAFETY: both calls change who this thread alone is to file systems, and take plain numbers.
    let set = |user: u32| unsafe { libc::setfsuid(user) };
    let before = set(65_534);
    let result = f();
    set(u32::try_from(before).unwrap());
    result
}

#[test]
fn what_cannot_be_read_may_hide_a_client_unless_it_can_have_no_file_open() {
    use std::os::unix::fs::PermissionsExt;
    let machine = Machine::new();
    let mut clients = machine.clients();
    machine.open(70, 5, &amdgpu(7, &[("gfx", 1)]));
    // A process of somebody else, a thread of the kernel, and one that has ended.
    for (pid, statm) in [(80, "4096 300 200 1 0 90 0\n"), (81, "0 0 0 0 0 0 0\n")] {
        let place = machine.process(pid).join("fd");
        fs::create_dir_all(&place).unwrap();
        fs::write(machine.process(pid).join("statm"), statm).unwrap();
        fs::set_permissions(place, fs::Permissions::from_mode(0o000)).unwrap();
    }
    let root = fs::Permissions::from_mode(0o755);
    fs::set_permissions(machine.root.path(), root).unwrap();
    let told = as_another_user(|| {
        machine.look(&mut clients);
        machine.look(&mut clients)
    })
    .unwrap();
    assert!(told.hidden);
    assert_eq!(told.unreadable, [80]);
}
