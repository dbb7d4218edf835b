//! Hosts' BMCs: they answer while the host has power in its cables, whatever the host does, and may lie for a moment.

use ashlar_engine::effects::{Clock as _, EffectError, EffectErrorKind, FenceTarget, Fencer, PowerState};
use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};

use crate::{SimWorld, State};

/// How long power takes to go at a BMC that says so before.
const LIES_FOR: SignedDuration = SignedDuration::from_secs(3);
/// How long a BMC is waited for that does not answer.
const NO_ANSWER: std::time::Duration = std::time::Duration::from_secs(10);

/// A host's BMC.
#[derive(Clone, Debug, Default)]
pub struct SimBmc {
    /// How it behaves.
    pub mood: BmcMood,
    /// Whose it is, if it is another host's that answers where its own should.
    pub is_of: Option<String>,
    /// How often the other one was turned off in its host's place.
    pub(crate) cut_another: u32,
    /// Until when it says that the host is off which is not yet.
    pub(crate) lies_until: Option<Timestamp>,
}

/// How a BMC behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BmcMood {
    /// It does what it is asked to.
    #[default]
    Answers,
    /// Nothing comes back.
    Silent,
    /// It does not know our password.
    Refuses,
    /// It takes so many seconds for each answer.
    Slow(u32),
    /// It says that the host is off as soon as it is asked for that, and it is so some seconds later.
    Lies,
    /// It says that it will, and does not.
    Idle,
}

impl State {
    /// Whether anything comes back from a host's address when its sshd is dialled.
    pub(crate) fn host_answers(&self, host: &str) -> bool {
        let reached = self.routes.get(host).and_then(|hosts| hosts.first()).map_or(host, String::as_str);
        self.hosts.get(reached).is_some_and(|host| host.reachable && !host.frozen && !host.mute)
    }

    /// Whose power it is that is cut in a host's name.
    pub(crate) fn wired_to<'h>(&'h self, host: &'h str) -> &'h str {
        self.hosts.get(host).and_then(|host| host.bmc.is_of.as_deref()).unwrap_or(host)
    }

    /// What a host's BMC does now; none without power in its cables.
    fn bmc_mood(&self, host: &str) -> Option<BmcMood> {
        let host = self.hosts.get(self.wired_to(host))?;
        (!host.off || host.standby).then_some(host.bmc.mood).filter(|mood| *mood != BmcMood::Silent)
    }

    fn power_of(&self, name: &str) -> PowerState {
        let Some(host) = self.hosts.get(self.wired_to(name)) else { return PowerState::Unknown };
        let is_off = host.off || host.bmc.lies_until.is_some_and(|until| self.now < until);
        if is_off { PowerState::Off } else { PowerState::On }
    }

    /// Its power is cut; its BMC keeps some.
    fn cut_by_bmc(&mut self, name: &str) -> Result<(), EffectError> {
        let mood = self.bmc_mood(name);
        let asked = name;
        let name = &self.wired_to(asked).to_owned();
        if name != asked
            && let Some(host) = self.hosts.get_mut(asked)
        {
            host.bmc.cut_another += 1;
        }
        match mood {
            None => Err(silent(name)),
            Some(BmcMood::Refuses) => Err(refused(name)),
            Some(BmcMood::Idle) => Ok(()),
            Some(BmcMood::Lies) => {
                let until = self.now.saturating_add(LIES_FOR).unwrap_or(Timestamp::MAX);
                if let Some(host) = self.hosts.get_mut(name) {
                    host.bmc.lies_until = Some(until);
                }
                self.planned.push((until, crate::scenario::halts(name)));
                Ok(())
            }
            Some(_) => crate::scenario::halt(self, name)
                .map_err(|error| EffectError::new(EffectErrorKind::NotFound, error)),
        }
    }
}

fn silent(host: &str) -> EffectError {
    EffectError::new(EffectErrorKind::Unreachable, format!("the BMC of {host} does not answer"))
}

fn refused(host: &str) -> EffectError {
    EffectError::new(EffectErrorKind::Refused, format!("the BMC of {host} does not accept the password"))
}

#[async_trait]
impl Fencer for SimWorld {
    async fn power_status(&self, target: &FenceTarget) -> Result<PowerState, EffectError> {
        let host = &target.host;
        self.bmc_takes_its_time(host).await;
        self.look_at_api(|state| match state.bmc_mood(host) {
            None => Err(silent(host)),
            Some(BmcMood::Refuses) => Err(refused(host)),
            Some(_) => Ok(state.power_of(host)),
        })
        .await
    }

    async fn power_off(&self, target: &FenceTarget) -> Result<(), EffectError> {
        let host = target.host.clone();
        let fault = self.state().wrongly_turned_off(&host);
        self.bmc_takes_its_time(&host).await;
        // A BMC is no part of its host: it does not stand still with it.
        let place = format!("bmc of {host}");
        self.effect("power_off", &place, move |state| {
            if let Some(fault) = &fault {
                state.blame_fencing(fault.clone());
            }
            state.count_mutation("power_off");
            state.destructive_calls += 1;
            let result = state.cut_by_bmc(&host);
            match &result {
                Ok(()) => state.note(format!("bmc of {host}: power_off")),
                Err(error) => state.note(format!("bmc of {host}: power_off failed: {error}")),
            }
            result
        })
        .await
    }

    async fn answers(&self, host: &str, _: &str) -> bool {
        self.look_at_api(|state| state.host_answers(host)).await
    }
}

impl SimWorld {
    async fn bmc_takes_its_time(&self, host: &str) {
        let mood = self.state().bmc_mood(host);
        match mood {
            None => self.sleep(NO_ANSWER).await,
            Some(BmcMood::Slow(seconds)) => self.sleep(std::time::Duration::from_secs(seconds.into())).await,
            Some(_) => {}
        }
    }
}
