//! A source that was tried: what came of it, and whether it is worth another try.

use super::{Unavailable, kept};

/// A source that was tried.
pub type Opened<T> = Option<Result<T, Unavailable>>;

/// Whether a source is to be opened: it was not tried, or there was no descriptor for it then.
pub fn is_to_be_tried<T>(source: &Opened<T>) -> bool {
    match source {
        None => true,
        Some(Ok(_)) => false,
        Some(Err(why)) => why.passing,
    }
}

/// What was opened of a source; where it is not whole and no descriptor is free, it is as good as
/// not tried, and the reason is that.
pub fn unless_starved<T>(
    what: &str,
    opened: Result<T, Unavailable>,
    is_whole: impl FnOnce(&T) -> bool,
) -> Result<T, Unavailable> {
    if opened.as_ref().is_ok_and(is_whole) || opened.as_ref().is_err_and(|why| why.passing) {
        return opened;
    }
    match kept::shortage() {
        Some(error) => Err(Unavailable::of(what, &error)),
        None => opened,
    }
}
