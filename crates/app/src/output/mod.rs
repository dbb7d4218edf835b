//! Everything that is printed: one printer, tables, trees, JSON and YAML.

mod columns;
mod describe;
mod plan;
mod printer;
mod table;
mod text;
mod tree;

pub(crate) use columns::{headers, row};
pub(crate) use describe::describe;
pub(crate) use plan::plan_value;
pub(crate) use printer::{Printer, Verbosity};
pub(crate) use table::{Cells, Table};
pub(crate) use text::{age, elapsed, plural, yaml};
pub(crate) use tree::Tree;
