//! `rctl` or `kubectl`, as a person or a script uses it: to its end, in the background, and on a terminal.

use crate::report::until;
use anyhow::{Context as _, bail, ensure};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A program with the cluster's admin context.
#[derive(Clone, Debug)]
pub(crate) struct Tool {
    /// Its name.
    pub(crate) name: &'static str,
    program: PathBuf,
    folder: PathBuf,
    kubeconfig: PathBuf,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// What a program has printed so far.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<u8>>>);

/// A command that goes on. It is killed when this is dropped.
pub(crate) struct Background {
    what: String,
    child: Child,
    stdout: Heard,
    stderr: Heard,
}

/// A command on a terminal. It is killed when this is dropped.
pub(crate) struct Terminal {
    what: String,
    child: Child,
    master: File,
    screen: Heard,
}

impl Tool {
    /// A program with `folder` as its home.
    pub(crate) fn new(name: &'static str, program: PathBuf, folder: &Path, kubeconfig: PathBuf) -> Self {
        Self {
            name,
            program,
            folder: folder.to_owned(),
            kubeconfig,
        }
    }

    /// The same program with another kubeconfig.
    pub(crate) fn with_kubeconfig(&self, kubeconfig: &Path) -> Self {
        Self {
            kubeconfig: kubeconfig.to_owned(),
            ..self.clone()
        }
    }

    /// The `kubectl` on the PATH.
    pub(crate) fn kubectl(folder: &Path, kubeconfig: PathBuf) -> Option<Self> {
        let path = std::env::var_os("PATH")?;
        let program = std::env::split_paths(&path)
            .map(|folder| folder.join("kubectl"))
            .find(|program| program.is_file())?;
        Some(Self::new("kubectl", program, folder, kubeconfig))
    }

    /// The minor version of Kubernetes that it belongs to.
    pub(crate) fn minor(&self) -> anyhow::Result<u32> {
        let text = self.ok(&["version", "--client", "-o", "json"])?;
        let version: serde_json::Value = serde_json::from_str(&text)?;
        let minor = version["clientVersion"]["minor"].as_str().unwrap_or_default();
        let digits: String = minor.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().with_context(|| format!("a version in {text}"))
    }

    fn environment<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .env("KUBECONFIG", &self.kubeconfig)
            .env("HOME", &self.folder)
            .env("RUST_BACKTRACE", "0")
    }

    /// The command, with nothing as its input.
    pub(crate) fn command(&self, arguments: &[impl AsRef<OsStr>]) -> Command {
        let mut command = Command::new(&self.program);
        self.environment(&mut command)
            .args(arguments)
            .stdin(Stdio::null());
        command
    }

    fn what(&self, arguments: &[&str]) -> String {
        format!("{} {}", self.name, arguments.join(" "))
    }

    /// Runs a command to its end, however it ends.
    pub(crate) fn outcome(&self, command: &mut Command) -> anyhow::Result<Outcome> {
        let output = command
            .output()
            .with_context(|| format!("starting {}", self.program.display()))?;
        Ok(Outcome {
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Runs a command that must succeed without a word on standard error; its standard output.
    pub(crate) fn ok(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let outcome = self.outcome(&mut self.command(arguments))?;
        outcome.clean(&self.what(arguments))
    }

    /// The same with a file as its input.
    pub(crate) fn ok_from(&self, arguments: &[&str], input: &Path) -> anyhow::Result<String> {
        let mut command = self.command(arguments);
        command.stdin(File::open(input)?);
        self.outcome(&mut command)?.clean(&self.what(arguments))
    }

    /// The same with a manifest as its `-f`.
    pub(crate) fn ok_file(&self, arguments: &[&str], manifest: &str) -> anyhow::Result<String> {
        let file = self.manifest(manifest)?;
        self.ok(&[arguments, &["-f", &file]].concat())
    }

    /// Runs a command that must fail and print nothing; its standard error.
    pub(crate) fn fails(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let outcome = self.outcome(&mut self.command(arguments))?;
        let what = self.what(arguments);
        ensure!(
            !outcome.status.success(),
            "`{what}` succeeded and should not have: {}",
            outcome.stdout
        );
        Ok(outcome.stderr)
    }

    /// The same with a manifest as its `-f`.
    pub(crate) fn fails_file(&self, arguments: &[&str], manifest: &str) -> anyhow::Result<String> {
        let file = self.manifest(manifest)?;
        self.fails(&[arguments, &["-f", &file]].concat())
    }

    fn manifest(&self, text: &str) -> anyhow::Result<String> {
        let path = self.folder.join("manifest.yaml");
        std::fs::write(&path, text)?;
        Ok(path.to_string_lossy().into_owned())
    }

    /// Starts a command that goes on, with a pipe as its input.
    pub(crate) fn background(&self, arguments: &[&str]) -> anyhow::Result<Background> {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let (stdout, stderr) = (Heard::default(), Heard::default());
        stdout.listen(child.stdout.take());
        stderr.listen(child.stderr.take());
        Ok(Background {
            what: self.what(arguments),
            child,
            stdout,
            stderr,
        })
    }

    /// Starts a command on a terminal of this size, in a session of its own, as a terminal emulator does.
    pub(crate) fn on_terminal(
        &self,
        arguments: &[&str],
        rows: u16,
        columns: u16,
    ) -> anyhow::Result<Terminal> {
        use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let name = ptsname(&master, Vec::new())?;
        let slave = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(name.to_str()?)?;
        let master = File::from(master);
        resize(&master, rows, columns)?;
        let mut command = Command::new("setsid");
        let child = self
            .environment(&mut command)
            .args(["--ctty", "--wait"])
            .arg(&self.program)
            .args(arguments)
            .stdin(slave.try_clone()?)
            .stdout(slave.try_clone()?)
            .stderr(slave)
            .spawn()
            .context("starting setsid")?;
        let screen = Heard::default();
        screen.listen(Some(master.try_clone()?));
        Ok(Terminal {
            what: self.what(arguments),
            child,
            master,
            screen,
        })
    }
}

impl Outcome {
    /// The standard output, if all went well and nothing was complained about.
    pub(crate) fn clean(self, what: &str) -> anyhow::Result<String> {
        ensure!(
            self.status.success(),
            "`{what}` failed ({}): {}{}",
            self.status,
            self.stdout,
            self.stderr.trim()
        );
        ensure!(self.stderr.is_empty(), "`{what}` complained: {}", self.stderr);
        Ok(self.stdout)
    }
}

impl Heard {
    /// Keeps what comes, on a thread of its own, until there is no more.
    fn listen(&self, from: Option<impl Read + Send + 'static>) {
        let (Some(mut from), heard) = (from, self.clone()) else {
            return;
        };
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            // A terminal whose other side is gone answers with an error.
            while let Ok(length @ 1..) = from.read(&mut piece) {
                let mut all = heard.0.lock().unwrap_or_else(PoisonError::into_inner);
                all.extend(piece.iter().take(length));
            }
        });
    }

    fn text(&self) -> String {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&all).into_owned()
    }

    fn wait_for(&self, what: &str, wanted: &str, limit: Duration) -> anyhow::Result<String> {
        until(limit, || {
            let text = self.text();
            ensure!(
                text.contains(wanted),
                "`{what}` did not print {wanted:?}, but {text:?}"
            );
            Ok(text)
        })
    }
}

impl Background {
    /// Waits until its standard output has this; all of it so far.
    pub(crate) fn wait_for(&self, wanted: &str, limit: Duration) -> anyhow::Result<String> {
        self.stdout
            .wait_for(&self.what, wanted, limit)
            .with_context(|| format!("on standard error: {:?}", self.stderr.text()))
    }

    /// What it has said on standard error.
    pub(crate) fn complaints(&self) -> String {
        self.stderr.text()
    }

    /// Writes to its input.
    pub(crate) fn send(&mut self, text: &str) -> anyhow::Result<()> {
        let input = self.child.stdin.as_mut().context("its input is closed")?;
        input.write_all(text.as_bytes())?;
        Ok(input.flush()?)
    }
}

impl Terminal {
    /// Types.
    pub(crate) fn send(&mut self, text: &str) -> anyhow::Result<()> {
        Ok(self.master.write_all(text.as_bytes())?)
    }

    /// Waits until the screen has shown this; all of it so far.
    pub(crate) fn wait_for(&self, wanted: &str, limit: Duration) -> anyhow::Result<String> {
        self.screen.wait_for(&self.what, wanted, limit)
    }

    /// Changes the window's size.
    pub(crate) fn resize(&self, rows: u16, columns: u16) -> anyhow::Result<()> {
        resize(&self.master, rows, columns)
    }

    /// Waits for its end; its exit code.
    pub(crate) fn finish(&mut self, limit: Duration) -> anyhow::Result<i32> {
        ended(&mut self.child, &self.what, limit)
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // Ended or not, it is gone afterwards.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // The terminal's end hangs up on what runs there.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn resize(master: &File, rows: u16, columns: u16) -> anyhow::Result<()> {
    let size = rustix::termios::Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    Ok(rustix::termios::tcsetwinsize(master, size)?)
}

fn ended(child: &mut Child, what: &str, limit: Duration) -> anyhow::Result<i32> {
    until(limit, || match child.try_wait()? {
        Some(status) => Ok(status.code().unwrap_or(-1)),
        None => bail!("`{what}` goes on"),
    })
}
