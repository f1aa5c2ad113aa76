//! A perf counter that is used and closed only while its descriptor is ours.

use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::os::fd::AsRawFd;

use perf_event::Counter;

/// `PERF_EVENT_IOC_ID`: `_IOR('$', 7, __u64)` of include/uapi/linux/perf_event.h.
const IOC_ID: libc::c_ulong = 0x8008_2407;

/// A counter, distinguished from what the function may have opened under the same number since: all
/// perf
/// events share one inode, so the kernel's number of the event is compared.
#[derive(Debug)]
pub(crate) struct OwnCounter(ManuallyDrop<Counter>);

impl OwnCounter {
    pub(crate) fn new(counter: Counter) -> Self {
        Self(ManuallyDrop::new(counter))
    }

    /// Whether its descriptor still is this counter.
    pub(crate) fn is_ours(&self) -> bool {
        let mut id = 0u64;
        // SAFETY: the call writes 8 bytes to `id`; what is no perf event refuses the number, which
        // stands for nothing else.
        let known = unsafe { libc::ioctl(self.0.as_raw_fd(), IOC_ID as _, &raw mut id) } == 0;
        known && id == self.0.id()
    }
}

impl Deref for OwnCounter {
    type Target = Counter;

    fn deref(&self) -> &Counter {
        &self.0
    }
}

impl DerefMut for OwnCounter {
    fn deref_mut(&mut self) -> &mut Counter {
        &mut self.0
    }
}

impl Drop for OwnCounter {
    fn drop(&mut self) {
        if self.is_ours() {
            // SAFETY: nobody uses it after this.
            unsafe { ManuallyDrop::drop(&mut self.0) };
        }
    }
}
