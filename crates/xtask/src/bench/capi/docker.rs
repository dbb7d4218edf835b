//! The provider asks Docker what the machine has, for every machine template, and asks again and again where there is no
//! Docker. It is answered here, so that its failures are none of the peer's time.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use anyhow::Result;

const BODY: &str =
    r#"{"ID":"ashlar-bench","NCPU":2,"MemTotal":17179869184,"OSType":"linux","Architecture":"x86_64"}"#;

/// Answers `/info` and `/_ping` until the process ends.
pub(super) fn answer(socket: &Path) -> Result<()> {
    let listener = UnixListener::bind(socket)?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                // The other side closes when it likes.
                let _ = serve(&stream);
            });
        }
    });
    Ok(())
}

fn serve(stream: &UnixStream) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    loop {
        let Some(request) = lines.next().transpose()? else { return Ok(()) };
        // The provider sends no bodies on these paths: headers end the request.
        while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
        let body = if request.starts_with("HEAD") { "" } else { BODY };
        let mut stream = stream;
        write!(
            stream,
            "HTTP/1.1 200 OK\r\nApi-Version: 1.45\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            BODY.len()
        )?;
    }
}
