//! Talking to device plugins: they register at the kubelet's socket, and the kubelet follows the lists of their devices.

use super::{Devices, Offer};
use crate::runtime::cri::channel;
use rutter_proto::deviceplugin::device_plugin_client::DevicePluginClient;
use rutter_proto::deviceplugin::registration_server::{Registration, RegistrationServer};
use rutter_proto::deviceplugin::{Empty, RegisterRequest};
use std::path::PathBuf;
use std::time::Duration;
use tonic::{Request, Response, Status};

/// The version of the contract.
const VERSION: &str = "v1beta1";
/// A plugin that ended gets this long to come back before its resource shows as gone.
const PATIENCE: Duration = Duration::from_secs(300);

#[tonic::async_trait]
impl Registration for Devices {
    async fn register(&self, request: Request<RegisterRequest>) -> Result<Response<Empty>, Status> {
        let request = request.into_inner();
        if request.version != VERSION {
            return Err(Status::invalid_argument(format!(
                "version {:?} is not supported by the kubelet; it speaks {VERSION}",
                request.version
            )));
        }
        // The endpoint is the name of a socket in the folder, never a way out of it.
        if request.endpoint.is_empty() || request.endpoint.contains('/') {
            return Err(Status::invalid_argument(format!(
                "{:?} is not the name of a socket in {}",
                request.endpoint,
                self.dir.display()
            )));
        }
        let socket = self.dir.join(&request.endpoint);
        self.connect(&request.resource_name, socket, request.options)
            .map_err(Status::invalid_argument)?;
        Ok(Response::new(Empty {}))
    }
}

fn check_name(resource: &str) -> Result<(), String> {
    let native = resource
        .split_once('/')
        .is_none_or(|(domain, _)| domain == "kubernetes.io" || domain.ends_with(".kubernetes.io"));
    if native {
        Err(format!(
            "the ResourceName {resource:?} is invalid: it must be of a domain of its own, such as example.com/name"
        ))
    } else {
        Ok(())
    }
}

impl Devices {
    /// Serves registrations until the process ends. Plugins watch for the socket: it is made anew at every start.
    pub(crate) async fn serve(self) -> anyhow::Result<()> {
        tokio::fs::create_dir_all(&self.dir).await?;
        let path = self.dir.join("kubelet.sock");
        match tokio::fs::remove_file(&path).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let listener = tokio::net::UnixListener::bind(&path)?;
        tonic::transport::Server::builder()
            .add_service(RegistrationServer::new(self))
            .serve_with_incoming(tokio_stream::wrappers::UnixListenerStream::new(listener))
            .await?;
        Ok(())
    }

    /// Takes a plugin in and follows its list.
    pub(crate) fn connect(
        &self,
        resource: &str,
        socket: PathBuf,
        options: Option<rutter_proto::deviceplugin::DevicePluginOptions>,
    ) -> Result<(), String> {
        check_name(resource)?;
        let plugin = DevicePluginClient::new(channel(socket));
        let generation = {
            let mut state = self.state.lock();
            let offer = state.offers.entry(resource.to_owned()).or_default();
            offer.generation += 1;
            offer.plugin = Some(plugin.clone());
            offer.options = options.unwrap_or_default();
            offer.generation
        };
        tracing::info!(resource, "a device plugin has registered");
        let (devices, resource) = (self.clone(), resource.to_owned());
        tokio::spawn(async move { devices.follow(&resource, plugin, generation).await });
        Ok(())
    }

    /// Changes a resource's offer, unless a newer plugin has taken it over.
    fn change(&self, resource: &str, generation: u64, change: impl FnOnce(&mut Offer)) -> bool {
        let mut state = self.state.lock();
        match state
            .offers
            .get_mut(resource)
            .filter(|o| o.generation == generation)
        {
            Some(offer) => {
                change(offer);
                drop(state);
                self.changed.notify_one();
                true
            }
            None => false,
        }
    }

    async fn follow(
        &self,
        resource: &str,
        mut plugin: DevicePluginClient<tonic::transport::Channel>,
        generation: u64,
    ) {
        match plugin.list_and_watch(Empty {}).await {
            Ok(stream) => {
                let mut stream = stream.into_inner();
                loop {
                    match stream.message().await {
                        Ok(Some(list)) => {
                            let (healthy, unhealthy): (Vec<_>, Vec<_>) =
                                list.devices.into_iter().partition(|d| d.health == "Healthy");
                            let current = self.change(resource, generation, |offer| {
                                offer.healthy = healthy.into_iter().map(|d| d.id).collect();
                                offer.unhealthy = unhealthy.into_iter().map(|d| d.id).collect();
                            });
                            if !current {
                                return;
                            }
                        }
                        Ok(None) => break,
                        Err(error) => {
                            tracing::info!(resource, %error, "a device plugin's list broke off");
                            break;
                        }
                    }
                }
            }
            Err(error) => tracing::warn!(resource, %error, "a device plugin gives no list of its devices"),
        }
        // Its devices stay known, and none of them is given any more.
        let current = self.change(resource, generation, |offer| {
            let gone = std::mem::take(&mut offer.healthy);
            offer.unhealthy.extend(gone);
            offer.plugin = None;
        });
        if !current {
            return;
        }
        tokio::time::sleep(PATIENCE).await;
        self.change(resource, generation, |offer| offer.unhealthy.clear());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_of_plugins_have_a_domain_that_is_not_kubernetes_own() {
        for (name, fine) in [
            ("example.com/gpu", true),
            ("gpu", false),
            ("kubernetes.io/gpu", false),
            ("x.kubernetes.io/gpu", false),
        ] {
            assert_eq!(check_name(name).is_ok(), fine, "{name}");
        }
    }
}
