//! `version`: of this program and of the server.

use crate::cli::{Call, Command, bool, text};
use crate::error::{Error, Result};
use crate::print::{json as print_json, kyaml, yaml};
use serde_json::json;

/// The Kubernetes version whose behaviour this program has.
pub const COMPATIBLE: (&str, &str, &str) = ("1", "36", "v1.36.0");

/// The command.
pub static COMMAND: Command = Command {
    name: "version",
    short: "Print the client and server version information",
    long: "Print the client and server version information for the current context.",
    examples: "
        # Of both sides
        {} version

        # Of this program only
        {} version --client",
    flags: &[&[
        bool(
            "client",
            "If true, shows client version only (no server required).",
        ),
        text("output", "", "One of 'yaml' or 'json'.").short('o'),
    ]],
    run: Some(|c| Box::pin(run(c))),
    ..Command::NEW
};

async fn run(call: Call) -> Result<()> {
    if !call.args.is_empty() {
        return Err(Error::new(format!("extra arguments: [{}]", call.args.join(" "))));
    }
    let output = call.str("output");
    if !matches!(output, "" | "yaml" | "json" | "kyaml") {
        return Err(Error::new("--output must be 'yaml' or 'json'"));
    }
    let (major, minor, version) = COMPATIBLE;
    let mut out = json!({"clientVersion": {
        "major": major, "minor": minor, "gitVersion": version, "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, if cfg!(target_arch = "x86_64") { "amd64" } else { std::env::consts::ARCH }),
    }});
    let kustomize = "v5.8.1";
    out["kustomizeVersion"] = json!(kustomize);
    let mut problem = None;
    if !call.bool("client") {
        let asked = match call.ctx.rest().await {
            Ok(rest) => rest.get("/version").await,
            Err(e) => Err(e),
        };
        match asked {
            Ok(server) => out["serverVersion"] = server,
            Err(e) => problem = Some(e),
        }
    }
    match output {
        "json" => crate::outln!("{}", print_json::indented(&out, "  ")),
        "yaml" => crate::outln!("{}", yaml::to_string(&out).trim_end_matches('\n')),
        "kyaml" => crate::out::print(&kyaml::to_string(&out)),
        _ => {
            crate::outln!("Client Version: {version}");
            crate::outln!("Kustomize Version: {kustomize}");
            if let Some(v) = out["serverVersion"]["gitVersion"].as_str() {
                crate::outln!("Server Version: {v}");
            }
        }
    }
    if let Some(skew) = skew(out["serverVersion"]["minor"].as_str(), minor)
        && output.is_empty()
    {
        crate::errln!(
            "Warning: version difference between client (1.{minor}) and server (1.{}) exceeds the supported minor version skew of +/-1",
            skew
        );
    }
    problem.map_or(Ok(()), Err)
}

/// The server's minor version if it is more than one away.
fn skew(server: Option<&str>, client: &str) -> Option<i64> {
    let number = |t: &str| {
        t.chars()
            .take_while(char::is_ascii_digit)
            .collect::<String>()
            .parse::<i64>()
            .ok()
    };
    let server = number(server?)?;
    let client = number(client)?;
    ((server - client).abs() > 1).then_some(server)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_more_than_one_apart_are_told() {
        assert_eq!(skew(Some("36"), "36"), None);
        assert_eq!(skew(Some("35+"), "36"), None);
        assert_eq!(skew(Some("33"), "36"), Some(33));
    }
}
