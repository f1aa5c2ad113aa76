//! The text of one metric as a column.

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
    pub(super) fn content(index: usize, why: String) -> Self {
        let place = String::new();
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

/// The values of a metric.
///
/// # Errors
/// The text is no list of repetitions, each a list of one value per worker.
pub(super) fn parse(text: &[u8], keep: bool) -> Result<Column, Fault> {
    let mut json = Jiter::new(text).with_allow_inf_nan();
    let mut column = Column::new(keep);
    let peek = json.peek()?;
    let mut next = enter(&mut json, peek, "no list of repetitions")?;
    let mut number = 0;
    while let Some(peek) = next {
        repetition(&mut json, peek, &mut column).map_err(|mut fault| {
            if let What::Content { place, .. } = &mut fault.what {
                *place = format!(", repetition {number}");
            }
            fault
        })?;
        number += 1;
        next = json.array_step()?;
    }
    json.finish()?;
    Ok(column)
}

/// Enters a list; the first of its values.
fn enter(json: &mut Jiter<'_>, peek: Peek, otherwise: &str) -> Result<Option<Peek>, Fault> {
    if peek == Peek::Array {
        return Ok(json.known_array()?);
    }
    let index = json.current_index();
    let found = found(json, peek)?;
    Err(Fault::content(index, format!("{found} is {otherwise}")))
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
            return Err(Fault::content(index, why));
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
            return Err(Fault::content(index, why));
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
