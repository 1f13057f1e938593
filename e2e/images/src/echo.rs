//! An HTTP server that answers each request with what it knows of itself and of the request: one `key=value` a line.
//!
//! `GET /healthz` answers `ok` (or 500 after `POST /fail`), `GET /exit?code=N` ends the process, `GET /sleep?ms=N` waits first, everything
//! else echoes. It finishes requests in flight on SIGTERM. Flags: `--port N` (default 8080), `--text TEXT` (sent first), `--drain MS` (how long it
//! still takes new connections after SIGTERM, default 0).

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

struct Server {
    text: String,
    failing: AtomicBool,
    stopping: AtomicBool,
    /// Held by every request that is being answered, and by the end.
    busy: RwLock<()>,
    served: AtomicUsize,
}

fn flag(name: &str, default: &str) -> String {
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        if let Some(value) = arg.strip_prefix(&format!("--{name}=")) {
            return value.to_owned();
        }
        if arg == format!("--{name}") {
            return args.next().unwrap_or_default();
        }
    }
    default.to_owned()
}

fn main() {
    let port = flag(
        "port",
        &std::env::var("PORT").unwrap_or_else(|_| "8080".to_owned()),
    );
    let drain: u64 = flag("drain", "0").parse().unwrap_or(0);
    let server = Arc::new(Server {
        text: flag("text", &std::env::var("TEXT").unwrap_or_default()),
        failing: AtomicBool::new(false),
        stopping: AtomicBool::new(false),
        busy: RwLock::new(()),
        served: AtomicUsize::new(0),
    });
    let listener = match TcpListener::bind(format!("[::]:{port}"))
        .or_else(|_| TcpListener::bind(format!("0.0.0.0:{port}")))
    {
        Ok(listener) => listener,
        Err(error) => {
            eprintln!("listening on port {port}: {error}");
            std::process::exit(1);
        }
    };
    println!("listening on port {port}");
    let ending = server.clone();
    match signal_hook::iterator::Signals::new([signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT]) {
        Ok(mut signals) => {
            std::thread::spawn(move || {
                if signals.forever().next().is_some() {
                    std::thread::sleep(Duration::from_millis(drain));
                    ending.stopping.store(true, Ordering::SeqCst);
                    // No answer is cut off: what is begun is finished, and nothing begins any more.
                    let mut last = ending.busy.try_write();
                    for _ in 0..100 {
                        if last.is_ok() {
                            break;
                        }
                        std::thread::sleep(Duration::from_millis(50));
                        last = ending.busy.try_write();
                    }
                    println!("stopped after {} requests", ending.served.load(Ordering::SeqCst));
                    std::process::exit(0);
                }
            });
        }
        Err(error) => eprintln!("signals can't be caught: {error}"),
    }
    for stream in listener.incoming().flatten() {
        let server = server.clone();
        std::thread::spawn(move || serve(&server, &stream));
    }
}

fn serve(server: &Server, stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let _ = stream.set_read_timeout(Some(Duration::from_secs(60)));
    let mut reader = BufReader::new(stream);
    while let Some(request) = read_request(&mut reader) {
        let busy = server.busy.read();
        let (status, body) = answer(server, stream, &request);
        server.served.fetch_add(1, Ordering::SeqCst);
        let close = request.close || server.stopping.load(Ordering::SeqCst);
        let connection = if close { "close" } else { "keep-alive" };
        let text = format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: {connection}\r\n\r\n{body}",
            body.len()
        );
        let mut out = stream;
        let sent = out.write_all(text.as_bytes());
        drop(busy);
        if sent.is_err() || close {
            return;
        }
    }
}

struct Request {
    method: String,
    path: String,
    query: String,
    headers: Vec<(String, String)>,
    body: usize,
    close: bool,
}

fn read_request(reader: &mut BufReader<&TcpStream>) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
    let mut parts = line.split_whitespace();
    let (method, target, version) = (
        parts.next()?.to_owned(),
        parts.next()?.to_owned(),
        parts.next()?.to_owned(),
    );
    let (path, query) = target
        .split_once('?')
        .map_or((target.clone(), String::new()), |(p, q)| {
            (p.to_owned(), q.to_owned())
        });
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':')?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let header = |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
    let body: usize = header("content-length").and_then(|v| v.parse().ok()).unwrap_or(0);
    let close = header("connection").is_some_and(|v| v.eq_ignore_ascii_case("close"))
        || (version == "HTTP/1.0"
            && !header("connection").is_some_and(|v| v.eq_ignore_ascii_case("keep-alive")));
    std::io::copy(&mut reader.by_ref().take(body as u64), &mut std::io::sink()).ok()?;
    Some(Request {
        method,
        path,
        query,
        headers,
        body,
        close,
    })
}

fn answer(server: &Server, stream: &TcpStream, request: &Request) -> (&'static str, String) {
    let number = |name: &str| {
        let value = request
            .query
            .split('&')
            .find_map(|p| p.strip_prefix(name)?.strip_prefix('='));
        value.and_then(|v| v.parse::<u64>().ok()).unwrap_or(0)
    };
    match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/healthz") if server.failing.load(Ordering::SeqCst) => {
            ("500 Internal Server Error", "failing\n".to_owned())
        }
        ("GET", "/healthz") => ("200 OK", "ok".to_owned()),
        ("POST", "/fail") => {
            server.failing.store(true, Ordering::SeqCst);
            ("200 OK", "failing from now on\n".to_owned())
        }
        ("GET", "/exit") => std::process::exit(i32::try_from(number("code")).unwrap_or(1)),
        _ => {
            if request.path == "/sleep" {
                std::thread::sleep(Duration::from_millis(number("ms").min(60_000)));
            }
            ("200 OK", echo(server, stream, request))
        }
    }
}

fn echo(server: &Server, stream: &TcpStream, request: &Request) -> String {
    let mut text = String::new();
    let mut line = |key: &str, value: &str| text.push_str(&format!("{key}={value}\n"));
    if !server.text.is_empty() {
        line("text", &server.text);
    }
    let read = |path: &str| {
        std::fs::read_to_string(path)
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    line("hostname", &read("/proc/sys/kernel/hostname"));
    line("method", &request.method);
    line("path", &request.path);
    line("query", &request.query);
    line("body", &request.body.to_string());
    line(
        "client",
        &stream.peer_addr().map(|a| a.to_string()).unwrap_or_default(),
    );
    line(
        "server",
        &stream.local_addr().map(|a| a.to_string()).unwrap_or_default(),
    );
    for (name, value) in &request.headers {
        line(&format!("header.{name}"), value);
    }
    for (name, value) in std::env::vars() {
        line(&format!("env.{name}"), &value);
    }
    text
}
