//! Lists of CPUs as the kernel writes them: `0-3,8,10-11`.

use std::collections::BTreeSet;

/// The kernel's largest NR_CPUS.
pub const MAX_CPUS: u32 = 8192;

/// Reads a CPU list; `None` where any piece of it makes no sense.
///
/// ```
/// use lithowatt::source::procfs::cpu_list;
/// assert_eq!(cpu_list("0-2,8\n"), Some(vec![0, 1, 2, 8]));
/// assert_eq!(cpu_list("3-1"), None);
/// assert_eq!(cpu_list("0-99999999"), None);
/// ```
pub fn cpu_list(text: &str) -> Option<Vec<u32>> {
    let mut cpus = Vec::new();
    for part in text.trim().split(',').filter(|p| !p.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if last < first || last >= MAX_CPUS {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

/// Reads what makes sense of a CPU list into sorted CPU numbers.
///
/// Pieces that make no sense are passed over, and numbers beyond the kernel's limit of 8192 CPUs
/// are not believed, so that a hostile text cannot ask for gigabytes.
///
/// ```
/// use lithowatt::source::procfs::parse_cpu_list;
/// assert_eq!(parse_cpu_list("0-2,5\n"), vec![0, 1, 2, 5]);
/// assert_eq!(parse_cpu_list("7-3,x,,-"), Vec::<u32>::new());
/// ```
#[doc(alias = "online")]
#[doc(alias = "cpumask")]
pub fn parse_cpu_list(text: &str) -> Vec<u32> {
    let mut cpus = BTreeSet::new();
    for piece in text.trim().split(',') {
        let piece = piece.trim();
        let (first, last) = piece.split_once('-').unwrap_or((piece, piece));
        if let (Ok(first), Ok(last)) = (first.trim().parse::<u32>(), last.trim().parse::<u32>()) {
            cpus.extend((first..=last).take_while(|cpu| *cpu < MAX_CPUS));
        }
    }
    cpus.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists() {
        assert_eq!(parse_cpu_list("0"), [0]);
        assert_eq!(parse_cpu_list(" 0-1, 4 ,4,3-2\n"), [0, 1, 4]);
        assert_eq!(parse_cpu_list("0-4294967295").len(), MAX_CPUS as usize);
        assert!(parse_cpu_list("-1,a-b,99999999999").is_empty());
    }
}
