//! `ashlar etcd-snapshot`: copies of the clusters' etcd, without a daemon and without a store.

mod extract;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write};
use std::path::Path;
use std::rc::Rc;

use ashlar_api::{Kind, NamespacedName};
use ashlar_engine::etcd_copy::{Contents, DatabaseDigest, Manifest, OpenCopy};
use ashlar_engine::vault::{SecretValues, Vault};
use serde_json::json;

use crate::cli::{EtcdSnapshotCommand, EtcdSnapshotPlace, EtcdSnapshotVerifyArgs, OutputFormat};
use crate::daemon::{KeptCopy, Part, Shelf};
use crate::failure::{Context as _, Exit, Failure, Result};
use crate::output::{Table, plural};
use crate::settings::Settings;
use crate::wiring::open_vault_as;

/// Of a manifest, or of the objects beside a copy in the clear.
const TEXT_BYTES: u64 = 1 << 30;
/// Characters of an installation's id that tell it from others.
const INSTALLATION_SHOWN: usize = 8;
/// A restore can do nothing without these.
const NEEDED: [Kind; 7] =
    [Kind::Cluster, Kind::Machine, Kind::Secret, Kind::MachineClass, Kind::Network, Kind::Image, Kind::Host];

/// Runs such a command.
pub(crate) fn etcd_snapshot(settings: &Settings, command: &EtcdSnapshotCommand) -> Result {
    // The path first: it says when a lab is not there.
    settings.store_path()?;
    match command {
        EtcdSnapshotCommand::List(place) => list(settings, place),
        EtcdSnapshotCommand::Verify(args) => verify(settings, args),
        EtcdSnapshotCommand::Extract(args) => extract::extract(settings, args),
    }
}

fn shelf(settings: &Settings, place: &EtcdSnapshotPlace) -> Result<Shelf> {
    match &place.directory {
        Some(directory) => Ok(Shelf::Directory(directory.clone())),
        None => Shelf::of_daemon(place.config.as_deref(), &settings.state_dir),
    }
}

/// The copy of that name, or of that short name if it is the only one, or whose file that is.
fn find(settings: &Settings, place: &EtcdSnapshotPlace, wanted: &str) -> Result<(Shelf, KeptCopy)> {
    if Path::new(wanted).is_file() {
        return Shelf::of_file(Path::new(wanted));
    }
    let shelf = shelf(settings, place)?;
    let mut copies = shelf.list()?;
    if let Some(at) = copies.iter().position(|copy| copy.name == wanted) {
        return Ok((shelf, copies.swap_remove(at)));
    }
    copies.retain(|copy| copy.short_name() == wanted);
    match copies.pop() {
        Some(copy) if copies.is_empty() => Ok((shelf, copy)),
        Some(other) => {
            let names: Vec<String> = copies.into_iter().chain([other]).map(|copy| copy.name).collect();
            Err(Failure::new(format!("{wanted} may be each of {}", names.join(", ")))
                .hint("name the one that is meant in full"))
        }
        None => Err(Failure::new(format!("there is no whole copy {wanted} in {}", shelf.describe()))
            .hint("`ashlar etcd-snapshot list` shows them; --config or --directory says where they lie")),
    }
}

/// What each is shown as: the short name, unless several clusters of the name have copies there.
fn shown(copies: &[&KeptCopy]) -> Vec<String> {
    let mut directories: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    let cluster = |copy: &KeptCopy| copy.short_name().trim_end_matches(|it| it != '/').to_owned();
    let has_short = |copy: &KeptCopy| copy.short_name() != copy.name;
    for copy in copies.iter().filter(|copy| has_short(copy)) {
        directories.entry(cluster(copy)).or_default().insert(copy.directory());
    }
    let is_shared = |copy: &KeptCopy| directories.get(&cluster(copy)).is_some_and(|all| all.len() > 1);
    let show = |copy: &&KeptCopy| if is_shared(copy) { copy.name.clone() } else { copy.short_name() };
    copies.iter().map(show).collect()
}

fn manifest(shelf: &Shelf, copy: &KeptCopy) -> Result<Manifest> {
    let mut text = Vec::new();
    shelf.open(copy, Part::Manifest)?.take(TEXT_BYTES).read_to_end(&mut text)?;
    Ok(Manifest::parse(&text)?)
}

fn list(settings: &Settings, place: &EtcdSnapshotPlace) -> Result {
    let shelf = shelf(settings, place)?;
    let mut rows = Vec::new();
    for copy in shelf.list()? {
        let about = if copy.parts.is_sealed() { manifest(&shelf, &copy).map(Some) } else { Ok(None) };
        rows.push((copy, about));
    }
    if matches!(settings.output, OutputFormat::Json | OutputFormat::Yaml) {
        let rows = rows.iter().map(|(copy, about)| {
            json!({
                "name": copy.name,
                "takenAt": copy.taken_at,
                "databaseBytes": copy.parts.database_bytes(),
                "sealed": copy.parts.is_sealed(),
                "manifest": about.as_ref().ok(),
            })
        });
        return super::get::print_value(settings, &rows.collect());
    }
    if rows.is_empty() {
        settings.printer.note(format!("there are no copies of etcd in {}", shelf.describe()));
        return Ok(Exit::Success);
    }
    if settings.output == OutputFormat::Name {
        return settings
            .printer
            .data(|out| rows.iter().try_for_each(|(copy, _)| writeln!(out, "{}", copy.name)));
    }
    let names = shown(&rows.iter().map(|(copy, _)| copy).collect::<Vec<_>>());
    let mut table = Table::new(vec!["NAME", "SIZE", "NODE", "KUBERNETES", "ETCD", "INSTALLATION", "KEY"]);
    for ((copy, about), name) in rows.iter().zip(names) {
        let size = size(copy.parts.database_bytes().unwrap_or_default());
        let rest = match about {
            Ok(Some(manifest)) => [
                manifest.copy.node.clone(),
                manifest.copy.kubernetes_version.clone(),
                manifest.copy.etcd_version.clone(),
                manifest.copy.installation.to_string().chars().take(INSTALLATION_SHOWN).collect(),
                manifest.vault.key_id.clone(),
            ],
            Ok(None) => ["", "", "", "", "none: in the clear"].map(str::to_owned),
            Err(failure) => ["", "", "", "", &failure.chain.join(": ")].map(str::to_owned),
        };
        table.push([vec![name, size], rest.to_vec()].concat());
    }
    settings.printer.data(|out| table.write(out, 0))
}

fn size(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

fn verify(settings: &Settings, args: &EtcdSnapshotVerifyArgs) -> Result {
    let mut copies = Vec::new();
    if args.copies.is_empty() {
        let shelf = Rc::new(shelf(settings, &args.place)?);
        copies.extend(shelf.list()?.into_iter().map(|copy| (Rc::clone(&shelf), copy)));
        if copies.is_empty() {
            return Err(Failure::new(format!("there are no copies of etcd in {}", shelf.describe()))
                .hint("--config or --directory says where they lie"));
        }
    }
    for wanted in &args.copies {
        let (shelf, copy) = find(settings, &args.place, wanted)?;
        copies.push((Rc::new(shelf), copy));
    }
    let keys = Keys::new(settings);
    let (mut bad, mut hints) = (0, Vec::new());
    for (shelf, copy) in &copies {
        let proved = if copy.parts.is_sealed() {
            read(shelf, copy, &keys, &mut std::io::sink()).map(|read| read.told())
        } else {
            read_clear(shelf, copy, &mut std::io::sink()).map(|bytes| {
                format!("whole, {}, but in the clear and without all that a restore needs", size(bytes))
            })
        };
        match proved {
            Ok(told) => settings.printer.line(format!("{}: {told}", copy.name))?,
            Err(failure) => {
                bad += 1;
                hints.extend(failure.hints);
                settings.printer.line(format!("{}: NOT GOOD: {}", copy.name, failure.chain.join(": ")))?
            }
        };
    }
    if bad == 0 {
        return Ok(Exit::Success);
    }
    hints.dedup();
    let failure = Failure::new(format!("{bad} of {} copies of etcd not good", copies.len()));
    Err(hints.into_iter().fold(failure, Failure::hint))
}

/// Vaults by the keys of copies: a passphrase is asked for once.
struct Keys<'s> {
    settings: &'s Settings,
    opened: RefCell<Vec<Rc<Vault>>>,
}

impl<'s> Keys<'s> {
    fn new(settings: &'s Settings) -> Self {
        Keys { settings, opened: RefCell::default() }
    }

    fn of(&self, manifest: &Manifest) -> Result<Rc<Vault>> {
        if let Some(vault) = self.opened.borrow().iter().find(|vault| vault.state() == manifest.vault) {
            return Ok(Rc::clone(vault));
        }
        let vault = Rc::new(open_vault_as(self.settings, &manifest.vault)?);
        self.opened.borrow_mut().push(Rc::clone(&vault));
        Ok(vault)
    }
}

/// What was proved of a copy.
struct Proved {
    contents: Contents,
    secrets: Vec<(NamespacedName, SecretValues)>,
}

impl Proved {
    fn told(&self) -> String {
        let Contents { copy, vault, objects, database_bytes, .. } = &self.contents;
        format!(
            "good: {} of {}, etcd {}, Kubernetes {}, {}, {} of them secrets, key {}",
            size(*database_bytes),
            copy.node,
            copy.etcd_version,
            copy.kubernetes_version,
            plural(objects.len(), "object"),
            self.secrets.len(),
            vault.key_id
        )
    }
}

/// Opens all of a copy, proves that it is whole, and writes etcd's snapshot.
fn read(shelf: &Shelf, copy: &KeptCopy, keys: &Keys<'_>, to: &mut dyn Write) -> Result<Proved> {
    let manifest = manifest(shelf, copy)?;
    let vault = keys.of(&manifest)?;
    let open = OpenCopy::new(&manifest, &vault)?;
    let contents = open.contents(shelf.open(copy, Part::Contents)?)?;
    let lacks = |kind: &Kind| {
        let is =
            |object: &serde_json::Value| object.get("kind").and_then(|it| it.as_str()) == Some(kind.name());
        !contents.objects.iter().any(is)
    };
    let missing: Vec<&str> = NEEDED.iter().filter(|kind| lacks(kind)).map(|kind| kind.name()).collect();
    if !missing.is_empty() {
        return Err(Failure::new(format!("it has no {}, which a restore needs", missing.join(", no "))));
    }
    let secrets = open.secrets(&contents)?;
    let secrets = secrets.into_iter().map(|(secret, values)| (secret.key(), values)).collect();
    open.database(shelf.open(copy, Part::Database)?, &contents, to)?;
    Ok(Proved { contents, secrets })
}

/// Reads etcd's snapshot of a copy of before copies were sealed.
fn read_clear(shelf: &Shelf, copy: &KeptCopy, to: &mut dyn Write) -> Result<u64> {
    let mut from = shelf.open(copy, Part::Clear)?;
    let mut digest = DatabaseDigest::default();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let length = from.read(&mut buffer).context(format!("cannot read {}", copy.name))?;
        if length == 0 {
            break;
        }
        let bytes = buffer.get(..length).unwrap_or_default();
        digest.update(bytes);
        to.write_all(bytes).context("cannot write the database")?;
    }
    match digest.whole() {
        Some((bytes, _)) => Ok(bytes),
        None => Err(Failure::new("the database is damaged: its digest does not fit")),
    }
}
