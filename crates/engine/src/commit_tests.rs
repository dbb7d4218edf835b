#![expect(clippy::unwrap_used, reason = "tests")]

use ashlar_api::{Host, Kind};
use ashlar_store::Store;
use futures::executor::block_on;

use super::*;
use crate::{Scope, testing::*};

fn bumped(host: &Host, by: u64) -> Decision {
    let mut host = host.clone();
    host.record.ledger_sequence += by;
    Decision::Update(Object::from(host))
}

#[test]
fn later_commits_of_a_plan_build_on_earlier_ones() {
    let (store, engine) = Fake::default().engine();
    put(&engine, vec![host("h1")]);
    block_on(async {
        let snapshot = engine.snapshot(&Scope::StoreOnly).await.unwrap();
        let host = &snapshot.hosts["h1"];
        let create = Decision::Create(cluster());
        let decisions = vec![vec![bumped(host, 1), create], vec![bumped(host, 2)]];
        assert_eq!(engine.commit(&snapshot, decisions).await.unwrap(), Committed::Some(2));
        let key = objects::key_of(&ObjectRef::new(Kind::Host, "", "h1"));
        assert_eq!(store.get(&key).await.unwrap().unwrap().value["record"]["ledgerSequence"], 2);
    });
}

#[test]
fn what_somebody_else_changed_stops_the_plan() {
    let (store, engine) = Fake::default().engine();
    put(&engine, vec![host("h1")]);
    block_on(async {
        let snapshot = engine.snapshot(&Scope::StoreOnly).await.unwrap();
        put(&engine, vec![host("h1")]);
        let before = store.list_raw(None, None).await.unwrap().revision;
        let decisions = vec![vec![bumped(&snapshot.hosts["h1"], 1), Decision::Create(cluster())]];
        assert_eq!(engine.commit(&snapshot, decisions).await.unwrap(), Committed::Conflict(0));
        assert_eq!(store.list_raw(None, None).await.unwrap().revision, before, "all or nothing");
    });
}
