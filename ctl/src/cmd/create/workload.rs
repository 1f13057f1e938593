//! `create deployment`, `create job`, `create cronjob`.

use super::generate::{finish, name, object, required};
use crate::cli::flags::{DRY_RUN, MANAGER_CREATE, OUTPUT, SAVE_CONFIG, TEMPLATE, VALIDATE};
use crate::cli::{Call, Command, int, slice, text};
use crate::error::{Error, Result};
use serde_json::{Value, json};

/// `create deployment`
pub static DEPLOYMENT: Command = Command {
    name: "deployment",
    aliases: &["deploy"],
    short: "Create a deployment with the specified name",
    examples: "
        # A deployment that runs an image
        {} create deployment web --image=nginx

        # Three replicas with a port and a command of their own
        {} create deployment web --image=busybox --replicas=3 --port=8080 -- httpd -f",
    usage: "NAME --image=image -- [COMMAND] [args...]",
    flags: &[
        DRY_RUN,
        MANAGER_CREATE,
        OUTPUT,
        SAVE_CONFIG,
        TEMPLATE,
        VALIDATE,
        &[
            slice(
                "image",
                "Image names to run. A deployment can have multiple images set for multi-container pod.",
            ),
            int("port", "-1", "The containerPort that this deployment exposes."),
            int("replicas", "1", "Number of replicas to create. Default is 1.").short('r'),
        ],
    ],
    run: Some(|c| Box::pin(deployment(c))),
    ..Command::NEW
};

/// `create job`
pub static JOB: Command = Command {
    name: "job",
    short: "Create a job with the specified name",
    examples: "
        # A job that runs a command once
        {} create job pi --image=perl -- perl -Mbignum=bpi -wle 'print bpi(100)'

        # What a cron job would run, now
        {} create job try --from=cronjob/nightly",
    usage: "NAME --image=image [--from=cronjob/name] -- [COMMAND] [args...]",
    flags: &[
        DRY_RUN,
        MANAGER_CREATE,
        OUTPUT,
        SAVE_CONFIG,
        TEMPLATE,
        VALIDATE,
        &[
            text(
                "from",
                "",
                "The name of the resource to create a Job from (only CronJob is supported).",
            ),
            text("image", "", "Image name to run."),
        ],
    ],
    run: Some(|c| Box::pin(job(c))),
    ..Command::NEW
};

/// `create cronjob`
pub static CRONJOB: Command = Command {
    name: "cronjob",
    aliases: &["cj"],
    short: "Create a cron job with the specified name",
    examples: "
        # Every five minutes
        {} create cronjob clean --image=busybox --schedule='*/5 * * * *' -- date",
    usage: "NAME --image=image --schedule='0/5 * * * ?' -- [COMMAND] [args...] [flags]",
    flags: &[
        DRY_RUN,
        MANAGER_CREATE,
        OUTPUT,
        SAVE_CONFIG,
        TEMPLATE,
        VALIDATE,
        &[
            text("image", "", "Image name to run."),
            text(
                "restart",
                "",
                "job's restart policy. supported values: OnFailure, Never",
            ),
            text(
                "schedule",
                "",
                "A schedule in the Cron format the job should be run with.",
            ),
        ],
    ],
    run: Some(|c| Box::pin(cronjob(c))),
    ..Command::NEW
};

/// A container's name from its image: the last part, without tag and digest.
fn container_name(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    let plain = last.split([':', '@']).next().unwrap_or(last);
    plain
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '-' {
                c
            } else {
                '-'
            }
        })
        .collect::<String>()
        .trim_matches('-')
        .to_lowercase()
}

async fn deployment(call: Call) -> Result<()> {
    let name = name(&call)?;
    required(&call, &["image"])?;
    let images = call.list("image");
    let command = call.after_dash();
    if images.len() > 1 && !command.is_empty() {
        return Err(call.usage("cannot specify multiple --image options and command"));
    }
    let replicas = call.flags.int("replicas");
    if replicas < 0 {
        return Err(call.usage("the --replicas must be greater or equal to 0"));
    }
    let mut containers: Vec<Value> = Vec::new();
    for image in &images {
        let mut container = json!({"image": image, "name": container_name(image), "resources": {}});
        if !command.is_empty() {
            container["command"] = json!(command);
        }
        containers.push(container);
    }
    let port = call.flags.int("port");
    if port >= 0
        && let Some(first) = containers.first_mut()
    {
        first["ports"] = json!([{"containerPort": port}]);
    }
    let mut out = object("apps/v1", "Deployment", &name);
    out["metadata"]["labels"] = json!({"app": name});
    out["spec"] = json!({
        "replicas": replicas,
        "selector": {"matchLabels": {"app": name}},
        "strategy": {},
        "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": containers}},
    });
    out["status"] = json!({});
    finish(&call, out, true, "failed to create deployment:").await
}

async fn job(call: Call) -> Result<()> {
    let name = name(&call)?;
    let (image, from, command) = (call.str("image"), call.str("from"), call.after_dash());
    if image.is_empty() && from.is_empty() {
        return Err(Error::new("either --image or --from must be specified"));
    }
    if !image.is_empty() && !from.is_empty() {
        return Err(Error::new("either --image or --from must be specified"));
    }
    if !command.is_empty() && !from.is_empty() {
        return Err(Error::new("cannot specify --from and command"));
    }
    let mut out = object("batch/v1", "Job", &name);
    out["status"] = json!({});
    if from.is_empty() {
        let mut container = json!({"image": image, "name": name, "resources": {}});
        if !command.is_empty() {
            container["command"] = json!(command);
        }
        out["spec"] = json!({"template": {"metadata": {}, "spec": {"containers": [container], "restartPolicy": "Never"}}});
        return finish(&call, out, true, "failed to create job:").await;
    }
    let query = crate::resource::builder::Query {
        args: vec![from.to_owned()],
        ..Default::default()
    };
    let source = query.one(&call.ctx).await?;
    if source.mapping.kind != "CronJob" {
        return Err(Error::new("from must be an existing cronjob".to_string()));
    }
    let template = &source.object["spec"]["jobTemplate"];
    out["spec"] = template["spec"].clone();
    if template["metadata"]["labels"].is_object() {
        out["metadata"]["labels"] = template["metadata"]["labels"].clone();
    }
    let mut annotations = json!({"cronjob.kubernetes.io/instantiate": "manual"});
    crate::patch::merge(
        &mut annotations,
        &template["metadata"]["annotations"]
            .as_object()
            .map_or(json!({}), |m| json!(m)),
    );
    out["metadata"]["annotations"] = annotations;
    out["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "batch/v1", "kind": "CronJob", "name": source.name, "controller": true,
        "uid": source.object["metadata"]["uid"],
    }]);
    finish(&call, out, true, "failed to create job:").await
}

async fn cronjob(call: Call) -> Result<()> {
    let name = name(&call)?;
    required(&call, &["image", "schedule"])?;
    let mut container = json!({"image": call.str("image"), "name": name, "resources": {}});
    if !call.after_dash().is_empty() {
        container["command"] = json!(call.after_dash());
    }
    let restart = match call.str("restart") {
        "" => "OnFailure",
        other => other,
    };
    let mut out = object("batch/v1", "CronJob", &name);
    out["spec"] = json!({
        "schedule": call.str("schedule"),
        "jobTemplate": {
            "metadata": {"name": name},
            "spec": {"template": {"metadata": {}, "spec": {"containers": [container], "restartPolicy": restart}}},
        },
    });
    out["status"] = json!({});
    finish(&call, out, true, "failed to create cronjob:").await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_named_after_their_image() {
        for (image, name) in [
            ("nginx", "nginx"),
            ("nginx:1.25", "nginx"),
            ("registry.k8s.io/e2e/agnhost:2.1", "agnhost"),
            ("localhost:5000/my_app@sha256:abc", "my-app"),
        ] {
            assert_eq!(container_name(image), name);
        }
    }
}
