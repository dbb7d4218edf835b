//! Turning a host off, and seeing that it is. That it was asked for proves nothing, and one reading may be one of a moment in
//! between: the proof is that its power was seen off twice, some seconds apart, and that it still gives no answer.

use std::time::Duration;

use ashlar_api::{Host, HostFence, HostFencing};
use jiff::Timestamp;

use crate::{
    Engine,
    deadline::within,
    effects::{EffectError, EffectErrorKind, FenceTarget, PowerState},
};

/// Time between two readings of the power.
const READ_AGAIN: Duration = Duration::from_secs(5);
/// How long power takes to go, at the most: BMCs that were asked to cut it do so in a few seconds.
const OFF_WITHIN: Duration = Duration::from_secs(60);
/// How long a BMC, or a command, may take for one answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(40);

/// How often it is asked for the power at first: one that is busy for a moment is not given up.
const ASK_AT_FIRST: u32 = 3;

/// Why a host is not proved off.
#[derive(Debug)]
pub(crate) enum NotOff {
    /// It may not be turned off now; the next pass sees why.
    NotNow(String),
    /// Who turns it off cannot, or cannot tell: a person has to look.
    Failed(EffectError),
}

impl Engine {
    /// What turns a host off says of its power, for `host check`: nothing is changed.
    ///
    /// # Errors
    /// Nobody can tell; or the host says nothing about how it is turned off.
    pub async fn power_status(&self, host: &Host) -> Result<PowerState, EffectError> {
        self.read_power(&target(host)?).await
    }

    /// Turns a host off for a person, who has seen that it should be, and gives the proof. Nothing is recorded.
    ///
    /// # Errors
    /// It is not proved that it is off.
    pub async fn turn_off(&self, host: &Host) -> Result<HostFence, EffectError> {
        match self.turn_off_if(host, async || Ok(())).await {
            Ok(proof) => Ok(proof),
            Err(NotOff::Failed(error)) => Err(error),
            Err(NotOff::NotNow(message)) => Err(EffectError::new(EffectErrorKind::Busy, message)),
        }
    }

    /// Turns a host off, if it may be: asked at the last moment, once who turns it off is known to answer.
    pub(crate) async fn turn_off_if(
        &self,
        host: &Host,
        may: impl AsyncFnOnce() -> Result<(), String>,
    ) -> Result<HostFence, NotOff> {
        let target = target(host).map_err(NotOff::Failed)?;
        let failed = |error| NotOff::Failed(told(&target, error));
        let clock = self.world.clock.as_ref();
        let name = &target.host;
        let mut asked = 1;
        let power = loop {
            match self.read_power(&target).await {
                Ok(power) => break power,
                Err(error) if asked >= ASK_AT_FIRST || !error.kind.is_transient() => {
                    return Err(failed(error));
                }
                Err(_) => asked += 1,
            }
            clock.sleep(READ_AGAIN).await;
        };
        may().await.map_err(NotOff::NotNow)?;
        if power == PowerState::On {
            let what = format!("turning host {name} off by {}", target.fencing);
            let call = self.world.fencer.power_off(&target);
            within(clock, ANSWER_WITHIN, &what, call).await.map_err(failed)?;
        }
        let begun = clock.now();
        let mut is_off = power == PowerState::Off;
        loop {
            clock.sleep(READ_AGAIN).await;
            let power = self.read_power(&target).await;
            if power == Ok(PowerState::Off) && is_off {
                break;
            }
            is_off = power == Ok(PowerState::Off);
            if clock.now().duration_since(begun).unsigned_abs() > OFF_WITHIN {
                let message = match power {
                    Err(error) => error.message,
                    Ok(PowerState::Unknown) => "it does not know whether the host has power".to_owned(),
                    Ok(_) => {
                        format!("it was asked to, and {} s later the host has power", OFF_WITHIN.as_secs())
                    }
                };
                return Err(failed(EffectError::new(EffectErrorKind::Busy, message)));
            }
        }
        let now = clock.now();
        if self.world.fencer.answers(name, &target.uri).await {
            let message = format!(
                "{} says that host {name} has no power, and host {name} answers: it is another machine's, or does not know. \
                 Nothing was recorded; look which machine was turned off, and correct spec.fencing of host {name}",
                target.fencing
            );
            return Err(NotOff::Failed(EffectError::new(EffectErrorKind::Refused, message)));
        }
        let at = Timestamp::from_second(now.as_second()).unwrap_or(now);
        Ok(HostFence { at, confirmed_by: target.fencing.to_string() })
    }

    async fn read_power(&self, target: &FenceTarget) -> Result<PowerState, EffectError> {
        let what = format!("asking {} whether host {} has power", target.fencing, target.host);
        let call = self.world.fencer.power_status(target);
        match within(self.world.clock.as_ref(), ANSWER_WITHIN, &what, call).await {
            Ok(PowerState::Unknown) => {
                let message = "it does not know whether the host has power";
                Err(EffectError::new(EffectErrorKind::Busy, message))
            }
            other => other,
        }
    }
}

fn target(host: &Host) -> Result<FenceTarget, EffectError> {
    let name = &host.metadata.name;
    let Some(fencing) = host.spec.fencing.clone() else {
        let message = format!(
            "host {name} has no spec.fencing: nobody here can turn it off. See that it has no power, then: `ashlar host \
             fence {name} --confirm-powered-off`"
        );
        return Err(EffectError::new(EffectErrorKind::NotFound, message));
    };
    Ok(FenceTarget { host: name.clone(), uri: host.spec.uri.clone(), fencing })
}

/// A failure, with what it means and what a person does.
fn told(target: &FenceTarget, error: EffectError) -> EffectError {
    let FenceTarget { host, fencing, .. } = target;
    let advice = match (error.kind, fencing) {
        (EffectErrorKind::Unreachable, HostFencing { ipmi: Some(_), .. }) => {
            "A host that lost all of its power takes its BMC with it: look at it"
        }
        (EffectErrorKind::Unreachable | EffectErrorKind::Busy, _) => "Look at it",
        _ => "Correct spec.fencing of the host",
    };
    let message = format!(
        "host {host} is not proved off by {fencing}: {}. {advice}; if it is off: `ashlar host fence {host} \
         --confirm-powered-off`",
        error.message.trim_end_matches('.')
    );
    EffectError { message, ..error }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use ashlar_api::HostSpec;
    use futures::executor::block_on;
    use serde_json::json;

    use super::*;
    use crate::testing::Fake;

    const ON: Result<PowerState, EffectError> = Ok(PowerState::On);
    const OFF: Result<PowerState, EffectError> = Ok(PowerState::Off);

    fn host() -> Host {
        let ipmi = json!({"address": "10.78.0.11", "username": "ashlar", "passwordFile": "/etc/ashlar/bmc"});
        let spec: HostSpec = serde_json::from_value(json!({
            "uri": "qemu+ssh://root@10.77.0.11/system", "sshHostKey": "ssh-ed25519 AAAA",
            "fencing": {"ipmi": ipmi},
        }))
        .unwrap();
        Host::new("h1", spec)
    }

    /// How it ends, and what was called, with these answers.
    fn turned_off(
        powers: &[Result<PowerState, EffectError>],
        answers: &[bool],
    ) -> (Result<HostFence, EffectError>, String) {
        let fake = Fake::default();
        let (_, engine) = fake.engine();
        fake.state().powers = powers.iter().cloned().collect();
        fake.state().answers = answers.iter().copied().collect();
        let ended = block_on(engine.turn_off(&host()));
        let calls = fake.state().calls.iter().map(|call| call.replace(" h1", "")).collect::<Vec<_>>();
        (ended, calls.join(" "))
    }

    #[test]
    fn two_readings_in_a_row_are_the_proof_whoever_turned_it_off() {
        let (proof, calls) = turned_off(&[ON, OFF, OFF], &[]);
        assert_eq!(proof.unwrap().confirmed_by, "BMC 10.78.0.11 (ipmi)");
        assert_eq!(calls, "power_status power_off power_status power_status answers");
        let (proof, calls) = turned_off(&[OFF, OFF], &[]);
        assert!(proof.is_ok());
        assert_eq!(calls, "power_status power_status answers");
    }

    #[test]
    fn a_reading_in_between_does_not_count() {
        let (proof, calls) = turned_off(&[ON, OFF, ON, OFF, OFF], &[]);
        assert!(proof.is_ok());
        assert_eq!(calls.matches("power_status").count(), 5);
        let silent = Err(EffectError::new(EffectErrorKind::Unreachable, "no answer"));
        let (proof, _) = turned_off(&[ON, OFF, silent, OFF], &[]);
        assert!(proof.unwrap_err().message.contains("60 s later the host has power"));
    }

    #[test]
    fn who_does_not_answer_proves_nothing() {
        let silent = Err(EffectError::new(EffectErrorKind::Unreachable, "no answer"));
        let (proof, calls) = turned_off(&[silent.clone(), silent.clone(), silent.clone(), OFF, OFF], &[]);
        let error = proof.unwrap_err();
        assert_eq!(error.kind, EffectErrorKind::Unreachable);
        assert!(error.message.contains("takes its BMC with it"), "{error}");
        assert_eq!(calls, "power_status power_status power_status");
        assert!(turned_off(&[silent, Ok(PowerState::Unknown), OFF, OFF], &[]).0.is_ok());
        // A wrong password is none that is right a moment later.
        let refused = Err(EffectError::new(EffectErrorKind::Refused, "wrong password"));
        let (proof, calls) = turned_off(&[refused], &[]);
        assert!(proof.is_err());
        assert_eq!(calls, "power_status");
    }

    #[test]
    fn a_host_that_answers_is_not_off_whatever_its_bmc_says() {
        let (proof, _) = turned_off(&[OFF, OFF], &[true]);
        let error = proof.unwrap_err();
        assert_eq!(error.kind, EffectErrorKind::Refused);
        assert!(error.message.contains("it is another machine's"), "{error}");
    }
}
