//! `ashlar proxy`: a local port that leads to a cluster's API server. TLS goes through untouched.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::Duration;

use ashlar_engine::effects::{Dial, DialTarget};
use tokio::io::copy_bidirectional;
use tokio::net::TcpListener;
use tokio::sync::Notify;

use super::find_cluster;
use crate::cli::ProxyArgs;
use crate::failure::{Context, Exit, Result};
use crate::interrupt::on_interrupt;
use crate::objects::Reader;
use crate::output::Printer;
use crate::settings::Settings;
use crate::wiring::Reach;

/// How long accepting rests after an error, such as too many open files: they last longer than a moment.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Listens on 127.0.0.1.
pub(crate) fn listen(port: u16) -> Result<(StdListener, SocketAddr)> {
    let listener = StdListener::bind((Ipv4Addr::LOCALHOST, port))
        .context(format!("cannot listen on 127.0.0.1:{port}"))
        .hint("another port: --port N, or --port 0 for a free one")?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// Serves until the future is dropped.
pub(crate) async fn serve(
    listener: StdListener,
    dial: Arc<dyn Dial>,
    target: DialTarget,
    printer: Printer,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let target = Arc::new(target);
    loop {
        let mut local = match listener.accept().await {
            Ok((local, _)) => local,
            Err(error) => {
                printer.warn(format!("a connection could not be accepted: {error}"));
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (dial, target, printer) = (Arc::clone(&dial), Arc::clone(&target), printer.clone());
        tokio::spawn(async move {
            match dial.dial(&target).await {
                // Either side may end a connection at any time; that is no news.
                Ok(mut remote) => drop(copy_bidirectional(&mut local, &mut remote).await),
                Err(error) => printer.warn(error.message),
            }
        });
    }
}

/// Runs until Ctrl-C.
pub(crate) fn proxy(settings: &Settings, args: &ProxyArgs) -> Result {
    let reader = Reader::open(settings)?;
    let cluster = find_cluster(settings, &reader, &args.cluster)?;
    let reach = Reach::open(settings)?;
    let target = reach.cluster(&reader, &cluster)?;
    let (listener, address) = listen(args.port)?;
    settings.printer.line(format!("https://{address}"))?;
    settings.printer.note(format!(
        "forwards to cluster {} until Ctrl-C; a kubeconfig for it: {} kubeconfig {} --server https://{address}",
        cluster.key(),
        settings.command_prefix(),
        args.cluster
    ));
    let stop = Arc::new(Notify::new());
    let _guard = on_interrupt({
        let stop = Arc::clone(&stop);
        move || stop.notify_one()
    })?;
    let dial = Arc::clone(&reach.hosts) as Arc<dyn Dial>;
    reach.runtime.block_on(async {
        tokio::select! {
            served = serve(listener, dial, target, settings.printer.clone()) => served,
            () = stop.notified() => Ok(()),
        }
    })?;
    Ok(Exit::Success)
}
