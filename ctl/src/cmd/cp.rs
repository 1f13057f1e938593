//! `cp`: copies files and directories to and from containers, by `tar` in the container.

use super::pods;
use crate::cli::{Args, Call, Command, bool, int, text};
use crate::error::{Error, Result, io_text};
use crate::resource::Info;
use crate::resource::builder::Query;
use crate::rest::Rest;
use crate::stream::exec::{Input, Output, Session};
use bytes::Bytes;
use std::io::{Read, Write};
use std::path::{Component, Path, PathBuf};
use tokio::sync::mpsc;

/// The command.
pub static COMMAND: Command = Command {
    name: "cp",
    short: "Copy files and directories to and from containers",
    long: "Copy files and directories to and from containers.\n\n The container needs a 'tar' program. Symbolic links that point out of what is copied are left out.",
    examples: "
        # To a pod, from a pod
        {} cp conf/ web-0:/etc/app -c app
        {} cp team-a/web-0:/var/log/app.log app.log",
    usage: "<file-spec-src> <file-spec-dest>",
    flags: &[&[
        text("container", "", "Container name. If omitted, use the kubectl.kubernetes.io/default-container annotation for selecting the container to be attached or the first container in the pod will be chosen").short('c'),
        bool("no-preserve", "The copied file/directory's ownership and permissions will not be preserved in the container"),
        int("retries", "0", "Set number of retries to complete a copy operation from a container. Specify 0 to disable or any negative value for infinite retrying. The default is 0 (no retry)."),
    ]],
    args: Args::Pod,
    run: Some(|c| Box::pin(run(c))),
    ..Command::NEW
};

/// One side: a pod's, or this machine's.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Spec {
    pod: Option<(Option<String>, String)>,
    path: String,
}

fn parse(text: &str) -> Result<Spec> {
    let Some((head, path)) = text.split_once(':') else {
        return Ok(Spec {
            pod: None,
            path: text.to_owned(),
        });
    };
    if head.is_empty() {
        return Err(Error::new(
            "filespec must match the canonical format: [[namespace/]pod:]file/path",
        ));
    }
    // A path may have a colon in it if it says that it is one.
    if head.starts_with('.') || head.starts_with('/') {
        return Ok(Spec {
            pod: None,
            path: text.to_owned(),
        });
    }
    match head.split('/').collect::<Vec<_>>().as_slice() {
        [pod] => Ok(Spec {
            pod: Some((None, (*pod).to_owned())),
            path: path.to_owned(),
        }),
        [namespace, pod] => Ok(Spec {
            pod: Some((Some((*namespace).to_owned()), (*pod).to_owned())),
            path: path.to_owned(),
        }),
        _ => Err(Error::new(
            "filespec must match the canonical format: [[namespace/]pod:]file/path",
        )),
    }
}

async fn run(call: Call) -> Result<()> {
    let [from, to] = call.args.as_slice() else {
        return Err(Error::new("source and destination are required"));
    };
    let (from, to) = (parse(from)?, parse(to)?);
    if from.path.is_empty() || to.path.is_empty() {
        return Err(Error::new("filepath can not be empty"));
    }
    match (&from.pod, &to.pod) {
        (Some(_), Some(_)) => Err(Error::new(
            "one of src or dest must be a local file specification",
        )),
        (None, None) => Err(Error::new(
            "one of src or dest must be a remote file specification",
        )),
        (None, Some(pod)) => {
            if !Path::new(&from.path).exists() {
                return Err(Error::new(format!(
                    "{} doesn't exist in local filesystem",
                    from.path
                )));
            }
            let (rest, pod, container) = locate(&call, pod).await?;
            upload(&call, &rest, &pod, &container, &from.path, &to.path).await
        }
        (Some(pod), None) => {
            let (rest, pod, container) = locate(&call, pod).await?;
            download(&call, &rest, &pod, &container, &from.path, &to.path).await
        }
    }
}

async fn locate(
    call: &Call,
    (namespace, name): &(Option<String>, String),
) -> Result<(std::rc::Rc<Rest>, Info, String)> {
    let rest = call.ctx.rest().await?;
    let mut info = match Query::default()
        .args_of(&["pods", name])
        .targets(&call.ctx)
        .await?
        .items
        .into_iter()
        .next()
    {
        Some(crate::resource::builder::Target::Named(i)) => i,
        _ => return Err(Error::new("no pod")),
    };
    if let Some(ns) = namespace {
        info.namespace.clone_from(ns);
    }
    let object = rest.get(&info.path()).await?;
    let info = info.with(object);
    let container = pods::container(&info.object, call.str("container"), false)?;
    Ok((rest, info, container))
}

/// A path in the container without `.` and `..`.
fn clean(path: &str) -> String {
    let mut out: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                out.pop();
            }
            p => out.push(p),
        }
    }
    let joined = out.join("/");
    if path.starts_with('/') {
        format!("/{joined}")
    } else if joined.is_empty() {
        ".".to_owned()
    } else {
        joined
    }
}

async fn upload(
    call: &Call,
    rest: &Rest,
    pod: &Info,
    container: &str,
    local: &str,
    remote: &str,
) -> Result<()> {
    let source = PathBuf::from(local);
    let mut target = clean(remote);
    let base = source
        .canonicalize()
        .ok()
        .and_then(|p| p.file_name().map(|n| n.to_string_lossy().into_owned()))
        .unwrap_or_default();
    // Into a directory that is there, under the source's own name.
    let check = vec!["test".to_owned(), "-d".to_owned(), target.clone()];
    let probe = Session {
        input: Input::None,
        output: Output::Nothing,
        tty: false,
    };
    if probe
        .run(rest, &super::exec::path(pod, container, &check, false, false))
        .await
        .is_ok()
    {
        target = format!("{}/{base}", target.trim_end_matches('/'));
    }
    let (directory, name) = match target.rsplit_once('/') {
        Some(("", name)) => ("/".to_owned(), name.to_owned()),
        Some((dir, name)) => (dir.to_owned(), name.to_owned()),
        None => (String::new(), target.clone()),
    };
    let mut command: Vec<String> = vec!["tar".into(), "-xmf".into(), "-".into()];
    if call.bool("no-preserve") {
        command = vec![
            "tar".into(),
            "--no-same-permissions".into(),
            "--no-same-owner".into(),
            "-xmf".into(),
            "-".into(),
        ];
    }
    if !directory.is_empty() {
        command.extend(["-C".to_owned(), directory]);
    }
    let (to, from) = mpsc::channel::<Bytes>(8);
    let packer = tokio::task::spawn_blocking(move || pack(&source, &name, to));
    let session = Session {
        input: Input::Channel(from),
        output: Output::Stdout,
        tty: false,
    };
    let outcome = session
        .run(rest, &super::exec::path(pod, container, &command, true, false))
        .await;
    let packed = packer.await.map_err(|e| Error::new(e.to_string()))?;
    outcome?;
    packed
}

/// A writer into a channel.
struct Pipe(mpsc::Sender<Bytes>);

impl Write for Pipe {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        self.0
            .blocking_send(Bytes::copy_from_slice(data))
            .map_err(|_| std::io::Error::from(std::io::ErrorKind::BrokenPipe))?;
        Ok(data.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn pack(source: &Path, name: &str, to: mpsc::Sender<Bytes>) -> Result<()> {
    let out = std::io::BufWriter::with_capacity(32 * 1024, Pipe(to));
    let mut archive = tar::Builder::new(out);
    archive.follow_symlinks(false);
    let problem = |e: std::io::Error| Error::new(io_text(&e));
    if source.is_dir() {
        archive.append_dir_all(name, source).map_err(problem)?;
    } else {
        archive
            .append_path_with_name(source.canonicalize().map_err(problem)?, name)
            .map_err(problem)?;
    }
    let mut inner = archive.into_inner().map_err(problem)?;
    inner.flush().map_err(problem)
}

/// A reader from a channel.
struct Drain {
    from: mpsc::Receiver<Bytes>,
    rest: Bytes,
}

impl Read for Drain {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.rest.is_empty() {
            match self.from.blocking_recv() {
                Some(more) => self.rest = more,
                None => return Ok(0),
            }
        }
        let n = self.rest.len().min(buffer.len());
        let head = self.rest.split_to(n);
        if let Some(space) = buffer.get_mut(..n) {
            space.copy_from_slice(&head);
        }
        Ok(n)
    }
}

async fn download(
    call: &Call,
    rest: &Rest,
    pod: &Info,
    container: &str,
    remote: &str,
    local: &str,
) -> Result<()> {
    let source = clean(remote);
    let command: Vec<String> = vec!["tar".into(), "cf".into(), "-".into(), source.clone()];
    let retries = call.flags.int("retries");
    let mut tries = 0;
    loop {
        let (to, from) = mpsc::channel::<Bytes>(8);
        let (prefix, target) = (source.trim_start_matches('/').to_owned(), PathBuf::from(local));
        let unpacker = tokio::task::spawn_blocking(move || {
            unpack(
                Drain {
                    from,
                    rest: Bytes::new(),
                },
                &prefix,
                &target,
            )
        });
        let session = Session {
            input: Input::None,
            output: Output::Channel(to),
            tty: false,
        };
        let outcome = session
            .run(rest, &super::exec::path(pod, container, &command, false, false))
            .await;
        let unpacked = unpacker.await.map_err(|e| Error::new(e.to_string()))?;
        match outcome.and(unpacked) {
            Ok(()) => return Ok(()),
            Err(e) if retries < 0 || tries < retries => {
                tries += 1;
                crate::outln!("Resuming copy after {}, retry {tries}/{retries}", e.message());
            }
            Err(e) => return Err(e),
        }
    }
}

/// Unpacks what is below `prefix`; nothing is written outside the target.
fn unpack(input: impl Read, prefix: &str, target: &Path) -> Result<()> {
    let problem = |e: std::io::Error| Error::new(io_text(&e));
    let target = if target.is_dir() && prefix != "." {
        target.join(Path::new(prefix).file_name().unwrap_or_default())
    } else {
        target.to_owned()
    };
    let mut archive = tar::Archive::new(input);
    let mut links = 0usize;
    for entry in archive.entries().map_err(problem)? {
        let mut entry = entry.map_err(problem)?;
        let path = entry.path().map_err(problem)?.into_owned();
        let inside = match path.strip_prefix(prefix) {
            Ok(p) => p.to_owned(),
            Err(_) if prefix == "." => path.clone(),
            Err(_) => return Err(Error::new("tar contents corrupted")),
        };
        if inside
            .components()
            .any(|c| !matches!(c, Component::Normal(_) | Component::CurDir))
        {
            crate::errln!("warning: file {:?} is outside target destination, skipping", path);
            continue;
        }
        let to = if inside.as_os_str().is_empty() {
            target.clone()
        } else {
            target.join(&inside)
        };
        let kind = entry.header().entry_type();
        if kind.is_dir() {
            std::fs::create_dir_all(&to).map_err(problem)?;
            continue;
        }
        if let Some(parent) = to.parent().filter(|p| !p.as_os_str().is_empty()) {
            std::fs::create_dir_all(parent).map_err(problem)?;
        }
        if kind.is_symlink() || kind.is_hard_link() {
            links += 1;
            if links == 1 {
                crate::errln!(
                    "warning: skipping symlink: {:?} -> {:?} (consider using \"{} exec -n NS POD -- tar cf - PATH | tar xf -\")",
                    to,
                    entry.link_name().ok().flatten(),
                    crate::cli::PROGRAM
                );
            }
            continue;
        }
        let mut file = std::fs::File::create(&to).map_err(problem)?;
        std::io::copy(&mut entry, &mut file).map_err(problem)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs_name_a_pod_or_a_local_path() {
        let remote = |ns: Option<&str>, pod: &str, path: &str| Spec {
            pod: Some((ns.map(str::to_owned), pod.to_owned())),
            path: path.to_owned(),
        };
        assert_eq!(parse("pod:/x").unwrap(), remote(None, "pod", "/x"));
        assert_eq!(parse("ns/pod:x").unwrap(), remote(Some("ns"), "pod", "x"));
        assert_eq!(
            parse("./a:b").unwrap(),
            Spec {
                pod: None,
                path: "./a:b".into()
            }
        );
        assert!(parse(":x").is_err());
        assert!(parse("a/b/c:x").is_err());
    }

    #[test]
    fn what_is_packed_unpacks_and_nothing_leaves_the_target() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("src");
        std::fs::create_dir_all(source.join("sub")).unwrap();
        std::fs::write(source.join("sub/f"), "hello").unwrap();
        let (to, from) = mpsc::channel(8);
        let packing = source.clone();
        let thread = std::thread::spawn(move || pack(&packing, "data/src", to));
        let target = dir.path().join("out");
        unpack(
            Drain {
                from,
                rest: Bytes::new(),
            },
            "data/src",
            &target,
        )
        .unwrap();
        thread.join().unwrap().unwrap();
        assert_eq!(std::fs::read_to_string(target.join("sub/f")).unwrap(), "hello");
        assert_eq!(clean("/a/../b/./c"), "/b/c");
    }
}
