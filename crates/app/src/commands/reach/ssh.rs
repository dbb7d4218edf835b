//! `ashlar ssh`: the system's ssh, with its connection through the tunnel and the machine's host key pinned.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use ashlar_api::{Kind, Machine};
use ashlar_engine::effects::Dial;
use ashlar_plan::names;
use tokio::io::{AsyncWriteExt, copy};

use super::find_machine;
use crate::cli::SshArgs;
use crate::failure::{Context, Exit, Failure, Result};
use crate::objects::{Reader, object_ref, typed};
use crate::settings::Settings;
use crate::wiring::{Reach, node_login_key};

/// Annotation of a machine's SSH Secret with the public host key, as the engine writes it.
const HOST_KEY_ANNOTATION: &str = "ashlar.dev/ssh-host-public-key";

/// Becomes ssh.
pub(crate) fn ssh(settings: &Settings, args: &SshArgs) -> Result {
    let reader = Reader::open(settings)?;
    let machine = find_machine(settings, &reader, &args.machine)?;
    let known_hosts = pin(settings, &machine, &host_key(&reader, &machine)?)?;
    let identity = match &args.identity {
        Some(identity) => identity.clone(),
        None => node_login_key(settings)?.0,
    };
    let program = std::env::current_exe().context("cannot find the ashlar program itself")?;
    let quote = |text: &str| {
        shlex::try_quote(text)
            .map(|quoted| quoted.into_owned())
            .map_err(|_| Failure::new(format!("`{}` cannot be part of a command", text.escape_debug())))
    };
    // ssh expands % itself.
    let proxy = format!(
        "{} --state-dir {} -n {} internal dial {} 22",
        quote(&program.to_string_lossy())?,
        quote(&settings.state_dir.to_string_lossy())?,
        quote(&settings.namespace)?,
        quote(&machine.metadata.name)?,
    )
    .replace('%', "%%");
    let alias = format!("{}.ashlar", machine.metadata.name);
    let error = Command::new("ssh")
        .args(["-F", "/dev/null", "-o", &format!("ProxyCommand={proxy}")])
        .args(["-o", &format!("UserKnownHostsFile={}", known_hosts.display())])
        .args(["-o", "GlobalKnownHostsFile=/dev/null", "-o", "StrictHostKeyChecking=yes"])
        .args(["-o", "HostKeyAlgorithms=ssh-ed25519", "-o", "IdentitiesOnly=yes", "-o", "LogLevel=ERROR"])
        .args(["-o", &format!("HostKeyAlias={alias}")])
        .arg("-i")
        .arg(identity)
        .args(["-l", &args.login, &alias])
        .args(if args.command.is_empty() { &[][..] } else { &["--"][..] })
        .args(&args.command)
        .exec();
    Err(Failure::from(error).because_of("cannot run ssh").hint("`ashlar setup` installs openssh-client"))
}

fn host_key(reader: &Reader, machine: &Machine) -> Result<String> {
    let name = names::ssh_secret(&machine.key());
    let secret =
        reader.find(&object_ref(Kind::Secret, &name.name, &name.namespace))?.map(typed).transpose()?;
    let key = secret.and_then(|secret| secret.metadata().annotations.get(HOST_KEY_ANNOTATION).cloned());
    key.ok_or_else(|| {
        Failure::new(format!("machine {} has no SSH host key yet", machine.key()))
            .hint("`ashlar apply` works on it; `ashlar console` shows how far it is")
    })
}

/// Writes the known_hosts file of one machine.
fn pin(settings: &Settings, machine: &Machine, key: &str) -> Result<PathBuf> {
    let dir = settings.state_dir.join("run");
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
    let name = machine.key();
    let path = dir.join(format!("node-known-hosts-{}-{}", name.namespace, name.name));
    let what = || format!("cannot write {}", path.display());
    let mut file =
        fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(&path).context(what())?;
    std::io::Write::write_all(&mut file, format!("{}.ashlar {}\n", name.name, key.trim()).as_bytes())
        .context(what())?;
    Ok(path)
}

/// Connects stdin and stdout to a port of a machine.
pub(crate) fn dial(settings: &Settings, machine: &str, port: u16) -> Result {
    let reader = Reader::open(settings)?;
    let machine = find_machine(settings, &reader, machine)?;
    let reach = Reach::open(settings)?;
    let target = reach.machine(&reader, &machine, port)?;
    reach.runtime.block_on(async {
        let remote = reach.hosts.dial(&target).await?;
        let (mut from, mut to) = tokio::io::split(remote);
        let send = async {
            // What cannot be sent shows at the receiving end.
            let _ = copy(&mut tokio::io::stdin(), &mut to).await;
            let _ = to.shutdown().await;
            std::future::pending::<()>().await;
        };
        let receive = async {
            let mut out = tokio::io::stdout();
            copy(&mut from, &mut out).await?;
            out.flush().await
        };
        // The other side decides when it is over.
        tokio::select! {
            received = receive => received.map_err(Failure::from),
            () = send => Ok(()),
        }
    })?;
    // stdin is read by a thread that cannot be stopped: do not wait for it.
    reach.runtime.shutdown_background();
    Ok(Exit::Success)
}
