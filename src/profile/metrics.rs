//! The text of one configuration as columns.

use std::collections::HashSet;

use jiter::{Jiter, JiterError, JiterErrorType, JsonErrorType, Peek};

use super::column::Column;

/// What is wrong with a text, at which of its bytes.
#[derive(Debug, PartialEq)]
pub(super) struct Fault {
    pub(super) index: usize,
    pub(super) what: What,
}

#[derive(Debug, PartialEq)]
pub(super) enum What {
    /// It ends too early.
    CutOff,
    /// It is no JSON.
    Syntax(String),
    /// Bytes that are no text.
    Unicode,
    /// It is JSON, but no profile: where, and why.
    Content { place: String, why: String },
}

impl Fault {
    pub(super) fn content(index: usize, place: String, why: String) -> Self {
        let what = What::Content { place, why };
        Self { index, what }
    }
}

impl From<JiterError> for Fault {
    fn from(error: JiterError) -> Self {
        use JsonErrorType as Json;
        let what = match &error.error_type {
            JiterErrorType::JsonError(
                Json::EofWhileParsingList
                | Json::EofWhileParsingObject
                | Json::EofWhileParsingString
                | Json::EofWhileParsingValue,
            ) => What::CutOff,
            JiterErrorType::JsonError(Json::InvalidUnicodeCodePoint) => What::Unicode,
            other => What::Syntax(other.to_string()),
        };
        Self {
            index: error.index,
            what,
        }
    }
}

/// The columns of a configuration, in the order of the file.
///
/// # Errors
/// The text is no object of metrics, each a list of repetitions, each a list of one value per
/// worker.
pub(super) fn parse(
    text: &[u8],
    keep: Option<&HashSet<String>>,
) -> Result<Vec<(String, Column)>, Fault> {
    let mut json = Jiter::new(text).with_allow_inf_nan();
    let mut columns: Vec<(String, Column)> = Vec::new();
    let mut names: HashSet<String> = HashSet::new();
    let mut next = json.next_object()?.map(str::to_owned);
    while let Some(name) = next {
        if !names.insert(name.clone()) {
            let why = format!("the key {} appears twice", shown(&name));
            return Err(Fault::content(json.current_index(), String::new(), why));
        }
        let mut column = Column::new(keep.is_none_or(|keep| keep.contains(&name)));
        if let Err(Wrong { fault, repetition }) = metric(&mut json, &mut column) {
            return Err(placed(fault, &name, repetition));
        }
        columns.push((name, column));
        next = json.next_key()?.map(str::to_owned);
    }
    json.finish()?;
    Ok(columns)
}

struct Wrong {
    fault: Fault,
    repetition: Option<usize>,
}

fn placed(mut fault: Fault, name: &str, repetition: Option<usize>) -> Fault {
    if let What::Content { place, .. } = &mut fault.what {
        *place = match repetition {
            None => format!(", {}", plain(name)),
            Some(number) => format!(", {}, repetition {number}", plain(name)),
        };
    }
    fault
}

fn metric(json: &mut Jiter<'_>, column: &mut Column) -> Result<(), Wrong> {
    let whole = |fault| Wrong {
        fault,
        repetition: None,
    };
    let mut peek = open(json, "no list of repetitions").map_err(whole)?;
    let mut number = 0;
    while let Some(found) = peek {
        repetition(json, found, column).map_err(|fault| Wrong {
            fault,
            repetition: Some(number),
        })?;
        number += 1;
        peek = json.array_step().map_err(|error| whole(error.into()))?;
    }
    Ok(())
}

/// Enters a list; the first of its values.
fn open(json: &mut Jiter<'_>, otherwise: &str) -> Result<Option<Peek>, Fault> {
    let peek = json.peek()?;
    enter(json, peek, otherwise)
}

fn enter(json: &mut Jiter<'_>, peek: Peek, otherwise: &str) -> Result<Option<Peek>, Fault> {
    if peek == Peek::Array {
        return Ok(json.known_array()?);
    }
    let index = json.current_index();
    let found = found(json, peek)?;
    Err(Fault::content(
        index,
        String::new(),
        format!("{found} is {otherwise}"),
    ))
}

fn repetition(json: &mut Jiter<'_>, peek: Peek, column: &mut Column) -> Result<(), Fault> {
    let mut next = enter(json, peek, "no list of one value per worker")?;
    let mut length = 0;
    while let Some(peek) = next {
        let index = json.current_index();
        let pushed = if peek.is_num() {
            let number = json.known_float(peek)?;
            let whole = number.fract() == 0.0 && is_whole(json.slice_to_current(index));
            column.push_number(number, whole)
        } else if peek == Peek::String {
            column.push_text(json.known_str()?)
        } else if peek == Peek::Null {
            json.known_null()?;
            column.push_missing();
            Ok(())
        } else {
            let why = format!(
                "worker {length} has {}, expected a number, a text or null",
                found(json, peek)?
            );
            return Err(Fault::content(index, String::new(), why));
        };
        if pushed.is_err() {
            let (one, others) = if peek == Peek::String {
                ("a text", "numbers")
            } else {
                ("a number", "texts")
            };
            let why = format!(
                "worker {length} has {one}, but the values before it in the column are {others}"
            );
            return Err(Fault::content(index, String::new(), why));
        }
        length += 1;
        next = json.array_step()?;
    }
    column.end_repetition(length);
    Ok(())
}

/// Whether a number is written without fraction and exponent.
fn is_whole(text: &[u8]) -> bool {
    text.iter()
        .all(|byte| byte.is_ascii_digit() || *byte == b'-')
}

/// What is there instead of what should be, in words; an error where it is no JSON either.
fn found(json: &mut Jiter<'_>, peek: Peek) -> Result<String, Fault> {
    let start = json.current_index();
    Ok(match peek {
        Peek::Array => "a list".to_owned(),
        Peek::Object => "an object".to_owned(),
        Peek::String => format!("the text {}", shown(json.known_str()?)),
        _ => {
            json.known_skip(peek)?;
            plain(&String::from_utf8_lossy(json.slice_to_current(start)))
        }
    })
}

/// A text as errors show it: in quotes, on one line, not too long.
pub(super) fn shown(text: &str) -> String {
    format!("'{}'", plain(text))
}

/// A name as errors show it: on one line, not too long.
pub(super) fn plain(text: &str) -> String {
    text.chars()
        .take(80)
        .flat_map(|c| {
            let escaped = c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
            let (plain, escape) = if escaped {
                (None, Some(c.escape_default()))
            } else {
                (Some(c), None)
            };
            plain.into_iter().chain(escape.into_iter().flatten())
        })
        .collect()
}
