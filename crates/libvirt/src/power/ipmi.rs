//! BMCs, by `ipmitool`. The password is read by `ipmitool` from its file: it is in no argument, no environment and no
//! memory of ours.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use ashlar_api::{IpmiFencing, IpmiPrivilege};
use ashlar_engine::effects::{EffectError, EffectErrorKind, PowerState};

use super::{Ask, Ended, Program, last_words, refused};

/// IPMI 2.0: passwords have 20 bytes. One more is the end of the line; a second, somebody else's end of a line.
const LONGEST: u64 = 22;
/// Seconds until a packet is sent again, and how often: what is silent is told from what is slow within some 20 s.
const AGAIN: (&str, &str) = ("2", "3");

/// A file whose content others may read holds no secret.
pub(super) fn check_password_file(path: &str) -> Result<(), EffectError> {
    let fault = |what: &str| {
        Err(refused(format!(
            "{path} (spec.fencing.ipmi.passwordFile), on the machine that runs Ashlar, {what}"
        )))
    };
    let metadata = match Path::new(path).metadata() {
        Ok(metadata) => metadata,
        Err(error) => return fault(&format!("cannot be read: {error}")),
    };
    if !metadata.is_file() {
        return fault("is no file");
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        return fault("may be read by others: chmod 600 it");
    }
    match metadata.size() {
        0 => fault("is empty"),
        size if size > LONGEST => fault("holds more than a password, which has 20 bytes at the most"),
        _ => Ok(()),
    }
}

/// One question to a BMC. Told aloud (`-v`): else a wrong password cannot be told from silence.
pub(super) fn program(ipmitool: &Path, ipmi: &IpmiFencing, ask: Ask) -> Program {
    let (port, cipher) = (ipmi.port.to_string(), ipmi.cipher_suite.map(|suite| suite.to_string()));
    let privilege = match ipmi.privilege {
        IpmiPrivilege::Operator => "OPERATOR",
        IpmiPrivilege::Administrator => "ADMINISTRATOR",
    };
    let mut words = vec!["-v", "-I", "lanplus", "-H", &ipmi.address, "-p", &port, "-U", &ipmi.username];
    words.extend(["-f", &ipmi.password_file, "-L", privilege, "-N", AGAIN.0, "-R", AGAIN.1]);
    if let Some(cipher) = &cipher {
        words.extend(["-C", cipher]);
    }
    words.extend(["chassis", "power"]);
    words.push(match ask {
        Ask::Status => "status",
        Ask::Off => "off",
    });
    let mut argv = vec![ipmitool.into()];
    argv.extend(words.into_iter().map(Into::into));
    Program { argv, env: Vec::new(), missing: "`ashlar setup` installs it".to_owned() }
}

/// What its end means.
pub(super) fn judge(ipmi: &IpmiFencing, ask: Ask, ended: &Ended) -> Result<PowerState, EffectError> {
    let has = |text: &str| ended.stdout.contains(text) || ended.stderr.contains(text);
    if ended.exit == Some(0) {
        return match ask {
            Ask::Status if has("Chassis Power is on") => Ok(PowerState::On),
            Ask::Status if has("Chassis Power is off") => Ok(PowerState::Off),
            Ask::Status => Ok(PowerState::Unknown),
            Ask::Off => Ok(PowerState::Off),
        };
    }
    let IpmiFencing { address, port, username, password_file, .. } = ipmi;
    if has("RAKP 2 HMAC is invalid") {
        return Err(refused(format!(
            "it does not accept the password of user {username} in {password_file}"
        )));
    }
    if has("unauthorized name") {
        return Err(refused(format!("it knows no user {username}, or not with that privilege")));
    }
    if has("failed: Insufficient privilege") || has("unauthorized role") {
        return Err(refused(format!(
            "its user {username} may not do that: give it the privilege there that spec.fencing.ipmi.privilege asks for"
        )));
    }
    if has("Error in open session response") || has("No matching cipher suite") {
        return Err(refused(format!(
            "it does not take that cipher suite ({}): set cipherSuite",
            session_error(ended)
        )));
    }
    if has("Address lookup for") {
        let message = format!("the name {address} is not known here");
        return Err(EffectError::new(EffectErrorKind::Unreachable, message));
    }
    if has("Error: Unable to establish") {
        let message = format!("it does not answer at {address}, UDP port {port}");
        return Err(EffectError::new(EffectErrorKind::Unreachable, message));
    }
    Err(EffectError::new(EffectErrorKind::Busy, format!("ipmitool failed: {}", last_words(ended))))
}

/// What a BMC has against a session.
fn session_error(ended: &Ended) -> &str {
    let lines = ended.stdout.lines().chain(ended.stderr.lines());
    let mut errors = lines.filter_map(|line| line.split_once("session response message : "));
    errors.next().map_or("none of its own is ours", |(_, error)| error.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bmc() -> IpmiFencing {
        IpmiFencing {
            address: "10.78.0.11".to_owned(),
            port: 623,
            username: "ashlar".to_owned(),
            password_file: "/etc/ashlar/bmc".to_owned(),
            privilege: IpmiPrivilege::Operator,
            cipher_suite: Some(17),
        }
    }

    #[test]
    fn the_words_of_ipmitool() {
        let program = program(Path::new("ipmitool"), &bmc(), Ask::Off);
        let words: Vec<_> = program.argv.iter().map(|word| word.to_string_lossy()).collect();
        assert_eq!(
            words.join(" "),
            "ipmitool -v -I lanplus -H 10.78.0.11 -p 623 -U ashlar -f /etc/ashlar/bmc -L OPERATOR -N 2 -R 3 -C 17 \
             chassis power off"
        );
    }

    #[test]
    fn what_ipmitool_says() {
        let judged = |exit, stderr: &str, stdout: &str| {
            let ended = Ended { exit: Some(exit), stdout: stdout.to_owned(), stderr: stderr.to_owned() };
            match judge(&bmc(), Ask::Status, &ended) {
                Ok(power) => format!("{power:?}"),
                Err(error) => format!("{:?}: {error}", error.kind),
            }
        };
        let lost = "Error: Unable to establish IPMI v2 / RMCP+ session";
        let all = [
            judged(0, "Get HPM.x Capabilities request failed, compcode = d4", "Chassis Power is on"),
            judged(
                0,
                "Invalid completion code received: Insufficient privilege level",
                "Chassis Power is off",
            ),
            judged(0, "", ""),
            judged(1, &format!("> RAKP 2 HMAC is invalid\n{lost}"), ""),
            judged(1, &format!("RAKP 2 message indicates an error : unauthorized name\n{lost}"), ""),
            judged(1, "Set Chassis Power Control to Down/Off failed: Insufficient privilege level", ""),
            judged(
                1,
                &format!(
                    "Error in open session response message : invalid authentication algorithm\n\n{lost}"
                ),
                "",
            ),
            judged(1, &format!("Address lookup for bmc-1 failed\nCould not open socket!\n{lost}"), ""),
            judged(1, &format!("Get Auth Capabilities error\n{lost}"), ""),
            judged(1, "Set Chassis Power Control to Down/Off failed: Node busy", ""),
        ];
        insta::assert_snapshot!(all.join("\n"));
    }
}
