#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use ashlar_plan::HostSeen;
use futures::executor::block_on;

use crate::{Scope, effects::Clock, testing::*};

#[test]
fn a_hung_host_costs_its_deadline_once_and_hides_nobody() {
    let fake = Fake::default();
    let (_, engine) = fake.engine();
    put(&engine, vec![host("h1"), host("h22")]);
    fake.state().hung.insert("h1".to_owned());
    let started = fake.now();
    let look = || block_on(engine.snapshot(&Scope::All)).unwrap().observed.hosts;
    let first = look();
    assert!(matches!(&first["h1"], HostSeen::Unreachable { reason } if reason.contains("20 s")), "{first:?}");
    assert!(matches!(first["h22"], HostSeen::Seen(_)));
    let after_first = fake.now().duration_since(started).unsigned_abs();
    assert!(after_first >= Duration::from_secs(20));

    // Right after that it is not asked again, and still not taken as gone.
    let second = look();
    assert_eq!(second["h1"], first["h1"]);
    assert!(matches!(second["h22"], HostSeen::Seen(_)));
    assert_eq!(fake.now().duration_since(started).unsigned_abs(), after_first);

    // Later it is, and answers.
    fake.state().hung.clear();
    fake.state().now_ms += 60_000;
    assert!(matches!(look()["h1"], HostSeen::Seen(_)));
    let events = fake.state().events.join("\n");
    assert_eq!(events.matches("HostUnreachable").count(), 1, "{events}");
    assert_eq!(events.matches("HostReachable").count(), 1, "{events}");
}
