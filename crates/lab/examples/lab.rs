//! A driver for the library: `lab NAME up [HOSTS] | down | status | describe | exec -- ARGV | host-exec HOST -- ARGV`.

use std::error::Error;
use std::io::Write;

use ashlar_lab::{Lab, Place};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut out = std::io::stdout();
    let say = |line: &str| {
        let _ = writeln!(std::io::stderr(), "  {line}");
    };
    match words.as_slice() {
        [name, "up"] => report_up(&Lab::new(name)?, 1)?,
        [name, "up", hosts] => report_up(&Lab::new(name)?, hosts.parse()?)?,
        [name, "down"] => {
            let report = Lab::new(name)?.down(&say)?;
            writeln!(out, "{} change(s) in {:?}", report.changes.len(), report.elapsed)?;
        }
        [name, "status"] => writeln!(out, "{}", serde_json::to_string_pretty(&Lab::new(name)?.status()?)?)?,
        [name, "describe"] => {
            writeln!(out, "{}", serde_json::to_string_pretty(&Lab::new(name)?.description()?)?)?
        }
        [name, "exec", "--", argv @ ..] => {
            Lab::new(name)?.exec(&Place::Control, argv)?;
        }
        [name, "host-exec", host, "--", argv @ ..] => {
            Lab::new(name)?.exec(&Place::Host((*host).to_owned()), argv)?;
        }
        _ => return Err(
            "usage: lab NAME up [HOSTS] | down | status | describe | exec -- ARGV | host-exec HOST -- ARGV"
                .into(),
        ),
    }
    Ok(())
}

fn report_up(lab: &Lab, hosts: u16) -> Result<(), Box<dyn Error>> {
    let report = lab.up(hosts, &|line| {
        let _ = writeln!(std::io::stderr(), "  {line}");
    })?;
    let mut out = std::io::stdout();
    writeln!(
        out,
        "{} change(s) in {:?}: {}",
        report.changes.len(),
        report.elapsed,
        lab.state_dir().display()
    )?;
    Ok(())
}
