//! Whether hosts have power, and how it is cut: by their BMCs, or by a user's own command. Nothing goes over the host.

mod command;
mod ipmi;
mod program;

use std::path::PathBuf;
use std::time::Duration;

use ashlar_api::{HostFencing, host_uri::HostUri};
use ashlar_engine::effects::{EffectError, EffectErrorKind, FenceTarget, Fencer, PowerState};
use async_trait::async_trait;
use tokio::net::TcpStream;

use program::{Ended, Program};

/// How long one program may take: less than what the engine waits for.
const DEADLINE: Duration = Duration::from_secs(30);
/// How long a host's address is dialled: the kernel asks three times in it.
const DIAL: Duration = Duration::from_secs(5);

/// What is asked of whoever turns hosts off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask {
    Status,
    Off,
}

/// Turns hosts off, by `ipmitool` and by commands.
#[derive(Clone, Debug)]
pub struct PowerControl {
    /// How long one program may take.
    pub deadline: Duration,
    /// `ipmitool`, looked for in `PATH` if it is only a name.
    pub ipmitool: PathBuf,
}

impl Default for PowerControl {
    fn default() -> Self {
        PowerControl { deadline: DEADLINE, ipmitool: "ipmitool".into() }
    }
}

impl PowerControl {
    async fn ask(&self, target: &FenceTarget, ask: Ask) -> Result<PowerState, EffectError> {
        let (program, of) = match &target.fencing {
            HostFencing { ipmi: Some(ipmi), .. } => {
                ipmi::check_password_file(&ipmi.password_file)?;
                (ipmi::program(&self.ipmitool, ipmi, ask), Some(ipmi))
            }
            HostFencing { ipmi: None, command, .. } => {
                let address = address(&target.uri);
                (command::program(command, ask, &target.host, &address)?, None)
            }
        };
        let ended = program.run(self.deadline).await?;
        match of {
            Some(ipmi) => ipmi::judge(ipmi, ask, &ended),
            None => command::judge(ask, &ended),
        }
    }
}

#[async_trait]
impl Fencer for PowerControl {
    async fn power_status(&self, target: &FenceTarget) -> Result<PowerState, EffectError> {
        self.ask(target, Ask::Status).await
    }

    async fn power_off(&self, target: &FenceTarget) -> Result<(), EffectError> {
        self.ask(target, Ask::Off).await.map(drop)
    }

    async fn answers(&self, _: &str, uri: &str) -> bool {
        let Ok(uri) = uri.parse::<HostUri>() else { return true };
        let to = (uri.address.as_str(), uri.port);
        match tokio::time::timeout(DIAL, TcpStream::connect(to)).await {
            Err(_) => false,
            Ok(Ok(_)) => true,
            // A router says that there is no way, or nobody's neighbour is there; all else comes from the host, or is a
            // fault of this machine, which proves nothing.
            Ok(Err(error)) => !matches!(
                error.kind(),
                std::io::ErrorKind::HostUnreachable
                    | std::io::ErrorKind::NetworkUnreachable
                    | std::io::ErrorKind::TimedOut
            ),
        }
    }
}

/// The address in a host's URI, for commands.
fn address(uri: &str) -> String {
    uri.parse::<HostUri>().map(|uri| uri.address).unwrap_or_default()
}

fn refused(message: impl Into<String>) -> EffectError {
    EffectError::new(EffectErrorKind::Refused, message)
}

/// The last line that a program said, shortened: it may be anything.
fn last_words(ended: &Ended) -> String {
    const LONGEST: usize = 200;
    let lines = ended.stderr.lines().chain(ended.stdout.lines());
    let line = lines.map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("it said nothing");
    let said: String = line.chars().filter(|letter| !letter.is_control()).take(LONGEST).collect();
    said
}
