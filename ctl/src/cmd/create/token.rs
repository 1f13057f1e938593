//! `create token`: asks for a token of a service account.

use super::generate::name;
use crate::cli::flags::{OUTPUT, TEMPLATE};
use crate::cli::{Args, Call, Command, array, duration, text};
use crate::error::{Error, Result};
use crate::print::Printer;
use serde_json::json;
use std::io::IsTerminal as _;

/// The command.
pub static COMMAND: Command = Command {
    name: "token",
    short: "Request a service account token",
    examples: "
        # A token of a service account, for ten minutes
        {} create token builder --duration=10m

        # Valid as long as a pod lives
        {} create token builder --bound-object-kind=Pod --bound-object-name=web-0",
    usage: "SERVICE_ACCOUNT_NAME",
    flags: &[
        OUTPUT,
        TEMPLATE,
        &[
            array(
                "audience",
                "Audience of the requested token. If unset, defaults to requesting a token for use with the Kubernetes API server. May be repeated to request a token valid for multiple audiences.",
            ),
            text(
                "bound-object-kind",
                "",
                "Kind of an object to bind the token to. Supported kinds are Node, Pod, Secret. If set, --bound-object-name must be provided.",
            ),
            text(
                "bound-object-name",
                "",
                "Name of an object to bind the token to. The token will expire when the object is deleted. Requires --bound-object-kind.",
            ),
            text(
                "bound-object-uid",
                "",
                "UID of an object to bind the token to. Requires --bound-object-kind and --bound-object-name. If unset, the UID of the existing object is used.",
            ),
            duration(
                "duration",
                "0s",
                "Requested lifetime of the issued token. If not set or if set to 0, the lifetime will be determined by the server automatically. The server may return a token with a longer or shorter lifetime.",
            ),
        ],
    ],
    args: Args::Names("serviceaccounts"),
    run: Some(|c| Box::pin(run(c))),
    ..Command::NEW
};

async fn run(call: Call) -> Result<()> {
    let name = name(&call)?;
    let namespace = call.ctx.namespace()?;
    let (kind, bound, uid) = (
        call.str("bound-object-kind"),
        call.str("bound-object-name"),
        call.str("bound-object-uid"),
    );
    let nanos = call.flags.nanos("duration");
    if nanos < 0 {
        return Err(Error::new("--duration must be greater than or equal to 0"));
    }
    if nanos % 1_000_000_000 != 0 {
        return Err(Error::new(
            "--duration cannot be expressed in units less than seconds",
        ));
    }
    let mut spec = json!({"audiences": call.list("audience")});
    if nanos > 0 {
        spec["expirationSeconds"] = json!(nanos / 1_000_000_000);
    }
    match (kind, bound) {
        ("", "") if uid.is_empty() => {}
        ("", "") => {
            return Err(Error::new(
                "--bound-object-uid can only be set if --bound-object-kind is provided",
            ));
        }
        ("", _) => {
            return Err(Error::new(
                "--bound-object-name can only be set if --bound-object-kind is provided",
            ));
        }
        (_, "") => {
            return Err(Error::new(
                "--bound-object-name must be set if --bound-object-kind is provided",
            ));
        }
        (kind, bound) => {
            if !["Node", "Pod", "Secret"].contains(&kind) {
                return Err(Error::new(
                    "supported --bound-object-kind values are Node, Pod, Secret".to_string(),
                ));
            }
            spec["boundObjectRef"] = json!({"kind": kind, "apiVersion": "v1", "name": bound});
            if !uid.is_empty() {
                spec["boundObjectRef"]["uid"] = json!(uid);
            }
        }
    }
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec});
    let rest = call.ctx.rest().await?;
    let path = format!(
        "/api/v1/namespaces/{}/serviceaccounts/{}/token",
        crate::rest::encode(&namespace),
        crate::rest::encode(&name)
    );
    let answer = rest.post(&path, &request).await.map_err(|e| match e {
        Error::Status(s) => Error::new(format!("failed to create token: {}", s.message)),
        other => other,
    })?;
    let printer = Printer::from_call(&call)?;
    if !printer.is_human() {
        return printer.print(&answer);
    }
    match answer["status"]["token"].as_str().filter(|t| !t.is_empty()) {
        Some(token) => {
            // A line's end only for a person: scripts take what is printed as it is.
            let end = if std::io::stdout().is_terminal() { "\n" } else { "" };
            crate::out::print(&format!("{token}{end}"));
            Ok(())
        }
        None => Err(Error::new("failed to create token: no token in server response")),
    }
}
