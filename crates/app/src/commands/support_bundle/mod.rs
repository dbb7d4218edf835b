//! `ashlar support-bundle`: what somebody who helps would ask for, in one file.
//!
//! Each part is what one command of Ashlar prints, run as a process of its own with a deadline: it is what a person would
//! see, and one part that hangs or fails costs no other.

mod parts;
mod redact;

use std::path::PathBuf;
use std::process::Stdio;

use ashlar_api::{Kind, Machine, Object};
use futures::{StreamExt, stream};
use jiff::Timestamp;
use tokio::process::Command;
use tokio::runtime::Builder;
use tokio::sync::Notify;

use self::parts::Part;
use self::redact::redacted;
use super::reach::find_cluster;
use crate::bundle::Bundle;
use crate::cli::SupportBundleArgs;
use crate::failure::{Context, Exit, Failure, Result};
use crate::interrupt::on_interrupt;
use crate::objects::Reader;
use crate::output::plural;
use crate::settings::Settings;

/// Parts that are gathered at one moment: nodes and hosts that do not answer must not make the others wait.
const AT_ONCE: usize = 12;

/// Writes the bundle.
pub(crate) fn support_bundle(settings: &Settings, args: &SupportBundleArgs) -> Result {
    let reader = Reader::open(settings)?;
    let cluster = find_cluster(settings, &reader, &args.cluster)?;
    let name = &cluster.metadata.name;
    let mut machines: Vec<Machine> = Vec::new();
    for object in reader.objects(Kind::Machine, Some(&settings.namespace))? {
        if let Object::Machine(machine) = object
            && machine.spec.cluster == *name
        {
            machines.push(*machine);
        }
    }
    let stem = format!("support-{name}-{}", Timestamp::now().strftime("%Y%m%dT%H%M%SZ"));
    let path = args.file.clone().unwrap_or_else(|| PathBuf::from(format!("{stem}.tar")));
    let mut bundle = Bundle::create(&path, &stem)?;
    let parts = parts::of(&cluster, &machines);
    let total = parts.len();
    settings.printer.note(format!("gathering {} about cluster {}", plural(total, "part"), cluster.key()));
    let stop = std::sync::Arc::new(Notify::new());
    let _guard = on_interrupt({
        let stop = std::sync::Arc::clone(&stop);
        move || stop.notify_one()
    })?;
    let program = std::env::current_exe().context("cannot find the ashlar program itself")?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let mut missing = Vec::new();
    let mut removed = 0;
    let gather = async {
        let mut gathered = stream::iter(&parts)
            .map(|part| {
                let mut command = Command::new(&program);
                prepare(&mut command, settings, args, part);
                async move { (part, run(command, part).await) }
            })
            .buffer_unordered(AT_ONCE);
        while let Some((part, answer)) = gathered.next().await {
            let text = match answer {
                Ok(text) => text,
                Err(why) => {
                    missing.push(format!("{}: {}", part.file, why.lines().next().unwrap_or_default()));
                    format!("not available: {why}\n")
                }
            };
            let (text, count) = redacted(&text);
            removed += count;
            bundle.add(&part.file, text.as_bytes())?;
        }
        Ok::<(), Failure>(())
    };
    let gathered = runtime.block_on(async {
        tokio::select! {
            done = gather => done.map(|()| true),
            () = stop.notified() => Ok(false),
        }
    });
    match gathered {
        Ok(true) => {}
        // Half a bundle is none.
        other => {
            drop(bundle);
            std::fs::remove_file(&path).context(format!("cannot remove {}", path.display()))?;
            return other.map(|_| Exit::Interrupted);
        }
    }
    missing.sort();
    let about = format!(
        "ashlar {}\ncluster {} ({})\nparts {total}, of which {} could not be had\nsecrets taken out of texts: {removed}\n\n{}\n",
        env!("CARGO_PKG_VERSION"),
        cluster.key(),
        cluster.spec.kubernetes_version,
        missing.len(),
        missing.join("\n"),
    );
    bundle.add("about.txt", about.as_bytes())?;
    bundle.finish()?;
    for line in &missing {
        settings.printer.warn(format!("not available: {line}"));
    }
    settings.printer.line(path.display().to_string())
}

/// The process of one part: this program, against the same store, in the same network namespace as this one.
fn prepare(command: &mut Command, settings: &Settings, args: &SupportBundleArgs, part: &Part) {
    command
        .arg("--state-dir")
        .arg(&settings.state_dir)
        .arg("--cache-dir")
        .arg(&settings.cache_dir)
        .args(["-n", &settings.namespace, "--color", "never"])
        .args(&part.arguments)
        // The lab's namespace was entered already, and its state directory is given.
        .env_remove("ASHLAR_LAB")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    if let Some(key) = &settings.key {
        command.env("ASHLAR_KEY", key);
    }
    if let Some(kubectl) = &args.kubectl {
        command.env("ASHLAR_KUBECTL", kubectl);
    }
}

/// What it printed; for one that failed, its message.
async fn run(mut command: Command, part: &Part) -> std::result::Result<String, String> {
    let output = match tokio::time::timeout(part.deadline, command.output()).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return Err(error.to_string()),
        Err(_) => return Err(format!("no answer within {} s", part.deadline.as_secs())),
    };
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    // Half an answer is worth more than none.
    match (output.status.success(), said.trim().is_empty()) {
        (true, _) => Ok(said.into_owned()),
        (false, true) => Err(errors.trim().to_owned()),
        (false, false) => Ok(format!("{said}\n[{}]\n{errors}", output.status)),
    }
}
