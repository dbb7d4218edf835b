//! `ashlar image`: the image cache, and the Image objects that are made of it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ashlar_api::{Image, ImageFile, ImageSpec, ImageTags, Mebibytes, Object};
use ashlar_image as image;
use ashlar_image::{BuiltImage, Context as BuildContext, Manifest, Purpose};

use crate::cli::{ImageBuildArgs, ImageCommand, ImageSource, OutputFormat, ReleaseArgs};
use crate::commands::apply::declare;
use crate::commands::get::print_value;
use crate::confirm::confirm;
use crate::failure::{Exit, Failure, Result};
use crate::objects::{Reader, typed};
use crate::output::{Printer, Table, elapsed};
use crate::settings::Settings;
use crate::wiring::open_store;

/// The Kubernetes that is built unless another one is asked for: the newest minor that this version was tested with.
pub(crate) const DEFAULT_KUBERNETES: &str = "v1.37.2";

/// Runs an image command.
pub(crate) fn image(settings: &Settings, command: ImageCommand) -> Result {
    let cache = &settings.cache_dir;
    match command {
        ImageCommand::Build(args) => build_command(settings, &args),
        ImageCommand::List => list(settings, cache),
        ImageCommand::Inspect { name, verify } => {
            let found = if verify { image::verify(cache, &name)? } else { image::inspect(cache, &name)? };
            if verify {
                settings.printer.note(format!("{}: all files have their digests", found.manifest.name));
            }
            print_value(settings, &serde_json::to_value(&found.manifest)?)
        }
        // Hosts get it from here on: it is read once more before that.
        ImageCommand::Register { name } => register(settings, &image::verify(cache, &name)?),
        ImageCommand::Remove { name, yes } => {
            let what = match image::inspect(cache, &name) {
                Ok(found) => format!("{} ({} MiB)", found.dir.display(), size_mib(&found.manifest)),
                // That is what one is removed for.
                Err(image::Error::Damaged { cause, .. }) => {
                    format!("image {name}, which is damaged: {cause}")
                }
                Err(error) => return Err(error.into()),
            };
            confirm(settings, yes, &[what])?;
            with_context(settings, |ctx| image::remove(ctx, &name))?;
            settings.printer.note(format!("image {name} is gone from {}", cache.display()));
            Ok(Exit::Success)
        }
    }
}

fn list(settings: &Settings, cache: &Path) -> Result {
    let image::Listing { images: found, damaged } = image::list(cache)?;
    for error in &damaged {
        settings.printer.warn(error.to_string());
    }
    if matches!(settings.output, OutputFormat::Json | OutputFormat::Yaml) {
        let manifests: Vec<&Manifest> = found.iter().map(|one| &one.manifest).collect();
        return print_value(settings, &serde_json::to_value(manifests)?);
    }
    if found.is_empty() && damaged.is_empty() {
        settings.printer.note(format!("no images in {}; `ashlar image build` makes one", cache.display()));
        return Ok(Exit::Success);
    }
    let mut table = Table::new(vec!["NAME", "PURPOSE", "KUBERNETES", "SOURCE", "SIZE", "CREATED"]);
    for one in &found {
        let manifest = &one.manifest;
        table.push(vec![
            manifest.name.clone(),
            if manifest.purpose == Purpose::Node { "node".to_owned() } else { "test".to_owned() },
            manifest.kubernetes_version.clone().unwrap_or_else(|| "-".to_owned()),
            manifest.kubernetes.as_ref().map_or_else(|| "-".to_owned(), |inside| inside.source.clone()),
            format!("{} MiB", size_mib(manifest)),
            if manifest.created.is_empty() { "-".to_owned() } else { manifest.created.clone() },
        ]);
    }
    settings.printer.data(|out| table.write(out, 0))
}

fn size_mib(manifest: &Manifest) -> u64 {
    manifest.files.values().map(|file| file.size_bytes).sum::<u64>() / 1024 / 1024
}

fn build_command(settings: &Settings, args: &ImageBuildArgs) -> Result {
    let built = build(settings, args)?;
    settings.printer.line(&built.manifest.name)?;
    if args.no_register {
        return Ok(Exit::Success);
    }
    register(settings, &built)
}

/// Builds, or finds what was built before.
pub(crate) fn build(settings: &Settings, args: &ImageBuildArgs) -> Result<BuiltImage> {
    if args.test {
        return with_context(settings, |ctx| {
            image::build_test_image(ctx, &image::TestImageRequest::default())
        });
    }
    let version = args.kubernetes.as_deref().unwrap_or(DEFAULT_KUBERNETES);
    let mut request = image::BuildRequest::new(version);
    request.source = match args.source {
        ImageSource::Auto => image::Source::Auto,
        ImageSource::Release => image::Source::Release,
        ImageSource::Modules => image::Source::Modules,
    };
    request.release = release(&args.release);
    with_context(settings, |ctx| image::build_node_image(ctx, &request))
}

/// The projects' own servers, unless mirrors are named.
fn release(args: &ReleaseArgs) -> image::Release {
    let mut release = image::Release::default();
    for (named, used) in [
        (&args.release_url, &mut release.release_url),
        (&args.registry, &mut release.registry),
        (&args.flannel_registry, &mut release.flannel_registry),
        (&args.cni_plugins_url, &mut release.cni_plugins_url),
    ] {
        if let Some(url) = named {
            used.clone_from(url);
        }
    }
    release
}

/// Runs a build so that Ctrl-C ends it cleanly, with its programs; finished stages are kept.
fn with_context<T>(
    settings: &Settings,
    work: impl FnOnce(&BuildContext<'_>) -> image::Result<T>,
) -> Result<T> {
    let cancel = Arc::new(AtomicBool::new(false));
    let _guard = crate::interrupt::on_interrupt({
        let cancel = Arc::clone(&cancel);
        move || cancel.store(true, Ordering::Relaxed)
    })?;
    let reporter = StageLines { printer: settings.printer.clone() };
    let ctx = BuildContext { cache_dir: &settings.cache_dir, reporter: &reporter, cancel: &cancel };
    work(&ctx).map_err(|error| match error {
        image::Error::Cancelled { .. } => Failure { exit: Exit::Interrupted, ..Failure::from(error) },
        other => Failure::from(other),
    })
}

/// One line for each stage.
struct StageLines {
    printer: Printer,
}

impl image::Reporter for StageLines {
    fn started(&self, stage: &str) {
        self.printer.note(format!("  {stage} …"));
    }
    fn finished(&self, stage: &str, took: Duration, cached: bool) {
        let how = if cached { "kept from before".to_owned() } else { elapsed(took) };
        self.printer.note(format!("  {stage}: {how}"));
    }
    fn note(&self, message: &str) {
        self.printer.note(format!("  {message}"));
    }
}

/// Records an image in the store.
pub(crate) fn register(settings: &Settings, built: &BuiltImage) -> Result {
    let mut image = to_object(built)?;
    let store = open_store(settings)?;
    let reader = Reader::open(settings)?;
    if let Some(recorded) = reader.find(&image.object_ref())?
        && let Object::Image(recorded) = typed(recorded)?
    {
        // A person's word, of which the build knows nothing.
        image.spec.unused_grace_s = recorded.spec.unused_grace_s;
    }
    declare(settings, store.as_ref(), vec![Object::from(image)], false)?;
    Ok(Exit::Success)
}

/// The Image object of an image in the cache.
pub(crate) fn to_object(built: &BuiltImage) -> Result<Image> {
    let manifest = &built.manifest;
    let file = |name: &str| {
        manifest.files.get(name).map(|file| ImageFile {
            file: name.to_owned(),
            sha256: file.sha256.clone(),
            size_bytes: file.size_bytes,
        })
    };
    let needed = |name: &str| {
        file(name).ok_or_else(|| {
            Failure::new(format!("image {} has no file {name}", manifest.name))
                .hint(format!("`ashlar image remove {}`, then build it again", manifest.name))
        })
    };
    let inside = manifest.kubernetes.as_ref();
    // Whole mebibytes: a disk that is a little larger is filled up by first boot.
    let size_mib = manifest.virtual_size_bytes.div_ceil(1024 * 1024);
    Ok(Image::new(
        manifest.name.clone(),
        ImageSpec {
            digest: format!("sha256:{}", manifest.inputs_digest),
            architecture: go_architecture(&manifest.arch),
            os: manifest.os.clone(),
            kubernetes_version: manifest.kubernetes_version.clone().unwrap_or_default(),
            tags: ImageTags {
                etcd: inside.map(|inside| inside.etcd_tag.clone()).unwrap_or_default(),
                coredns: inside.map(|inside| inside.coredns_tag.clone()).unwrap_or_default(),
                pause: inside.map(|inside| inside.pause_tag.clone()).unwrap_or_default(),
                flannel: inside.map(|inside| inside.flannel_version.clone()).unwrap_or_default(),
            },
            directory: built.dir.display().to_string(),
            disk: file(image::DISK),
            kernel: needed(image::KERNEL)?,
            initrd: needed(image::INITRD)?,
            command_line: manifest.kernel_command_line.clone(),
            virtual_size: Mebibytes(size_mib),
            unused_grace_s: None,
        },
    ))
}

/// The Linux kernel's name of an architecture as Go says it.
fn go_architecture(linux: &str) -> String {
    match linux {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
    .to_owned()
}
