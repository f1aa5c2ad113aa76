//! What this crate wrote as JSON, read again.
//!
//! serde's derived reading makes code for every way in which a value may come, for each structure anew:
//! a tenth of the extension. Here a structure is the list of its fields ([`from_json!`]), and there is
//! one function for each kind of value.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};

/// Values are nested so deep at most: they are read by functions that call themselves.
const DEEPEST: u32 = 32;

/// Something that can be made of a JSON value; the error says what is wrong with the value, in words.
pub(crate) trait FromJson: Sized {
    fn from_json(value: &Value) -> Result<Self, String>;

    /// What a field is where it is not there, if it need not be.
    fn absent() -> Option<Self> {
        None
    }
}

/// Reads a structure by its fields, which are given in any order; after `skipped` those that are not
/// written and have their default. Fields that it does not know are passed over.
macro_rules! from_json {
    ($name:ident { $($field:ident),+ $(; skipped $($skipped:ident),+)? }) => {
        impl $crate::json::FromJson for $name {
            fn from_json(value: &serde_json::Value) -> std::result::Result<Self, String> {
                let fields = $crate::json::fields(value)?;
                Ok(Self {
                    $($field: $crate::json::field(fields, stringify!($field))?,)+
                    $($($skipped: Default::default(),)+)?
                })
            }
        }
    };
}

/// Reads an enumeration without data by the names that its variants are written by.
macro_rules! word_from_json {
    ($name:ident: $($variant:ident),+) => {
        impl $crate::json::FromJson for $name {
            fn from_json(value: &serde_json::Value) -> std::result::Result<Self, String> {
                // Whoever adds a variant is told to add it here.
                const _: fn($name) = |one| match one {
                    $($name::$variant => (),)+
                };
                $crate::json::word(&[$($name::$variant),+], value)
            }
        }
    };
}

pub(crate) use {from_json, word_from_json};

/// Reads a text, every number as it is written: `serde_json` may be off by the last bit of a fraction.
pub(crate) fn read<T: FromJson>(text: &[u8]) -> Result<T, String> {
    let read = jiter::JsonValue::parse(text, false).map_err(|e| e.description(text))?;
    T::from_json(&owned(&read, 0)?)
}

fn owned(read: &jiter::JsonValue<'_>, depth: u32) -> Result<Value, String> {
    use jiter::JsonValue as J;
    if depth > DEEPEST {
        return Err("nested too deep".into());
    }
    Ok(match read {
        J::Null => Value::Null,
        J::Bool(flag) => Value::Bool(*flag),
        J::Int(number) => Value::from(*number),
        J::Float(number) => Value::from(*number),
        J::Str(text) => Value::from(text.as_ref()),
        J::Array(items) => items
            .iter()
            .map(|item| owned(item, depth + 1))
            .collect::<Result<_, _>>()?,
        J::Object(object) => {
            let mut map = Map::new();
            for (key, item) in object.iter() {
                map.insert(key.as_ref().to_owned(), owned(item, depth + 1)?);
            }
            Value::Object(map)
        }
    })
}

pub(crate) fn fields(value: &Value) -> Result<&Map<String, Value>, String> {
    value
        .as_object()
        .ok_or_else(|| unlike("names and values", value))
}

pub(crate) fn field<T: FromJson>(fields: &Map<String, Value>, name: &str) -> Result<T, String> {
    match fields.get(name) {
        Some(value) => T::from_json(value).map_err(|why| within(name, &why)),
        None => T::absent().ok_or_else(|| format!("missing field `{name}`")),
    }
}

pub(crate) fn word<T: Copy + Serialize>(all: &[T], value: &Value) -> Result<T, String> {
    let is_it = |one: &&T| serde_json::to_value(one).is_ok_and(|name| name == *value);
    let found = all.iter().find(is_it);
    found.copied().ok_or_else(|| unlike("a known name", value))
}

/// Where in a structure something is wrong.
fn within(name: &str, why: &str) -> String {
    format!("{name}: {why}")
}

fn unlike(wanted: &str, value: &Value) -> String {
    let mut given = value.to_string();
    if let Some((end, _)) = given.char_indices().nth(60) {
        given.truncate(end);
        given.push('…');
    }
    format!("{given} is not {wanted}")
}

impl FromJson for bool {
    fn from_json(value: &Value) -> Result<Self, String> {
        value
            .as_bool()
            .ok_or_else(|| unlike("true or false", value))
    }
}

impl FromJson for u64 {
    fn from_json(value: &Value) -> Result<Self, String> {
        value
            .as_u64()
            .ok_or_else(|| unlike("a whole number from 0", value))
    }
}

impl FromJson for u32 {
    fn from_json(value: &Value) -> Result<Self, String> {
        Self::try_from(u64::from_json(value)?).map_err(|_| unlike("a number below 2^32", value))
    }
}

impl FromJson for f64 {
    fn from_json(value: &Value) -> Result<Self, String> {
        value.as_f64().ok_or_else(|| unlike("a number", value))
    }
}

impl FromJson for String {
    fn from_json(value: &Value) -> Result<Self, String> {
        let text = value.as_str().ok_or_else(|| unlike("a text", value))?;
        Ok(text.to_owned())
    }
}

impl<T: FromJson> FromJson for Option<T> {
    fn from_json(value: &Value) -> Result<Self, String> {
        match value {
            Value::Null => Ok(None),
            value => T::from_json(value).map(Some),
        }
    }

    fn absent() -> Option<Self> {
        Some(None)
    }
}

impl<T: FromJson> FromJson for Vec<T> {
    fn from_json(value: &Value) -> Result<Self, String> {
        let items = value.as_array().ok_or_else(|| unlike("a list", value))?;
        items.iter().map(T::from_json).collect()
    }
}

impl<T: FromJson> FromJson for BTreeMap<String, T> {
    fn from_json(value: &Value) -> Result<Self, String> {
        let each = |(name, value): (&String, &Value)| {
            let read = T::from_json(value).map_err(|why| within(name, &why))?;
            Ok((name.clone(), read))
        };
        fields(value)?.iter().map(each).collect()
    }

    fn absent() -> Option<Self> {
        Some(Self::new())
    }
}

impl<A: FromJson, B: FromJson> FromJson for (A, B) {
    fn from_json(value: &Value) -> Result<Self, String> {
        match value.as_array().map(Vec::as_slice) {
            Some([a, b]) => Ok((A::from_json(a)?, B::from_json(b)?)),
            _ => Err(unlike("a pair", value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, Copy, PartialEq, Serialize)]
    #[serde(rename_all = "kebab-case")]
    enum Kind {
        Plain,
        VeryOdd,
    }

    word_from_json!(Kind: Plain, VeryOdd);

    #[derive(Debug, PartialEq, Serialize)]
    struct Thing {
        name: String,
        kind: Kind,
        size: Option<u32>,
        parts: Vec<(u64, f64)>,
        by_name: BTreeMap<String, bool>,
        #[serde(skip)]
        cache: u8,
    }

    from_json!(Thing { name, kind, size, parts, by_name; skipped cache });

    fn why(text: &str) -> String {
        read::<Thing>(text.as_bytes()).unwrap_err()
    }

    #[test]
    fn what_was_written_is_read() {
        let thing = Thing {
            name: "µ \"quoted\"".into(),
            kind: Kind::VeryOdd,
            size: Some(u32::MAX),
            parts: vec![(i64::MAX as u64, 0.1 + 0.2), (0, 1.0)],
            by_name: BTreeMap::from([("a".into(), true), ("b".into(), false)]),
            cache: 0,
        };
        let text = serde_json::to_string(&thing).unwrap();
        assert_eq!(read::<Thing>(text.as_bytes()), Ok(thing));
    }

    #[test]
    fn what_need_not_be_there_may_be_missing_and_more_may_be_there() {
        let read = read::<Thing>(br#"{"more": [{}], "parts": [], "kind": "plain", "name": ""}"#);
        let Thing { size, by_name, .. } = read.unwrap();
        assert_eq!((size, by_name), (None, BTreeMap::new()));
    }

    #[test]
    fn errors_say_where_and_what() {
        assert_eq!(why("[]"), "[] is not names and values");
        assert_eq!(why(r#"{"name": 1}"#), "name: 1 is not a text");
        let kind = |kind: &str| why(&format!(r#"{{"name": "", "kind": {kind}}}"#));
        assert_eq!(kind("\"odd\""), "kind: \"odd\" is not a known name");
        let long = kind(&format!("{:?}", "long".repeat(50)));
        assert!(long.ends_with("lon… is not a known name"), "{long}");
        assert_eq!(
            why(r#"{"name": "", "kind": "plain"}"#),
            "missing field `parts`"
        );
        let rest = |rest: &str| why(&format!(r#"{{"name": "", "kind": "plain", {rest}}}"#));
        let too_large = rest(r#""size": 4294967296"#);
        assert_eq!(too_large, "size: 4294967296 is not a number below 2^32");
        assert_eq!(
            rest(r#""parts": [[1, 2, 3]]"#),
            "parts: [1,2,3] is not a pair"
        );
        assert_eq!(
            rest(r#""parts": [[-1, 0]]"#),
            "parts: -1 is not a whole number from 0"
        );
        let by_name = rest(r#""parts": [], "by_name": {"a": 0}"#);
        assert_eq!(by_name, "by_name: a: 0 is not true or false");
        assert!(why("{").contains("line 1"), "{}", why("{"));
    }

    #[test]
    fn what_is_nested_too_deep_is_refused() {
        let deep = format!("{}{}", "[".repeat(40), "]".repeat(40));
        assert_eq!(why(&deep), "nested too deep");
    }
}
