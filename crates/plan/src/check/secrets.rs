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
            && value.to_string().contains("PRIVATE KEY")
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
    if text.contains("PRIVATE KEY") || text.split(|c: char| !is_token_character(c)).any(is_bootstrap_token) {
        findings.add("Secret", object, "its text looks like a key or a token");
    }
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
    fn tokens_are_told_from_names() {
        assert!(is_bootstrap_token("ab12cd.0123456789abcdef"));
        for name in ["server.datacenter-north", "host01.abcdefghijklmnop", "10.0.0.10", "v1.37.2"] {
            assert!(!is_bootstrap_token(name), "{name}");
        }
    }
}
