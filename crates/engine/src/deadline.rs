//! Deadlines by the engine's own clock.

use std::{future::Future, pin::pin, time::Duration};

use futures::future::{Either, select};

use crate::effects::{Clock, EffectError, EffectErrorKind};

/// Gives a call so long and no longer. What ends so may have taken effect or not.
pub(crate) async fn within<T>(
    clock: &dyn Clock,
    limit: Duration,
    what: &str,
    call: impl Future<Output = Result<T, EffectError>>,
) -> Result<T, EffectError> {
    match select(pin!(call), clock.sleep(limit)).await {
        Either::Left((result, _)) => result,
        Either::Right(((), _)) => Err(EffectError::new(
            EffectErrorKind::Unreachable,
            format!("{what}: no answer within {} s", limit.as_secs()),
        )),
    }
}

/// Deadline of a call that moves so many bytes.
pub(crate) fn bulk(settings: &crate::Settings, bytes: u64) -> Duration {
    settings.call_deadline + Duration::from_secs(bytes / settings.bulk_bytes_per_s.max(1))
}
