//! Nothing that looks like a secret: plans are printed, logged and saved.

use ashlar_api::{Object, ObjectRef};

use super::Findings;
use crate::{Decision, Plan, StepState};

pub(super) fn check(plan: &Plan, findings: &mut Findings) {
    for decision in plan.decisions.iter().flatten() {
        let (Decision::Create(object) | Decision::Update(object)) = decision else { continue };
        if matches!(object, Object::Secret(_)) {
            findings.add("Secret", &object.object_ref(), "a plan holds no secrets");
        }
        if let Ok(value) = object.to_value()
            && has_key(&value.to_string())
        {
            findings.add("Secret", &object.object_ref(), "a private key is inside");
        }
    }
    for step in &plan.steps {
        text(&step.object, &step.why, findings);
        match &step.state {
            StepState::Ready => {}
            StepState::Waiting(wait) => text(&step.object, &wait.message, findings),
            StepState::Blocked(block) => text(&step.object, &block.message, findings),
        }
    }
    for note in &plan.report.notes {
        text(&note.object, &note.message, findings);
    }
}

fn text(object: &ObjectRef, text: &str, findings: &mut Findings) {
    if has_key(text) || has_bootstrap_token(text) {
        findings.add("Secret", object, "its text looks like a key or a token");
    }
}

/// A mark of PEM. Few texts have its `K`, and looking for one letter is fast.
fn has_key(text: &str) -> bool {
    if !has_byte(text, b'K') {
        return false;
    }
    let is_mark = |at: usize| text[..at].ends_with("PRIVATE ") && text[at..].starts_with("KEY");
    text.match_indices('K').any(|(at, _)| is_mark(at))
}

fn has_bootstrap_token(text: &str) -> bool {
    if !has_byte(text, b'.') {
        return false;
    }
    // Few words have a dot in the right place; only those are looked at whole.
    let is_possible = text.match_indices('.').any(|(at, _)| {
        let before = text.as_bytes()[..at].iter().rev().take_while(|byte| is_token_character(**byte as char));
        before.count() == 6
    });
    is_possible && text.split(|c: char| !is_token_character(c)).any(is_bootstrap_token)
}

/// All texts of a plan are looked at, and most are short and have none: a look at every byte, many at a time, is faster
/// than one that ends at the first.
fn has_byte(text: &str, wanted: u8) -> bool {
    text.bytes().fold(false, |found, byte| found | (byte == wanted))
}

fn is_token_character(character: char) -> bool {
    character.is_ascii_lowercase() || character.is_ascii_digit() || character == '.'
}

/// kubeadm's bootstrap tokens: `[a-z0-9]{6}.[a-z0-9]{16}`. Host names of that shape have fewer digits.
fn is_bootstrap_token(word: &str) -> bool {
    let digits = |part: &str| part.chars().filter(char::is_ascii_digit).count();
    word.split_once('.').is_some_and(|(id, secret)| {
        id.len() == 6
            && secret.len() == 16
            && !secret.contains('.')
            && digits(id) >= 1
            && (3..16).contains(&digits(secret))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_in_texts() {
        assert!(
            ["PRIVATE KEY", "K -----BEGIN EC PRIVATE KEY-----", "KEY PRIVATE KEY"].into_iter().all(has_key)
        );
        assert!(!["", "K", "KEY", "PRIVATE KE", "PRIVATE  KEY", "PUBLIC KEY"].into_iter().any(has_key));
    }

    #[test]
    fn tokens_are_found_in_texts() {
        for text in
            ["ab12cd.0123456789abcdef", "token ab12cd.0123456789abcdef, see", "ä ab12cd.0123456789abcdef"]
        {
            assert!(has_bootstrap_token(text), "{text}");
        }
        for text in ["", ".", "a.b.c", "xab12cd.0123456789abcdef", "10.0.0.1.ab12cd.0123456789abcdef"] {
            assert!(!has_bootstrap_token(text), "{text}");
        }
    }

    #[test]
    fn tokens_are_told_from_names() {
        assert!(is_bootstrap_token("ab12cd.0123456789abcdef"));
        for name in ["server.datacenter-north", "host01.abcdefghijklmnop", "10.0.0.10", "v1.37.2"] {
            assert!(!is_bootstrap_token(name), "{name}");
        }
    }
}
