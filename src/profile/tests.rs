use std::collections::HashSet;
use std::path::Path;

use super::column::Values;
use super::reader::{Configuration, Reader};
use super::scan::{ListEnd, StringEnd};
use crate::error::Error;

fn read(text: &[u8]) -> Result<Vec<Configuration>, Error> {
    let mut reader = Reader::new(Path::new("p.json"), text, None);
    let mut all = Vec::new();
    while let Some(one) = reader.next_configuration()? {
        all.push(one);
    }
    assert!(reader.sha256().is_some());
    assert!(reader.next_configuration()?.is_none());
    Ok(all)
}

fn refused(text: &str) -> String {
    match read(text.as_bytes()) {
        Ok(found) => panic!("{text} was read as {found:?}"),
        Err(error) => {
            assert_eq!(error.python_name(), "MalformedValueError");
            error.to_string()
        }
    }
}

/// The only column of the only configuration.
fn column(values: &str) -> super::Column {
    let text = format!(r#"{{"(1, 512, 2)": {{"x": {values}}}}}"#);
    let mut found = read(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"));
    found.remove(0).columns.remove(0).1
}

fn numbers(column: &super::Column) -> Vec<Option<f64>> {
    match column.values() {
        Values::Numbers(numbers) => numbers
            .iter()
            .map(|n| n.is_finite().then_some(*n))
            .collect(),
        other => panic!("no numbers but {other:?}"),
    }
}

#[test]
fn columns_hold_numbers_lengths_and_what_there_is_to_say() {
    let found = column("[[1, 2.5, null], [], [0, -3e-1]]");
    assert_eq!(
        numbers(&found),
        [Some(1.0), Some(2.5), None, Some(0.0), Some(-0.3)]
    );
    assert_eq!(found.lengths(), [3, 0, 2]);
    assert_eq!((found.count(), found.missing(), found.zeros()), (5, 1, 1));
    assert_eq!(found.range(), Some((-0.3, 2.5)));
    assert!(!found.whole() && !found.constant());
}

#[test]
fn what_python_writes_for_no_number_is_missing() {
    let found = column("[[NaN, Infinity], [-Infinity, 1e400], [7]]");
    assert_eq!(numbers(&found), [None, None, None, None, Some(7.0)]);
    assert!(found.whole() && found.constant());
    let none = column("[[null, NaN]]");
    assert_eq!(none.values(), &Values::Missing);
    assert_eq!((none.count(), none.missing(), none.range()), (2, 2, None));
}

#[test]
fn numbers_that_no_integer_type_holds_are_read() {
    let large = "9".repeat(30);
    let found = column(&format!("[[{large}, 18446744073709551616]]"));
    assert_eq!(numbers(&found), [Some(1e30), Some(18446744073709551616.0)]);
    assert!(!found.whole());
    let huge = "9".repeat(5000);
    assert_eq!(
        column(&format!("[[{huge}, 1e99999999999999999999]]")).missing(),
        2
    );
    let small = column("[[1e-400, 4.9e-324, -0]]");
    assert_eq!(numbers(&small), [Some(0.0), Some(4.9e-324), Some(0.0)]);
}

#[test]
fn whole_is_what_is_written_so() {
    assert!(column("[[1, 2], [null]]").whole());
    assert!(!column("[[1, 2.0]]").whole());
    assert!(!column("[[1e2]]").whole());
    assert!(column("[[null]]").whole() && !column(r#"[["1"]]"#).whole());
}

#[test]
fn exact_is_what_can_be_written_again_as_it_was() {
    for values in [
        "[[1, null]]",
        "[[1.0, 2.5, null]]",
        r#"[["a", null]]"#,
        "[[null]]",
        "[]",
    ] {
        assert!(column(values).exact(), "{values}");
    }
    let large = "[[18446744073709551616]]";
    for values in [
        "[[1, 2.0]]",
        "[[NaN]]",
        r#"[["a", Infinity]]"#,
        "[[1e999]]",
        large,
    ] {
        assert!(!column(values).exact(), "{values}");
    }
}

#[test]
fn texts_are_codes_of_labels() {
    let found = column(r#"[[null, "b", "a", "b\u00e9\n", "a"], [NaN]]"#);
    let Values::Texts(codes) = found.values() else {
        panic!("no texts")
    };
    assert_eq!(codes, &[-1, 0, 1, 2, 1, -1]);
    assert_eq!(found.labels(), ["b", "a", "bé\n"]);
    assert!(!found.constant() && column(r#"[["a", "a"]]"#).constant());
}

#[test]
fn what_is_not_to_be_kept_is_counted() {
    let text = r#"{"(1, 512, 2)": {"x": [[1, 0, null]], "t": [["a", "b"]], "y": [[3]]}}"#;
    let keep = HashSet::from(["y".to_owned()]);
    let mut reader = Reader::new(Path::new("p"), text.as_bytes(), Some(keep));
    let one = reader.next_configuration().expect("read").expect("one");
    let (x, t, y) = (&one.columns[0].1, &one.columns[1].1, &one.columns[2].1);
    assert!(!x.kept() && !t.kept() && y.kept());
    assert_eq!(x.values(), &Values::Numbers(vec![]));
    assert_eq!((x.count(), x.missing(), x.zeros()), (3, 1, 1));
    assert_eq!((x.lengths(), x.range()), (&[3][..], Some((0.0, 1.0))));
    assert_eq!(t.values(), &Values::Texts(vec![]));
    assert_eq!((t.labels().len(), t.count()), (2, 2));
    assert_eq!(y.values(), &Values::Numbers(vec![3.0]));
}

#[test]
fn stages_can_be_in_one_file() {
    let text = r#"{"train": {"(1, 512, 2)": {"x": [[1]]}, "(1, 512, 4)": {}},
                   "merge": {"(1, 512, 2)": {}}}"#;
    let found = read(text.as_bytes()).expect("a profile");
    let names: Vec<_> = found
        .iter()
        .map(|one| (one.stage.as_deref().unwrap_or("none"), one.key.as_str()))
        .collect();
    assert_eq!(
        names,
        [
            ("train", "(1, 512, 2)"),
            ("train", "(1, 512, 4)"),
            ("merge", "(1, 512, 2)")
        ]
    );
}

#[test]
fn empty_profiles_and_marks_are_read() {
    assert_eq!(read(b" {\n} ").expect("a profile"), []);
    assert_eq!(read("\u{feff}{}".as_bytes()).expect("a profile"), []);
}

const GOOD: &str = r#"{"(1, 512, 2)": {"read": [[0.1, 0.25], []], "cpu_name": [["a\"{", null]]}}"#;

#[test]
fn every_cut_is_noticed() {
    read(GOOD.as_bytes()).expect("a profile");
    for end in 1..GOOD.len() {
        let said = refused(&GOOD[..end]);
        let place = format!("cut off at line 1, column {}", end + 1);
        assert!(said.contains(&place), "{end}: {said}");
    }
    assert!(refused("  ").contains("is empty"));
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    for (text, says) in [
        ("[]", "holds a list"),
        ("3", "holds a single value"),
        ("x", "is not JSON at line 1, column 1"),
        ("{}\n{}", "is not JSON at line 2, column 1 (trailing"),
        ("{\"a\": 3}", "'a' is not (cpu, memory_mb, workers)"),
        ("{\"a\": {}}", "stage a: it holds no configuration"),
        (
            "{\"s\": {\"a\": {}}}",
            "'a' is not (cpu, memory_mb, workers)",
        ),
        (
            "{\"(1, 1, 1)\": []}",
            "configuration (1, 1, 1): it is no object",
        ),
        ("{\"(1, 1, 1)\": {},}", "trailing comma"),
        ("{\"(1, 1, 1)\" {}}", "column 14 (expected `:`)"),
        (
            "{\"(1, 1, 1)\": {}, \"(1, 1, 1)\": {}}",
            "'(1, 1, 1)' appears twice",
        ),
        (
            "{\"s\": {\"(1, 1, 1)\": {}}, \"s\": {}}",
            "'s' appears twice",
        ),
        ("{'a': 1}", "key must be a string"),
    ] {
        let said = refused(text);
        assert!(said.contains(says) && said.starts_with("p.json"), "{said}");
    }
    for (metrics, says) in [
        (
            "\"read\": 3",
            "(1, 1, 1), read: 3 is no list of repetitions (line 2, column 9)",
        ),
        (
            "\"read\": [[1],\n true]",
            "read, repetition 1: true is no list of one value per worker",
        ),
        (
            "\"read\": [[1, [2]]]",
            "repetition 0: worker 1 has a list, expected a number, a text or",
        ),
        ("\"read\": [[1, false]]", "worker 1 has false"),
        (
            "\"read\": [[1, \"a\"]]",
            "worker 1 has a text, but the values before it in the column are",
        ),
        (
            "\"a\": [[\"a\"], [1]]",
            "repetition 1: worker 0 has a number",
        ),
        ("\"a\": [], \"a\": []", "the key 'a' appears twice"),
        (
            "\"a\": [[1, 2}",
            "is not JSON at line 2, column 12 (expected `,` or `]`)",
        ),
        ("\"a\": [[01]]", "is not JSON at line 2, column 9"),
        ("\"a\": [[+1]]", "is not JSON"),
        ("\"a\": [[1,]]", "is not JSON"),
        ("\"a\": [[tru]]", "is not JSON"),
        ("\"é\": [[1 2]]", "is not JSON at line 2, column 10"),
    ] {
        let said = refused(&format!("{{\"(1, 1, 1)\": {{\n{metrics}}}}}"));
        assert!(said.contains(says) && !said.contains('\n'), "{said}");
    }
    let said = match read(b"{\"(1, 1, 1)\": {\"\xe9\": []}}") {
        Ok(_) => panic!("read"),
        Err(error) => error.to_string(),
    };
    assert!(said.contains("is not UTF-8 at line 1, column 17"), "{said}");
    assert!(refused(&"[".repeat(100_000)).contains("holds a list"));
    let deep = format!("{{\"(1, 1, 1)\": {{\"a\": {}", "[".repeat(100_000));
    assert!(refused(&deep).contains("worker 0 has a list"));
    let deep = format!("{{\"(1, 1, 1)\": {}", "{\"a\":".repeat(100_000));
    assert!(refused(&deep).contains("an object is no list of repetitions"));
}

#[test]
fn ends_are_found_wherever_the_text_is_cut() {
    let list = br#"[["}\\\"]", "b["], [{}, "\\"], []]  ["#;
    let end = list.len() - 3;
    for step in 1..7 {
        let mut found = ListEnd::new();
        let mut held = 0;
        let at = loop {
            held = (held + step).min(list.len());
            if let Some(at) = found.find(&list[..held]) {
                break at;
            }
            assert!(held < list.len(), "no end in steps of {step}");
        };
        assert_eq!((at, held >= end), (end, true), "steps of {step}");
    }
    // Where a list cannot be, nothing more has to be read.
    assert_eq!(ListEnd::new().find(b"[[1, [2"), Some(6));
    assert_eq!(StringEnd::new().find(br#""a\\""#), Some(5));
    assert_eq!(StringEnd::new().find(br#""a\""#), None);
}

/// Tokens lie across the borders of what is read at once, wherever the file begins.
#[test]
fn long_files_are_read_in_pieces() {
    let mut text = String::new();
    for shift in [0, 1, 7, 33] {
        text.clear();
        text.push_str(&" ".repeat(shift));
        text.push('{');
        for number in 0..15 {
            let comma = if number == 0 { "" } else { ",\n" };
            let values: Vec<_> = (0..3000).map(|n| format!("{n}.{number}")).collect();
            let texts = vec![r#""a \"{\u0041\\ é""#; 1000].join(", ");
            text.push_str(&format!(
                "{comma}\"(1, 512, {})\": {{\"read\": [[{}]], \"t\": [[{texts}]]}}",
                number + 1,
                values.join(",\n    ")
            ));
        }
        text.push('}');
        let found = read(text.as_bytes()).expect("a profile");
        assert_eq!(found.len(), 15);
        for (number, one) in found.iter().enumerate() {
            let wanted: Vec<_> = (0..3000)
                .map(|n| format!("{n}.{number}").parse::<f64>().ok())
                .collect();
            assert_eq!(numbers(&one.columns[0].1), wanted);
            assert_eq!(one.columns[1].1.labels(), ["a \"{A\\ é"]);
        }
        // A mistake near the end has its line.
        let lines = text.lines().count();
        text.truncate(text.len() - 4);
        text.push_str("x}}");
        let said = refused(&text);
        assert!(said.contains(&format!("line {lines}, ")), "{said}");
    }
}

#[test]
fn only_plain_files_are_opened() {
    for path in ["/dev/zero", "/", "/nowhere/at/all"] {
        match Reader::open(Path::new(path), None) {
            Ok(_) => panic!("{path} was opened"),
            Err(error) => assert_eq!(error.python_name(), "UnreadableFileError"),
        }
    }
}
