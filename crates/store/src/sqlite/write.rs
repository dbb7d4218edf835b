//! Writing: one group of commits is one transaction of SQLite, and one wait for the disk.
//!
//! Each commit of the group is judged in turn against what the ones before it left, exactly as if they had
//! come one by one; a commit that conflicts writes nothing and disturbs none of the others.

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use super::{read, schema};
use crate::{Key, Precondition, Revision, StoreError, Transaction, Write};

/// How far the change log may grow past what is to be kept before the excess is deleted, so that deleting is
/// rare and each time small.
const PRUNE_EVERY: u64 = 64;

/// What the writer's thread is asked to do.
pub(super) enum Order {
    Commit(Vec<Operation>),
    Compact { before: Revision },
}

/// A [`Write`] with its value as text.
pub(super) struct Operation {
    key: Key,
    expect: Precondition,
    effect: Effect,
}

enum Effect {
    Put(String),
    Delete,
    None,
}

/// Serialises the values; done by the caller, so that the one writer does only what only it can do.
pub(super) fn prepare(transaction: Transaction) -> Result<Order, serde_json::Error> {
    let operation = |write| {
        Ok(match write {
            Write::Put { key, value, expect } => {
                Operation { key, expect, effect: Effect::Put(serde_json::to_string(&value)?) }
            }
            Write::Delete { key, expect } => Operation { key, expect, effect: Effect::Delete },
            Write::Check { key, expect } => Operation { key, expect, effect: Effect::None },
        })
    };
    Ok(Order::Commit(
        transaction.writes.into_iter().map(operation).collect::<Result<_, serde_json::Error>>()?,
    ))
}

/// An order's outcome where the file itself worked.
pub(super) type Verdict = Result<Revision, StoreError>;

/// Carries out all orders and waits once for the disk. An error means that none of them happened.
pub(super) fn carry_out(
    connection: &mut Connection,
    orders: &[&Order],
    retained_revisions: u64,
) -> rusqlite::Result<Vec<Verdict>> {
    // Immediate: other processes' writes are waited for here, and not refused at the end.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let before = read::state(&transaction)?;
    let mut state = before;
    let mut forget_to = before.compacted;
    let mut verdicts = Vec::with_capacity(orders.len());
    for order in orders {
        verdicts.push(match order {
            Order::Commit(operations) => commit(&transaction, operations, &mut state.head)?,
            Order::Compact { before } => {
                forget_to = forget_to.max(Revision(before.0.saturating_sub(1)).min(state.head));
                Ok(state.head)
            }
        });
    }
    if state.head.0.saturating_sub(forget_to.0) > retained_revisions.saturating_add(PRUNE_EVERY) {
        forget_to = Revision(state.head.0 - retained_revisions);
    }
    if forget_to > before.compacted {
        let end = schema::first_position(Revision(forget_to.0 + 1));
        transaction.prepare_cached("DELETE FROM changes WHERE position < ?")?.execute([end])?;
        state.compacted = forget_to;
    }
    if state.head > before.head || state.compacted > before.compacted {
        let mut statement = transaction.prepare_cached("UPDATE state SET head = ?, compacted = ?")?;
        statement.execute(params![state.head, state.compacted])?;
    }
    transaction.commit()?;
    Ok(verdicts)
}

fn commit(
    connection: &Connection,
    operations: &[Operation],
    head: &mut Revision,
) -> rusqlite::Result<Verdict> {
    for Operation { key, expect, .. } in operations {
        if *expect == Precondition::Any {
            continue;
        }
        if let Err(conflict) = expect.judge(key, revision_of(connection, key)?) {
            return Ok(Err(conflict));
        }
    }
    let revision = Revision(head.0 + 1);
    let first = schema::first_position(revision);
    for (place, operation) in (0_i64..).zip(operations) {
        let Key { kind, namespace, name } = &operation.key;
        let value = match &operation.effect {
            Effect::None => continue,
            Effect::Put(value) => {
                let sql =
                    "INSERT INTO objects (kind, namespace, name, revision, value) VALUES (?, ?, ?, ?, ?)
                           ON CONFLICT (kind, namespace, name) DO UPDATE SET revision = excluded.revision, value = excluded.value";
                connection.prepare_cached(sql)?.execute(params![kind, namespace, name, revision, value])?;
                Some(value)
            }
            Effect::Delete => {
                let sql = "DELETE FROM objects WHERE kind = ? AND namespace = ? AND name = ?";
                if connection.prepare_cached(sql)?.execute(params![kind, namespace, name])? == 0 {
                    continue;
                }
                None
            }
        };
        let sql = "INSERT INTO changes (position, kind, namespace, name, value) VALUES (?, ?, ?, ?, ?)";
        connection.prepare_cached(sql)?.execute(params![first + place, kind, namespace, name, value])?;
        *head = revision;
    }
    Ok(Ok(*head))
}

fn revision_of(connection: &Connection, key: &Key) -> rusqlite::Result<Option<Revision>> {
    let sql = "SELECT revision FROM objects WHERE kind = ? AND namespace = ? AND name = ?";
    let mut statement = connection.prepare_cached(sql)?;
    statement.query_row(params![key.kind, key.namespace, key.name], |row| row.get(0)).optional()
}
