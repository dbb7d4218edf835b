//! The canary: what must stay secret is searched for wherever it could have leaked to.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use base64::Engine as _;
use memchr::memmem::Finder;

use super::context::{Context, file_names};
use super::needles::{self, forms};

/// Reads the command line and environment of every process, again and again.
pub(crate) struct Sampler {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<BTreeSet<Vec<u8>>>>,
    thread: Option<JoinHandle<()>>,
}

impl Sampler {
    pub(crate) fn start() -> Self {
        let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(BTreeSet::new())));
        let (stop_too, seen_too) = (stop.clone(), seen.clone());
        let thread = std::thread::spawn(move || {
            while !stop_too.load(Ordering::Relaxed) {
                sample(&seen_too);
                std::thread::sleep(Duration::from_millis(300));
            }
        });
        Sampler { stop, seen, thread: Some(thread) }
    }

    fn finish(&mut self) -> Vec<u8> {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).iter().flatten().copied().collect()
    }
}

fn sample(seen: &Mutex<BTreeSet<Vec<u8>>>) {
    let own = std::process::id().to_string();
    for process in file_names(Path::new("/proc")).unwrap_or_default() {
        if process == own || !process.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        for file in ["cmdline", "environ"] {
            if let Ok(mut bytes) = fs::read(format!("/proc/{process}/{file}")) {
                bytes.push(b'\n');
                seen.lock().unwrap_or_else(PoisonError::into_inner).insert(bytes);
            }
        }
    }
}

impl Context {
    /// While joins run: reads the join tokens out of the API server, to search for them later.
    pub(crate) fn watch_tokens(&mut self) {
        let due = self.token_watch.is_none_or(|at| at.elapsed() > Duration::from_secs(8));
        if !due {
            return;
        }
        self.token_watch = Some(std::time::Instant::now());
        let name = self.name.clone();
        let secrets = [
            "kubectl",
            &name,
            "--",
            "-n",
            "kube-system",
            "get",
            "secret",
            "-o",
            "json",
            "--request-timeout=5s",
        ];
        // Not through `output`: what is printed here is secret.
        let Ok(output) = self.command(&secrets).output() else { return };
        let Ok(list) = serde_json::from_slice::<serde_json::Value>(&output.stdout) else { return };
        for item in list["items"].as_array().into_iter().flatten() {
            let plain = |key: &str| {
                let bytes =
                    base64::engine::general_purpose::STANDARD.decode(item["data"][key].as_str()?).ok()?;
                String::from_utf8(bytes).ok()
            };
            if let Some(secret) = plain("token-secret") {
                self.tokens.insert(secret);
            }
        }
    }
}

/// Searches everything.
pub(crate) fn search(context: &mut Context) -> Result<()> {
    let name = context.name.clone();
    let secrets = needles::gather(context)?;
    let mut needles: Vec<Vec<u8>> = secrets.iter().flat_map(|(_, forms)| forms.clone()).collect();
    let key_count = needles.len();
    for token in &context.tokens {
        needles.extend(forms(token.as_bytes()));
    }
    println!(
        "e2e canary: {} forms of {} secrets and {} tokens",
        needles.len(),
        secrets.len(),
        context.tokens.len()
    );
    ensure!(
        needles.len() > key_count,
        "no join token was seen while the worker joined: the search would prove nothing"
    );

    let mut places: Vec<(String, Vec<u8>)> =
        vec![("printed by commands".to_owned(), context.printed.clone())];
    let sampled = context.sampler.take().map(|mut sampler| sampler.finish()).unwrap_or_default();
    ensure!(!sampled.is_empty(), "no process was sampled");
    places.push(("/proc/*/{cmdline,environ}".to_owned(), sampled));
    for arguments in
        [&["events", "-o", "json"][..], &["get", "all", "-o", "json"][..], &["-v", "cluster", "status"][..]]
    {
        let output = context.output(context.command(arguments))?;
        places.push((format!("ashlar {}", arguments.join(" ")), [output.stdout, output.stderr].concat()));
    }
    let bundle = super::checks::support_bundle(context, &name)?;
    for part in ["== journalctl --no-pager -b -u kubelet", "Roles:              control-plane"] {
        ensure!(Finder::new(part).find(&bundle).is_some(), "the support bundle has no «{part}»");
    }
    places.push((format!("support bundle of {name}"), bundle));
    for domain in context.domains()? {
        let xml = context.on_host(&["virsh", "-q", "-c", "qemu:///system", "dumpxml", &domain])?;
        places.push((format!("XML of domain {domain}"), xml.into_bytes()));
    }
    for directory in
        [context.state_dir()?, context.host_dir()?.join("log"), context.host_dir()?.join("etc-libvirt")]
    {
        collect(&directory, &mut places)?;
    }
    let store = places.iter().any(|(place, _)| place.ends_with("store.db"));
    ensure!(store, "the store's file was not among the places searched");
    let bytes: usize = places.iter().map(|(_, content)| content.len()).sum();
    println!("e2e canary: {} places, {} KiB", places.len(), bytes / 1024);
    let leaks = leaks(&places, &needles);
    if !leaks.is_empty() {
        let found = secrets.iter().filter(|(_, forms)| !self::leaks(&places, forms).is_empty());
        let found: Vec<&str> = found.map(|(name, _)| name.as_str()).collect();
        bail!("secrets found in: {} ({})", leaks.join(", "), found.join(", "));
    }
    // A search that finds nothing proves nothing unless it finds what was put there.
    places.push(("planted".to_owned(), [b"x".as_slice(), &needles[needles.len() - 1], b"y"].concat()));
    ensure!(self::leaks(&places, &needles) == ["planted"], "the search does not find a planted secret");
    Ok(())
}

pub(crate) fn leaks(places: &[(String, Vec<u8>)], needles: &[Vec<u8>]) -> Vec<String> {
    // A shorter needle would be found by chance.
    let needles: Vec<Finder<'_>> =
        needles.iter().filter(|needle| needle.len() >= 12).map(Finder::new).collect();
    let leaky = |content: &[u8]| needles.iter().any(|needle| needle.find(content).is_some());
    places.iter().filter(|(_, content)| leaky(content)).map(|(place, _)| place.clone()).collect()
}

/// All files below a directory, but for the key that is allowed to be what it is.
fn collect(directory: &Path, places: &mut Vec<(String, Vec<u8>)>) -> Result<()> {
    for name in file_names(directory)? {
        let path = directory.join(&name);
        let kind = fs::symlink_metadata(&path)?.file_type();
        if kind.is_dir() {
            collect(&path, places)?;
        } else if kind.is_file() {
            places.push((path.display().to_string(), fs::read(&path)?));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_key_in_every_wrapping() {
        let scalar: Vec<u8> = (1..=32).collect();
        let der = [&[0x30, 0x31, 0x02, 0x01, 0x01, 0x04, 0x20][..], &scalar[..], &[0xa0, 0x0a]].concat();
        let pem = format!(
            "-----BEGIN EC PRIVATE KEY-----\n{}\n-----END EC PRIVATE KEY-----\n",
            base64::engine::general_purpose::STANDARD.encode(&der)
        );
        let needles = needles::forms_of_pem(&pem);
        let hex: String = scalar.iter().map(|byte| format!("{byte:02x}")).collect();
        for leak in [pem.into_bytes(), der, scalar, hex.into_bytes()] {
            let place = vec![("here".to_owned(), [b"before ".as_slice(), &leak, b" after"].concat())];
            assert_eq!(leaks(&place, &needles), ["here"]);
        }
        assert!(leaks(&[("clean".to_owned(), vec![b'a'; 4096])], &needles).is_empty());
    }
}
