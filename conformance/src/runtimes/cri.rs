//! The part of the Container Runtime Interface that the suite calls: run a pod sandbox, start a container in it, run a
//! command there, take both away.
//!
//! The messages hold only the fields used here, under the field numbers of
//! [`runtime.v1`](https://github.com/kubernetes/cri-api/blob/master/pkg/apis/runtime/v1/api.proto); protobuf passes over
//! the rest. So the suite builds without a protobuf compiler.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use prost::Message;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};

/// Longest that the suite waits for one answer of the runtime; `RunPodSandbox` takes 0.1 s to 0.3 s.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Identity of a pod; the runtime passes its name and namespace on to the plugins as `K8S_POD_*`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct PodSandboxMetadata {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) uid: String,
    #[prost(string, tag = "3")]
    pub(crate) namespace: String,
}

/// Resolver of a pod; without one the runtime copies the machine's.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct DnsConfig {
    #[prost(string, repeated, tag = "1")]
    pub(crate) servers: Vec<String>,
}

/// What is particular to Linux about a pod.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct LinuxPodSandboxConfig {
    /// Parent of the cgroups of the pod's containers, below each controller.
    #[prost(string, tag = "1")]
    pub(crate) cgroup_parent: String,
}

/// A pod to be run.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct PodSandboxConfig {
    #[prost(message, optional, tag = "1")]
    pub(crate) metadata: Option<PodSandboxMetadata>,
    #[prost(string, tag = "2")]
    pub(crate) hostname: String,
    #[prost(string, tag = "3")]
    pub(crate) log_directory: String,
    #[prost(message, optional, tag = "4")]
    pub(crate) dns_config: Option<DnsConfig>,
    #[prost(message, optional, tag = "8")]
    pub(crate) linux: Option<LinuxPodSandboxConfig>,
}

#[derive(Clone, PartialEq, Message)]
struct RunPodSandboxRequest {
    #[prost(message, optional, tag = "1")]
    config: Option<PodSandboxConfig>,
}

/// A request or a response that consists of one id.
#[derive(Clone, PartialEq, Message)]
struct Id {
    #[prost(string, tag = "1")]
    id: String,
}

#[derive(Clone, PartialEq, Message)]
struct Empty {}

#[derive(Clone, PartialEq, Message)]
struct PodIp {
    #[prost(string, tag = "1")]
    ip: String,
}

#[derive(Clone, PartialEq, Message)]
struct PodSandboxNetworkStatus {
    #[prost(string, tag = "1")]
    ip: String,
    #[prost(message, repeated, tag = "2")]
    additional_ips: Vec<PodIp>,
}

#[derive(Clone, PartialEq, Message)]
struct PodSandboxStatus {
    #[prost(message, optional, tag = "5")]
    network: Option<PodSandboxNetworkStatus>,
}

#[derive(Clone, PartialEq, Message)]
struct PodSandboxStatusResponse {
    #[prost(message, optional, tag = "1")]
    status: Option<PodSandboxStatus>,
}

#[derive(Clone, PartialEq, Message)]
struct ContainerMetadata {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct ImageSpec {
    #[prost(string, tag = "1")]
    image: String,
}

#[derive(Clone, PartialEq, Message)]
struct ImageStatusRequest {
    #[prost(message, optional, tag = "1")]
    image: Option<ImageSpec>,
}

#[derive(Clone, PartialEq, Message)]
struct ImageStatusResponse {
    /// Absent where there is no such image.
    #[prost(message, optional, tag = "1")]
    image: Option<Empty>,
}

#[derive(Clone, PartialEq, Message)]
struct ContainerConfig {
    #[prost(message, optional, tag = "1")]
    metadata: Option<ContainerMetadata>,
    #[prost(message, optional, tag = "2")]
    image: Option<ImageSpec>,
    #[prost(string, repeated, tag = "3")]
    command: Vec<String>,
    #[prost(string, tag = "11")]
    log_path: String,
}

#[derive(Clone, PartialEq, Message)]
struct CreateContainerRequest {
    #[prost(string, tag = "1")]
    pod_sandbox_id: String,
    #[prost(message, optional, tag = "2")]
    config: Option<ContainerConfig>,
    #[prost(message, optional, tag = "3")]
    sandbox_config: Option<PodSandboxConfig>,
}

#[derive(Clone, PartialEq, Message)]
struct ExecSyncRequest {
    #[prost(string, tag = "1")]
    container_id: String,
    #[prost(string, repeated, tag = "2")]
    cmd: Vec<String>,
    /// Seconds; 0 is without end.
    #[prost(int64, tag = "3")]
    timeout: i64,
}

#[derive(Clone, PartialEq, Message)]
struct ExecSyncResponse {
    #[prost(bytes, tag = "1")]
    stdout: Vec<u8>,
    #[prost(bytes, tag = "2")]
    stderr: Vec<u8>,
    #[prost(int32, tag = "3")]
    exit_code: i32,
}

#[derive(Clone, PartialEq, Message)]
struct RuntimeCondition {
    #[prost(string, tag = "1")]
    kind: String,
    #[prost(bool, tag = "2")]
    status: bool,
    #[prost(string, tag = "4")]
    message: String,
}

#[derive(Clone, PartialEq, Message)]
struct RuntimeStatus {
    #[prost(message, repeated, tag = "1")]
    conditions: Vec<RuntimeCondition>,
}

#[derive(Clone, PartialEq, Message)]
struct StatusResponse {
    #[prost(message, optional, tag = "1")]
    status: Option<RuntimeStatus>,
}

/// A client of one runtime.
pub(crate) struct Cri {
    runtime: tokio::runtime::Runtime,
    channel: Channel,
}

impl Cri {
    /// Connects to the runtime that listens on `socket`.
    pub(crate) fn connect(socket: &Path) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display()))?.timeout(CALL_TIMEOUT);
        let channel = runtime
            .block_on(endpoint.connect())
            .with_context(|| format!("runtime on \"{}\": not reachable", socket.display()))?;
        Ok(Self { runtime, channel })
    }

    /// Conditions that the runtime says do not hold, such as `NetworkReady`, with its words.
    pub(crate) fn not_ready(&self) -> Result<Vec<String>> {
        let answer: StatusResponse = self.call("Status", Empty {})?;
        let conditions = answer.status.unwrap_or_default().conditions;
        Ok(conditions.into_iter().filter(|c| !c.status).map(|c| format!("{}: {}", c.kind, c.message)).collect())
    }

    /// Is there an image of this name?
    pub(crate) fn has_image(&self, name: &str) -> Result<bool> {
        let request = ImageStatusRequest { image: Some(ImageSpec { image: name.into() }) };
        Ok(self.call_service::<_, ImageStatusResponse>("ImageService", "ImageStatus", request)?.image.is_some())
    }

    /// Runs a pod and returns its id, which is the `CNI_CONTAINERID` that the plugins get.
    pub(crate) fn run_pod(&self, config: &PodSandboxConfig) -> Result<String> {
        let request = RunPodSandboxRequest { config: Some(config.clone()) };
        Ok(self.call::<_, Id>("RunPodSandbox", request)?.id)
    }

    /// Addresses of a pod, the first one first.
    pub(crate) fn pod_ips(&self, pod: &str) -> Result<Vec<String>> {
        let answer: PodSandboxStatusResponse = self.call("PodSandboxStatus", Id { id: pod.into() })?;
        let network = answer.status.and_then(|s| s.network).unwrap_or_default();
        Ok(std::iter::once(network.ip).chain(network.additional_ips.into_iter().map(|ip| ip.ip)).collect())
    }

    /// Starts a container of `image` in a pod and returns its id.
    pub(crate) fn start_container(
        &self,
        pod: &str,
        sandbox: &PodSandboxConfig,
        image: &str,
        command: &[&str],
    ) -> Result<String> {
        let config = ContainerConfig {
            metadata: Some(ContainerMetadata { name: "main".into() }),
            image: Some(ImageSpec { image: image.into() }),
            command: command.iter().map(ToString::to_string).collect(),
            log_path: format!("{pod}.log"),
        };
        let request = CreateContainerRequest {
            pod_sandbox_id: pod.into(),
            config: Some(config),
            sandbox_config: Some(sandbox.clone()),
        };
        let container = self.call::<_, Id>("CreateContainer", request)?;
        self.call::<_, Empty>("StartContainer", container.clone())?;
        Ok(container.id)
    }

    /// Runs a command in a container and returns what it printed.
    ///
    /// # Errors
    /// If the command exits with another code than 0; its output is part of the message.
    pub(crate) fn exec(&self, container: &str, command: &[&str]) -> Result<String> {
        let request = ExecSyncRequest {
            container_id: container.into(),
            cmd: command.iter().map(ToString::to_string).collect(),
            timeout: 20,
        };
        let answer: ExecSyncResponse = self.call("ExecSync", request)?;
        let stdout = String::from_utf8_lossy(&answer.stdout).into_owned();
        if answer.exit_code != 0 {
            let stderr = String::from_utf8_lossy(&answer.stderr);
            bail!("\"{}\" in a container: exit code {}\n{stdout}{stderr}", command.join(" "), answer.exit_code);
        }
        Ok(stdout)
    }

    /// Stops and removes a pod with its containers; the plugins get their DEL while it is stopped.
    pub(crate) fn remove_pod(&self, pod: &str) -> Result<()> {
        self.call::<_, Empty>("StopPodSandbox", Id { id: pod.into() })?;
        self.call::<_, Empty>("RemovePodSandbox", Id { id: pod.into() })?;
        Ok(())
    }

    fn call<Q, A>(&self, method: &str, request: Q) -> Result<A>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        self.call_service("RuntimeService", method, request)
    }

    fn call_service<Q, A>(&self, service: &str, method: &str, request: Q) -> Result<A>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let path = PathAndQuery::try_from(format!("/runtime.v1.{service}/{method}"))?;
        let mut grpc = Grpc::new(self.channel.clone());
        self.runtime.block_on(async {
            grpc.ready().await.with_context(|| format!("{method}: the runtime is gone"))?;
            let codec = tonic_prost::ProstCodec::<Q, A>::default();
            let answer = grpc.unary(tonic::Request::new(request), path, codec).await;
            match answer {
                Ok(answer) => Ok(answer.into_inner()),
                Err(status) => bail!("{method}: {}: {}", status.code(), status.message()),
            }
        })
    }
}
