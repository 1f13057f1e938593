//! The client of the container runtime: CRI v1 over a unix socket. Every call has a time limit; nothing is retried here.
//! The connection is made on first use and made again after the runtime's restart.

use hyper_util::rt::TokioIo;
use rutter_proto::cri::image_service_client::ImageServiceClient;
use rutter_proto::cri::runtime_service_client::RuntimeServiceClient;
use rutter_proto::cri::*;
use std::path::PathBuf;
use std::time::Duration;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};

/// A failed call, with the call's name.
#[derive(Debug, thiserror::Error)]
#[error("{call}: {}", status.message())]
pub(crate) struct CriError {
    /// The method.
    pub(crate) call: &'static str,
    /// What the runtime answered.
    pub(crate) status: Status,
}

impl CriError {
    /// Whether the runtime says that the thing is not there.
    pub(crate) fn is_not_found(&self) -> bool {
        self.status.code() == tonic::Code::NotFound
    }

    /// Whether the runtime doesn't have the call.
    pub(crate) fn is_unimplemented(&self) -> bool {
        self.status.code() == tonic::Code::Unimplemented
    }
}

/// The result of a call.
pub(crate) type CriResult<T> = Result<T, CriError>;

const MAX_MESSAGE: usize = 16 << 20;

/// The runtime's client; cheap to clone.
#[derive(Clone)]
pub(crate) struct Cri {
    runtime: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
    timeout: Duration,
}

impl Cri {
    /// A client of the runtime (and the image service, when that is elsewhere) at unix sockets. No I/O happens yet.
    pub(crate) fn new(runtime: PathBuf, images: Option<PathBuf>, timeout: Duration) -> Self {
        let runtime_channel = channel(runtime);
        let image_channel = images.map_or_else(|| runtime_channel.clone(), channel);
        Self {
            runtime: RuntimeServiceClient::new(runtime_channel).max_decoding_message_size(MAX_MESSAGE),
            images: ImageServiceClient::new(image_channel).max_decoding_message_size(MAX_MESSAGE),
            timeout,
        }
    }

    async fn limited<T>(
        call: &'static str,
        limit: Duration,
        future: impl Future<Output = Result<tonic::Response<T>, Status>>,
    ) -> CriResult<T> {
        let began = std::time::Instant::now();
        let answer = tokio::time::timeout(limit, future).await;
        if let Some(metrics) = crate::metrics::get() {
            metrics.operation(call, began.elapsed(), !matches!(answer, Ok(Ok(_))));
        }
        match answer {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(CriError { call, status }),
            Err(_) => Err(CriError {
                call,
                status: Status::deadline_exceeded(format!(
                    "no answer from the container runtime within {limit:?}"
                )),
            }),
        }
    }

    /// The runtime's name and version.
    pub(crate) async fn version(&self) -> CriResult<VersionResponse> {
        let request = VersionRequest {
            version: "0.1.0".to_owned(),
        };
        Self::limited("Version", self.timeout, self.runtime.clone().version(request)).await
    }

    /// The runtime's conditions and handlers.
    pub(crate) async fn status(&self) -> CriResult<StatusResponse> {
        Self::limited(
            "Status",
            self.timeout,
            self.runtime.clone().status(StatusRequest { verbose: false }),
        )
        .await
    }

    /// What the runtime tells about its configuration; unimplemented before containerd 2.
    pub(crate) async fn runtime_config(&self) -> CriResult<RuntimeConfigResponse> {
        Self::limited(
            "RuntimeConfig",
            self.timeout,
            self.runtime.clone().runtime_config(RuntimeConfigRequest {}),
        )
        .await
    }

    /// Makes and starts a sandbox.
    pub(crate) async fn run_sandbox(&self, config: PodSandboxConfig, handler: String) -> CriResult<String> {
        let request = RunPodSandboxRequest {
            config: Some(config),
            runtime_handler: handler,
        };
        let response = Self::limited(
            "RunPodSandbox",
            self.timeout * 2,
            self.runtime.clone().run_pod_sandbox(request),
        )
        .await?;
        Ok(response.pod_sandbox_id)
    }

    /// Stops a sandbox and all its containers; stopping a stopped one is fine.
    pub(crate) async fn stop_sandbox(&self, id: &str) -> CriResult<()> {
        let request = StopPodSandboxRequest {
            pod_sandbox_id: id.to_owned(),
        };
        Self::limited(
            "StopPodSandbox",
            self.timeout,
            self.runtime.clone().stop_pod_sandbox(request),
        )
        .await?;
        Ok(())
    }

    /// Removes a sandbox and all its containers.
    pub(crate) async fn remove_sandbox(&self, id: &str) -> CriResult<()> {
        let request = RemovePodSandboxRequest {
            pod_sandbox_id: id.to_owned(),
        };
        Self::limited(
            "RemovePodSandbox",
            self.timeout,
            self.runtime.clone().remove_pod_sandbox(request),
        )
        .await?;
        Ok(())
    }

    /// Sandboxes that match the filter.
    pub(crate) async fn list_sandboxes(&self, filter: PodSandboxFilter) -> CriResult<Vec<PodSandbox>> {
        let request = ListPodSandboxRequest { filter: Some(filter) };
        Ok(Self::limited(
            "ListPodSandbox",
            self.timeout,
            self.runtime.clone().list_pod_sandbox(request),
        )
        .await?
        .items)
    }

    /// One sandbox in full.
    pub(crate) async fn sandbox_status(&self, id: &str) -> CriResult<PodSandboxStatus> {
        let request = PodSandboxStatusRequest {
            pod_sandbox_id: id.to_owned(),
            verbose: false,
        };
        Self::limited(
            "PodSandboxStatus",
            self.timeout,
            self.runtime.clone().pod_sandbox_status(request),
        )
        .await?
        .status
        .ok_or_else(|| empty("PodSandboxStatus"))
    }

    /// Containers that match the filter.
    pub(crate) async fn list_containers(&self, filter: ContainerFilter) -> CriResult<Vec<Container>> {
        let request = ListContainersRequest { filter: Some(filter) };
        Ok(Self::limited(
            "ListContainers",
            self.timeout,
            self.runtime.clone().list_containers(request),
        )
        .await?
        .containers)
    }

    /// One container in full.
    pub(crate) async fn container_status(&self, id: &str) -> CriResult<ContainerStatus> {
        let request = ContainerStatusRequest {
            container_id: id.to_owned(),
            verbose: false,
        };
        Self::limited(
            "ContainerStatus",
            self.timeout,
            self.runtime.clone().container_status(request),
        )
        .await?
        .status
        .ok_or_else(|| empty("ContainerStatus"))
    }

    /// Makes a container.
    pub(crate) async fn create_container(
        &self,
        sandbox: &str,
        config: ContainerConfig,
        sandbox_config: PodSandboxConfig,
    ) -> CriResult<String> {
        let request = CreateContainerRequest {
            pod_sandbox_id: sandbox.to_owned(),
            config: Some(config),
            sandbox_config: Some(sandbox_config),
        };
        let response = Self::limited(
            "CreateContainer",
            self.timeout,
            self.runtime.clone().create_container(request),
        )
        .await?;
        Ok(response.container_id)
    }

    /// Starts a container.
    pub(crate) async fn start_container(&self, id: &str) -> CriResult<()> {
        let request = StartContainerRequest {
            container_id: id.to_owned(),
        };
        Self::limited(
            "StartContainer",
            self.timeout,
            self.runtime.clone().start_container(request),
        )
        .await?;
        Ok(())
    }

    /// Gives a container other amounts of resources.
    pub(crate) async fn update_container_resources(
        &self,
        id: &str,
        resources: LinuxContainerResources,
    ) -> CriResult<()> {
        let request = UpdateContainerResourcesRequest {
            container_id: id.to_owned(),
            linux: Some(resources),
            ..UpdateContainerResourcesRequest::default()
        };
        Self::limited(
            "UpdateContainerResources",
            self.timeout,
            self.runtime.clone().update_container_resources(request),
        )
        .await?;
        Ok(())
    }

    /// Asks a container to end, and kills it after the grace.
    pub(crate) async fn stop_container(&self, id: &str, grace: i64) -> CriResult<()> {
        let request = StopContainerRequest {
            container_id: id.to_owned(),
            timeout: grace.max(0),
        };
        let limit = self.timeout + Duration::from_secs(grace.max(0).unsigned_abs());
        Self::limited(
            "StopContainer",
            limit,
            self.runtime.clone().stop_container(request),
        )
        .await?;
        Ok(())
    }

    /// Removes a container.
    pub(crate) async fn remove_container(&self, id: &str) -> CriResult<()> {
        let request = RemoveContainerRequest {
            container_id: id.to_owned(),
        };
        Self::limited(
            "RemoveContainer",
            self.timeout,
            self.runtime.clone().remove_container(request),
        )
        .await?;
        Ok(())
    }

    /// Has the runtime open a container's log file again, after rotation.
    pub(crate) async fn reopen_log(&self, id: &str) -> CriResult<()> {
        let request = ReopenContainerLogRequest {
            container_id: id.to_owned(),
        };
        Self::limited(
            "ReopenContainerLog",
            self.timeout,
            self.runtime.clone().reopen_container_log(request),
        )
        .await?;
        Ok(())
    }

    /// Runs a command in a container to its end. No timeout when `limit` is zero.
    pub(crate) async fn exec_sync(
        &self,
        id: &str,
        cmd: Vec<String>,
        limit: Duration,
    ) -> CriResult<ExecSyncResponse> {
        let seconds = i64::try_from(limit.as_secs()).unwrap_or(i64::MAX);
        let request = ExecSyncRequest {
            container_id: id.to_owned(),
            cmd,
            timeout: seconds,
        };
        let bound = if limit.is_zero() {
            Duration::from_secs(24 * 3600)
        } else {
            limit + self.timeout
        };
        Self::limited("ExecSync", bound, self.runtime.clone().exec_sync(request)).await
    }

    /// A URL at which the runtime serves a command's streams.
    pub(crate) async fn exec(&self, request: ExecRequest) -> CriResult<String> {
        Ok(
            Self::limited("Exec", self.timeout, self.runtime.clone().exec(request))
                .await?
                .url,
        )
    }

    /// A URL at which the runtime serves a running container's streams.
    pub(crate) async fn attach(&self, request: AttachRequest) -> CriResult<String> {
        Ok(
            Self::limited("Attach", self.timeout, self.runtime.clone().attach(request))
                .await?
                .url,
        )
    }

    /// A URL at which the runtime forwards ports of a sandbox.
    pub(crate) async fn port_forward(&self, request: PortForwardRequest) -> CriResult<String> {
        Ok(Self::limited(
            "PortForward",
            self.timeout,
            self.runtime.clone().port_forward(request),
        )
        .await?
        .url)
    }

    /// Usage of all containers.
    pub(crate) async fn container_stats(&self) -> CriResult<Vec<ContainerStats>> {
        let request = ListContainerStatsRequest { filter: None };
        Ok(Self::limited(
            "ListContainerStats",
            self.timeout,
            self.runtime.clone().list_container_stats(request),
        )
        .await?
        .stats)
    }

    /// Usage of all sandboxes, the network's included; unimplemented in some runtimes.
    pub(crate) async fn sandbox_stats(&self) -> CriResult<Vec<PodSandboxStats>> {
        let request = ListPodSandboxStatsRequest { filter: None };
        Ok(Self::limited(
            "ListPodSandboxStats",
            self.timeout,
            self.runtime.clone().list_pod_sandbox_stats(request),
        )
        .await?
        .stats)
    }

    /// Tells the runtime the node's range of pod addresses.
    pub(crate) async fn update_pod_cidr(&self, pod_cidr: String) -> CriResult<()> {
        let request = UpdateRuntimeConfigRequest {
            runtime_config: Some(RuntimeConfig {
                network_config: Some(NetworkConfig { pod_cidr }),
            }),
        };
        let mut call = self.runtime.clone();
        Self::limited(
            "UpdateRuntimeConfig",
            self.timeout,
            call.update_runtime_config(request),
        )
        .await?;
        Ok(())
    }

    /// Container events as they happen; unimplemented before containerd 1.7.
    pub(crate) async fn events(&self) -> CriResult<Streaming<ContainerEventResponse>> {
        self.runtime
            .clone()
            .get_container_events(Request::new(GetEventsRequest {}))
            .await
            .map(tonic::Response::into_inner)
            .map_err(|status| CriError {
                call: "GetContainerEvents",
                status,
            })
    }

    /// Images on the node.
    pub(crate) async fn list_images(&self) -> CriResult<Vec<Image>> {
        let request = ListImagesRequest { filter: None };
        Ok(Self::limited(
            "ListImages",
            self.timeout,
            self.images.clone().list_images(request),
        )
        .await?
        .images)
    }

    /// One image, when it is there.
    pub(crate) async fn image_status(&self, image: ImageSpec) -> CriResult<Option<Image>> {
        let request = ImageStatusRequest {
            image: Some(image),
            verbose: false,
        };
        Ok(Self::limited(
            "ImageStatus",
            self.timeout,
            self.images.clone().image_status(request),
        )
        .await?
        .image)
    }

    /// Pulls an image and returns the runtime's reference to it. Takes as long as it takes.
    pub(crate) async fn pull_image(
        &self,
        image: ImageSpec,
        auth: Option<AuthConfig>,
        sandbox: Option<PodSandboxConfig>,
    ) -> CriResult<String> {
        let request = PullImageRequest {
            image: Some(image),
            auth,
            sandbox_config: sandbox,
        };
        self.images
            .clone()
            .pull_image(request)
            .await
            .map(|response| response.into_inner().image_ref)
            .map_err(|status| CriError {
                call: "PullImage",
                status,
            })
    }

    /// Removes an image.
    pub(crate) async fn remove_image(&self, image: ImageSpec) -> CriResult<()> {
        let request = RemoveImageRequest { image: Some(image) };
        Self::limited(
            "RemoveImage",
            self.timeout,
            self.images.clone().remove_image(request),
        )
        .await?;
        Ok(())
    }

    /// The file systems that hold images and containers.
    pub(crate) async fn image_fs_info(&self) -> CriResult<ImageFsInfoResponse> {
        let mut call = self.images.clone();
        Self::limited(
            "ImageFsInfo",
            self.timeout,
            call.image_fs_info(ImageFsInfoRequest {}),
        )
        .await
    }
}

fn empty(call: &'static str) -> CriError {
    CriError {
        call,
        status: Status::internal("the container runtime answered without a status"),
    }
}

/// A connection to a unix socket, made when it is first used and again whenever it broke.
pub(crate) fn channel(path: PathBuf) -> Channel {
    // The address is never used: the connector knows the path.
    let endpoint = Endpoint::from_static("http://localhost");
    endpoint.connect_with_connector_lazy(tower::service_fn(move |_: http::Uri| {
        let path = path.clone();
        async move { tokio::net::UnixStream::connect(path).await.map(TokioIo::new) }
    }))
}
