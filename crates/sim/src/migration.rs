//! Live migration on simulated hosts, in the moments of libvirt's: the target prepares, memory and disks pass for a while, all has
//! arrived and stands still at both ends, the source lets go. Whoever makes the call may be gone at any of them. Where it does not
//! hear that all has arrived, libvirt takes that for failed, and the source goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ashlar_engine::effects::{Clock as _, EffectError, EffectErrorKind, HostTarget};
use ashlar_plan::{Definition, DomainSpec, DomainState, Guard};
use uuid::Uuid;

use crate::host::SimDomain;
use crate::{SimWorld, State};

/// What a migration takes while nothing goes wrong.
const TAKES: Duration = Duration::from_secs(20);

fn error(kind: EffectErrorKind, host: &HostTarget, message: &str) -> EffectError {
    EffectError::new(kind, format!("host {}: {message}", host.name))
}

/// The connections of a call: with them, what has not arrived goes.
struct Connections {
    world: SimWorld,
    from: String,
    to: String,
    domain: Uuid,
    live: Arc<AtomicBool>,
    /// Whether it was heard that all has arrived.
    has_heard: bool,
}

impl Drop for Connections {
    fn drop(&mut self) {
        self.live.store(false, Ordering::SeqCst);
        let mut state = self.world.state();
        state.end_migration(&self.from, &self.to, self.domain);
        // Who was killed tells the source nothing.
        if !self.has_heard && !state.processes[self.world.process].crashed {
            state.go_on_at_source(&self.from, &self.to, self.domain);
        }
    }
}

impl SimWorld {
    pub(crate) async fn migrate(
        &self,
        from: &HostTarget,
        to: &HostTarget,
        domain: &DomainSpec,
        timeout: Duration,
    ) -> Result<(), EffectError> {
        let live = Arc::new(AtomicBool::new(true));
        let mut connections = Connections {
            world: self.clone(),
            from: from.name.clone(),
            to: to.name.clone(),
            domain: domain.uuid,
            live: Arc::clone(&live),
            has_heard: false,
        };
        let (source, target, spec) = (from.clone(), to.clone(), domain.clone());
        let what = format!("{} to {}", domain.name, to.name);
        self.change(from, "migrate_domain", what, move |state| {
            if !live.load(Ordering::SeqCst) {
                return Err(error(EffectErrorKind::Unreachable, &source, "who asked is gone"));
            }
            state.prepare_migration(&source, &target, &spec)
        })
        .await?;
        let began = self.state().now;
        while self.state().now.duration_since(began).unsigned_abs() < TAKES {
            self.sleep(Duration::from_secs(1)).await;
            self.state().passes(from, to, domain.uuid)?;
            if self.state().now.duration_since(began).unsigned_abs() > timeout {
                return Err(error(EffectErrorKind::Busy, from, "the move took too long: it was given up"));
            }
        }
        let (source, target) = (from.clone(), to.clone());
        let uuid = domain.uuid;
        self.change(to, "arrive_domain", domain.name.clone(), move |state| {
            state.arrive_migration(&source, &target, uuid)
        })
        .await?;
        {
            let mut state = self.state();
            let what = "nobody heard that all has arrived";
            if let Some(left) = state.unheard_moves.checked_sub(1) {
                state.unheard_moves = left;
                return Err(error(EffectErrorKind::Unreachable, to, what));
            }
            if let Some((number, time)) = state.silencing_moves {
                state.silencing_moves =
                    number.checked_sub(1).filter(|left| *left > 0).map(|left| (left, time));
                state.cut(to, time);
                return Err(error(EffectErrorKind::Unreachable, to, what));
            }
        }
        connections.has_heard = true;
        let (source, target) = (from.clone(), to.clone());
        self.change(from, "leave_domain", domain.name.clone(), move |state| {
            state.leave_migration(&source, &target, uuid)
        })
        .await?;
        drop(connections);
        Ok(())
    }

    pub(crate) async fn resume(&self, host: &HostTarget, domain: Uuid) -> Result<(), EffectError> {
        let target = host.clone();
        let name = {
            let state = self.state();
            let seen = state.host_at(host).and_then(|host| host.domains.get(&domain));
            seen.map_or_else(String::new, |seen| seen.name.clone())
        };
        self.change(host, "resume_domain", name, move |state| {
            let host = &target;
            state.host(host)?;
            state.judge_resume(host, domain);
            let Some(seen) = state.host(host)?.domains.get_mut(&domain) else {
                return Err(error(EffectErrorKind::NotFound, host, "no such domain"));
            };
            match seen.state {
                DomainState::Running => return Ok(()),
                DomainState::Paused if !seen.arriving => {}
                _ => return Err(error(EffectErrorKind::Refused, host, "the domain is not paused")),
            }
            seen.state = DomainState::Running;
            seen.stands_still = false;
            seen.paused_by_migration = false;
            seen.never_went_on = false;
            state.judge_goes_on(host, domain);
            Ok(())
        })
        .await
    }
}

impl State {
    /// The target gets a process that waits for memory.
    fn prepare_migration(
        &mut self,
        from: &HostTarget,
        to: &HostTarget,
        spec: &DomainSpec,
    ) -> Result<(), EffectError> {
        self.judge_migration(from, to, spec);
        let running = self.host(from)?.domains.get(&spec.uuid).map(|domain| domain.state);
        if running != Some(DomainState::Running) {
            return Err(error(EffectErrorKind::Refused, from, "the domain is not running"));
        }
        if self.host(to)?.refuses_guests {
            let message = "guest CPU doesn't match specification: missing features: vmx";
            return Err(error(EffectErrorKind::Refused, to, message));
        }
        let bridges = self.host(to)?.all_bridges();
        let target = self.host(to)?;
        if target.domains.iter().any(|(uuid, other)| *uuid == spec.uuid || other.name == spec.name) {
            return Err(error(EffectErrorKind::Refused, to, "a domain of its name or UUID is there"));
        }
        if let Some(nic) = spec.nics.iter().find(|nic| !bridges.contains(&nic.bridge)) {
            return Err(error(EffectErrorKind::Refused, to, &format!("no bridge {}", nic.bridge)));
        }
        let backing = spec.disks.iter().filter_map(|disk| disk.backing_path.as_ref());
        let needed = spec.disks.iter().map(|disk| &disk.path).chain(backing);
        if let Some(missing) = needed.clone().find(|path| target.volume_at(path).is_none()) {
            let message = format!("cannot access storage file '{missing}': no such file");
            return Err(error(EffectErrorKind::Refused, to, &message));
        }
        let mut arriving = SimDomain::defined(spec.clone());
        arriving.take_definition();
        arriving.state = DomainState::Paused;
        arriving.arriving = true;
        arriving.stands_still = true;
        arriving.paused_by_migration = true;
        arriving.never_went_on = true;
        target.domains.insert(spec.uuid, arriving);
        Ok(())
    }

    /// Whether it still goes on: both ends are there and hear each other.
    fn passes(&mut self, from: &HostTarget, to: &HostTarget, domain: Uuid) -> Result<(), EffectError> {
        let is_running =
            self.host(from)?.domains.get(&domain).is_some_and(|seen| seen.state == DomainState::Running);
        let is_arriving = self.host(to)?.domains.get(&domain).is_some_and(|seen| seen.arriving);
        let (one, other) = (self.reached(from).to_owned(), self.reached(to).to_owned());
        if !is_running || !is_arriving {
            return Err(error(EffectErrorKind::Refused, from, "the domain stopped while it moved"));
        }
        if !self.is_whole(&one, &other) {
            return Err(error(EffectErrorKind::Unreachable, from, "the migration's own connection was lost"));
        }
        Ok(())
    }

    /// All is there: the guest stands still at both ends, and the target keeps its definition.
    fn arrive_migration(
        &mut self,
        from: &HostTarget,
        to: &HostTarget,
        domain: Uuid,
    ) -> Result<(), EffectError> {
        self.passes(from, to, domain)?;
        let source = self.host(from)?;
        let Some(here) = source.domains.get(&domain).cloned() else {
            return Err(error(EffectErrorKind::NotFound, from, "no such domain"));
        };
        let disks: Vec<_> = here
            .spec
            .iter()
            .flat_map(|spec| &spec.disks)
            .map(|disk| (disk.serial.clone(), source.volume_at(&disk.path).cloned()))
            .collect();
        if let Some(here) = source.domains.get_mut(&domain) {
            (here.state, here.stands_still, here.paused_by_migration) = (DomainState::Paused, true, true);
        }
        let target = self.host(to)?;
        let Some(there) = target.domains.get_mut(&domain) else { return Ok(()) };
        (there.arriving, there.paused_by_migration) = (false, false);
        // The guest keeps what it was started with; what its host decides is the target's.
        there.running = there.definition.as_ref().zip(here.running.as_ref()).map(|(there, here)| {
            let is_alike = (there.memory_kib, there.vcpus) == (here.memory_kib, here.vcpus);
            if is_alike {
                return Arc::clone(there);
            }
            Arc::new(Definition {
                memory_kib: here.memory_kib,
                current_memory_kib: here.current_memory_kib,
                vcpus: here.vcpus,
                current_vcpus: here.current_vcpus,
                ..Definition::clone(there)
            })
        });
        (there.started_at, there.has_run, there.guest) = (here.started_at, true, here.guest.clone());
        if !Guard::PausedArrival.stands() {
            (there.state, there.stands_still, there.never_went_on) = (DomainState::Running, false, false);
        }
        let own: Vec<(String, String)> = there
            .spec
            .iter()
            .flat_map(|spec| &spec.disks)
            .map(|disk| (disk.serial.clone(), disk.path.clone()))
            .collect();
        for (serial, content) in disks {
            let path = own.iter().find(|(other, _)| *other == serial).map(|(_, path)| path);
            if let (Some(content), Some(path)) = (content, path)
                && let Some(file) = target.volume_at_mut(path)
            {
                file.joined = content.joined;
                file.arrived = content.arrived;
                file.lived = content.lived;
            }
        }
        if !Guard::PausedArrival.stands() {
            self.goes_on(&to.name, domain);
        }
        Ok(())
    }

    /// The source's process ends, and its definition goes.
    fn leave_migration(
        &mut self,
        from: &HostTarget,
        to: &HostTarget,
        domain: Uuid,
    ) -> Result<(), EffectError> {
        let has_arrived = self.host(to)?.domains.get(&domain).is_some_and(|there| !there.arriving);
        let keeps = self.keeping_moves > 0;
        let source = self.host(from)?;
        let here = source.domains.get_mut(&domain).filter(|here| here.paused_by_migration);
        let Some(here) = here.filter(|_| has_arrived) else { return Ok(()) };
        if keeps {
            here.power_off();
            here.left_by_migration = true;
            self.keeping_moves -= 1;
        } else {
            source.domains.remove(&domain);
        }
        Ok(())
    }

    /// A call ended, or who made it did: what has not arrived goes, and the source goes on as it was.
    fn end_migration(&mut self, from: &str, to: &str, domain: Uuid) {
        let is_arriving =
            |host: &crate::SimHost| host.domains.get(&domain).is_some_and(|there| there.arriving);
        if let Some(target) = self.hosts.get_mut(to).filter(|host| is_arriving(host)) {
            target.domains.remove(&domain);
            self.note(format!("{to}: what had come of a domain from {from} is gone"));
            self.moved = true;
        }
    }

    /// All has arrived, and nobody heard it: the source, which stands still, goes on.
    fn go_on_at_source(&mut self, from: &str, to: &str, domain: Uuid) {
        let has_arrived = self.hosts.get(to).is_some_and(|target| target.domains.contains_key(&domain));
        let Some(source) = self.hosts.get_mut(from).filter(|source| !source.frozen && !source.off) else {
            return;
        };
        let Some(here) = source.domains.get_mut(&domain) else { return };
        if has_arrived && here.state == DomainState::Paused && here.paused_by_migration {
            (here.state, here.stands_still, here.paused_by_migration) = (DomainState::Running, false, false);
            let name = here.name.clone();
            self.goes_on(from, domain);
            self.note(format!("{from}: domain {name} goes on, since nobody heard of its end at {to}"));
            self.moved = true;
            self.oracle.dirty = true;
        }
    }
}
