//! A small web server with the faults that real ones have.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// What a path answers.
#[derive(Debug, Clone)]
pub(super) struct Route {
    pub(super) status: u16,
    pub(super) body: Body,
    /// Connections that end after so many bytes of the body, one number each.
    pub(super) cuts: Vec<usize>,
    /// Every connection ends there.
    pub(super) always_cut: Option<usize>,
    pub(super) headers: Vec<String>,
    /// Without this in `Authorization`, 401.
    pub(super) token: Option<String>,
    pub(super) is_silent: bool,
}

#[derive(Debug, Clone)]
pub(super) enum Body {
    Bytes(Vec<u8>),
    File(PathBuf),
}

impl Route {
    pub(super) fn bytes(body: impl Into<Vec<u8>>) -> Self {
        Self::new(Body::Bytes(body.into()))
    }

    pub(super) fn file(path: PathBuf) -> Self {
        Self::new(Body::File(path))
    }

    fn new(body: Body) -> Self {
        let (cuts, headers) = (Vec::new(), Vec::new());
        Self { status: 200, body, cuts, always_cut: None, headers, token: None, is_silent: false }
    }

    pub(super) fn status(status: u16) -> Self {
        Self { status, ..Self::bytes("sorry\n") }
    }
}

type Routes = Arc<Mutex<BTreeMap<String, Route>>>;

/// Lives as long as the network namespace of its test.
pub(super) struct Server {
    routes: Routes,
    log: Arc<Mutex<Vec<String>>>,
    port: u16,
}

impl Server {
    pub(super) fn start(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let (routes, log) = (Routes::default(), Arc::new(Mutex::new(Vec::new())));
        let server = Self { routes: Arc::clone(&routes), log: Arc::clone(&log), port };
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (routes, log) = (Arc::clone(&routes), Arc::clone(&log));
                std::thread::spawn(move || serve(stream.unwrap(), &routes, &log));
            }
        });
        server
    }

    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(super) fn put(&self, path: &str, route: Route) {
        self.routes.lock().unwrap().insert(path.to_owned(), route);
    }

    /// What each request asked for.
    pub(super) fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }
}

fn serve(mut stream: TcpStream, routes: &Routes, log: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        // A client that goes away without asking wants nothing.
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        if line.trim().is_empty() {
            break;
        }
        lines.push(line.trim().to_owned());
    }
    let target = lines[0].split(' ').nth(1).unwrap().to_owned();
    let header = |name: &str| {
        lines.iter().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then(|| value.to_owned())
        })
    };
    let range =
        header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    let from: usize = range.unwrap_or(0);
    log.lock().unwrap().push(range.map_or(target.clone(), |_| format!("{target} from {from}")));
    let mut routes = routes.lock().unwrap();
    let path = target.split('?').next().unwrap();
    let Some(route) = routes.get_mut(path) else {
        let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        return;
    };
    let cut = if route.cuts.is_empty() { route.always_cut } else { Some(route.cuts.remove(0)) };
    let mut route = route.clone();
    drop(routes);
    if route.is_silent {
        // Until the client gives up.
        let _ = stream.read(&mut [0]);
        return;
    }
    if route.token.as_ref().is_some_and(|token| header("authorization").as_ref() != Some(token)) {
        route.status = 401;
    }
    let (mut body, length): (Box<dyn Read>, usize) = match route.body {
        Body::Bytes(bytes) => {
            let length = bytes.len();
            (Box::new(std::io::Cursor::new(bytes).take_from(from)), length)
        }
        Body::File(path) => {
            let mut file = File::open(path).unwrap();
            let length = usize::try_from(file.metadata().unwrap().len()).unwrap();
            file.seek(SeekFrom::Start(from as u64)).unwrap();
            (Box::new(file), length)
        }
    };
    let mut head = match range {
        Some(from) if from < length => {
            format!("HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {from}-{}/{length}\r\n", length - 1)
        }
        Some(_) => "HTTP/1.1 416 Range Not Satisfiable\r\n".to_owned(),
        None => format!("HTTP/1.1 {} Answer\r\n", route.status),
    };
    for line in &route.headers {
        head += &format!("{line}\r\n");
    }
    head += &format!("Content-Length: {}\r\nConnection: close\r\n\r\n", length.saturating_sub(from));
    let sent = stream.write_all(head.as_bytes()).and_then(|()| match cut {
        Some(cut) => std::io::copy(&mut body.take(cut as u64), &mut stream),
        None => std::io::copy(&mut body, &mut stream),
    });
    // The client may have had enough.
    drop(sent);
}

/// A cursor moved forward.
trait TakeFrom {
    fn take_from(self, from: usize) -> Self;
}

impl TakeFrom for std::io::Cursor<Vec<u8>> {
    fn take_from(mut self, from: usize) -> Self {
        self.set_position(from as u64);
        self
    }
}
