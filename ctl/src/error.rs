//! Failures of commands and how they are told: kubectl's texts and exit codes.

use serde_json::Value;

/// The outcome of a command.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a command failed.
#[derive(Clone, Debug)]
pub enum Error {
    /// The server answered with a `Status`.
    Status(Box<Status>),
    /// Anything else: printed after `error: `.
    Plain(String),
    /// A mistake in the flags: printed after `error: ` with a hint at the help page.
    Flag(String),
    /// Printed as it is.
    Raw(String),
    /// The server wasn't reached.
    Connect(String),
    /// Several failures, one line each.
    Many(Vec<Error>),
    /// Nothing to say; the exit code.
    Exit(i32),
    /// A message as it is, and the exit code.
    Code(i32, String),
}

/// A `metav1.Status` that isn't a success.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// HTTP code.
    pub code: u16,
    /// Machine-readable reason.
    pub reason: String,
    /// For people.
    pub message: String,
    /// `details`.
    pub details: Value,
}

impl Status {
    /// Reads a `Status` object.
    pub fn from_value(value: &Value) -> Self {
        Self {
            code: value["code"]
                .as_u64()
                .and_then(|c| u16::try_from(c).ok())
                .unwrap_or(0),
            reason: value["reason"].as_str().unwrap_or("").to_owned(),
            message: value["message"].as_str().unwrap_or("").to_owned(),
            details: value["details"].clone(),
        }
    }
}

impl Error {
    /// A failure with this message.
    pub fn new(message: impl Into<String>) -> Self {
        Self::Plain(message.into())
    }

    /// The status' reason, if the server gave one.
    pub fn reason(&self) -> &str {
        match self {
            Self::Status(s) => &s.reason,
            Self::Many(list) if list.len() == 1 => list.first().map_or("", |e| e.reason()),
            _ => "",
        }
    }
    /// The object isn't there.
    pub fn is_not_found(&self) -> bool {
        self.reason() == "NotFound"
    }
    /// The object changed meanwhile.
    pub fn is_conflict(&self) -> bool {
        self.reason() == "Conflict"
    }
    /// The object is there already.
    pub fn is_already_exists(&self) -> bool {
        self.reason() == "AlreadyExists"
    }
    /// The object doesn't validate.
    pub fn is_invalid(&self) -> bool {
        self.reason() == "Invalid"
    }

    /// Says in front what was being done, as `AddSourceToErr` does.
    pub fn when(self, verb: &str, source: &str) -> Self {
        match self {
            Self::Status(mut s) if !source.is_empty() => {
                s.message = format!("error when {verb} {}: {}", go_quote(source), s.message);
                Self::Status(s)
            }
            Self::Plain(m) if !source.is_empty() => {
                Self::Plain(format!("error when {verb} {}: {m}", go_quote(source)))
            }
            other => other,
        }
    }

    /// The text without the prefix that [`Error::report`] puts before it.
    pub fn message(&self) -> String {
        match self {
            Self::Status(s) => s.message.clone(),
            Self::Plain(m) | Self::Raw(m) | Self::Flag(m) | Self::Connect(m) => m.clone(),
            Self::Code(_, m) => m.clone(),
            Self::Many(list) => {
                let texts: Vec<String> = list.iter().map(Self::message).collect();
                match texts.as_slice() {
                    [one] => one.clone(),
                    many => format!("[{}]", many.join(", ")),
                }
            }
            Self::Exit(_) => String::new(),
        }
    }

    /// The lines for standard error.
    pub fn report(&self) -> String {
        match self {
            Self::Status(s) if s.reason == "Invalid" => invalid(s),
            Self::Many(list) => match list.as_slice() {
                [one] => one.report(),
                many => many.iter().map(Self::bare_line).collect::<Vec<_>>().join("\n"),
            },
            other => other.line(),
        }
    }

    fn line(&self) -> String {
        match self {
            Self::Status(s) if s.reason == "Unauthorized" => {
                format!("error: You must be logged in to the server ({})", s.message)
            }
            Self::Status(s) if !s.reason.is_empty() => {
                format!("Error from server ({}): {}", s.reason, s.message)
            }
            Self::Status(s) => format!("Error from server: {}", s.message),
            Self::Plain(m) if m.starts_with("error: ") => m.clone(),
            Self::Plain(m) | Self::Flag(m) => format!("error: {m}"),
            Self::Raw(m) | Self::Connect(m) | Self::Code(_, m) => m.clone(),
            Self::Many(list) => list.iter().map(Self::bare_line).collect::<Vec<_>>().join("\n"),
            Self::Exit(_) => String::new(),
        }
    }

    /// A line among several: what isn't the server's stands without a prefix.
    fn bare_line(&self) -> String {
        match self {
            Self::Plain(m) | Self::Flag(m) => m.clone(),
            other => other.line(),
        }
    }

    /// The process's exit code.
    pub fn code(&self) -> i32 {
        match self {
            Self::Exit(code) | Self::Code(code, _) => *code,
            _ => 1,
        }
    }

    /// Ok if there are no failures, the only one, or all together.
    pub fn collect(mut errors: Vec<Error>) -> Result<()> {
        match errors.len() {
            0 => Ok(()),
            1 => Err(errors.remove(0)),
            _ => Err(Self::Many(errors)),
        }
    }
}

fn invalid(s: &Status) -> String {
    let mut head = "The request is invalid".to_owned();
    if s.details.is_null() {
        if !s.message.is_empty() {
            head = format!("{head}: {}", s.message);
        }
        return head;
    }
    let text = |key: &str| s.details[key].as_str().unwrap_or("").to_owned();
    let (kind, name) = (text("kind"), text("name"));
    let mut causes: Vec<String> = Vec::new();
    for cause in s.details["causes"].as_array().into_iter().flatten() {
        let line = format!(
            "{}: {}",
            cause["field"].as_str().unwrap_or(""),
            cause["message"].as_str().unwrap_or("")
        );
        if !causes.contains(&line) {
            causes.push(line);
        }
    }
    if !kind.is_empty() || !name.is_empty() {
        head = format!("The {kind} {} is invalid", go_quote(&name));
    } else if !s.message.is_empty() && causes.is_empty() {
        head = format!("{head}: {}", s.message);
    }
    match causes.as_slice() {
        [] => head,
        [one] => format!("{head}: {one}"),
        many => {
            let mut out = format!("{head}: ");
            for cause in many {
                out.push_str("\n* ");
                out.push_str(cause);
            }
            out
        }
    }
}

/// Go's `%q`.
pub fn go_quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => out.push_str(&format!("\\x{:02x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message())
    }
}

impl std::error::Error for Error {}

impl From<std::io::Error> for Error {
    fn from(e: std::io::Error) -> Self {
        if e.kind() == std::io::ErrorKind::BrokenPipe {
            return Self::Exit(0);
        }
        Self::Plain(io_text(&e))
    }
}

/// An operating system's error, worded as Go words it.
pub fn io_text(e: &std::io::Error) -> String {
    match e.raw_os_error() {
        Some(code) => {
            let text = nix::errno::Errno::from_raw(code).desc().to_owned();
            let mut chars = text.chars();
            match chars.next() {
                Some(c) if !text.starts_with("I/O") => c.to_lowercase().collect::<String>() + chars.as_str(),
                _ => text,
            }
        }
        None => e.to_string(),
    }
}

impl From<serde_json::Error> for Error {
    fn from(e: serde_json::Error) -> Self {
        Self::Plain(e.to_string())
    }
}

impl From<kube::Error> for Error {
    fn from(e: kube::Error) -> Self {
        match e {
            kube::Error::Api(status) => Self::Status(Box::new(Status::from_value(
                &serde_json::to_value(&*status).unwrap_or_default(),
            ))),
            other => Self::Connect(format!("Unable to connect to the server: {}", chain(&other))),
        }
    }
}

/// The innermost source's text: what really went wrong.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut last: &dyn std::error::Error = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}
