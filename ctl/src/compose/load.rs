//! Reading a project: its files, `.env`, what services extend, and the variables.

use super::{PathKind, Remark, Report, Source, interpolate, merge};
use crate::error::{Error, Result, io_text};
use rutter_api::codec::yaml::parse_narrow;
use serde_json::Value;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Names that are looked for, the first that is there counts; each may have an override beside it.
const NAMES: &[&str] = &[
    "compose.yaml",
    "compose.yml",
    "docker-compose.yml",
    "docker-compose.yaml",
];

/// A project as it was read.
pub struct Project {
    /// The name that the file or the directory gives it.
    pub name: String,
    /// Merged, interpolated.
    pub model: Value,
    /// Files and variables.
    pub source: Disk,
    /// What was noticed while reading.
    pub report: Report,
}

/// The file system and the environment.
pub struct Disk {
    directory: PathBuf,
    variables: HashMap<String, String>,
}

impl Source for Disk {
    fn kind(&self, path: &str) -> PathKind {
        let path = self.path(path);
        if path.is_dir() {
            PathKind::Directory
        } else if path.is_file() {
            PathKind::File
        } else {
            PathKind::Missing
        }
    }

    fn read(&self, path: &str) -> std::result::Result<Vec<u8>, String> {
        let path = self.path(path);
        std::fs::read(&path).map_err(|e| format!("open {}: {}", path.display(), io_text(&e)))
    }

    fn list(&self, path: &str) -> Option<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(self.path(path)).ok()? {
            let entry = entry.ok()?;
            if !entry.path().is_file() {
                return None;
            }
            names.push(entry.file_name().into_string().ok()?);
        }
        names.sort();
        Some(names)
    }

    fn absolute(&self, path: &str) -> String {
        let path = self.path(path);
        let whole = std::path::absolute(&path).unwrap_or(path);
        let mut out = PathBuf::new();
        for part in whole.components() {
            match part {
                std::path::Component::ParentDir => {
                    out.pop();
                }
                part => out.push(part),
            }
        }
        out.to_string_lossy().into_owned()
    }

    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name)
            .ok()
            .or_else(|| self.variables.get(name).cloned())
    }
}

impl Disk {
    fn path(&self, path: &str) -> PathBuf {
        if let Some(rest) = path.strip_prefix("~/")
            && let Ok(home) = std::env::var("HOME")
        {
            return Path::new(&home).join(rest);
        }
        self.directory.join(path)
    }
}

/// Reads a project. Without files, the usual names are looked for here and above.
///
/// # Errors
/// What can't be read, or is no Compose file.
pub fn load(files: &[String], env_files: &[String]) -> Result<Project> {
    let files: Vec<PathBuf> = if files.is_empty() {
        find(&std::env::current_dir()?)?
    } else {
        files.iter().map(PathBuf::from).collect()
    };
    let directory = files
        .first()
        .and_then(|f| f.parent())
        .filter(|d| !d.as_os_str().is_empty() && files.first().is_none_or(|f| f.as_os_str() != "-"))
        .unwrap_or(Path::new("."))
        .to_owned();
    let mut source = Disk {
        directory,
        variables: HashMap::new(),
    };
    variables(&mut source, env_files)?;
    let mut report = Report::default();
    let mut model = Value::Null;
    for file in &files {
        let mut next = read(file, &source, &mut report)?;
        extend(&mut next, file, &source, &mut report, 0)?;
        if model.is_null() {
            model = next;
        } else {
            merge::merge(&mut model, next);
        }
    }
    let name = match model["name"].as_str().filter(|n| !n.is_empty()) {
        Some(name) => name.to_owned(),
        None => {
            let whole = source.absolute(".");
            whole.rsplit('/').next().unwrap_or("").to_lowercase()
        }
    };
    Ok(Project {
        name,
        model,
        source,
        report,
    })
}

/// The file of the project that this directory is in.
fn find(start: &Path) -> Result<Vec<PathBuf>> {
    for directory in start.ancestors() {
        if let Some(file) = NAMES.iter().map(|n| directory.join(n)).find(|p| p.is_file()) {
            let mut out = vec![file.clone()];
            let stem = file
                .file_stem()
                .map(|s| s.to_string_lossy().into_owned())
                .unwrap_or_default();
            let other = ["yml", "yaml"]
                .iter()
                .map(|e| directory.join(format!("{stem}.override.{e}")))
                .find(|p| p.is_file());
            out.extend(other);
            return Ok(out);
        }
    }
    Err(Error::new(format!(
        "there is no {} here or above: name the file with -f",
        NAMES.join(", ")
    )))
}

/// `.env` beside the file, or the files that were named.
fn variables(source: &mut Disk, env_files: &[String]) -> Result<()> {
    let own = source.directory.join(".env");
    let files: Vec<PathBuf> = if env_files.is_empty() {
        own.is_file().then_some(own).into_iter().collect()
    } else {
        env_files.iter().map(PathBuf::from).collect()
    };
    for file in files {
        let text = std::fs::read_to_string(&file)
            .map_err(|e| Error::new(format!("open {}: {}", file.display(), io_text(&e))))?;
        let read = interpolate::dotenv(&text, &|name| source.variable(name))
            .map_err(|why| Error::new(format!("{}: {why}", file.display())))?;
        source
            .variables
            .extend(read.into_iter().filter_map(|(key, value)| Some((key, value?))));
    }
    Ok(())
}

fn read(file: &Path, source: &Disk, report: &mut Report) -> Result<Value> {
    let shown = file.display();
    let text = if file.as_os_str() == "-" {
        std::io::read_to_string(std::io::stdin())?
    } else {
        std::fs::read_to_string(file).map_err(|e| Error::new(format!("open {shown}: {}", io_text(&e))))?
    };
    let (mut model, twice) = parse_narrow(&text).map_err(|e| Error::new(format!("{shown}: {e}")))?;
    for path in twice {
        report.refusals.push(Remark {
            path,
            text: "is said twice".to_owned(),
        });
    }
    if !model.is_object() {
        return Err(Error::new(format!("{shown} is no Compose file")));
    }
    interpolate(&mut model, "", &|name| source.variable(name), report);
    Ok(model)
}

/// Lays each service over the one that it extends.
fn extend(model: &mut Value, file: &Path, source: &Disk, report: &mut Report, depth: usize) -> Result<()> {
    let names: Vec<String> = model["services"]
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(_, spec)| !spec["extends"].is_null())
        .map(|(name, _)| name.clone())
        .collect();
    for name in names {
        extend_one(model, &name, file, source, report, depth)?;
    }
    Ok(())
}

fn extend_one(
    model: &mut Value,
    name: &str,
    file: &Path,
    source: &Disk,
    report: &mut Report,
    depth: usize,
) -> Result<()> {
    let at = format!("services.{name}.extends");
    if depth > 20 {
        return Err(Error::new(format!("{at}: services extend each other")));
    }
    let Some(extends) = model["services"][name]
        .as_object_mut()
        .and_then(|s| s.remove("extends"))
    else {
        return Ok(());
    };
    let from = extends
        .as_str()
        .or_else(|| extends["service"].as_str())
        .unwrap_or("");
    let mut base = match extends["file"].as_str() {
        Some(other) => {
            let path = file.parent().unwrap_or(Path::new(".")).join(other);
            let mut whole = read(&path, source, report)?;
            extend_one(&mut whole, from, &path, source, report, depth + 1)?;
            whole["services"][from].take()
        }
        None => {
            extend_one(model, from, file, source, report, depth + 1)?;
            model["services"][from].clone()
        }
    };
    if !base.is_object() {
        return Err(Error::new(format!("{at}: there is no service {from}")));
    }
    // What a service waits for is its own.
    if let Some(base) = base.as_object_mut() {
        base.remove("depends_on");
        base.remove("links");
    }
    let own = model["services"][name].take();
    merge::merge(&mut base, own);
    model["services"][name] = base;
    Ok(())
}
