//! The proof of scale in one table: P2, P3, P4, P9 and P12, each beside its peer or floor of the same run.

use anyhow::{Result, ensure};
use clap::Args;

use super::table::Table;
use super::{capi, facts, fleet, host};

/// `cargo xtask bench scale`
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    fleet: fleet::Options,
    #[command(flatten)]
    peer: capi::Options,
    #[command(flatten)]
    host: host::Options,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    facts::print_machine();
    println!("{}", facts::libvirt());
    host::check(&options.host)?;
    let bench = fleet::Bench::new(&options.fleet)?;
    let mut scale = Scale { table: Table::new(&fleet::COLUMNS), failed: Vec::new() };
    let mut ours_per_s = f64::NAN;
    scale.part("clusters", |table| {
        ours_per_s = bench.rows_of_clusters(&options.fleet, table)?;
        Ok(())
    });
    scale.part("real libvirt", |table| {
        let (steady, churn) = host::measure(&options.host)?;
        host::rows(&steady, &churn).into_iter().for_each(|row| table.push(row));
        Ok(())
    });
    scale.part("hosts", |table| bench.rows_of_hosts(&options.fleet, table));
    scale.part("seeds", |table| bench.rows_of_seeds(&options.fleet, table));
    // Last, since it takes longest: the peer has its quarter of an hour with nothing beside it.
    scale.part("Cluster API", |table| {
        table.push(capi::measure(&options.peer)?.row(ours_per_s));
        Ok(())
    });
    print!("{}", scale.table);
    ensure!(scale.failed.is_empty(), "not measured: {}", scale.failed.join("; "));
    Ok(())
}

struct Scale {
    table: Table,
    failed: Vec<String>,
}

impl Scale {
    /// One part of the table. An hour of the others is not lost with it.
    fn part(&mut self, what: &str, measure: impl FnOnce(&mut Table) -> Result<()>) {
        eprintln!("==> {what}");
        if let Err(error) = measure(&mut self.table) {
            eprintln!("{what}: {error:#}");
            self.table.push(vec![format!("{what}: NOT MEASURED, {error:#}")]);
            self.failed.push(what.to_owned());
        }
        eprint!("{}", self.table);
    }
}
