//! The iptables back end: rules as text, the difference as text, and the commands that put it into the kernel.

pub mod diff;
pub mod rules;

use anyhow::Context as _;
use rules::{JUMPS, RuleSet};
use std::io::Write as _;
use std::process::{Command, Stdio};

/// iptables for one IP family. Remembers what it put into the kernel.
pub struct Iptables {
    v6: bool,
    applied: Option<RuleSet>,
}

impl Iptables {
    /// For IPv4 or IPv6.
    pub fn new(v6: bool) -> Self {
        Self { v6, applied: None }
    }

    fn program(&self, suffix: &str) -> String {
        format!("{}{suffix}", if self.v6 { "ip6tables" } else { "iptables" })
    }

    fn run(&self, suffix: &str, arguments: &[&str], input: Option<&str>) -> anyhow::Result<String> {
        let program = self.program(suffix);
        let mut child = Command::new(&program)
            .args(arguments)
            .stdin(if input.is_some() {
                Stdio::piped()
            } else {
                Stdio::null()
            })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("running {program}: is iptables installed?"))?;
        if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
            // A program that ends early says why on its standard error.
            let _ = stdin.write_all(input.as_bytes());
        }
        let output = child
            .wait_with_output()
            .with_context(|| format!("running {program}"))?;
        let error = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(
            output.status.success(),
            "{program} {}: {}",
            arguments.join(" "),
            error.trim()
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Whether the family works at all on this machine.
    pub fn usable(&self) -> bool {
        self.run("", &["-w", "5", "-t", "nat", "-S", "POSTROUTING"], None)
            .is_ok()
    }

    /// Puts the rules into the kernel. Returns how many bytes were written; 0 when nothing had changed.
    ///
    /// # Errors
    /// When iptables refused. What the kernel holds is unknown then, and the next call writes everything.
    pub fn apply(&mut self, wanted: &RuleSet) -> anyhow::Result<usize> {
        let first = self.applied.is_none();
        let text = diff::restore_text(self.applied.as_ref(), wanted);
        if text.is_empty() {
            return Ok(0);
        }
        // If anything below fails, the next call starts from nothing.
        self.applied = None;
        self.run("-restore", &["-w", "5", "--noflush", "--counters"], Some(&text))?;
        if first {
            self.ensure_jumps()?;
            self.delete_stale(wanted)?;
        }
        self.applied = Some(wanted.clone());
        Ok(text.len())
    }

    /// Whether the kernel still has what was put there; another program may have flushed it.
    pub fn intact(&self) -> bool {
        self.applied.is_none()
            || JUMPS
                .iter()
                .all(|(table, chain, rule)| self.jump(table, "-C", chain, rule).is_ok())
    }

    /// Makes the next [`Iptables::apply`] write everything.
    pub fn forget(&mut self) {
        self.applied = None;
    }

    fn jump(&self, table: &str, action: &str, chain: &str, rule: &str) -> anyhow::Result<String> {
        let words = split(rule);
        let mut arguments = vec!["-w", "5", "-t", table, action, chain];
        arguments.extend(words.iter().map(String::as_str));
        self.run("", &arguments, None)
    }

    fn ensure_jumps(&self) -> anyhow::Result<()> {
        // From the last to the first, each put at the top, so that they end in the table's order.
        for (table, chain, rule) in JUMPS.iter().rev() {
            if self.jump(table, "-C", chain, rule).is_err() {
                self.jump(table, "-I", chain, rule)?;
            }
        }
        Ok(())
    }

    fn delete_stale(&self, wanted: &RuleSet) -> anyhow::Result<()> {
        for (table, chains) in [("nat", &wanted.nat), ("filter", &wanted.filter)] {
            let stale = diff::stale_chains(&self.run("-save", &["-t", table], None)?, chains);
            if !stale.is_empty() {
                self.run(
                    "-restore",
                    &["-w", "5", "--noflush"],
                    Some(&diff::delete_text(table, &stale)),
                )?;
            }
        }
        Ok(())
    }
}

/// A rule's words; quotes keep spaces together.
fn split(rule: &str) -> Vec<String> {
    rule.split('"')
        .enumerate()
        .flat_map(|(i, part)| {
            if i % 2 == 1 {
                vec![part.to_owned()]
            } else {
                part.split_whitespace().map(str::to_owned).collect()
            }
        })
        .collect()
}
