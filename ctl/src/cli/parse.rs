//! Parses arguments against a command's flags, by pflag's grammar and with its error texts.

use super::{Command, Flag, Kind, Values};
use crate::error::{Error, Result};

/// The outcome: positional arguments, where `--` stood, and flags.
#[derive(Debug, Default)]
pub struct Parsed {
    /// Arguments that aren't flags.
    pub args: Vec<String>,
    /// How many of them stood before `--`.
    pub dash: Option<usize>,
    /// Flags.
    pub values: Values,
    /// Whether help was asked for.
    pub help: bool,
}

/// Go's `strconv.ParseBool`.
pub fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Splits one line of comma-separated values; fields may be quoted.
pub fn split_csv(text: &str) -> Vec<String> {
    if text.is_empty() {
        return Vec::new();
    }
    let mut out = Vec::new();
    let mut field = String::new();
    let mut chars = text.chars().peekable();
    let mut quoted = false;
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            '"' if quoted => quoted = false,
            '"' if field.is_empty() => quoted = true,
            ',' if !quoted => out.push(std::mem::take(&mut field)),
            c => field.push(c),
        }
    }
    out.push(field);
    out
}

/// Finds the command that the arguments name, and the rest of them.
///
/// Flags before the command's name are skipped over with their values, as kubectl does, and stay in the rest.
pub fn find(
    root: &'static Command,
    globals: &'static [Flag],
    args: &[String],
) -> (Vec<&'static Command>, Vec<String>) {
    let mut path = vec![root];
    let mut rest: Vec<String> = Vec::new();
    let mut index = 0;
    while let Some(arg) = args.get(index) {
        let current = path.last().copied().unwrap_or(root);
        if current.raw || arg == "--" {
            break;
        }
        if arg.starts_with('-') && arg.len() > 1 {
            rest.push(arg.clone());
            if takes_next(current, globals, arg) {
                index += 1;
                if let Some(value) = args.get(index) {
                    rest.push(value.clone());
                }
            }
            index += 1;
            continue;
        }
        match current.sub(arg) {
            Some(sub) => path.push(sub),
            None => break,
        }
        index += 1;
    }
    rest.extend(args.get(index..).unwrap_or(&[]).iter().cloned());
    (path, rest)
}

/// Whether the flag's value is the next argument.
fn takes_next(command: &Command, globals: &'static [Flag], arg: &str) -> bool {
    if arg.contains('=') {
        return false;
    }
    let all = || command.all_flags().chain(globals.iter());
    if let Some(name) = arg.strip_prefix("--") {
        return all().find(|f| f.name == name).is_some_and(|f| f.bare.is_none());
    }
    let mut letters = arg.chars().skip(1);
    match (letters.next(), letters.next()) {
        (Some(c), None) => all()
            .find(|f| f.short == Some(c))
            .is_some_and(|f| f.bare.is_none()),
        _ => false,
    }
}

/// Parses the arguments of one command.
pub fn parse(command: &'static Command, globals: &'static [Flag], args: &[String]) -> Result<Parsed> {
    let mut out = Parsed::default();
    for flag in command.all_flags().chain(globals.iter()) {
        out.values.defaults.entry(flag.name).or_insert(flag);
    }
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        if out.dash.is_some() {
            out.args.push(arg.clone());
        } else if arg == "--" {
            out.dash = Some(out.args.len());
        } else if let Some(long) = arg.strip_prefix("--") {
            let (name, value) = match long.split_once('=') {
                Some((n, v)) => (n, Some(v)),
                None => (long, None),
            };
            if name.is_empty() || name.starts_with('-') || name.starts_with('=') {
                return Err(Error::Plain(format!("bad flag syntax: {arg}")));
            }
            if name == "help" {
                out.help = true;
                continue;
            }
            let Some(flag) = lookup(command, globals, |f| f.name == name) else {
                return Err(Error::Flag(format!("unknown flag: --{name}")));
            };
            let value = match (value, flag.bare) {
                (Some(v), _) => v.to_owned(),
                (None, Some(bare)) => bare.to_owned(),
                (None, None) => match rest.next() {
                    Some(v) => v.clone(),
                    None => return Err(Error::Flag(format!("flag needs an argument: --{name}"))),
                },
            };
            set(&mut out.values, flag, value)?;
        } else if arg.len() > 1 && arg.starts_with('-') {
            shorts(command, globals, arg, &mut rest, &mut out)?;
        } else {
            out.args.push(arg.clone());
        }
    }
    Ok(out)
}

fn lookup(
    command: &'static Command,
    globals: &'static [Flag],
    test: impl Fn(&Flag) -> bool,
) -> Option<&'static Flag> {
    command.all_flags().chain(globals.iter()).find(|f| test(f))
}

fn shorts<'a>(
    command: &'static Command,
    globals: &'static [Flag],
    arg: &str,
    rest: &mut impl Iterator<Item = &'a String>,
    out: &mut Parsed,
) -> Result<()> {
    let letters = arg.get(1..).unwrap_or("");
    let chars = letters.char_indices();
    for (at, c) in chars {
        let after = letters.get(at + c.len_utf8()..).unwrap_or("");
        let Some(flag) = lookup(command, globals, |f| f.short == Some(c)) else {
            if c == 'h' {
                out.help = true;
                return Ok(());
            }
            return Err(Error::Flag(format!("unknown shorthand flag: '{c}' in {arg}")));
        };
        if let Some(value) = after.strip_prefix('=') {
            return set(&mut out.values, flag, value.to_owned());
        }
        if let Some(bare) = flag.bare {
            set(&mut out.values, flag, bare.to_owned())?;
            continue;
        }
        if !after.is_empty() {
            return set(&mut out.values, flag, after.to_owned());
        }
        return match rest.next() {
            Some(value) => set(&mut out.values, flag, value.clone()),
            None => Err(Error::Flag(format!("flag needs an argument: '{c}' in {arg}"))),
        };
    }
    Ok(())
}

fn set(values: &mut Values, flag: &'static Flag, value: String) -> Result<()> {
    let problem = match flag.kind {
        Kind::Bool => parse_bool(&value)
            .is_none()
            .then(|| format!("strconv.ParseBool: parsing {value:?}: invalid syntax")),
        Kind::Int => value
            .parse::<i64>()
            .is_err()
            .then(|| format!("strconv.ParseInt: parsing {value:?}: invalid syntax")),
        Kind::Duration => crate::duration::parse(&value).err(),
        Kind::Str | Kind::Slice | Kind::Array => None,
    };
    if let Some(problem) = problem {
        let name = match flag.short {
            Some(c) => format!("-{c}, --{}", flag.name),
            None => format!("--{}", flag.name),
        };
        return Err(Error::Flag(format!(
            "invalid argument {value:?} for {name:?} flag: {problem}"
        )));
    }
    let slot = values.given.entry(flag.name).or_default();
    if !matches!(flag.kind, Kind::Slice | Kind::Array) {
        slot.clear();
    }
    slot.push(value);
    Ok(())
}
