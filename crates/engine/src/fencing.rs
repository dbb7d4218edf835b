//! Turning a host off, and seeing that it is. That it was asked for proves nothing, and one reading may be one of a moment in
//! between: the proof is that its power was seen off twice, some seconds apart, and that it still gives no answer, while all who
//! answered before still do. Whoever turns it off may turn another one off; how all stood before is recorded before.

use std::time::Duration;

use ashlar_api::{Host, HostFence, HostFencing, PowerCut};
use ashlar_plan::fencing_doubt;
use futures::future::join_all;
use jiff::Timestamp;

use crate::{
    Engine, EngineError,
    deadline::within,
    effects::{EffectError, EffectErrorKind, FenceTarget, PowerState},
    objects,
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
    /// It may be that another host was turned off in its place: a person has to look.
    Doubted(String),
    /// The store failed.
    Store(EngineError),
}

/// How hosts stood when they were dialled.
pub(crate) struct Dialled<'h> {
    answering: Vec<&'h Host>,
    silent: Vec<&'h Host>,
}

impl Dialled<'_> {
    /// Names of those that gave no answer.
    pub(crate) fn silent(&self) -> Vec<&str> {
        self.silent.iter().map(|host| host.metadata.name.as_str()).collect()
    }
}

impl Engine {
    /// What turns a host off says of its power, for `host check`: nothing is changed.
    ///
    /// # Errors
    /// Nobody can tell; or the host says nothing about how it is turned off.
    pub async fn power_status(&self, host: &Host) -> Result<PowerState, EffectError> {
        self.read_power(&target(host)?).await
    }

    /// Turns a host off for a person, who has seen that it should be, and gives the proof, which is not recorded here. Of the
    /// others that are given, all that answer before have to answer after that.
    ///
    /// # Errors
    /// It is not proved that it is off.
    pub async fn turn_off(&self, host: &Host, others: &[&Host]) -> Result<HostFence, EngineError> {
        let doing = || format!("turning host {} off", host.metadata.name);
        let failed = |source| EngineError::Effect { doing: doing(), source };
        match self.turn_off_if(host, others, |_| Ok(())).await {
            Ok(proof) => Ok(proof),
            Err(NotOff::Failed(error)) => Err(failed(error)),
            Err(NotOff::NotNow(message)) => Err(failed(EffectError::new(EffectErrorKind::Busy, message))),
            Err(NotOff::Doubted(message)) => Err(failed(EffectError::new(EffectErrorKind::Refused, message))),
            Err(NotOff::Store(error)) => Err(error),
        }
    }

    /// Turns a host off, if it may be, as all hosts stand at the last moment, once who turns it off is known to answer.
    pub(crate) async fn turn_off_if(
        &self,
        host: &Host,
        all: &[&Host],
        may: impl FnOnce(&Dialled<'_>) -> Result<(), String>,
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
        let before = self.dial(all).await;
        may(&before).map_err(NotOff::NotNow)?;
        self.record_cut(host, &target, &before).await?;
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
        let fell_silent = self.fell_silent(&before.answering).await;
        if !fell_silent.is_empty() {
            return Err(self.doubt(host, &target, fell_silent).await);
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

    async fn dial<'h>(&self, hosts: &[&'h Host]) -> Dialled<'h> {
        let fencer = self.world.fencer.as_ref();
        let asked = hosts.iter().map(|host| fencer.answers(&host.metadata.name, &host.spec.uri));
        let mut dialled = Dialled { answering: Vec::new(), silent: Vec::new() };
        for (host, answers) in hosts.iter().zip(join_all(asked).await) {
            if answers { dialled.answering.push(host) } else { dialled.silent.push(host) }
        }
        dialled
    }

    /// Who answered, and does not any more, asked twice.
    async fn fell_silent(&self, answered: &[&Host]) -> Vec<String> {
        let mut now = self.dial(answered).await;
        if !now.silent.is_empty() {
            self.world.clock.sleep(READ_AGAIN).await;
            now = self.dial(&now.silent).await;
        }
        now.silent().into_iter().map(str::to_owned).collect()
    }

    /// Records how all stand before the power is cut. Where that was recorded before, by an attempt that was not brought to its end,
    /// nobody may have fallen silent since.
    async fn record_cut(
        &self,
        host: &Host,
        target: &FenceTarget,
        before: &Dialled<'_>,
    ) -> Result<(), NotOff> {
        let name = target.host.as_str();
        let others = || before.silent.iter().filter(|other| other.metadata.name != name);
        let now = self.world.clock.now();
        let mut doubt = None;
        let recorded = objects::update(self.store.as_ref(), host, |stored| {
            let cut = stored.record.power_cut.take().filter(|cut| cut.is_by(Some(&target.fencing)));
            let is_new = cut.is_none();
            let mut cut = cut.unwrap_or_else(|| PowerCut {
                at: Timestamp::from_second(now.as_second()).unwrap_or(now),
                by: target.fencing.clone(),
                silent: others().map(|other| other.metadata.name.clone()).collect(),
                fell_silent: Vec::new(),
            });
            let was_doubted = !cut.fell_silent.is_empty();
            if !was_doubted {
                // Of one that is known to be off it is known why it is silent.
                let fell = others().filter(|other| other.record.fence.is_none());
                let fell = fell.map(|other| other.metadata.name.clone());
                cut.fell_silent = fell.filter(|name| !cut.silent.contains(name)).collect();
            }
            let is_doubted = !cut.fell_silent.is_empty();
            doubt = is_doubted.then(|| fencing_doubt(name, &cut));
            stored.record.power_cut = Some(cut);
            if is_doubted && !was_doubted {
                cordon(stored);
            }
            is_new || is_doubted != was_doubted
        });
        match (recorded.await.map_err(NotOff::Store)?, doubt) {
            (Some(_), None) => Ok(()),
            (Some(_), Some(doubt)) => Err(NotOff::Doubted(doubt)),
            (None, _) => Err(NotOff::NotNow(format!("host {name} is not in the store any more"))),
        }
    }

    /// Others fell silent when the host was turned off, which is recorded, so that it is not done once more.
    async fn doubt(&self, host: &Host, target: &FenceTarget, fell_silent: Vec<String>) -> NotOff {
        let now = self.world.clock.now();
        let mut told = String::new();
        let recorded = objects::update(self.store.as_ref(), host, |stored| {
            // Where the host answered meanwhile, it is forgotten that its power was asked to be cut.
            let cut = stored.record.power_cut.get_or_insert_with(|| PowerCut {
                at: Timestamp::from_second(now.as_second()).unwrap_or(now),
                by: target.fencing.clone(),
                silent: Vec::new(),
                fell_silent: Vec::new(),
            });
            cut.fell_silent.clone_from(&fell_silent);
            told = fencing_doubt(&target.host, cut);
            cordon(stored);
            true
        });
        match recorded.await {
            Err(error) => NotOff::Store(error),
            Ok(Some(_)) => NotOff::Doubted(told),
            Ok(None) => NotOff::NotNow(format!("host {} is not in the store any more", target.host)),
        }
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

/// Nothing new is placed on a host whose machines could not be had back.
fn cordon(host: &mut Host) {
    if !host.spec.cordoned {
        host.spec.cordoned = true;
        host.metadata.generation += 1;
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

    use ashlar_api::{HostSpec, Object};
    use futures::executor::block_on;
    use serde_json::json;

    use super::*;
    use crate::testing::{self, Fake};

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
        testing::put(&engine, vec![host().into()]);
        fake.state().powers = powers.iter().cloned().collect();
        fake.state().answers = answers.iter().copied().collect();
        let ended = block_on(engine.turn_off(&host(), &[])).map_err(|error| match error {
            EngineError::Effect { source, .. } => source,
            other => panic!("{other}"),
        });
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

    fn named(name: &str) -> Host {
        let Object::Host(host) = testing::host(name) else { unreachable!("a host") };
        *host
    }

    /// How it ends with two others, what was called, and what is recorded then.
    fn turned_off_beside(
        fake: &Fake,
        engine: &Engine,
        powers: &[Result<PowerState, EffectError>],
        answers: &[bool],
    ) -> (Result<HostFence, String>, String, Option<PowerCut>) {
        fake.state().calls.clear();
        fake.state().powers = powers.iter().cloned().collect();
        fake.state().answers = answers.iter().copied().collect();
        let (two, three) = (named("h2"), named("h3"));
        let stored = || {
            let name = host().object_ref();
            block_on(objects::read::<ashlar_api::HostSpec>(engine.store.as_ref(), &name)).unwrap().unwrap()
        };
        let ended = block_on(engine.turn_off(&stored(), &[&two, &three]));
        let calls = fake.state().calls.join(", ");
        (ended.map_err(|error| crate::error::chain(&error)), calls, stored().record.power_cut)
    }

    fn beside() -> (Fake, Engine) {
        let fake = Fake::default();
        let (_, engine) = fake.engine();
        testing::put(&engine, vec![host().into(), named("h2").into(), named("h3").into()]);
        (fake, engine)
    }

    #[test]
    fn whoever_answered_before_has_to_answer_after() {
        let (fake, engine) = beside();
        // Before, after, and the host itself. One that was silent before proves nothing.
        let (proof, calls, cut) =
            turned_off_beside(&fake, &engine, &[ON, OFF, OFF], &[true, false, true, false]);
        assert!(proof.is_ok(), "{proof:?}");
        assert_eq!(
            calls,
            "power_status h1, answers h2, answers h3, power_off h1, power_status h1, power_status h1, answers h2, answers h1"
        );
        assert_eq!(cut.unwrap().silent, ["h3"], "recorded before it was asked for");
        let (fake, engine) = beside();
        // One packet that is lost is no host.
        let answers = [true, true, true, false, true, false];
        let (proof, ..) = turned_off_beside(&fake, &engine, &[ON, OFF, OFF], &answers);
        assert!(proof.is_ok(), "{proof:?}");
    }

    #[test]
    fn if_another_one_falls_silent_it_may_have_been_its_power() {
        let (fake, engine) = beside();
        let answers = [true, true, true, false, false];
        let (proof, _, cut) = turned_off_beside(&fake, &engine, &[ON, OFF, OFF], &answers);
        let told = proof.unwrap_err();
        assert!(told.contains("h3 answered before BMC 10.78.0.11 (ipmi) was asked"), "{told}");
        assert_eq!(cut.unwrap().fell_silent, ["h3"]);
        // Nor is it asked for again, whoever answers now, and the reading of "off" is believed by nobody.
        let (proof, calls, _) = turned_off_beside(&fake, &engine, &[ON], &[true, true]);
        assert!(
            proof.unwrap_err().contains("may have been their power") && !calls.contains("power_off"),
            "{calls}"
        );
        let (proof, ..) = turned_off_beside(&fake, &engine, &[OFF, OFF], &[true, false]);
        assert!(proof.is_err());
        // Another BMC is named: it begins anew.
        let mut corrected = host();
        corrected.spec.fencing.as_mut().unwrap().ipmi.as_mut().unwrap().address = "10.78.0.12".to_owned();
        let change = |stored: &mut Host| {
            stored.spec.fencing.clone_from(&corrected.spec.fencing);
            true
        };
        block_on(objects::update(engine.store.as_ref(), &host(), change)).unwrap();
        let (proof, ..) =
            turned_off_beside(&fake, &engine, &[ON, OFF, OFF], &[true, true, true, true, false]);
        assert!(proof.is_ok(), "{proof:?}");
    }

    /// A process that ends right after it asked for the power to be cut: the next one knows who answered then.
    #[test]
    fn who_fell_silent_between_two_attempts_is_noticed_too() {
        let (fake, engine) = beside();
        let silent = || Err(EffectError::new(EffectErrorKind::Unreachable, "no answer"));
        let powers: Vec<_> = std::iter::once(ON).chain(std::iter::repeat_with(silent).take(20)).collect();
        let (proof, calls, cut) = turned_off_beside(&fake, &engine, &powers, &[true, false]);
        assert!(proof.is_err() && calls.contains("power_off"));
        assert!(cut.unwrap().fell_silent.is_empty());
        let (proof, calls, cut) = turned_off_beside(&fake, &engine, &[OFF, OFF], &[false, false]);
        assert!(proof.unwrap_err().contains("h2 answered before"), "{calls}");
        assert!(!calls.contains("power_off"));
        assert_eq!(cut.unwrap().fell_silent, ["h2"], "h3 was silent before");
    }

    #[test]
    fn a_host_that_answers_is_not_off_whatever_its_bmc_says() {
        let (proof, _) = turned_off(&[OFF, OFF], &[true]);
        let error = proof.unwrap_err();
        assert_eq!(error.kind, EffectErrorKind::Refused);
        assert!(error.message.contains("it is another machine's"), "{error}");
    }
}
