//! A container runtime in memory. Each call can be told to fail; containers are started, ended and looked at by tests.

use futures::stream::Empty;
use parking_lot::Mutex;
use rutter_proto::cri::image_service_server::{ImageService, ImageServiceServer};
use rutter_proto::cri::runtime_service_server::{RuntimeService, RuntimeServiceServer};
use rutter_proto::cri::*;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use tonic::{Request, Response, Status};

#[derive(Default)]
struct State {
    sandboxes: BTreeMap<String, PodSandboxStatus>,
    containers: BTreeMap<String, (String, ContainerStatus)>,
    images: BTreeSet<String>,
    calls: Vec<String>,
    failing: HashMap<String, u32>,
    next: i64,
}

/// The runtime. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct FakeCri {
    state: Arc<Mutex<State>>,
}

impl FakeCri {
    /// Serves on a socket in a folder; the folder has to outlive the runtime.
    pub(crate) fn serve(&self, dir: &std::path::Path) -> PathBuf {
        let path = dir.join("cri.sock");
        let listener = tokio::net::UnixListener::bind(&path).expect("a socket");
        let incoming = futures::stream::unfold(listener, |l| async move {
            let accepted = l.accept().await.map(|(s, _)| s);
            Some((accepted, l))
        });
        let router = tonic::transport::Server::builder()
            .add_service(RuntimeServiceServer::new(self.clone()))
            .add_service(ImageServiceServer::new(self.clone()));
        tokio::spawn(router.serve_with_incoming(incoming));
        path
    }

    /// Has the next so many calls of a method fail.
    pub(crate) fn fail(&self, call: &str, times: u32) {
        self.state.lock().failing.insert(call.to_owned(), times);
    }

    /// Puts an image on the node.
    pub(crate) fn add_image(&self, name: &str) {
        self.state.lock().images.insert(name.to_owned());
    }

    /// The calls so far that change something.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.state.lock().calls.clone()
    }

    /// Ends a container by itself.
    pub(crate) fn exit(&self, name: &str, code: i32) {
        let mut state = self.state.lock();
        let now = tick(&mut state);
        for (_, status) in state.containers.values_mut() {
            if status.metadata.as_ref().is_some_and(|m| m.name == name)
                && status.state == i32::from(ContainerState::ContainerRunning)
            {
                status.state = ContainerState::ContainerExited.into();
                status.exit_code = code;
                status.reason = if code == 0 { "Completed" } else { "Error" }.to_owned();
                status.finished_at = now;
            }
        }
    }

    /// The names of running containers.
    pub(crate) fn running(&self) -> Vec<String> {
        let state = self.state.lock();
        let running =
            |s: &&(String, ContainerStatus)| s.1.state == i32::from(ContainerState::ContainerRunning);
        state
            .containers
            .values()
            .filter(running)
            .filter_map(|(_, s)| s.metadata.as_ref().map(|m| m.name.clone()))
            .collect()
    }

    fn call(&self, name: &str, detail: &str) -> Result<(), Status> {
        let mut state = self.state.lock();
        if let Some(left) = state.failing.get_mut(name).filter(|l| **l > 0) {
            *left -= 1;
            return Err(Status::internal(format!("{name} was told to fail")));
        }
        if !detail.is_empty() {
            state.calls.push(format!("{name} {detail}"));
        }
        Ok(())
    }
}

fn tick(state: &mut State) -> i64 {
    state.next += 1;
    let now = jiff::Timestamp::now().as_nanosecond();
    i64::try_from(now).unwrap_or(0) + state.next
}

fn selected(labels: &HashMap<String, String>, wanted: &HashMap<String, String>) -> bool {
    wanted.iter().all(|(k, v)| labels.get(k) == Some(v))
}

type Answer<T> = Result<Response<T>, Status>;

// The shape that `async_trait` gives its methods, since it doesn't see into macros.
macro_rules! absent {
    ($($name:ident: $request:ty => $response:ty;)*) => {
        $(fn $name<'a, 'b>(
            &'a self,
            _: Request<$request>,
        ) -> std::pin::Pin<Box<dyn Future<Output = Answer<$response>> + Send + 'b>>
        where
            'a: 'b,
            Self: 'b,
        {
            Box::pin(async { Err(Status::unimplemented(stringify!($name))) })
        })*
    };
}

#[tonic::async_trait]
impl RuntimeService for FakeCri {
    type StreamPodSandboxesStream = Empty<Result<StreamPodSandboxesResponse, Status>>;
    type StreamContainersStream = Empty<Result<StreamContainersResponse, Status>>;
    type StreamContainerStatsStream = Empty<Result<StreamContainerStatsResponse, Status>>;
    type StreamPodSandboxStatsStream = Empty<Result<StreamPodSandboxStatsResponse, Status>>;
    type GetContainerEventsStream = Empty<Result<ContainerEventResponse, Status>>;
    type StreamPodSandboxMetricsStream = Empty<Result<StreamPodSandboxMetricsResponse, Status>>;

    async fn version(&self, _: Request<VersionRequest>) -> Answer<VersionResponse> {
        Ok(Response::new(VersionResponse {
            runtime_name: "fake".into(),
            ..Default::default()
        }))
    }

    async fn run_pod_sandbox(&self, request: Request<RunPodSandboxRequest>) -> Answer<RunPodSandboxResponse> {
        self.call("RunPodSandbox", "p")?;
        let config = request.into_inner().config.unwrap_or_default();
        let mut state = self.state.lock();
        let now = tick(&mut state);
        let id = format!("sandbox-{}", state.next);
        let status = PodSandboxStatus {
            id: id.clone(),
            metadata: config.metadata,
            state: PodSandboxState::SandboxReady.into(),
            created_at: now,
            network: Some(PodSandboxNetworkStatus {
                ip: "10.0.0.7".into(),
                ..Default::default()
            }),
            labels: config.labels,
            ..Default::default()
        };
        state.sandboxes.insert(id.clone(), status);
        Ok(Response::new(RunPodSandboxResponse { pod_sandbox_id: id }))
    }

    async fn stop_pod_sandbox(
        &self,
        request: Request<StopPodSandboxRequest>,
    ) -> Answer<StopPodSandboxResponse> {
        self.call("StopPodSandbox", "p")?;
        let id = request.into_inner().pod_sandbox_id;
        if let Some(sandbox) = self.state.lock().sandboxes.get_mut(&id) {
            sandbox.state = PodSandboxState::SandboxNotready.into();
        }
        Ok(Response::new(StopPodSandboxResponse {}))
    }

    async fn remove_pod_sandbox(
        &self,
        request: Request<RemovePodSandboxRequest>,
    ) -> Answer<RemovePodSandboxResponse> {
        self.call("RemovePodSandbox", "p")?;
        let id = request.into_inner().pod_sandbox_id;
        let mut state = self.state.lock();
        state.sandboxes.remove(&id);
        state.containers.retain(|_, (sandbox, _)| *sandbox != id);
        Ok(Response::new(RemovePodSandboxResponse {}))
    }

    async fn pod_sandbox_status(
        &self,
        request: Request<PodSandboxStatusRequest>,
    ) -> Answer<PodSandboxStatusResponse> {
        self.call("PodSandboxStatus", "")?;
        let id = request.into_inner().pod_sandbox_id;
        let status = self
            .state
            .lock()
            .sandboxes
            .get(&id)
            .cloned()
            .ok_or_else(|| Status::not_found(id))?;
        Ok(Response::new(PodSandboxStatusResponse {
            status: Some(status),
            ..Default::default()
        }))
    }

    async fn list_pod_sandbox(
        &self,
        request: Request<ListPodSandboxRequest>,
    ) -> Answer<ListPodSandboxResponse> {
        self.call("ListPodSandbox", "")?;
        let wanted = request.into_inner().filter.unwrap_or_default().label_selector;
        let state = self.state.lock();
        let items = state
            .sandboxes
            .values()
            .filter(|s| selected(&s.labels, &wanted))
            .map(|s| PodSandbox {
                id: s.id.clone(),
                metadata: s.metadata.clone(),
                state: s.state,
                created_at: s.created_at,
                labels: s.labels.clone(),
                ..Default::default()
            });
        Ok(Response::new(ListPodSandboxResponse {
            items: items.collect(),
        }))
    }

    async fn create_container(
        &self,
        request: Request<CreateContainerRequest>,
    ) -> Answer<CreateContainerResponse> {
        let request = request.into_inner();
        let config = request.config.unwrap_or_default();
        let name = config
            .metadata
            .as_ref()
            .map(|m| m.name.clone())
            .unwrap_or_default();
        self.call("CreateContainer", &name)?;
        let mut state = self.state.lock();
        let now = tick(&mut state);
        let id = format!("container-{}", state.next);
        let status = ContainerStatus {
            id: id.clone(),
            metadata: config.metadata,
            state: ContainerState::ContainerCreated.into(),
            created_at: now,
            image: config.image,
            labels: config.labels,
            annotations: config.annotations,
            ..Default::default()
        };
        state
            .containers
            .insert(id.clone(), (request.pod_sandbox_id, status));
        Ok(Response::new(CreateContainerResponse { container_id: id }))
    }

    async fn start_container(
        &self,
        request: Request<StartContainerRequest>,
    ) -> Answer<StartContainerResponse> {
        self.call("StartContainer", "")?;
        let id = request.into_inner().container_id;
        let mut state = self.state.lock();
        let now = tick(&mut state);
        let (_, status) = state
            .containers
            .get_mut(&id)
            .ok_or_else(|| Status::not_found(id))?;
        status.state = ContainerState::ContainerRunning.into();
        status.started_at = now;
        Ok(Response::new(StartContainerResponse {}))
    }

    async fn stop_container(&self, request: Request<StopContainerRequest>) -> Answer<StopContainerResponse> {
        let id = request.into_inner().container_id;
        let name = {
            let state = self.state.lock();
            state
                .containers
                .get(&id)
                .and_then(|(_, s)| s.metadata.as_ref().map(|m| m.name.clone()))
                .unwrap_or_default()
        };
        self.call("StopContainer", &name)?;
        self.exit(&name, 143);
        Ok(Response::new(StopContainerResponse {}))
    }

    async fn remove_container(
        &self,
        request: Request<RemoveContainerRequest>,
    ) -> Answer<RemoveContainerResponse> {
        self.call("RemoveContainer", "")?;
        self.state
            .lock()
            .containers
            .remove(&request.into_inner().container_id);
        Ok(Response::new(RemoveContainerResponse {}))
    }

    async fn list_containers(
        &self,
        request: Request<ListContainersRequest>,
    ) -> Answer<ListContainersResponse> {
        self.call("ListContainers", "")?;
        let wanted = request.into_inner().filter.unwrap_or_default().label_selector;
        let state = self.state.lock();
        let containers = state
            .containers
            .values()
            .filter(|(_, s)| selected(&s.labels, &wanted))
            .map(|(sandbox, s)| Container {
                id: s.id.clone(),
                pod_sandbox_id: sandbox.clone(),
                metadata: s.metadata.clone(),
                state: s.state,
                labels: s.labels.clone(),
                ..Default::default()
            });
        Ok(Response::new(ListContainersResponse {
            containers: containers.collect(),
        }))
    }

    async fn container_status(
        &self,
        request: Request<ContainerStatusRequest>,
    ) -> Answer<ContainerStatusResponse> {
        self.call("ContainerStatus", "")?;
        let id = request.into_inner().container_id;
        let status = self
            .state
            .lock()
            .containers
            .get(&id)
            .map(|(_, s)| s.clone())
            .ok_or_else(|| Status::not_found(id))?;
        Ok(Response::new(ContainerStatusResponse {
            status: Some(status),
            ..Default::default()
        }))
    }

    async fn exec_sync(&self, request: Request<ExecSyncRequest>) -> Answer<ExecSyncResponse> {
        self.call("ExecSync", &request.into_inner().cmd.join(" "))?;
        Ok(Response::new(ExecSyncResponse::default()))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Answer<StatusResponse> {
        Ok(Response::new(StatusResponse::default()))
    }

    absent! {
        update_container_resources: UpdateContainerResourcesRequest => UpdateContainerResourcesResponse;
        reopen_container_log: ReopenContainerLogRequest => ReopenContainerLogResponse;
        exec: ExecRequest => ExecResponse;
        attach: AttachRequest => AttachResponse;
        port_forward: PortForwardRequest => PortForwardResponse;
        container_stats: ContainerStatsRequest => ContainerStatsResponse;
        list_container_stats: ListContainerStatsRequest => ListContainerStatsResponse;
        pod_sandbox_stats: PodSandboxStatsRequest => PodSandboxStatsResponse;
        list_pod_sandbox_stats: ListPodSandboxStatsRequest => ListPodSandboxStatsResponse;
        update_runtime_config: UpdateRuntimeConfigRequest => UpdateRuntimeConfigResponse;
        checkpoint_container: CheckpointContainerRequest => CheckpointContainerResponse;
        list_metric_descriptors: ListMetricDescriptorsRequest => ListMetricDescriptorsResponse;
        list_pod_sandbox_metrics: ListPodSandboxMetricsRequest => ListPodSandboxMetricsResponse;
        runtime_config: RuntimeConfigRequest => RuntimeConfigResponse;
        update_pod_sandbox_resources: UpdatePodSandboxResourcesRequest => UpdatePodSandboxResourcesResponse;
        stream_pod_sandboxes: StreamPodSandboxesRequest => Self::StreamPodSandboxesStream;
        stream_containers: StreamContainersRequest => Self::StreamContainersStream;
        stream_container_stats: StreamContainerStatsRequest => Self::StreamContainerStatsStream;
        stream_pod_sandbox_stats: StreamPodSandboxStatsRequest => Self::StreamPodSandboxStatsStream;
        get_container_events: GetEventsRequest => Self::GetContainerEventsStream;
        stream_pod_sandbox_metrics: StreamPodSandboxMetricsRequest => Self::StreamPodSandboxMetricsStream;
    }
}

#[tonic::async_trait]
impl ImageService for FakeCri {
    type StreamImagesStream = Empty<Result<StreamImagesResponse, Status>>;

    async fn image_status(&self, request: Request<ImageStatusRequest>) -> Answer<ImageStatusResponse> {
        self.call("ImageStatus", "")?;
        let name = request.into_inner().image.unwrap_or_default().image;
        let there = self.state.lock().images.contains(&name);
        let image = there.then(|| Image {
            id: name.clone(),
            repo_tags: vec![name],
            ..Default::default()
        });
        Ok(Response::new(ImageStatusResponse {
            image,
            ..Default::default()
        }))
    }

    async fn pull_image(&self, request: Request<PullImageRequest>) -> Answer<PullImageResponse> {
        let name = request.into_inner().image.unwrap_or_default().image;
        self.call("PullImage", &name)?;
        self.add_image(&name);
        Ok(Response::new(PullImageResponse { image_ref: name }))
    }

    absent! {
        list_images: ListImagesRequest => ListImagesResponse;
        stream_images: StreamImagesRequest => Self::StreamImagesStream;
        remove_image: RemoveImageRequest => RemoveImageResponse;
        image_fs_info: ImageFsInfoRequest => ImageFsInfoResponse;
    }
}
