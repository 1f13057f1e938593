//! Records as lines of a file, which is turned over when it grows too large.
//!
//! The old file gets the time in its name (`audit-2006-01-02T15-04-05.000.log`), as upstream's: whatever collects those collects
//! these. Old files go by age and by number, and are compressed where that is asked for.

use crate::backend::Deliver;
use crate::event;
use async_trait::async_trait;
use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use rutter_api::Value;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const TIME: &str = "%Y-%m-%dT%H-%M-%S%.3f";

/// How lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    #[default]
    Json,
    /// One text a line.
    Legacy,
}

/// Where records are written, and what becomes of old files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The file; none for standard output.
    pub path: Option<PathBuf>,
    /// How lines look.
    pub format: Format,
    /// The largest file, in bytes; 0 for no bound.
    pub size: u64,
    /// How long old files are kept, in days; 0 for ever.
    pub days: u32,
    /// How many old files are kept; 0 for all.
    pub backups: usize,
    /// Whether old files are compressed.
    pub compress: bool,
}

/// The time, for names of files.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The log.
pub struct Log {
    settings: Settings,
    clock: Clock,
    open: Mutex<Option<Open>>,
}

struct Open {
    file: File,
    size: u64,
}

impl Log {
    /// Opens the file, or makes it.
    pub fn open(settings: Settings, clock: Clock) -> io::Result<Self> {
        let open = settings.path.as_deref().map(Open::at).transpose()?;
        Ok(Self {
            settings,
            clock,
            open: Mutex::new(open),
        })
    }

    fn write(&self, records: &[Arc<Value>]) -> io::Result<()> {
        let mut lines = Vec::new();
        for record in records {
            match self.settings.format {
                Format::Json => serde_json::to_writer(&mut lines, &**record)?,
                Format::Legacy => lines.extend_from_slice(event::legacy(record).as_bytes()),
            }
            lines.push(b'\n');
        }
        let Some(path) = &self.settings.path else {
            return io::stdout().lock().write_all(&lines);
        };
        let mut open = self.open.lock();
        let full = |open: &Open| open.size > 0 && open.size + lines.len() as u64 > self.settings.size;
        if self.settings.size > 0 && open.as_ref().is_some_and(full) {
            *open = None;
            self.turn_over(path)?;
        }
        let open = match &mut *open {
            Some(open) => open,
            closed => closed.insert(Open::at(path)?),
        };
        open.file.write_all(&lines)?;
        open.size += lines.len() as u64;
        Ok(())
    }

    /// Gives the file its old name, and has old files go.
    fn turn_over(&self, path: &Path) -> io::Result<()> {
        let now = (self.clock)();
        std::fs::rename(path, old_name(path, now))?;
        let (path, settings) = (path.to_owned(), self.settings.clone());
        // Compressing takes its time; nobody has to wait for it.
        std::thread::Builder::new()
            .name("audit-log".to_owned())
            .spawn(move || tidy(&path, &settings, now))?;
        Ok(())
    }
}

impl Open {
    fn at(path: &Path) -> io::Result<Self> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder)?;
        }
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)?;
        let size = file.metadata()?.len();
        Ok(Self { file, size })
    }
}

#[async_trait]
impl Deliver for Log {
    fn name(&self) -> &'static str {
        "log"
    }

    async fn deliver(&self, records: &[Arc<Value>]) -> Result<(), String> {
        self.write(records).map_err(|error| error.to_string())
    }
}

/// `audit.log` becomes `audit-<time>.log`.
fn old_name(path: &Path, now: Timestamp) -> PathBuf {
    let (stem, extension) = parts(path);
    let time = now.to_zoned(TimeZone::UTC).strftime(TIME);
    path.with_file_name(format!("{stem}-{time}{extension}"))
}

/// A file's name and its extension with the dot.
fn parts(path: &Path) -> (String, String) {
    let text = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    let extension = match text(path.extension()) {
        empty if empty.is_empty() => empty,
        some => format!(".{some}"),
    };
    (text(path.file_stem()), extension)
}

/// Removes old files and compresses the rest.
fn tidy(path: &Path, settings: &Settings, now: Timestamp) {
    let mut old = old_files(path);
    old.sort_by_key(|(time, _)| std::cmp::Reverse(*time));
    for (index, (time, file)) in old.into_iter().enumerate() {
        let kept_for = SignedDuration::from_hours(24 * i64::from(settings.days));
        let too_old = settings.days > 0 && now.duration_since(time) > kept_for;
        let too_many = settings.backups > 0 && index >= settings.backups;
        let done = if too_old || too_many {
            std::fs::remove_file(&file)
        } else if settings.compress && file.extension().is_none_or(|extension| extension != "gz") {
            compress(&file)
        } else {
            Ok(())
        };
        if let Err(error) = done {
            tracing::warn!(file = %file.display(), %error, "an old audit log could not be tidied");
        }
    }
}

/// Old files with the times in their names.
fn old_files(path: &Path) -> Vec<(Timestamp, PathBuf)> {
    let (stem, extension) = parts(path);
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let entries = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(Result::ok);
    entries
        .filter_map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            let name = name.strip_suffix(".gz").unwrap_or(&name);
            let time = name
                .strip_prefix(&stem)?
                .strip_prefix('-')?
                .strip_suffix(&extension)?;
            let time = DateTime::strptime(TIME, time)
                .ok()?
                .to_zoned(TimeZone::UTC)
                .ok()?;
            Some((time.timestamp(), entry.path()))
        })
        .collect()
}

fn compress(file: &Path) -> io::Result<()> {
    let mut name = file.as_os_str().to_owned();
    name.push(".gz");
    let packed = PathBuf::from(name);
    let out = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&packed)?;
    let mut encoder = GzEncoder::new(out, Compression::default());
    io::copy(&mut File::open(file)?, &mut encoder)?;
    encoder.finish()?.sync_all()?;
    std::fs::remove_file(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn settings(path: PathBuf) -> Settings {
        Settings {
            path: Some(path),
            format: Format::Json,
            size: 100,
            days: 2,
            backups: 2,
            compress: false,
        }
    }

    #[test]
    fn a_full_file_is_turned_over_and_written_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sub/audit.log");
        let clock: Clock = Arc::new(|| Timestamp::from_millisecond(1_700_000_000_123).unwrap());
        let log = Log::open(settings(path.clone()), clock).unwrap();
        let record = Arc::new(json!({"text": "x".repeat(60)}));
        for _ in 0..2 {
            log.write(std::slice::from_ref(&record)).unwrap();
        }
        let old = path.with_file_name("audit-2023-11-14T22-13-20.123.log");
        let want = format!("{record}\n");
        assert_eq!(std::fs::read_to_string(&old).unwrap(), want);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), want);
    }

    #[test]
    fn old_files_go_by_age_and_number_and_are_compressed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        for name in [
            "audit.log",
            "audit-2024-01-10T00-00-00.000.log",
            "audit-2024-01-09T12-00-00.000.log.gz",
            "audit-2024-01-09T11-00-00.000.log",
            "audit-2024-01-01T00-00-00.000.log",
            "audit-other.log",
        ] {
            std::fs::write(folder.path().join(name), "x").unwrap();
        }
        let mut settings = settings(path.clone());
        settings.compress = true;
        tidy(&path, &settings, "2024-01-10T12:00:00Z".parse().unwrap());
        let entries = std::fs::read_dir(folder.path()).unwrap();
        let mut left: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        left.sort();
        #[rustfmt::skip]
        let want = [
            "audit-2024-01-09T12-00-00.000.log.gz", "audit-2024-01-10T00-00-00.000.log.gz", "audit-other.log", "audit.log",
        ];
        assert_eq!(left, want);
    }
}
