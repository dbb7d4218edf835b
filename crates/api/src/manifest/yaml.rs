//! YAML (and so JSON) as a tree in which every node knows its place. Bounded in size, depth and expansion.

use std::collections::BTreeMap;

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError, Span, StrInput, Tag};
use serde_json::Number;

use super::{Limits, scalar::scalar};
use crate::names::quoted;

/// A place in a file; both count from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location {
    /// Line.
    pub line: usize,
    /// Column, in characters.
    pub column: usize,
}

/// A problem and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) at: Location,
    pub(crate) path: String,
    pub(crate) message: String,
}

impl Problem {
    pub(crate) fn new(at: Location, path: impl Into<String>, message: impl Into<String>) -> Self {
        Problem { at, path: path.into(), message: message.into() }
    }
}

/// A value with its place.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) at: Location,
    pub(crate) tree: Tree,
}

/// A value.
#[derive(Clone, Debug)]
pub(crate) enum Tree {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// One entry of a map.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_at: Location,
    pub(crate) value: Node,
}

impl Node {
    /// The entry of that key, if this is a map.
    pub(crate) fn get(&self, key: &str) -> Option<&Entry> {
        match &self.tree {
            Tree::Map(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }
}

/// A collection whose end has not come yet.
struct Open {
    at: Location,
    anchor: usize,
    is_map: bool,
    items: Vec<Node>,
    entries: Vec<Entry>,
    seen: BTreeMap<String, Location>,
    /// A map's key that waits for its value.
    key: Option<(String, Location)>,
    /// Places of `<<` keys' values, merged at the end so that own keys win.
    merges: Vec<Node>,
    depth_below: usize,
    size: usize,
}

/// An anchor's node, with what copying it costs.
struct Anchored {
    node: Node,
    size: usize,
    depth: usize,
}

struct Builder<'a> {
    limits: &'a Limits,
    open: Vec<Open>,
    anchors: BTreeMap<usize, Anchored>,
    /// Nodes made so far, copies of anchors included, over all documents.
    nodes: usize,
    root: Option<Node>,
    problems: Vec<Problem>,
}

/// Reads all documents. A document with a problem is left out; the problems are returned beside.
pub(crate) fn documents(text: &str, limits: &Limits) -> (Vec<Node>, Vec<Problem>) {
    let options = granit_parser::options! {
        emit_comments: false,
        flow_nesting_limit: limits.depth,
        block_nesting_limit: limits.depth,
    };
    let mut parser = Parser::new_from_str_with_options(text, options);
    let mut builder = Builder {
        limits,
        open: Vec::new(),
        anchors: BTreeMap::new(),
        nodes: 0,
        root: None,
        problems: Vec::new(),
    };
    let mut documents = Vec::new();
    let mut broken = false;
    while let Some(next) = parser.next_event() {
        let outcome = match next {
            Ok((Event::DocumentStart(..), _)) => {
                builder.begin();
                broken = false;
                Ok(())
            }
            Ok((Event::DocumentEnd, _)) => {
                let root = builder.root.take();
                if let (Some(root), false) = (root, broken) {
                    documents.push(root);
                }
                Ok(())
            }
            Ok((Event::StreamEnd, _)) => break,
            Ok(_) if broken => Ok(()),
            Ok((event, span)) => builder.event(event, &span),
            Err(error) => {
                if !broken {
                    builder.problems.push(describe(text, &error, limits));
                }
                broken = true;
                if next_document(&mut parser) { Ok(()) } else { break }
            }
        };
        if let Err(problem) = outcome {
            builder.problems.push(problem);
            broken = true;
        }
        if builder.problems.len() > limits.problems || builder.nodes > limits.nodes {
            break;
        }
    }
    (documents, builder.problems)
}

fn next_document<'a>(parser: &mut Parser<'a, StrInput<'a>>) -> bool {
    parser.proceed_next_document().unwrap_or(false)
}

fn location(span: &Span) -> Location {
    Location { line: span.start.line(), column: span.start.col() + 1 }
}

/// What the parser stumbled over, with the cause that is most likely where it only sees the consequence.
fn describe(text: &str, error: &ScanError, limits: &Limits) -> Problem {
    let at = Location { line: error.marker().line().max(1), column: error.marker().col() + 1 };
    // The parser may stop a line before or after the one with the tab.
    let tab = (at.line.saturating_sub(1)..=at.line + 1).filter(|line| *line > 0).find_map(|line| {
        let content = text.lines().nth(line - 1)?;
        let column = content.chars().take_while(|c| c.is_whitespace()).position(|c| c == '\t')?;
        Some(Location { line, column: column + 1 })
    });
    let hint = match error.kind() {
        ErrorKind::RecursionLimitExceeded => {
            return Problem::new(at, "", format!("nested deeper than {} levels", limits.depth));
        }
        ErrorKind::InputIo { .. } | ErrorKind::InputDecoding { .. } => "",
        _ if let Some(tab) = tab => {
            return Problem::new(tab, "", "a tab in the indentation: YAML wants spaces");
        }
        ErrorKind::SimpleKeyExpected | ErrorKind::ExpectedBlockMappingKey => {
            " (is there a colon with a space after it, and does the line begin below the others of its map?)"
        }
        ErrorKind::MappingValueNotAllowed | ErrorKind::InvalidIndentation => {
            " (do all keys of the map begin in the same column?)"
        }
        ErrorKind::InvalidColonPlacement
        | ErrorKind::ExpectedFlowMappingSeparator
        | ErrorKind::ExpectedFlowSequenceSeparator => " (is a bracket before it closed?)",
        ErrorKind::UnclosedQuotedScalar => " (the quote that begins here has no end)",
        _ => "",
    };
    Problem::new(at, "", format!("not YAML: {}{hint}", error.info()))
}

impl Builder<'_> {
    fn begin(&mut self) {
        self.open.clear();
        self.anchors.clear();
        self.root = None;
    }

    fn event(&mut self, event: Event<'_>, span: &Span) -> Result<(), Problem> {
        let at = location(span);
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                if self.wants_key() {
                    return self.key(&text, style, at);
                }
                let tree =
                    scalar(&text, style, tag.as_deref()).map_err(|m| Problem::new(at, self.path(), m))?;
                self.add(Node { at, tree }, anchor, 1, 0)
            }
            Event::SequenceStart(_, anchor, tag) => self.start(at, anchor, false, tag.as_deref()),
            Event::MappingStart(_, anchor, tag) => self.start(at, anchor, true, tag.as_deref()),
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(id) => self.alias(id, at),
            _ => Ok(()),
        }
    }

    fn wants_key(&self) -> bool {
        self.open.last().is_some_and(|open| open.is_map && open.key.is_none())
    }

    fn start(&mut self, at: Location, anchor: usize, is_map: bool, tag: Option<&Tag>) -> Result<(), Problem> {
        if self.wants_key() {
            return Err(Problem::new(at, self.path(), "a list or map as a key: keys are text"));
        }
        if let Some(tag) = tag.filter(|tag| !matches!(tag.core_suffix(), Some("map" | "seq"))) {
            return Err(Problem::new(
                at,
                self.path(),
                format!("tag {} is not known", quoted(&tag.original())),
            ));
        }
        if self.open.len() >= self.limits.depth {
            let message = format!("nested deeper than {} levels", self.limits.depth);
            return Err(Problem::new(at, "", message));
        }
        self.open.push(Open {
            at,
            anchor,
            is_map,
            items: Vec::new(),
            entries: Vec::new(),
            seen: BTreeMap::new(),
            key: None,
            merges: Vec::new(),
            depth_below: 0,
            size: 1,
        });
        Ok(())
    }

    fn key(&mut self, text: &str, style: ScalarStyle, at: Location) -> Result<(), Problem> {
        let path = self.path();
        let Some(open) = self.open.last_mut() else { return Ok(()) };
        if style == ScalarStyle::Plain && matches!(text, "" | "~" | "null") {
            return Err(Problem::new(at, path, "a key is missing before the colon"));
        }
        if style == ScalarStyle::Plain && text == "<<" {
            open.key = Some((text.to_owned(), at));
            return Ok(());
        }
        if let Some(first) = open.seen.get(text) {
            let message = format!("key {} is written twice: first at line {}", quoted(text), first.line);
            let path = crate::names::join_path(&path, text);
            // The value is read all the same, so that what follows is checked too.
            self.problems.push(Problem::new(at, path, message));
        } else {
            open.seen.insert(text.to_owned(), at);
        }
        open.key = Some((text.to_owned(), at));
        Ok(())
    }

    fn end(&mut self) -> Result<(), Problem> {
        let Some(open) = self.open.pop() else { return Ok(()) };
        let mut entries = open.entries;
        let mut seen = open.seen;
        for merge in open.merges {
            let inherited = match merge.tree {
                Tree::Map(inherited) => inherited,
                _ => return Err(Problem::new(merge.at, self.path(), "`<<` wants a map to merge")),
            };
            for entry in inherited {
                if !seen.contains_key(&entry.key) {
                    seen.insert(entry.key.clone(), entry.key_at);
                    entries.push(entry);
                }
            }
        }
        let tree = if open.is_map { Tree::Map(entries) } else { Tree::List(open.items) };
        self.add(Node { at: open.at, tree }, open.anchor, open.size, open.depth_below + 1)
    }

    fn alias(&mut self, id: usize, at: Location) -> Result<(), Problem> {
        if self.wants_key() {
            return Err(Problem::new(at, self.path(), "an alias as a key: keys are text"));
        }
        let Some(anchored) = self.anchors.get(&id) else {
            return Err(Problem::new(
                at,
                self.path(),
                "the alias refers to a key, or to what it lies in itself",
            ));
        };
        let (size, depth) = (anchored.size, anchored.depth);
        if self.nodes + size > self.limits.nodes {
            return Err(self.too_many(at));
        }
        if self.open.len() + depth > self.limits.depth {
            let message = format!("nested deeper than {} levels", self.limits.depth);
            return Err(Problem::new(at, "", message));
        }
        let node = Node { at, ..anchored.node.clone() };
        self.nodes += size;
        self.add(node, 0, size, depth)
    }

    fn too_many(&mut self, at: Location) -> Problem {
        // Stops the reader for good.
        self.nodes = self.limits.nodes + 1;
        Problem::new(at, "", format!("more than {} values, aliases expanded", self.limits.nodes))
    }

    /// Puts a finished node where it belongs.
    fn add(&mut self, node: Node, anchor: usize, size: usize, depth: usize) -> Result<(), Problem> {
        self.nodes += 1;
        if self.nodes > self.limits.nodes {
            return Err(self.too_many(node.at));
        }
        if anchor != 0 {
            // The copy that is kept counts too.
            self.nodes += size;
            self.anchors.insert(anchor, Anchored { node: node.clone(), size, depth });
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        open.size += size;
        open.depth_below = open.depth_below.max(depth);
        match open.key.take() {
            None => open.items.push(node),
            Some((key, _)) if key == "<<" => match node.tree {
                Tree::List(items) => open.merges.extend(items),
                tree => open.merges.push(Node { tree, ..node }),
            },
            // Of a key that is there twice (which was reported), the first counts.
            Some((key, key_at)) if open.seen.get(&key) == Some(&key_at) => {
                open.entries.push(Entry { key, key_at, value: node });
            }
            Some(_) => {}
        }
        Ok(())
    }

    /// Path of the innermost open collection.
    fn path(&self) -> String {
        let mut path = String::new();
        for open in &self.open {
            match &open.key {
                Some((key, _)) => path = crate::names::join_path(&path, key),
                None if !open.is_map => path = format!("{path}[{}]", open.items.len()),
                None => {}
            }
        }
        path
    }
}
