//! What is woven into the story that a seed draws: each by dice of its own.

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha12Rng;

use super::story::runs_of;
use super::{
    Theme, controllers, daemons, draining, drifting, fencing, losing, moving, power, replacing, serving,
    sickness, unheard, upgrading, wiping,
};

/// Weaves all that the seed has, and what the themes ask for. Later ones see what earlier ones put there: new ones come last.
pub(super) fn weave(lines: &mut Vec<String>, seed: u64, hosts: u32, themes: &[Theme]) {
    let is_about_loss = themes.contains(&Theme::HostLoss);
    sickness::weave(lines, seed);
    fencing::weave(lines, seed, hosts, is_about_loss);
    draining::weave(lines, seed, hosts);
    moving::weave(lines, seed, hosts);
    upgrading::weave(lines, seed);
    power::weave(lines, seed, hosts, is_about_loss);
    serving::weave(lines, seed);
    drifting::weave(lines, seed);
    controllers::weave(lines, seed);
    wiping::weave(lines, seed);
    unheard::weave(lines, seed, hosts);
    replacing::weave(lines, seed);
    if is_about_loss {
        losing::weave(lines, seed, hosts);
    }
    daemons::weave(lines, seed, themes.contains(&Theme::TwoDaemons));
}

/// Puts some of these lines into a story, each before one of its runs.
pub(super) fn also(lines: &mut Vec<String>, seed: u64, also: &[String]) {
    let mut rng = ChaCha12Rng::seed_from_u64(seed ^ 0xA150);
    for line in also {
        let runs = runs_of(lines);
        if !runs.is_empty() && rng.random_range(0..2) == 0 {
            lines.insert(runs[rng.random_range(0..runs.len())], line.clone());
        }
    }
}
