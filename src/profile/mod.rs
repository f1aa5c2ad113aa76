//! Profile files: what each stage took, per configuration, read as a stream of columns.
//!
//! A profile is JSON: `{"(1, 512, 4)": {"read": [[0.1, 0.2, …], …], …}, …}`, configuration to
//! metric to repetitions to one value per worker; or the same once more by stage,
//! `{"train": {"(1, 512, 4)": {…}}}`. Files of gigabytes are read with the memory that the text of
//! one metric and the columns of one configuration take.
//!
//! - [`reader`]: from configuration to configuration; what is wrong and in which line.
//! - [`column`]: a metric's values as numbers or as texts with their codes.
//!   `metric`: the text of one metric as a column.
//! - `text`: the part of the file that is held, with its place in lines and its digest.
//!   `scan`: where a JSON string or list ends.

pub mod column;
mod metric;
pub mod reader;
mod scan;
#[cfg(test)]
mod tests;
mod text;

pub use column::{Column, Values};
pub use reader::{Configuration, Reader};
