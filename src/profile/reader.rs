//! A profile file, read from configuration to configuration.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiter::Jiter;

use super::column::Column;
use super::metric::{Fault, What, parse, plain, shown};
use super::scan::{ListEnd, StringEnd};
use super::text::{Position, Text};
use crate::error::Error;

/// The longest text of one metric, bytes: far more than any run of a workflow writes, and
/// less than memory has room for.
const MOST_BYTES: usize = 1 << 30;

/// One configuration of a profile.
#[derive(Debug, Clone, PartialEq)]
pub struct Configuration {
    /// The stage that the file says, if it holds several.
    pub stage: Option<String>,
    /// As the file spells it, e.g. `(1, 512, 4)`.
    pub key: String,
    /// By the metric's name, in the order of the file.
    pub columns: Vec<(String, Column)>,
}

/// Reads a profile.
///
/// ```
/// let text = r#"{"(1, 512, 2)": {"read": [[0.5, 0.25], [0.5, null]]}}"#;
/// let mut reader = lithowatt::profile::Reader::new("stage.json".as_ref(), text.as_bytes(), None);
/// let one = reader.next_configuration()?.expect("there is one");
/// assert_eq!((one.key.as_str(), one.columns[0].1.lengths()), ("(1, 512, 2)", &[2, 2][..]));
/// assert!(reader.next_configuration()?.is_none());
/// # Ok::<(), lithowatt::error::Error>(())
/// ```
pub struct Reader<R> {
    path: PathBuf,
    text: Text<R>,
    keep: Option<HashSet<String>>,
    stage: Option<String>,
    seen: HashSet<(Option<String>, String)>,
    state: State,
    sha256: Option<[u8; 32]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing was read.
    Start,
    /// Inside an object, before its first member.
    Opened,
    /// Inside an object, after a member.
    Within,
    /// All was read, or an error was found.
    End,
}

impl Reader<File> {
    /// Opens a plain file.
    ///
    /// # Errors
    /// It cannot be opened, or is no plain file: a FIFO would be waited for, a device read without
    /// end.
    pub fn open(path: &Path, keep: Option<HashSet<String>>) -> Result<Self, Error> {
        let file = plain_file(path).map_err(|error| Error::io(path, error))?;
        Ok(Self::new(path, file, keep))
    }
}

fn plain_file(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        // Without it the opening of a FIFO waits for somebody to write to it.
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !kind.is_file() {
        return Err(io::Error::other("not a plain file"));
    }
    Ok(file)
}

impl<R: Read> Reader<R> {
    /// Reads from `input`.
    ///
    /// `path` is what errors call it. `keep` names the metrics whose values are stored; of the
    /// others only what a [`Column`] says besides. `None`: all.
    pub fn new(path: &Path, input: R, keep: Option<HashSet<String>>) -> Self {
        Self {
            path: path.to_owned(),
            text: Text::new(input),
            keep,
            stage: None,
            seen: HashSet::new(),
            state: State::Start,
            sha256: None,
        }
    }

    /// SHA-256 of the file's bytes, once all of it is read.
    pub fn sha256(&self) -> Option<[u8; 32]> {
        self.sha256
    }

    /// The next configuration, `None` after the last.
    ///
    /// # Errors
    /// The file is cut off or no profile, with line and column; or cannot be read. After an error
    /// there is no next one.
    pub fn next_configuration(&mut self) -> Result<Option<Configuration>, Error> {
        let next = self.advance();
        if !matches!(next, Ok(Some(_))) {
            self.state = State::End;
        }
        next
    }

    fn advance(&mut self) -> Result<Option<Configuration>, Error> {
        if self.state == State::Start {
            self.begin()?;
        }
        while self.state != State::End {
            let Some(key) = self.name(self.state == State::Opened)? else {
                self.close()?;
                continue;
            };
            self.state = State::Within;
            if let Some(configuration) = self.member(key)? {
                return Ok(Some(configuration));
            }
        }
        Ok(None)
    }

    /// The next name of an object, up to its value; `None` at the end of the object, which is
    /// passed.
    fn name(&mut self, opened: bool) -> Result<Option<String>, Error> {
        let mut first = self.some("an object")?;
        if first == b'}' {
            self.text.pass(1);
            return Ok(None);
        }
        if !opened {
            self.expect(first, b',', "expected `,` or `}`")?;
            first = self.some("an object")?;
            if first == b'}' {
                return Err(self.syntax("trailing comma"));
            }
        }
        let key = self.key(first)?;
        let first = self.some("an object")?;
        self.expect(first, b':', "expected `:`")?;
        Ok(Some(key))
    }

    /// Everything before the first member.
    fn begin(&mut self) -> Result<(), Error> {
        self.io(|text| text.pass_mark())?;
        let first = self.io(|text| text.next())?;
        let holds = match first {
            None => return Err(self.wrong(" is empty: a profile is a JSON object".to_owned())),
            Some(b'{') => {
                self.text.pass(1);
                self.state = State::Opened;
                return Ok(());
            }
            Some(b'[') => "a list",
            Some(b'"') => "a text",
            Some(b'0'..=b'9' | b'-' | b'N' | b'I' | b't' | b'f' | b'n') => "a single value",
            Some(_) => return Err(self.syntax("expected value")),
        };
        Err(self.wrong(format!(" holds {holds}, not an object of configurations")))
    }

    /// After the end of an object: a stage's, or the profile's.
    fn close(&mut self) -> Result<(), Error> {
        if let Some(stage) = self.stage.take() {
            if self.state == State::Opened {
                let why = format!(", stage {}: it holds no configuration", plain(&stage));
                return Err(self.wrong(why));
            }
            self.state = State::Within;
            return Ok(());
        }
        if self.io(|text| text.next())?.is_some() {
            return Err(self.syntax("trailing characters"));
        }
        self.sha256 = self.text.digest();
        self.state = State::End;
        Ok(())
    }

    /// A configuration, or `None` for a stage that is entered.
    fn member(&mut self, key: String) -> Result<Option<Configuration>, Error> {
        let first = self.some("a value")?;
        let configuration = key.trim_start().starts_with('(');
        if !configuration && (first != b'{' || self.stage.is_some()) {
            return Err(self.content(
                "",
                &format!(
                    "configuration {} is not (cpu, memory_mb, workers), e.g. (1, 512, 4)",
                    shown(&key)
                ),
            ));
        }
        if first != b'{' {
            let place = format!(", configuration {}", plain(&key));
            return Err(self.content(&place, "it is no object of metrics"));
        }
        if !self.seen.insert((self.stage.clone(), key.clone())) {
            return Err(self.twice("", &key));
        }
        self.text.pass(1);
        if !configuration {
            self.stage = Some(key);
            self.state = State::Opened;
            return Ok(None);
        }
        let place = format!(", configuration {}", plain(&key));
        let columns = self.columns(&place)?;
        Ok(Some(Configuration {
            stage: self.stage.clone(),
            key,
            columns,
        }))
    }

    /// The metrics of a configuration, to its end.
    fn columns(&mut self, place: &str) -> Result<Vec<(String, Column)>, Error> {
        let mut columns = Vec::new();
        let mut names = HashSet::new();
        while let Some(name) = self.name(columns.is_empty())? {
            let first = self.some("a value")?;
            if !names.insert(name.clone()) {
                return Err(self.twice(place, &name));
            }
            let length = if first == b'[' {
                let mut end = ListEnd::new();
                // What is cut off is parsed, too: it may be no JSON well before its end.
                self.whole(|held| end.find(held))?
            } else {
                None
            }
            .unwrap_or(self.text.held().len());
            let keep = self.keep.as_ref().is_none_or(|keep| keep.contains(&name));
            match parse(&self.text.held()[..length], keep) {
                Ok(column) => {
                    self.text.pass(length);
                    columns.push((name, column));
                }
                Err(fault) => {
                    return Err(self.fault(fault, &format!("{place}, {}", plain(&name))));
                }
            }
        }
        Ok(columns)
    }

    fn key(&mut self, first: u8) -> Result<String, Error> {
        if first != b'"' {
            return Err(self.syntax("key must be a string"));
        }
        let mut end = StringEnd::new();
        let found = self.whole(|held| end.find(held))?;
        let length = found.unwrap_or(self.text.held().len());
        let mut json = Jiter::new(&self.text.held()[..length]);
        match json.next_str().map(str::to_owned) {
            Ok(key) => {
                self.text.pass(length);
                Ok(key)
            }
            Err(error) => Err(self.fault(error.into(), "")),
        }
    }

    /// Reads on until `find` finds the end of what the held text begins with; `None` where the
    /// file ends before.
    fn whole(
        &mut self,
        mut find: impl FnMut(&[u8]) -> Option<usize>,
    ) -> Result<Option<usize>, Error> {
        loop {
            if let Some(end) = find(self.text.held()) {
                return Ok(Some(end));
            }
            if self.text.held().len() > MOST_BYTES {
                return Err(self.content("", "a metric is longer than 1 GiB"));
            }
            if !self.io(|text| text.grow())? {
                return Ok(None);
            }
        }
    }

    fn io<T>(&mut self, act: impl FnOnce(&mut Text<R>) -> io::Result<T>) -> Result<T, Error> {
        act(&mut self.text).map_err(|error| match error.kind() {
            io::ErrorKind::OutOfMemory => Error::Memory,
            _ => Error::io(&self.path, error),
        })
    }

    /// The next byte that is no white space.
    fn some(&mut self, inside: &'static str) -> Result<u8, Error> {
        match self.io(|text| text.next())? {
            Some(byte) => Ok(byte),
            None => Err(self.cut_off(self.text.position(0), inside)),
        }
    }

    fn expect(&mut self, found: u8, wanted: u8, why: &str) -> Result<(), Error> {
        if found != wanted {
            return Err(self.syntax(why));
        }
        self.text.pass(1);
        Ok(())
    }

    // --- what is wrong ------------------------------------------------------------------------

    fn wrong(&self, what: String) -> Error {
        Error::Profile {
            path: self.path.clone(),
            what,
        }
    }

    fn cut_off(&self, at: Position, inside: &str) -> Error {
        let Position { line, column } = at;
        self.wrong(format!(
            " is cut off at line {line}, column {column} (the file ends inside {inside})"
        ))
    }

    /// At the next byte.
    fn syntax(&self, why: &str) -> Error {
        self.fault(
            Fault {
                index: 0,
                what: What::Syntax(why.to_owned()),
            },
            "",
        )
    }

    fn content(&self, place: &str, why: &str) -> Error {
        self.fault(Fault::content(0, why.to_owned()), place)
    }

    fn twice(&self, place: &str, key: &str) -> Error {
        self.content(place, &format!("the key {} appears twice", shown(key)))
    }

    fn fault(&self, fault: Fault, place: &str) -> Error {
        let at = self.text.position(fault.index);
        let Position { line, column } = at;
        match fault.what {
            What::CutOff => self.cut_off(at, "a value"),
            What::Syntax(why) => self.wrong(format!(
                " is not JSON at line {line}, column {column} ({why})"
            )),
            What::Unicode => self.wrong(format!(" is not UTF-8 at line {line}, column {column}")),
            What::Content { place: inner, why } => self.wrong(format!(
                "{place}{inner}: {why} (line {line}, column {column})"
            )),
        }
    }
}
