//! Drives the crate without the `ashlar` binary: `image test|node VERSION|list|inspect NAME|remove NAME [CACHE_DIR]`.
#![expect(clippy::print_stdout, reason = "an example prints")]

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use ashlar_image as image;

struct Print;

impl image::Reporter for Print {
    fn started(&self, stage: &str) {
        println!("{stage} …");
    }
    fn finished(&self, stage: &str, took: Duration, cached: bool) {
        println!("{stage}: {:.1} s{}", took.as_secs_f64(), if cached { " (cached)" } else { "" });
    }
    fn note(&self, message: &str) {
        println!("{message}");
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let cache_dir =
        PathBuf::from(std::env::var("ASHLAR_CACHE").unwrap_or_else(|_| "/var/cache/ashlar".to_owned()));
    let cancel = AtomicBool::new(false);
    let ctx = image::Context { cache_dir: &cache_dir, reporter: &Print, cancel: &cancel };
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["test"] => show(&image::build_test_image(&ctx, &image::TestImageRequest::default())?),
        ["node", version] => show(&image::build_node_image(&ctx, &image::BuildRequest::new(*version))?),
        ["list"] => {
            for found in image::list(&cache_dir)?.images {
                println!("{}", found.manifest.name);
            }
        }
        ["inspect", name] => {
            println!("{}", serde_json::to_string_pretty(&image::verify(&cache_dir, name)?.manifest)?)
        }
        ["remove", name] => image::remove(&ctx, name)?,
        _ => return Err("usage: image test | node VERSION | list | inspect NAME | remove NAME".into()),
    }
    Ok(())
}

fn show(built: &image::BuiltImage) {
    println!("{}{}", built.dir.display(), if built.cached { " (cached)" } else { "" });
}
