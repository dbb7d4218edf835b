//! Plain scalars by YAML's core schema (1.2), in which `no` is text and `0755` is a number.

use granit_parser::{ScalarStyle, Tag};
use serde_json::Number;

use super::yaml::Tree;
use crate::names::quoted;

/// A scalar by YAML's core schema (1.2): what is not null, bool or number is text; what is quoted is text.
pub(super) fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Tree, String> {
    match tag.map(|tag| (tag.core_suffix(), tag)) {
        None if style != ScalarStyle::Plain => return Ok(Tree::Text(text.to_owned())),
        Some((Some("str"), _)) => return Ok(Tree::Text(text.to_owned())),
        None | Some((Some("null" | "bool" | "int" | "float"), _)) => {}
        Some((_, tag)) => return Err(format!("tag {} is not known", quoted(&tag.original()))),
    }
    Ok(match text {
        "" | "~" | "null" | "Null" | "NULL" => Tree::Null,
        "true" | "True" | "TRUE" => Tree::Bool(true),
        "false" | "False" | "FALSE" => Tree::Bool(false),
        _ => number(text).map_or_else(|| Tree::Text(text.to_owned()), Tree::Number),
    })
}

fn number(text: &str) -> Option<Number> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if let Some(hex) = text.strip_prefix("0x") {
        return u64::from_str_radix(hex, 16).ok().filter(|_| !hex.starts_with('+')).map(Number::from);
    }
    if let Some(octal) = text.strip_prefix("0o") {
        return u64::from_str_radix(octal, 8).ok().filter(|_| !octal.starts_with('+')).map(Number::from);
    }
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        || !digits.bytes().any(|byte| byte.is_ascii_digit())
        || !digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-'))
    {
        return None;
    }
    if let Ok(number) = text.parse::<u64>() {
        return Some(number.into());
    }
    if let Ok(number) = text.parse::<i64>() {
        return Some(number.into());
    }
    text.parse::<f64>().ok().and_then(Number::from_f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> String {
        match scalar(text, ScalarStyle::Plain, None).unwrap() {
            Tree::Null => "null".to_owned(),
            Tree::Bool(value) => format!("bool {value}"),
            Tree::Number(number) => format!("number {number}"),
            Tree::Text(text) => format!("text {text}"),
            Tree::List(_) | Tree::Map(_) => "collection".to_owned(),
        }
    }

    #[test]
    fn scalars_are_what_the_core_schema_says() {
        for (text, expected) in [
            ("", "null"),
            ("~", "null"),
            ("true", "bool true"),
            ("False", "bool false"),
            ("no", "text no"),
            ("on", "text on"),
            ("1", "number 1"),
            ("-1", "number -1"),
            ("+7", "number 7"),
            ("0755", "number 755"),
            ("0x1F", "number 31"),
            ("0o17", "number 15"),
            ("1.5", "number 1.5"),
            ("1e3", "number 1000.0"),
            ("18446744073709551615", "number 18446744073709551615"),
            ("1.37.2", "text 1.37.2"),
            ("10.0.0.1", "text 10.0.0.1"),
            ("2026-01-31", "text 2026-01-31"),
            ("16Gi", "text 16Gi"),
            (".inf", "text .inf"),
            ("1e999", "text 1e999"),
            ("0x", "text 0x"),
            ("-", "text -"),
            (".", "text ."),
            ("e", "text e"),
            ("nan", "text nan"),
            ("infinity", "text infinity"),
        ] {
            assert_eq!(plain(text), expected, "{text:?}");
        }
        assert!(matches!(scalar("1", ScalarStyle::DoubleQuoted, None), Ok(Tree::Text(_))));
    }
}
