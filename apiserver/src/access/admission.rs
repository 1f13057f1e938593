//! `--admission-control-config-file`: what admission plugins are told beyond the flags, in files of their own or in this one.

use crate::options::Options;
use anyhow::{Context as _, bail, ensure};
use rutter_admission::plugins::{event_rate_limit, pod_security};
use rutter_api::object::ObjectExt;
use rutter_api::{Value, codec};
use rutter_outbound::Users;
use std::path::Path;
use std::sync::Arc;

/// What plugins are told.
#[derive(Default)]
pub struct Admission {
    /// `PodSecurity`
    pub pod_security: pod_security::Configuration,
    /// `EventRateLimit`
    pub event_rate_limit: event_rate_limit::Configuration,
    /// Who the server is to webhooks that change objects.
    pub mutating: Option<Arc<Users>>,
    /// Who it is to webhooks that judge them.
    pub validating: Option<Arc<Users>>,
}

/// Reads the file, if there is one.
pub fn read(options: &Options) -> anyhow::Result<Admission> {
    let mut all = Admission::default();
    let Some(file) = &options.admission_control_config_file else {
        return Ok(all);
    };
    let config = parse(file)?;
    let wanted = ("AdmissionConfiguration", "apiserver.config.k8s.io/v1");
    let is = (config.str_at("kind"), config.str_at("apiVersion"));
    ensure!(
        is == wanted,
        "{} is no {} of {}",
        file.display(),
        wanted.0,
        wanted.1
    );
    let folder = file.parent().unwrap_or(Path::new(""));
    let mut seen: Vec<&str> = Vec::new();
    for plugin in config.list_at("plugins") {
        let name = plugin.str_at("name");
        ensure!(!seen.contains(&name), "plugin {name:?} is configured twice");
        seen.push(name);
        let configuration = match plugin.str_at("path") {
            "" => plugin.at("configuration").clone(),
            path => parse(&folder.join(path))?,
        };
        all.take(name, &configuration, folder)
            .with_context(|| format!("the configuration of admission plugin {name:?} cannot be used"))?;
    }
    Ok(all)
}

impl Admission {
    fn take(&mut self, name: &str, configuration: &Value, folder: &Path) -> anyhow::Result<()> {
        match name {
            "PodSecurity" => {
                self.pod_security =
                    pod_security::Configuration::parse(configuration).map_err(anyhow::Error::msg)?;
            }
            "EventRateLimit" => {
                self.event_rate_limit =
                    event_rate_limit::Configuration::parse(configuration).map_err(anyhow::Error::msg)?;
            }
            "MutatingAdmissionWebhook" => self.mutating = users(configuration, folder)?,
            "ValidatingAdmissionWebhook" => self.validating = users(configuration, folder)?,
            _ => bail!("there is nothing that it could be told"),
        }
        Ok(())
    }
}

/// The users of the kubeconfig file that a `WebhookAdmissionConfiguration` names.
fn users(configuration: &Value, folder: &Path) -> anyhow::Result<Option<Arc<Users>>> {
    let is = (configuration.str_at("kind"), configuration.str_at("apiVersion"));
    let known = ["apiserver.config.k8s.io/v1", "apiserver.config.k8s.io/v1alpha1"];
    ensure!(
        matches!(is.0, "WebhookAdmissionConfiguration" | "WebhookAdmission") && known.contains(&is.1),
        "it is {:?} of {:?}, not WebhookAdmissionConfiguration of {:?}",
        is.0,
        is.1,
        known[0]
    );
    match configuration.str_at("kubeConfigFile") {
        "" => Ok(None),
        file => Ok(Some(Arc::new(Users::of_kubeconfig(&folder.join(file))?))),
    }
}

fn parse(file: &Path) -> anyhow::Result<Value> {
    let text = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let (value, _) = codec::yaml::parse(&text).with_context(|| format!("{} is no YAML", file.display()))?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    fn admission(folder: &Path, plugins: &str) -> Result<Admission, String> {
        let file = folder.join("admission.yaml");
        let text = format!(
            "kind: AdmissionConfiguration\napiVersion: apiserver.config.k8s.io/v1\nplugins: {plugins}"
        );
        std::fs::write(&file, text).unwrap();
        let options = Options::parse_from([
            "x",
            "--tls-cert-file=a",
            "--tls-private-key-file=b",
            "--service-account-issuer=c",
            "--service-account-signing-key-file=d",
            &format!("--admission-control-config-file={}", file.display()),
        ]);
        read(&options).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn plugins_are_told_what_stands_in_the_file_or_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write(
            "limits.yaml",
            "kind: Configuration\napiVersion: eventratelimit.admission.k8s.io/v1alpha1\nlimits: [{type: Server, qps: 5, burst: 7}]",
        );
        write("kubeconfig", "users: [{name: '*', user: {token: t}}]");
        let told = admission(
            folder.path(),
            "
- name: PodSecurity
  configuration: {kind: PodSecurityConfiguration, apiVersion: pod-security.admission.config.k8s.io/v1, defaults: {enforce: baseline}}
- {name: EventRateLimit, path: limits.yaml}
- name: ValidatingAdmissionWebhook
  configuration: {kind: WebhookAdmissionConfiguration, apiVersion: apiserver.config.k8s.io/v1, kubeConfigFile: kubeconfig}
",
        )
        .unwrap();
        assert_eq!(told.pod_security.enforce.level, pod_security::Level::Baseline);
        assert_eq!(told.event_rate_limit.limits[0].burst, 7);
        assert!(told.validating.is_some() && told.mutating.is_none());
        for (plugins, why) in [
            (
                "[{name: LimitRanger, configuration: {}}]",
                "nothing that it could be told",
            ),
            ("[{name: EventRateLimit, path: nowhere}]", "cannot read"),
            (
                "[{name: EventRateLimit, configuration: {}}]",
                "limits: Required value",
            ),
            (
                "[{name: MutatingAdmissionWebhook, configuration: {}}]",
                "not WebhookAdmissionConfiguration",
            ),
        ] {
            let said = admission(folder.path(), plugins).err().unwrap();
            assert!(said.contains(why), "{said}");
        }
    }
}
