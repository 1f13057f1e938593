//! The command line: commands and flags as static tables, parsed as kubectl's parser does.
//!
//! Tables cost nothing at start-up and feed the parser, the help pages and the completion alike. The grammar is
//! pflag's: flags may stand anywhere before `--`, bools take `=false`, `-it` bundles, `-ojson` and `-o=json` are one.

pub mod complete;
pub mod flags;
pub mod help;
pub mod parse;
pub mod root;

use crate::context::Ctx;
use crate::error::{Error, Result};
use futures::future::LocalBoxFuture;
use std::collections::HashMap;
use std::rc::Rc;

/// What a flag's value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `--x`, `--x=false`
    Bool,
    /// A text.
    Str,
    /// A whole number.
    Int,
    /// A Go duration such as `1m30s`.
    Duration,
    /// Repeatable; each value is split at commas.
    Slice,
    /// Repeatable; each value is taken whole.
    Array,
}

/// A flag.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// The long name.
    pub name: &'static str,
    /// The one-letter name.
    pub short: Option<char>,
    /// The value's kind.
    pub kind: Kind,
    /// The value when absent.
    pub default: &'static str,
    /// The value when the flag stands without one.
    pub bare: Option<&'static str>,
    /// What it does.
    pub help: &'static str,
    /// Left out of help and completion.
    pub hidden: bool,
}

impl Flag {
    const fn new(name: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Self {
        Self {
            name,
            short: None,
            kind,
            default,
            bare: None,
            help,
            hidden: false,
        }
    }
    /// With a one-letter name.
    pub const fn short(mut self, c: char) -> Self {
        self.short = Some(c);
        self
    }
    /// With the value it has when it stands alone.
    pub const fn bare(mut self, value: &'static str) -> Self {
        self.bare = Some(value);
        self
    }
    /// Not shown.
    pub const fn hidden(mut self) -> Self {
        self.hidden = true;
        self
    }
    /// On unless said otherwise.
    pub const fn on(mut self) -> Self {
        self.default = "true";
        self
    }
}

/// A bool flag, off by default.
pub const fn bool(name: &'static str, help: &'static str) -> Flag {
    Flag::new(name, Kind::Bool, "false", help).bare("true")
}
/// A text flag.
pub const fn text(name: &'static str, default: &'static str, help: &'static str) -> Flag {
    Flag::new(name, Kind::Str, default, help)
}
/// A number flag.
pub const fn int(name: &'static str, default: &'static str, help: &'static str) -> Flag {
    Flag::new(name, Kind::Int, default, help)
}
/// A duration flag.
pub const fn duration(name: &'static str, default: &'static str, help: &'static str) -> Flag {
    Flag::new(name, Kind::Duration, default, help)
}
/// A repeatable flag, split at commas.
pub const fn slice(name: &'static str, help: &'static str) -> Flag {
    Flag::new(name, Kind::Slice, "", help)
}
/// A repeatable flag.
pub const fn array(name: &'static str, help: &'static str) -> Flag {
    Flag::new(name, Kind::Array, "", help)
}

/// What runs a command.
pub type Run = fn(Call) -> LocalBoxFuture<'static, Result<()>>;

/// What a command's arguments are, for completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Args {
    /// Nothing to offer.
    None,
    /// TYPE then names, or TYPE/NAME.
    Resources,
    /// Names of one type.
    Names(&'static str),
    /// A pod, or TYPE/NAME that has pods.
    Pod,
    /// Pods, then containers of it.
    PodContainers,
    /// Contexts of the kubeconfig.
    Contexts,
    /// Clusters of the kubeconfig.
    Clusters,
    /// Users of the kubeconfig.
    Users,
    /// One of these words.
    Words(&'static [&'static str]),
    /// Types alone.
    Types,
}

/// A command.
#[derive(Clone, Copy)]
pub struct Command {
    /// Its name.
    pub name: &'static str,
    /// Other names.
    pub aliases: &'static [&'static str],
    /// One line.
    pub short: &'static str,
    /// The description.
    pub long: &'static str,
    /// Examples: lines of commands (without the program's name) and `#` comments.
    pub examples: &'static str,
    /// What follows the name in the usage line.
    pub usage: &'static str,
    /// Flags, in shared groups.
    pub flags: &'static [&'static [Flag]],
    /// Subcommands.
    pub subs: &'static [&'static Command],
    /// Runs it; None prints help.
    pub run: Option<Run>,
    /// What arguments are.
    pub args: Args,
    /// Not shown.
    pub hidden: bool,
    /// Everything after the name is handed over as it is.
    pub raw: bool,
}

impl Command {
    /// A command with nothing in it.
    pub const NEW: Self = Self {
        name: "",
        aliases: &[],
        short: "",
        long: "",
        examples: "",
        usage: "",
        flags: &[],
        subs: &[],
        run: None,
        args: Args::None,
        hidden: false,
        raw: false,
    };

    /// The subcommand of this name or alias.
    pub fn sub(&self, name: &str) -> Option<&'static Command> {
        self.subs
            .iter()
            .copied()
            .find(|c| c.name == name || c.aliases.contains(&name))
    }

    /// All its own flags.
    pub fn all_flags(&self) -> impl Iterator<Item = &'static Flag> {
        self.flags.iter().flat_map(|g| g.iter())
    }
}

/// The values of flags, by name.
#[derive(Clone, Debug, Default)]
pub struct Values {
    given: HashMap<&'static str, Vec<String>>,
    defaults: HashMap<&'static str, &'static Flag>,
}

impl Values {
    /// Whether the flag exists for this command.
    pub fn has(&self, name: &str) -> bool {
        self.defaults.contains_key(name)
    }
    /// Whether the flag was given.
    pub fn changed(&self, name: &str) -> bool {
        self.given.contains_key(name)
    }
    /// The text; the default if absent, empty if there is no such flag.
    pub fn str(&self, name: &str) -> &str {
        debug_assert!(self.has(name), "flag {name} isn't declared");
        match self.given.get(name).and_then(|v| v.last()) {
            Some(v) => v,
            None => self.defaults.get(name).map_or("", |f| f.default),
        }
    }
    /// The text of a flag that the command may not have.
    pub fn opt(&self, name: &str) -> Option<&str> {
        self.has(name).then(|| self.str(name))
    }
    /// The text if it was given.
    pub fn given(&self, name: &str) -> Option<&str> {
        self.given.get(name).and_then(|v| v.last()).map(String::as_str)
    }
    /// The bool.
    pub fn bool(&self, name: &str) -> bool {
        parse::parse_bool(self.str(name)).unwrap_or(false)
    }
    /// The bool of a flag that the command may not have.
    pub fn opt_bool(&self, name: &str) -> bool {
        self.has(name) && self.bool(name)
    }
    /// The number.
    pub fn int(&self, name: &str) -> i64 {
        self.str(name).parse().unwrap_or(0)
    }
    /// The duration.
    pub fn duration(&self, name: &str) -> std::time::Duration {
        crate::duration::parse(self.str(name))
            .map(|n| std::time::Duration::from_nanos(u64::try_from(n).unwrap_or(0)))
            .unwrap_or_default()
    }
    /// The duration in nanoseconds, sign kept.
    pub fn nanos(&self, name: &str) -> i64 {
        crate::duration::parse(self.str(name)).unwrap_or(0)
    }
    /// All values of a repeatable flag.
    pub fn list(&self, name: &str) -> Vec<String> {
        let Some(flag) = self.defaults.get(name) else {
            debug_assert!(false, "flag {name} isn't declared");
            return Vec::new();
        };
        let given: Vec<String> = match self.given.get(name) {
            Some(v) => v.clone(),
            None if flag.default.is_empty() => Vec::new(),
            None => vec![flag.default.to_owned()],
        };
        match flag.kind {
            Kind::Slice => given.iter().flat_map(|v| parse::split_csv(v)).collect(),
            _ => given,
        }
    }
    /// Without the values of flags that the command declares itself: one of its own may have a global flag's name.
    pub fn globals(&self, command: &Command) -> Self {
        let mut out = self.clone();
        out.given
            .retain(|name, _| !command.all_flags().any(|f| f.name == *name));
        out
    }
    /// Overrides a value.
    pub fn set(&mut self, name: &'static str, value: &str) {
        self.given.insert(name, vec![value.to_owned()]);
    }
}

/// One call of a command.
#[derive(Clone)]
pub struct Call {
    /// The command.
    pub command: &'static Command,
    /// Its full name, without the program's.
    pub path: String,
    /// Arguments that aren't flags.
    pub args: Vec<String>,
    /// How many arguments stood before `--`, if it was given.
    pub dash: Option<usize>,
    /// Flags.
    pub flags: Values,
    /// The cluster, the configuration and the caches.
    pub ctx: Rc<Ctx>,
}

impl Call {
    /// A mistake in the call: prints with a hint at the help page.
    pub fn usage(&self, message: impl Into<String>) -> Error {
        Error::Plain(format!(
            "{}\nSee '{} -h' for help and examples",
            message.into(),
            self.full()
        ))
    }
    /// The program's name and the command's.
    pub fn full(&self) -> String {
        if self.path.is_empty() {
            PROGRAM.to_owned()
        } else {
            format!("{PROGRAM} {}", self.path)
        }
    }
    /// The flag's text.
    pub fn str(&self, name: &str) -> &str {
        self.flags.str(name)
    }
    /// The flag's bool.
    pub fn bool(&self, name: &str) -> bool {
        self.flags.bool(name)
    }
    /// All values of the flag.
    pub fn list(&self, name: &str) -> Vec<String> {
        self.flags.list(name)
    }
    /// Whether the flag was given.
    pub fn changed(&self, name: &str) -> bool {
        self.flags.changed(name)
    }
    /// Arguments before `--`.
    pub fn before_dash(&self) -> &[String] {
        self.args
            .get(..self.dash.unwrap_or(self.args.len()))
            .unwrap_or(&self.args)
    }
    /// Arguments after `--`.
    pub fn after_dash(&self) -> &[String] {
        self.dash.and_then(|d| self.args.get(d..)).unwrap_or(&[])
    }
    /// The single argument, or a usage error.
    pub fn one_arg(&self, what: &str) -> Result<&str> {
        match self.args.as_slice() {
            [one] => Ok(one),
            other => Err(self.usage(format!("exactly one {what} is required, got {}", other.len()))),
        }
    }
}

/// The program's name.
pub const PROGRAM: &str = "rctl";
