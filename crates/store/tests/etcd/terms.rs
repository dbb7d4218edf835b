//! Terms of one candidate, one after the other.

use ashlar_store::{
    Candidate, EtcdElection, Precondition, Role, Store as _, StoreError, Tenure as _, Transaction,
};

use crate::members::{Cluster, Fsync};
use crate::suite::{key, numbered, run};

/// Whoever could not use the store right after its election gives it up, and may be elected again at once: nothing of the first
/// term is left in its way, and nothing can be committed with it.
#[test]
#[ignore = "run inside a namespace by etcd_keeps_its_promises"]
fn who_resigned_may_lead_again() {
    let cluster = Cluster::start(1, Fsync::Off);
    let store = cluster.store();
    let candidate =
        |name: &str| Candidate { name: name.to_owned(), role: Role::Daemon, doing: "a test".to_owned() };
    let election = EtcdElection::new(&store, candidate("one"));
    let mut last = 0;
    for round in 0..3 {
        let term = run(election.lead()).unwrap().unwrap();
        assert!(term.number > last, "{round}: terms go up");
        last = term.number;
        let put = |n| Transaction::new().put(key("a"), numbered(n), Precondition::Any);
        run(term.store.commit(put(round))).unwrap();
        run(term.resign()).unwrap();
        assert!(matches!(run(term.store.commit(put(9))), Err(StoreError::Deposed)), "{round}: it is over");
        // It comes back at once.
        run(term.ended());
    }
    // Another one leads meanwhile: then this one stands by, under its name.
    let other = EtcdElection::new(&store, candidate("other"));
    let term = run(other.lead()).unwrap().unwrap();
    assert!(run(election.lead()).unwrap().is_none());
    let names: Vec<String> = run(store.daemons()).unwrap().into_iter().map(|daemon| daemon.name).collect();
    assert_eq!(names, ["one", "other"]);
    run(term.resign()).unwrap();
    assert!(run(election.lead()).unwrap().is_some());
}
