//! How hosts are turned off.

use super::Report;
use crate::names::{dns_name_problem, quoted};
use crate::{HostFencing, IpmiFencing};

/// A host that reboots, or a link that is plugged in again, is silent for less than this.
const LEAST_AFTER_S: u32 = 60;
/// Who waits longer wants a person to look.
const MOST_AFTER_S: u32 = 24 * 3600;
/// IPMI 2.0: user names have 16 bytes.
const LONGEST_USER: usize = 16;
/// Words that begin an argument which holds a secret.
const SECRET_OPTIONS: [&str; 4] = ["--password=", "--passwd=", "--snmp-priv-passwd=", "--token="];

pub(super) fn check(report: &mut Report<'_>, fencing: &HostFencing) {
    let path = "spec.fencing";
    match (&fencing.ipmi, fencing.command.as_slice()) {
        (Some(_), [_, ..]) => report.add(path, "has both ipmi and command: one of them turns the host off"),
        (None, []) => report.add(path, "names nobody who could turn the host off: write ipmi or command"),
        (Some(ipmi), []) => check_ipmi(report, ipmi),
        (None, command) => check_command(report, command),
    }
    if let Some(after) = fencing.after_s.filter(|after| !(LEAST_AFTER_S..=MOST_AFTER_S).contains(after)) {
        report.add(
            "spec.fencing.afterS",
            format!(
                "{after} is outside of {LEAST_AFTER_S} to {MOST_AFTER_S} seconds: a link that is plugged in again must \
                 not turn a host off; leave it out for a host that only `ashlar host fence` turns off"
            ),
        );
    }
}

fn check_ipmi(report: &mut Report<'_>, ipmi: &IpmiFencing) {
    let path = |field: &str| format!("spec.fencing.ipmi.{field}");
    let is_address = ipmi.address.parse::<std::net::IpAddr>().is_ok();
    if let Some(problem) = dns_name_problem(&ipmi.address).filter(|_| !is_address) {
        report
            .add(path("address"), format!("{} {problem} (the BMC's name or address)", quoted(&ipmi.address)));
    }
    if ipmi.port == 0 {
        report.add(path("port"), "0 is no port; IPMI has 623");
    }
    let is_plain = |letter: char| letter.is_ascii_graphic();
    if ipmi.username.is_empty() || ipmi.username.len() > LONGEST_USER || !ipmi.username.chars().all(is_plain)
    {
        let message = format!(
            "{} is no user of a BMC: 1 to {LONGEST_USER} visible ASCII characters",
            quoted(&ipmi.username)
        );
        report.add(path("username"), message);
    }
    if !ipmi.password_file.starts_with('/') {
        // What stands there may be the password: it is not repeated.
        let message = "is not an absolute path: the password stands in a file on the machine that runs Ashlar, never in \
                       a manifest";
        report.add(path("passwordFile"), message);
    }
    if let Some(suite) = ipmi.cipher_suite.filter(|suite| !matches!(suite, 1..=3 | 6..=8 | 11 | 12 | 15..=17))
    {
        let message = format!(
            "{suite} has no authentication, or is not known: 17 (SHA-256) where the BMC has it, else 3"
        );
        report.add(path("cipherSuite"), message);
    }
}

fn check_command(report: &mut Report<'_>, command: &[String]) {
    let path = "spec.fencing.command";
    let program = &command[0];
    if !program.starts_with('/') {
        let message = format!(
            "{} is not an absolute path: what is found by $PATH may be another program tomorrow",
            quoted(program)
        );
        report.add(path, message);
    }
    for argument in &command[1..] {
        if let Some(option) = SECRET_OPTIONS.iter().find(|option| argument.starts_with(**option)) {
            let message = format!(
                "{} gives a secret: it would stand in the store, and in the list of processes; fence agents take \
                 --password-script=FILE",
                option.trim_end_matches('=')
            );
            report.add(path, message);
        }
        let holes = argument.split('{').skip(1).filter_map(|rest| rest.split_once('}').map(|(hole, _)| hole));
        for hole in holes.filter(|hole| !matches!(*hole, "action" | "host" | "address")) {
            report
                .add(path, format!("{{{hole}}} is nothing: there are {{action}}, {{host}} and {{address}}"));
        }
    }
    if command.iter().any(|argument| argument.contains('\0')) {
        report.add(path, "holds a NUL byte");
    }
}
