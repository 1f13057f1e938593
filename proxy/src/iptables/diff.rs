//! From the rules that are in the kernel to those that should be: input for `iptables-restore --noflush`. Pure.
//!
//! Only what changed is written. A small chain is written anew; in a large one whose order doesn't matter single rules are taken out and put
//! in, so that one Service's change costs the same among ten and among ten thousand.

use super::rules::{Chain, RuleSet, UNORDERED};
use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;

/// A chain with at most so many rules is written anew when it changed.
const SMALL: usize = 50;

/// The text that turns `old` into `new`; empty when nothing changed. Without `old` every chain is written anew.
pub fn restore_text(old: Option<&RuleSet>, new: &RuleSet) -> String {
    let empty = BTreeMap::new();
    let mut text = String::new();
    // The filter table first: what is to be refused must be refused before new ways in are open.
    for (table, before, after) in [
        ("filter", old.map_or(&empty, |o| &o.filter), &new.filter),
        ("nat", old.map_or(&empty, |o| &o.nat), &new.nat),
    ] {
        let body = table_text(before, after);
        if !body.is_empty() {
            let _ = write!(text, "*{table}\n{body}COMMIT\n");
        }
    }
    text
}

fn table_text(old: &BTreeMap<String, Chain>, new: &BTreeMap<String, Chain>) -> String {
    let (mut heads, mut rules, mut gone) = (String::new(), String::new(), String::new());
    for (name, chain) in new {
        match old.get(name) {
            Some(before) if before == chain => {}
            Some(before) if chain.len() > SMALL && UNORDERED.contains(&name.as_str()) => {
                edit(name, before, chain, &mut rules);
            }
            _ => {
                // Naming an existing chain empties it, in the same transaction.
                let _ = writeln!(heads, ":{name} - [0:0]");
                for rule in chain {
                    let _ = writeln!(rules, "-A {name} {rule}");
                }
            }
        }
    }
    for name in old.keys().filter(|name| !new.contains_key(*name)) {
        // A chain can be deleted only when it is empty and nothing jumps to it.
        let _ = writeln!(heads, ":{name} - [0:0]");
        let _ = writeln!(gone, "-X {name}");
    }
    heads + &rules + &gone
}

/// Takes out what is gone and puts in what is new, at the top: the last rule of such a chain must stay the last.
fn edit(name: &str, old: &Chain, new: &Chain, text: &mut String) {
    let (was, is): (HashSet<&String>, HashSet<&String>) = (old.iter().collect(), new.iter().collect());
    for rule in old.iter().filter(|r| !is.contains(r)) {
        let _ = writeln!(text, "-D {name} {rule}");
    }
    for rule in new.iter().filter(|r| !was.contains(r)) {
        let _ = writeln!(text, "-I {name} 1 {rule}");
    }
}

/// The chains of ours that a listing (`iptables-save -t TABLE`) has and the rule set doesn't: left by an earlier run.
pub fn stale_chains(listing: &str, wanted: &BTreeMap<String, Chain>) -> Vec<String> {
    const OURS: &[&str] = &[
        "KUBE-SVC-",
        "KUBE-SVL-",
        "KUBE-SEP-",
        "KUBE-EXT-",
        "KUBE-FW-",
        "KUBE-XLB-",
    ];
    let names = listing
        .lines()
        .filter_map(|line| line.strip_prefix(':')?.split(' ').next());
    let stale = names.filter(|n| OURS.iter().any(|o| n.starts_with(o)) && !wanted.contains_key(*n));
    stale.map(str::to_owned).collect()
}

/// The text that deletes chains of one table.
pub fn delete_text(table: &str, chains: &[String]) -> String {
    let mut text = format!("*{table}\n");
    for chain in chains {
        let _ = writeln!(text, ":{chain} - [0:0]");
    }
    for chain in chains {
        let _ = writeln!(text, "-X {chain}");
    }
    text + "COMMIT\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nat(chains: &[(&str, &[&str])]) -> RuleSet {
        let nat = chains
            .iter()
            .map(|(n, rules)| ((*n).to_owned(), rules.iter().map(|r| (*r).to_owned()).collect()));
        RuleSet {
            nat: nat.collect(),
            ..RuleSet::default()
        }
    }

    #[test]
    fn only_changed_chains_are_written_and_gone_ones_are_deleted_last() {
        let old = nat(&[("A", &["-j B"]), ("B", &["-j RETURN"]), ("C", &["-j DROP"])]);
        let new = nat(&[("A", &["-j D"]), ("C", &["-j DROP"]), ("D", &["-j RETURN"])]);
        assert_eq!(
            restore_text(Some(&old), &new),
            "*nat\n:A - [0:0]\n:D - [0:0]\n:B - [0:0]\n-A A -j D\n-A D -j RETURN\n-X B\nCOMMIT\n"
        );
        assert_eq!(restore_text(Some(&new), &new), "");
    }

    #[test]
    fn a_large_chain_is_edited_rule_by_rule_and_keeps_its_last_rule_last() {
        let many: Vec<String> = (0..100).map(|i| format!("-d 10.0.0.{i} -j X")).collect();
        let chain = |skip: usize, extra: Option<&str>| {
            let mut rules: Vec<&str> = many.iter().skip(skip).map(String::as_str).collect();
            rules.extend(extra);
            rules.push("-j LAST");
            nat(&[("KUBE-SERVICES", &rules)])
        };
        assert_eq!(
            restore_text(Some(&chain(0, None)), &chain(1, Some("-d 1.1.1.1 -j Y"))),
            "*nat\n-D KUBE-SERVICES -d 10.0.0.0 -j X\n-I KUBE-SERVICES 1 -d 1.1.1.1 -j Y\nCOMMIT\n"
        );
    }

    #[test]
    fn chains_of_an_earlier_run_are_found() {
        let listing = "*nat\n:PREROUTING ACCEPT [0:0]\n:KUBE-SVC-AAA - [0:0]\n:KUBE-SVC-BBB - [0:0]\n:CNI-X - [0:0]\nCOMMIT\n";
        let wanted = nat(&[("KUBE-SVC-AAA", &[])]).nat;
        assert_eq!(stale_chains(listing, &wanted), ["KUBE-SVC-BBB"]);
    }
}
