//! How a host is turned off by somebody who can tell that it is.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// How a host is turned off that does not answer, so that its machines may be replaced: `ipmi` or `command`, one of them.
///
/// That it was asked for is no proof; that its power was seen off twice is. A host that lost all of its power takes its
/// BMC with it: then a person confirms it (`ashlar host fence NAME --confirm-powered-off`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HostFencing {
    /// Its BMC, over IPMI 2.0 (RMCP+, by `ipmitool`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipmi: Option<IpmiFencing>,
    /// A program on the machine that runs Ashlar, with its arguments, first an absolute path. `{action}`, `{host}` and
    /// `{address}` in arguments are replaced; without an `{action}`, the action comes last. It is also told by
    /// ASHLAR_FENCE_ACTION, ASHLAR_FENCE_HOST and ASHLAR_FENCE_ADDRESS. Exit codes are those of fence agents: for `off`, 0
    /// says that the host is off; for `status`, 0 says on and 2 off. Any other says that nobody knows. Secrets belong into
    /// a file that it reads.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// After so many seconds in which it gave no answer at all it is turned off without anybody being asked. Without it, a
    /// host is turned off only by `ashlar host fence`: all else that runs there ends, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_s: Option<u32>,
}

/// A BMC that speaks IPMI 2.0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IpmiFencing {
    /// Name or address of the BMC.
    pub address: String,
    /// UDP port.
    #[serde(default = "ipmi_port", skip_serializing_if = "is_ipmi_port")]
    pub port: u16,
    /// User of the BMC.
    pub username: String,
    /// Path of a file with the user's password, on the machine that runs Ashlar; the password itself is never stored.
    pub password_file: String,
    /// Privilege that the session asks for.
    #[serde(default, skip_serializing_if = "IpmiPrivilege::is_default")]
    pub privilege: IpmiPrivilege,
    /// Cipher suite (`ipmitool -C`); default: what `ipmitool` and the BMC agree on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cipher_suite: Option<u8>,
}

fn ipmi_port() -> u16 {
    623
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
fn is_ipmi_port(port: &u16) -> bool {
    *port == ipmi_port()
}

/// What a user of a BMC may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum IpmiPrivilege {
    /// May turn the host off: enough.
    #[default]
    Operator,
    /// May do everything: some BMCs let nobody else turn the host off.
    Administrator,
}

impl IpmiPrivilege {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
    fn is_default(&self) -> bool {
        *self == IpmiPrivilege::default()
    }
}

impl fmt::Display for HostFencing {
    /// Who turns the host off, for people: `BMC 10.0.0.21 (ipmi)`, `command /usr/sbin/fence_pdu`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.ipmi, self.command.first()) {
            (Some(ipmi), _) if is_ipmi_port(&ipmi.port) => write!(f, "BMC {} (ipmi)", ipmi.address),
            (Some(ipmi), _) => write!(f, "BMC {} port {} (ipmi)", ipmi.address, ipmi.port),
            (None, Some(program)) => write!(f, "command {program}"),
            (None, None) => f.write_str("nobody"),
        }
    }
}

/// For how long a host that is fenced by itself has given no answer. It ends with its first one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HostSilence {
    /// When it was first noticed.
    #[schemars(with = "crate::schema::TimeText")]
    pub since: Timestamp,
    /// When it was last counted.
    #[schemars(with = "crate::schema::TimeText")]
    pub seen_at: Timestamp,
    /// How often it was noticed again, each time a quarter of `afterS` after the last: time in which nobody
    /// looked, or by which a clock jumped, counts for nothing.
    #[serde(default)]
    pub sightings: u32,
}

impl HostSilence {
    /// Sightings after which the wait is over.
    pub const SIGHTINGS: u32 = 4;

    /// Whether the wait is over.
    pub fn is_over(&self) -> bool {
        self.sightings >= Self::SIGHTINGS
    }
}

/// That a host's power was asked to be cut, and how the other hosts stood then. Recorded before it is asked for: whoever was
/// asked may cut another one's, and then it is that one which falls silent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PowerCut {
    /// When.
    #[schemars(with = "crate::schema::TimeText")]
    pub at: Timestamp,
    /// Who was asked.
    pub by: HostFencing,
    /// Other hosts that gave no answer already.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub silent: Vec<String>,
    /// Hosts that gave one, and none after the power was said to be cut: it may have been theirs. Until `fencing` names somebody
    /// else, or the host answers and is uncordoned, nobody is asked to turn it off.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fell_silent: Vec<String>,
}

impl PowerCut {
    /// Whether that is who turns the host off.
    pub fn is_by(&self, fencing: Option<&HostFencing>) -> bool {
        fencing.is_some_and(|fencing| fencing.ipmi == self.by.ipmi && fencing.command == self.by.command)
    }
}
