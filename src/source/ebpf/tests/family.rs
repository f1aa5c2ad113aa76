//! Who belongs to a tree: before and after it was followed, nested, with threads, after exec, after
//! its root's end. And that nothing is left of those who have gone.

use super::*;

/// A tree, and what its place had counted before it.
struct Tree {
    followed: Followed,
    start: u64,
}

fn follow(probes: &Probes, pid: i32) -> Tree {
    let followed = probes.follow(Some(pid as u32)).unwrap();
    let start = probes.used(&followed, || None).unwrap().ns;
    Tree { followed, start }
}

fn used(probes: &Probes, tree: &Tree) -> u64 {
    probes.used(&tree.followed, || None).unwrap().ns - tree.start
}

fn slot(probes: &Probes, tree: &Tree) -> Slot {
    probes.slots.get(tree.followed.slot as usize)
}

fn fork_and_burn(ms: u64, to: &OwnedFd) {
    if bare_fork() == 0 {
        burn(Duration::from_millis(ms));
        finish(to);
    }
}

#[track_caller]
fn assert_close(probe: u64, truth: u64, what: &str) {
    println!(
        "{what}: {probe} of {truth} ns: off by {:.3} %",
        off(probe, truth)
    );
    assert!(off(probe, truth).abs() < 2.0, "{what}: {probe} of {truth}");
}

#[test]
fn children_that_were_there_before_belong() {
    let Some(probes) = probe() else { return };
    let (is_ready, ready) = pipe();
    let (wait, go) = pipe();
    let mut child = fork(|to| {
        if bare_fork() == 0 {
            say(&ready, 1);
            hear(&wait);
            burn(Duration::from_millis(200));
            finish(to);
        }
        wait_for_all();
    });
    child.begin();
    hear(&is_ready);
    let tree = follow(&probes, child.pid);
    say(&go, 1);
    let ended = child.wait();
    assert_close(used(&probes, &tree), ended.rusage_ns, "a child from before");
}

#[test]
fn a_tree_in_a_tree_is_counted_in_both() {
    let Some(probes) = probe() else { return };
    let (is_ready, ready) = pipe();
    let (wait, go) = pipe();
    let mut outer_root = fork(|to| {
        let inner = bare_fork();
        if inner == 0 {
            hear(&wait);
            fork_and_burn(60, to);
            burn(Duration::from_millis(60));
            wait_for_all();
            finish(to);
        }
        say(&ready, inner as u64);
        burn(Duration::from_millis(40));
        wait_for_all();
    });
    let outer = follow(&probes, outer_root.pid);
    outer_root.begin();
    let mut inner_pid = [0u8; 8];
    io::Read::read_exact(&mut fs::File::from(is_ready), &mut inner_pid).unwrap();
    let inner_pid = u64::from_ne_bytes(inner_pid);
    let inner = follow(&probes, inner_pid as i32);
    say(&go, 1);
    let ended = outer_root.wait();
    let (outer_ns, inner_ns) = (used(&probes, &outer), used(&probes, &inner));
    assert_close(outer_ns, ended.rusage_ns, "the outer tree");
    assert!(inner_ns > 119_000_000 && inner_ns < outer_ns - 39_000_000);
    for tree in [&inner, &outer] {
        let slot = slot(&probes, tree);
        assert!(slot.members == 0 && slot.ended != 0);
    }
    assert_eq!(slot(&probes, &inner).parent, outer.followed.slot);
}

#[test]
fn threads_are_counted() {
    let Some(probes) = probe() else { return };
    let child = fork(|_| {
        std::thread::scope(|s| {
            for _ in 0..3 {
                s.spawn(|| burn(Duration::from_millis(40)));
            }
        });
    });
    let tree = follow(&probes, child.pid);
    let ended = child.wait();
    assert!(ended.rusage_ns >= 120_000_000);
    assert_close(used(&probes, &tree), ended.rusage_ns, "threads");
}

/// Pages of memory, all zero, none of them there yet.
fn pages(count: usize) -> *mut u8 {
    let rights = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a fresh anonymous mapping, of which nothing else knows.
    unsafe {
        let at = libc::mmap(std::ptr::null_mut(), count * PAGE, rights, flags, -1, 0);
        assert_ne!(at, libc::MAP_FAILED);
        libc::madvise(at, count * PAGE, libc::MADV_NOHUGEPAGE);
        at.cast()
    }
}

const PAGE: usize = 4096;
/// The kernel looks at no more than 2048.
const LOCKS: usize = 2000;

/// Has the kernel look at 2000 locks, a page each, when the calling thread ends, and write into the
/// first, which the thread holds. That takes it a while, in the middle of the thread's end.
fn end_slowly(locks: *mut u8) {
    /// The kernel's `robust_list_head`: first lock, where its word is, one that is being taken.
    #[repr(C)]
    struct Head(*mut u8, usize, *mut u8);
    let lists = pages(LOCKS);
    let word = (locks as usize).wrapping_sub(lists as usize);
    let head = Box::leak(Box::new(Head(lists, word, std::ptr::null_mut())));
    // SAFETY: each list element lies in its own page of `lists`, and the first word in `locks`; what
    // the kernel is told of lives until the process ends.
    unsafe {
        for i in 0..LOCKS {
            let next = match i + 1 {
                LOCKS => (&raw mut *head).cast(),
                next => lists.add(next * PAGE),
            };
            lists.add(i * PAGE).cast::<*mut u8>().write(next);
        }
        locks.cast::<u32>().write(libc::gettid() as u32);
        let kept = libc::syscall(libc::SYS_set_robust_list, &raw mut *head, size_of::<Head>());
        assert_eq!(kept, 0);
    }
}

/// One thread's end begins last, and is over while another is still in the middle of its own.
#[test]
fn a_thread_that_outlives_the_last_to_end_is_counted() {
    let Some(probes) = probe() else { return };
    // Only where both run at the same time: a busy machine does not always let them.
    for _ in 0..10 {
        let child = fork(|to| {
            let locks = pages(LOCKS) as usize;
            // SAFETY: aligned, and it lives until the process ends.
            let first = unsafe { std::sync::atomic::AtomicU32::from_ptr(locks as *mut u32) };
            let _other = std::thread::spawn(move || {
                burn(Duration::from_millis(5));
                end_slowly(locks as *mut u8);
            });
            while first.load(Ordering::Acquire) & libc::FUTEX_OWNER_DIED == 0 {
                std::hint::spin_loop();
            }
            finish(to);
        });
        let tree = follow(&probes, child.pid);
        // It waits to begin.
        let before = clock::process_cpu_ns(child.pid).unwrap();
        let ended = child.wait();
        wait_until(|| slot(&probes, &tree).members == 0);
        let used = used(&probes, &tree);
        assert_close(used, ended.rusage_ns - before, "a thread after the last");
    }
}

const SHELL: [&std::ffi::CStr; 3] = [
    c"/bin/sh",
    c"-c",
    c"i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done; (exit 0); :",
];

fn exec() -> ! {
    let [path, flag, script] = SHELL.map(std::ffi::CStr::as_ptr);
    // SAFETY: all are strings with their NUL, the list ends in null.
    unsafe { libc::execl(path, path, flag, script, std::ptr::null::<libc::c_char>()) };
    end()
}

#[test]
fn another_program_goes_on_where_it_was_started() {
    let Some(probes) = probe() else { return };
    let child = fork(|_| exec());
    let tree = follow(&probes, child.pid);
    let ended = child.wait();
    assert_close(used(&probes, &tree), ended.rusage_ns, "exec");

    // By a thread: it takes the place of the first.
    let child = fork(|_| {
        let _ = std::thread::spawn(|| exec()).join();
    });
    let tree = follow(&probes, child.pid);
    let ended = child.wait();
    assert_close(used(&probes, &tree), ended.rusage_ns, "exec by a thread");
    assert_eq!(slot(&probes, &tree).members, 0);
}

#[test]
fn a_tree_outlives_its_root() {
    let Some(probes) = probe() else { return };
    let child = fork(|to| {
        for _ in 0..2 {
            fork_and_burn(80, to);
        }
    });
    let root = child.pid;
    let tree = follow(&probes, root);
    let ended = child.wait();
    let ns = used(&probes, &tree);
    println!("after the root's end: {ns} of {} ns", ended.said_ns);
    assert!(ns as f64 > 0.99 * ended.said_ns as f64);
    // Its last member is still taking itself apart, or waits to be taken.
    wait_until(|| slot(&probes, &tree).members == 0);
    let slot = slot(&probes, &tree);
    assert_ne!(slot.ended, 0);
    assert_eq!(slot.lost, 0);

    // The place is given away, and what was seen of the first tree stands.
    let last = used(&probes, &tree);
    let other = fork(|_| burn(Duration::from_millis(5)));
    let next = follow(&probes, other.pid);
    let place = |tree: &Tree| (tree.followed.slot, tree.followed.generation);
    let (first, second) = (place(&tree), place(&next));
    // Meters elsewhere on this machine take places, too.
    assert!(second.0 != first.0 || second.1 > first.1);
    other.wait();
    assert_eq!(used(&probes, &tree), last);
}

#[test]
fn nothing_is_left_of_the_dead() {
    let Some(probes) = probe() else { return };
    let mut pids = Vec::new();
    for i in 0..300 {
        let child = fork(|_| {
            if i % 3 == 0 {
                std::thread::scope(|s| {
                    s.spawn(|| burn(Duration::from_micros(200)));
                });
            }
        });
        pids.push(child.pid as u32);
        child.wait();
    }
    wait_until(|| pids.iter().all(|pid| probes.process(*pid).is_none()));
    let left: Vec<_> = pids
        .iter()
        .filter(|pid| probes.process(**pid).is_some())
        .collect();
    assert!(left.is_empty(), "{left:?}");
    let control = probes.control();
    let listed = probes.processes().unwrap().len() as u64;
    println!("{control:?}, {listed} listed");
    assert!(control.exits >= 300);
    // Others come and go in between.
    assert!((control.forks - control.exits).abs_diff(listed) < 50);
    assert!(u64::from(control.processes) < 300, "places are used again");
}

/// Threads of one process leave CPUs at the same moment, and each looks for its tree.
#[test]
fn a_process_is_one_member_however_many_threads_it_has() {
    let Some(probes) = probe() else { return };
    for _ in 0..60 {
        let (is_ready, ready) = pipe();
        let mut child = fork(|_| {
            if bare_fork() == 0 {
                say(&ready, 1);
                std::thread::scope(|s| {
                    for _ in 0..4 {
                        s.spawn(|| {
                            let end = Instant::now() + Duration::from_millis(8);
                            while Instant::now() < end {
                                std::thread::yield_now();
                            }
                        });
                    }
                });
                end();
            }
            wait_for_all();
        });
        child.begin();
        hear(&is_ready);
        std::thread::sleep(Duration::from_millis(2));
        let tree = follow(&probes, child.pid);
        child.wait();
        wait_until(|| slot(&probes, &tree).members == 0);
        let slot = slot(&probes, &tree);
        assert!(slot.members == 0 && slot.ended != 0, "{slot:?}");
    }
}
