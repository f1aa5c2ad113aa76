//! Threads of ours, made in the cheapest way: a worker is forked for every call, and each of them starts
//! one.

use std::ffi::{CStr, c_void};
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

/// Stack of the thread, bytes.
const STACK: usize = 128 * 1024;

/// What the thread does.
type Work = Box<dyn FnOnce() + Send>;

/// What a new thread is given: its name and what it does.
type Given = (&'static CStr, Work);

/// Starts a thread with all signals blocked and returns its id, 0 where it is not known (it has ended
/// already); `None` where the system refuses.
///
/// The standard library's threads allocate before they do anything, which gives each an arena of its
/// own (four system calls and as many page faults), and end the process where memory is short. What a
/// thread made here does first is `work`.
pub fn spawn(work: Work) -> Option<i32> {
    spawn_with(c"lithowatt", STACK, work)
}

/// The same with a name, of which the system shows 15 bytes, and a stack of so many bytes.
pub fn spawn_with(name: &'static CStr, stack: usize, work: Work) -> Option<i32> {
    let argument = Box::into_raw(Box::<Given>::new((name, work)));
    // Signals are the user's: with all of them blocked here they reach the threads they reach
    // without us. The mask is inherited, so it is set round the start.
    // SAFETY: both sets live on this stack and are filled by the calls that get them; the attributes
    // are made before they are used and destroyed after; `argument` is taken by the thread if there
    // is one, which nobody else has.
    unsafe {
        let mut all = MaybeUninit::<libc::sigset_t>::uninit();
        let mut old = MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigfillset(all.as_mut_ptr());
        let masked = libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), old.as_mut_ptr()) == 0;
        let mut attributes = MaybeUninit::<libc::pthread_attr_t>::uninit();
        let mut thread = MaybeUninit::<libc::pthread_t>::uninit();
        let mut started = masked && libc::pthread_attr_init(attributes.as_mut_ptr()) == 0;
        if started {
            libc::pthread_attr_setstacksize(attributes.as_mut_ptr(), stack);
            started = libc::pthread_create(
                thread.as_mut_ptr(),
                attributes.as_ptr(),
                body,
                argument.cast::<c_void>(),
            ) == 0;
            libc::pthread_attr_destroy(attributes.as_mut_ptr());
        }
        if masked {
            libc::pthread_sigmask(libc::SIG_SETMASK, old.as_ptr(), ptr::null_mut());
        }
        if !started {
            drop(Box::from_raw(argument));
            return None;
        }
        let thread = thread.assume_init();
        let mut clock: libc::clockid_t = 0;
        let known = libc::pthread_getcpuclockid(thread, &mut clock) == 0;
        libc::pthread_detach(thread);
        // The clock of a thread is made of its id: see CPUCLOCK_PID in the kernel's
        // include/linux/posix-timers_types.h.
        Some(if known { !(clock >> 3) } else { 0 })
    }
}

extern "C" fn body(argument: *mut c_void) -> *mut c_void {
    // SAFETY: made by `spawn`, which leaves it to this thread alone.
    let (name, work) = *unsafe { Box::from_raw(argument.cast::<Given>()) };
    // SAFETY: the name is a string that ends with 0.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
    // A panic must not cross into C, nor end the process that is metered.
    let _ = catch_unwind(AssertUnwindSafe(work));
    ptr::null_mut()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn its_id_is_the_threads_own_and_no_signal_reaches_it() {
        let (tell, told) = channel();
        let (end, ended) = channel::<()>();
        let id = spawn(Box::new(move || {
            // SAFETY: the set is written by the call; nothing is changed.
            let blocked = unsafe {
                let mut now: libc::sigset_t = std::mem::zeroed();
                libc::pthread_sigmask(libc::SIG_BLOCK, ptr::null(), &mut now);
                libc::sigismember(&now, libc::SIGINT) == 1
            };
            let name = std::fs::read_to_string("/proc/thread-self/comm").unwrap();
            tell.send((crate::clock::gettid(), blocked, name)).unwrap();
            // A thread that has ended has no id.
            let _ = ended.recv();
        }));
        let (own, blocked, name) = told.recv().unwrap();
        assert_eq!(id, Some(own));
        drop(end);
        assert!(blocked);
        assert_eq!(name, "lithowatt\n");
    }

    #[test]
    fn a_panic_ends_the_thread_and_no_more() {
        struct Told(std::sync::mpsc::Sender<()>);
        impl Drop for Told {
            fn drop(&mut self) {
                let _ = self.0.send(());
            }
        }
        let (tell, told) = channel();
        let held = Told(tell);
        assert!(
            spawn(Box::new(move || {
                let _held = held;
                std::panic::resume_unwind(Box::new(()));
            }))
            .is_some()
        );
        told.recv().unwrap();
    }
}
