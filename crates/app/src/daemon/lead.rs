//! Among several daemons: standing by until this one leads, and what others ask of whoever leads.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ashlar_engine::vault;
use ashlar_store::{EtcdElection, EtcdStore, EtcdTerm, RecordState, Recorded, Role, StoreError, Tenure as _};
use tokio::task::JoinHandle;

use super::protocol::Request;
use super::run::{Asked, Shared, Signals};
use crate::failure::{Failure, Result};
use crate::settings::Settings;
use crate::wiring::open_vault;
use crate::wiring::place::{Place, candidate};

/// How long a name may be taken by a daemon that has died, until its lease is over.
const NAME_PATIENCE: Duration = Duration::from_secs(8);
/// Longest rest after a takeover that failed: what it failed of (a key that is not this machine's) may last, and others are
/// not to be kept from leading meanwhile. It begins with [`EtcdElection::INTERVAL`], and doubles.
const LONGEST_REST: Duration = Duration::from_secs(10);
/// How often requests are looked for.
const LETTERS_INTERVAL: Duration = Duration::from_millis(500);

/// How standing by ended.
pub(super) enum Stood {
    /// This daemon leads, with this store.
    Leads(Box<EtcdTerm>, EtcdStore),
    /// Something was asked of the process.
    Asked(Asked),
}

/// This daemon's part in the election.
pub(super) struct Part {
    election: EtcdElection,
    pub(super) name: String,
}

impl Part {
    /// Asks nobody yet.
    pub(super) fn new(store: &EtcdStore, name: Option<&str>) -> Self {
        let candidate = candidate(Role::Daemon, name);
        let name = candidate.name.clone();
        Part { election: EtcdElection::new(store, candidate), name }
    }

    /// Waits until this daemon leads.
    pub(super) async fn stand_by(
        &self,
        settings: &Settings,
        shared: &Shared,
        signals: &mut Signals,
    ) -> Result<Stood> {
        let mut told = String::new();
        let mut name_taken_since = None;
        let mut rest = EtcdElection::INTERVAL;
        loop {
            let stood = tokio::select! {
                stood = self.election.lead() => stood,
                asked = signals.next() => return Ok(Stood::Asked(asked)),
            };
            match stood {
                Ok(Some(term)) => {
                    let store = match tokio::task::block_in_place(|| usable(settings, &term)) {
                        Ok(Some(store)) => store,
                        Ok(None) => {
                            return Err(Failure::new("the store is not in etcd any more")
                                .hint("`ashlar store show` says where it is; start the daemon anew"));
                        }
                        Err(failure) => {
                            let text = failure.chain.join(": ");
                            shared.listener.health.failed(text.clone());
                            if told != text {
                                tracing::error!(error = text, "the store cannot be used");
                                told = text;
                            }
                            // Otherwise it ends by itself.
                            term.resign().await.ok();
                            tokio::select! {
                                () = tokio::time::sleep(rest) => {}
                                asked = signals.next() => return Ok(Stood::Asked(asked)),
                            }
                            rest = LONGEST_REST.min(rest * 2);
                            continue;
                        }
                    };
                    shared.listener.health.leads();
                    shared.listener.metrics.leader(true, Some(&self.name));
                    tracing::info!(daemon = self.name, term = term.number, "leading");
                    return Ok(Stood::Leads(Box::new(term), store));
                }
                Ok(None) => {
                    name_taken_since = None;
                    self.watch(shared, &mut told).await;
                }
                Err(error @ StoreError::NameTaken { .. }) => {
                    let since = *name_taken_since.get_or_insert_with(Instant::now);
                    if since.elapsed() >= NAME_PATIENCE {
                        return Err(Failure::from(error)
                            .hint("--name NAME gives this one another name; to run it in that one's place, stop that one first"));
                    }
                    shared.listener.health.failed(error.to_string());
                }
                Err(error) => self.failed(shared, &error, &mut told),
            }
            tokio::select! {
                () = tokio::time::sleep(EtcdElection::INTERVAL) => {}
                asked = signals.next() => return Ok(Stood::Asked(asked)),
            }
        }
    }

    /// Says who leads.
    async fn watch(&self, shared: &Shared, told: &mut String) {
        use ashlar_store::Election as _;
        match self.election.leader().await {
            Ok(Some(leader)) => {
                let text = leader.to_string();
                shared.listener.metrics.leader(false, Some(&leader.candidate.name));
                shared.listener.health.stands_by(text.clone());
                if *told != text {
                    tracing::info!(daemon = self.name, leader = text, "standing by");
                    *told = text;
                }
            }
            // It ended just now.
            Ok(None) => {}
            Err(error) => self.failed(shared, &error, told),
        }
    }

    fn failed(&self, shared: &Shared, error: &StoreError, told: &mut String) {
        let text = error.to_string();
        if *told != text {
            tracing::error!(daemon = self.name, error = text, "standing by");
            told.clone_from(&text);
        }
        shared.listener.metrics.leader(false, None);
        shared.listener.health.failed(text);
    }
}

/// Another machine may have changed the key that seals the secrets while this daemon stood by.
fn has_the_key(settings: &Settings, recorded: &Recorded) -> Result<()> {
    let own = open_vault(settings)?;
    match recorded.record.files.get(vault::STATE_FILE).and_then(|state| vault::key_id_of_state(state)) {
        Some(key) if key != own.key_id() => Err(Failure::new(format!(
            "the secrets are sealed with key {key}, and this daemon has key {}: the key was changed (`ashlar secrets rotate`); \
             start this daemon anew with the new one",
            own.key_id()
        ))),
        _ => Ok(()),
    }
}

/// The store of a term; none if it was moved while this daemon stood by.
fn usable(settings: &Settings, term: &EtcdTerm) -> Result<Option<EtcdStore>> {
    let Place::Etcd(..) = Place::find(settings)? else { return Ok(None) };
    let recorded = futures::executor::block_on(term.store.record())?;
    let recorded = recorded.filter(|recorded| recorded.record.state == RecordState::Current);
    if let Some(recorded) = &recorded {
        has_the_key(settings, recorded)?;
    }
    Ok(recorded.map(|recorded| term.store.under(&recorded)))
}

/// Carries out what commands on other machines ask for, until it is dropped.
pub(super) struct Letters(JoinHandle<()>);

impl Drop for Letters {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Letters {
    pub(super) fn open(store: EtcdStore, shared: &Arc<Shared>) -> Self {
        Letters(tokio::spawn(answer_all(store, Arc::clone(shared))))
    }
}

async fn answer_all(store: EtcdStore, shared: Arc<Shared>) {
    // Those who wait; each ends with its request, and all of them with this.
    let mut waiting: BTreeMap<i64, AbortOnDrop> = BTreeMap::new();
    loop {
        match store.letters().await {
            Ok(letters) => {
                waiting.retain(|id, _| letters.iter().any(|letter| letter.id == *id));
                for letter in letters {
                    let (id, store, shared) = (letter.id, store.clone(), Arc::clone(&shared));
                    waiting
                        .entry(id)
                        .or_insert_with(|| AbortOnDrop(tokio::spawn(answer(store, shared, id, letter.text))));
                }
            }
            // Asked again soon; that etcd does not answer is told by the passes.
            Err(error) => tracing::debug!(%error, "requests of other machines cannot be read"),
        }
        tokio::time::sleep(LETTERS_INTERVAL).await;
    }
}

async fn answer(store: EtcdStore, shared: Arc<Shared>, id: i64, text: String) {
    let Ok(request) = serde_json::from_str::<Request>(&text) else {
        tracing::warn!("a request of another version of Ashlar is left unanswered");
        return;
    };
    shared.listener.metrics.waiting(1);
    let line = shared.work(request).await;
    shared.listener.metrics.waiting(-1);
    // Without one this daemon no longer leads: the next answers.
    let Some(line) = line.filter(|line| !line.is_standing_by()) else { return };
    if let Ok(text) = serde_json::to_string(&line)
        && let Err(error) = store.answer(id, text).await
    {
        tracing::warn!(%error, "a command on another machine could not be answered");
    }
}

struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
