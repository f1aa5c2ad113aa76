//! What a host's file holds: our agent's ring, scaphandre's counter, or watts as PowerJoular writes
//! them.

use std::path::Path;

use super::file::SharedFile;
use crate::source::ring::layout::{
    HEAD_WORDS, HEADER_WORDS, Head, Header, MAGIC, SAMPLES_AT, Sample, WORD, to_words,
};
use crate::source::{Method, ReadFault, Unavailable};

/// Bytes of a page; a ring's head is at the second.
const PAGE: usize = 4096;

/// scaphandre sleeps so long between two values, ns (src/exporters/qemu.rs of 1.0.0 to 1.0.3).
const SCAPHANDRE_NS: u64 = 5_000_000_000;

/// PowerJoular writes once a second, ns (its guide, "Reference").
const POWERJOULAR_NS: u64 = 1_000_000_000;

/// Watts of a time longer than this that was not looked at are a guess, ns.
const GUESSED_NS: u64 = 2 * POWERJOULAR_NS;

/// More than any host draws, W: a file that says so holds something else.
const MOST_WATTS: f64 = 20_000.0;

/// What a look at a file shows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Look {
    /// The host wrote a value since the last look.
    New(Value),
    /// It did not.
    Same,
    /// It is writing one: the file was emptied and is not filled yet, or a ring's row is not whole.
    InWriting,
}

/// A new value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Value {
    /// When it was true, on the host's clock, ns; `None` where nothing shows it.
    pub(super) host_ns: Option<i64>,
    /// J since some moment.
    pub(super) joules: f64,
    /// Mean power of late, W, where that is known beside it.
    pub(super) watts: Option<f64>,
}

#[derive(Debug)]
pub(super) enum Content {
    Ring {
        header: Box<Header>,
        number: u64,
    },
    Counter {
        raw: Option<u64>,
        written: Option<i64>,
        joules: f64,
    },
    Power {
        seen: Option<(f64, Option<i64>)>,
        joules: f64,
    },
}

impl Content {
    /// What the file at `path` is.
    pub(super) fn of(path: &Path, file: &mut SharedFile) -> Result<Self, Unavailable> {
        let shown = path.display();
        let refuse = |why: &str| Unavailable::absent(format!("{shown} is refused: {why}"));
        let start = file
            .pages(0, 1)
            .map_err(|fault| refuse(&fault.to_string()))?;
        if start.starts_with(&MAGIC.to_le_bytes()) {
            let header = header_of(start).map_err(|why| refuse(&why))?;
            return Ok(Self::Ring {
                header: Box::new(header),
                number: 0,
            });
        }
        if path.file_name().is_some_and(|name| name == "energy_uj") {
            return Ok(Self::Counter {
                raw: None,
                written: None,
                joules: 0.0,
            });
        }
        match watts_in(start) {
            Err(why) => Err(refuse(why)),
            Ok(_) => Ok(Self::Power {
                seen: None,
                joules: 0.0,
            }),
        }
    }

    /// Another file may be in the place of the one before. Whether it counts anew.
    pub(super) fn reopened(&mut self, file: &mut SharedFile) -> bool {
        if let Self::Ring { header, number } = self
            && let Ok(fresh) = file
                .pages(0, 1)
                .map_err(|_| String::new())
                .and_then(header_of)
            && fresh.generation != header.generation
        {
            **header = fresh;
            *number = 0;
            return true;
        }
        false
    }

    /// Whether what was used within `apart_ns` before a value is not in it, where that is longer than a host
    /// that writes its file is silent and the file was looked at `unseen_ns` before.
    pub(super) fn lacks(&self, apart_ns: u64, unseen_ns: u64) -> bool {
        match self {
            // Its agent reads counters that go on without it.
            Self::Ring { .. } => false,
            // While nobody looked its program may well have written: its sum has all of that, and watts are
            // those of the moment (see `is_a_guess`).
            Self::Counter { .. } | Self::Power { .. } => unseen_ns < apart_ns / 2,
        }
    }

    /// Whether a value is power of one moment of a time in which there were several, as the file was not looked at
    /// for `unseen_ns`.
    pub(super) fn is_a_guess(&self, unseen_ns: u64) -> bool {
        matches!(self, Self::Power { .. }) && unseen_ns > GUESSED_NS
    }

    /// A name for its zone.
    pub(super) fn title(&self, path: &Path) -> String {
        match self {
            Self::Ring { header, .. } => format!("guest {}", header.node),
            Self::Counter { .. } => {
                let folder = path.parent().and_then(Path::file_name);
                let folder = folder.unwrap_or_default().to_string_lossy();
                format!("scaphandre {folder}")
            }
            Self::Power { .. } => "host's power file".into(),
        }
    }

    /// By which rule the host found this machine's part, in a sentence for its reader.
    pub(super) fn rule(&self) -> &'static str {
        match self {
            Self::Ring { .. } => {
                "the host's agent gives this machine its part of what the host's packages and memory \
                 used above idle, by its process's CPU time; the host's power at rest is not in it, \
                 nor is the doubt about that division in the band"
            }
            Self::Counter { .. } => {
                "scaphandre on the host gives this machine its process's part of all CPUs of the host's \
                 power, rest too; each step of its file is read as watts until the next, which is what \
                 scaphandre 1.0 adds; the doubt about that division is not in the band"
            }
            Self::Power { .. } => {
                "a program on the host writes this machine's watts; PowerJoular divides all of the \
                 host's power, rest too, by CPU time among what runs; the doubt about that division is \
                 not in the band"
            }
        }
    }

    /// Time between two values, ns, as far as it is known beforehand.
    pub(super) fn period_ns(&self) -> Option<u64> {
        match self {
            Self::Ring { header, .. } => Some(header.period_ns),
            Self::Counter { .. } => Some(SCAPHANDRE_NS),
            Self::Power { .. } => Some(POWERJOULAR_NS),
        }
    }

    /// Looks whether the host wrote a value since the last look.
    pub(super) fn look(&mut self, file: &mut SharedFile) -> Result<Look, ReadFault> {
        match self {
            Self::Ring { header, number } => ring(header, number, file.pages(1, 2)?),
            Self::Counter {
                raw,
                written,
                joules,
            } => {
                let now_written = file.written_ns();
                let Some(line) = line(file.pages(0, 1)?)? else {
                    return Ok(Look::InWriting);
                };
                let now: u64 = line.parse().map_err(|_| ReadFault::Malformed)?;
                if *raw == Some(now) && *written == now_written {
                    return Ok(Look::Same);
                }
                let then = written.zip(now_written).map(|(then, now)| now - then);
                if let Some(before) = raw.replace(now) {
                    *joules += counted(now.saturating_sub(before), then)?;
                }
                *written = now_written;
                Ok(Look::New(Value {
                    host_ns: now_written,
                    joules: *joules,
                    watts: None,
                }))
            }
            Self::Power { seen, joules } => {
                let written = file.written_ns();
                let Some(watts) = watts_in(file.pages(0, 1)?).map_err(|_| ReadFault::Malformed)?
                else {
                    return Ok(Look::InWriting);
                };
                let before = seen.replace((watts, written));
                if before == Some((watts, written)) {
                    return Ok(Look::Same);
                }
                if let Some((_, then)) = before {
                    let apart = then
                        .zip(written)
                        .map_or(POWERJOULAR_NS as i64, |(a, b)| b - a);
                    // The watts are those of the second before, whoever missed others.
                    *joules += watts * apart.max(0) as f64 * 1e-9;
                }
                Ok(Look::New(Value {
                    host_ns: written,
                    joules: *joules,
                    watts: Some(watts),
                }))
            }
        }
    }
}

/// The joules of a rise of scaphandre's file by `rise` in `apart_ns`: its program adds the watts of
/// the last stretch, in millionths, once in a stretch.
fn counted(rise: u64, apart_ns: Option<i64>) -> Result<f64, ReadFault> {
    let apart = apart_ns.unwrap_or(SCAPHANDRE_NS as i64).max(0) as f64;
    let stretches = (apart / SCAPHANDRE_NS as f64).round().max(1.0);
    let watts = rise as f64 * 1e-6 / stretches;
    if watts > MOST_WATTS {
        return Err(ReadFault::Malformed);
    }
    Ok(watts * apart * 1e-9)
}

fn header_of(page: &[u8]) -> Result<Header, String> {
    let mut words = vec![0; HEADER_WORDS];
    if page.len() < HEADER_WORDS * WORD {
        return Err("it is shorter than a ring's header".into());
    }
    to_words(page, &mut words);
    let header = Header::decode(&words)?;
    let guests = header.zones.iter().all(|zone| zone.method == Method::Guest);
    if !guests || header.zones.len() != 1 {
        return Err(
            "it is the ring of a whole machine, and this machine's part is not known by it; the \
             host's `lithowatt agent --guest` writes one for a guest"
                .into(),
        );
    }
    if header.file_bytes() > (3 * PAGE) as u64 {
        return Err("it is longer than a guest's ring".into());
    }
    Ok(header)
}

/// The newest sample of a ring, of the pages behind its header.
fn ring(header: &Header, number: &mut u64, pages: &[u8]) -> Result<Look, ReadFault> {
    let mut words = [0; HEAD_WORDS];
    to_words(pages, &mut words);
    let Some(head) = Head::decode(&words) else {
        return Ok(Look::InWriting);
    };
    if head.generation != header.generation {
        return Err(ReadFault::Vanished);
    }
    if head.closed {
        return Err(ReadFault::Stopped);
    }
    if head.count == *number || head.count == 0 {
        return Ok(Look::Same);
    }
    let Some(newest) = sample(header, head.count, pages) else {
        return Ok(Look::InWriting);
    };
    if newest.faults != 0 {
        return Err(ReadFault::Failed);
    }
    let kept = header.slots.saturating_sub(2);
    let earlier = sample(header, head.count.saturating_sub(kept).max(1), pages);
    let watts = earlier.and_then(|earlier| {
        let seconds = newest.t_ns.checked_sub(earlier.t_ns)? as f64 * 1e-9;
        let joules = newest.totals[0].checked_sub(earlier.totals[0])? as f64 * 1e-6;
        (seconds > 0.0).then(|| joules / seconds)
    });
    *number = head.count;
    Ok(Look::New(Value {
        host_ns: i64::try_from(newest.t_ns).ok(),
        joules: newest.totals[0] as f64 * 1e-6,
        watts: watts.filter(|watts| *watts <= MOST_WATTS),
    }))
}

fn sample(header: &Header, number: u64, pages: &[u8]) -> Option<Sample> {
    let at = (header.sample_at(number) - SAMPLES_AT) as usize + PAGE;
    let bytes = pages.get(at..at + header.sample_words() * WORD)?;
    let mut words = vec![0; header.sample_words()];
    to_words(bytes, &mut words);
    let mut sample = Sample::default();
    sample.decode(&words, number).then_some(sample)
}

/// The last line that is there; `None` for a file that is being written.
fn line(bytes: &[u8]) -> Result<Option<&str>, ReadFault> {
    if bytes.len() >= PAGE {
        return Err(ReadFault::Malformed);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| ReadFault::Malformed)?;
    Ok(text.lines().map(str::trim).rfind(|line| !line.is_empty()))
}

/// Watts of a file: one number, or the third of PowerJoular's three columns, as it is written with
/// `-o` for a process.
fn watts_in(bytes: &[u8]) -> Result<Option<f64>, &'static str> {
    let line = line(bytes).map_err(|_| {
        "it is longer than one value: PowerJoular's option -o \
        overwrites the last one"
    })?;
    let Some(line) = line else { return Ok(None) };
    let columns: Vec<&str> = line.split(',').map(str::trim).collect();
    let number = match columns[..] {
        [number] | [_, _, number] => number,
        [_, _, _, _, _] => {
            return Err(
                "its five columns are PowerJoular's of the whole machine; those of one \
                process are three",
            );
        }
        _ => return Err("it holds neither one number nor PowerJoular's three columns"),
    };
    let watts: f64 = number.parse().map_err(|_| "it holds no number of watts")?;
    if (0.0..=MOST_WATTS).contains(&watts) {
        Ok(Some(watts))
    } else {
        Err("it holds no number of watts that a machine can draw")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watts_are_one_number_or_the_third_of_three_columns() {
        for (text, watts) in [
            ("12.5", Some(12.5)),
            ("12.5\r\n", Some(12.5)),
            ("2026-11-30 10:00:00,0.25,7.25\n", Some(7.25)),
            (
                "Date,CPU Utilization,CPU Power\n2026-11-30 10:00:00,0.25,0.0\n",
                Some(0.0),
            ),
            ("", None),
            ("\n", None),
        ] {
            assert_eq!(watts_in(text.as_bytes()), Ok(watts), "{text:?}");
        }
        for text in ["x", "-1", "1e9", "nan", "1,2", "2026,0.2,60.0,50.0,10.0"] {
            assert!(watts_in(text.as_bytes()).is_err(), "{text:?}");
        }
        assert!(watts_in(&[b'1'; PAGE]).is_err() && watts_in(&[0xff]).is_err());
    }

    #[test]
    fn a_step_of_scaphandre_is_watts_until_the_next() {
        let five = Some(5_000_000_000);
        assert_eq!(counted(10_000_000, five), Ok(50.0));
        // Two steps of 10 W came while nobody looked.
        assert_eq!(counted(20_000_000, Some(10_200_000_000)), Ok(102.0));
        assert_eq!(counted(10_000_000, None), Ok(50.0));
        assert_eq!(counted(u64::MAX, five), Err(ReadFault::Malformed));
    }
}
