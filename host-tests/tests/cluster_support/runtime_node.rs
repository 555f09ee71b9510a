//! A node with the real containerd and CNI plugins, the distributor, the agent, and a server elsewhere.

use std::fs;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;
use sidewall_host_tests::envoy::artifact::Artifact;
use sidewall_host_tests::net::Netns;
use sidewall_host_tests::{http, lab};
use tokio::runtime::Runtime;

use super::cri::{Cri, PodConfig, PodMetadata};

const SERVER: &str = "192.168.77.2";
const PORT: u16 = 8080;
const IMAGE: &str = "localhost/shell:1";
const PATIENCE: Duration = Duration::from_secs(30);
const AGENT_ADMIN: &str = "127.0.0.1:18081";
const DISTRIBUTOR_ADMIN: &str = "127.0.0.1:18080";

/// What policies say of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodKind {
    /// No policy selects it.
    Open,
    /// A policy isolates it for egress and allows nothing.
    Closed,
}

/// Dropping it ends everything.
pub struct Node {
    folder: tempfile::TempDir,
    range: String,
    runtime: Arc<Runtime>,
    cri: Cri,
    containerd: Process,
    agent: Option<Process>,
    _distributor: Process,
    _server: Netns,
    pods: u32,
}

/// A pod whose sandbox runs.
pub struct Pod {
    runtime: Arc<Runtime>,
    cri: Cri,
    config: PodConfig,
    sandbox: String,
    took: Duration,
}

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn checked(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {errors}");
    Ok(())
}

fn shell(line: &str) -> Result<()> {
    checked(Command::new("sh").args(["-ec", line]))
}

fn spawn(command: &mut Command, log: &Path) -> Result<Process> {
    let log = fs::File::options().create(true).append(true).open(log)?;
    let command = command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    Ok(Process(
        command.spawn().with_context(|| format!("{command:?}"))?,
    ))
}

fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) -> Result<()> {
    let started = Instant::now();
    while !is_so() {
        if started.elapsed() > PATIENCE {
            bail!("{what}: not within {PATIENCE:?}");
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn page(address: &str, path: &str) -> Result<String> {
    let address: SocketAddr = address.parse()?;
    Ok(http::get(address, path, Duration::from_secs(5))?)
}

impl Node {
    pub fn start() -> Result<Self> {
        Self::start_with_range("10.88.7.0/24")
    }

    pub fn start_with_range(range: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let server = network()?;
        write_configuration(folder.path(), range)?;
        let runtime = Arc::new(Runtime::new()?);
        let cri = Cri::new(&runtime, &folder.path().join("containerd.sock"))?;
        let containerd = containerd(folder.path())?;
        wait_for("containerd", || runtime.block_on(cri.is_ready()))?;
        import_image(folder.path())?;
        let mut distributor = Command::new(Artifact::Sidewall.find()?);
        distributor
            .args(["serve", "--insecure-plaintext", "--node-plane"])
            .arg("--manifests")
            .arg(folder.path().join("manifests"))
            .args(["--xds-listen=127.0.0.1:18000"])
            .arg(format!("--admin-listen={DISTRIBUTOR_ADMIN}"));
        let distributor = spawn(&mut distributor, &folder.path().join("distributor.log"))?;
        wait_for("the distributor", || {
            page(DISTRIBUTOR_ADMIN, "/readyz").is_ok()
        })?;
        Ok(Self {
            folder,
            range: range.to_owned(),
            runtime,
            cri,
            containerd,
            agent: None,
            _distributor: distributor,
            _server: server,
            pods: 0,
        })
    }

    /// Starts the agent, instead of an earlier one.
    pub fn start_agent(&mut self, with_nri: bool) -> Result<()> {
        self.stop_agent();
        let mut agent = Command::new(Artifact::Sidewall.find()?);
        agent
            .args([
                "node",
                "--node-name=n1",
                "--distributor=http://127.0.0.1:18000",
            ])
            .arg(format!("--pod-cidr={}", self.range))
            .arg(format!("--admin-listen={AGENT_ADMIN}"));
        if with_nri {
            agent
                .arg("--nri-socket")
                .arg(self.folder.path().join("nri.sock"));
        }
        self.agent = Some(spawn(&mut agent, &self.log("agent"))?);
        self.wait_ready()
    }

    pub fn stop_agent(&mut self) {
        self.agent = None;
    }

    /// Restarts containerd. Its shims go on.
    pub fn restart_runtime(&mut self) -> Result<()> {
        let _ = self.containerd.0.kill();
        self.containerd.0.wait()?;
        wait_for("an agent without a runtime says so", || {
            page(AGENT_ADMIN, "/readyz")
                .is_ok_and(|text| text.contains("does not tell of new pods"))
        })?;
        self.containerd = containerd(self.folder.path())?;
        wait_for("containerd", || self.runtime.block_on(self.cri.is_ready()))?;
        self.wait_ready()
    }

    fn wait_ready(&self) -> Result<()> {
        let is_ready = |text: String| {
            text.contains("ready: enforcing") && !text.contains("does not tell of new pods")
        };
        let waited = wait_for("the agent", || {
            page(AGENT_ADMIN, "/readyz").is_ok_and(is_ready)
        });
        waited.with_context(|| self.tail("agent"))
    }

    fn log(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.log"))
    }

    fn tail(&self, name: &str) -> String {
        fs::read_to_string(self.log(name)).unwrap_or_default()
    }

    /// Metrics of the agent whose names contain this.
    pub fn metrics(&self, name: &str) -> Result<String> {
        let page = page(AGENT_ADMIN, "/metrics")?;
        let lines = page
            .lines()
            .filter(|line| line.contains(name) && !line.starts_with('#'));
        Ok(lines.collect::<Vec<_>>().join("\n"))
    }

    /// Creates the object of a pod, as the API server does, and then its sandbox, as the kubelet does.
    pub fn run(&mut self, kind: PodKind, name: &str) -> Result<Pod> {
        self.pods += 1;
        let uid = format!("{:08x}-0000-4000-8000-000000000000", self.pods);
        let namespace = match kind {
            PodKind::Open => "open",
            PodKind::Closed => "closed",
        };
        let object = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": namespace, "uid": uid},
            "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": IMAGE}]},
        });
        let file = self.folder.path().join(format!("manifests/{name}.yaml"));
        fs::write(file, serde_json::to_vec(&object)?)?;
        let config = PodConfig {
            metadata: Some(PodMetadata {
                name: name.to_owned(),
                uid,
                namespace: namespace.to_owned(),
            }),
            ..PodConfig::default()
        };
        let started = Instant::now();
        let sandbox = self.runtime.block_on(self.cri.run_sandbox(&config));
        let took = started.elapsed();
        Ok(Pod {
            runtime: Arc::clone(&self.runtime),
            cri: self.cri.clone(),
            config,
            sandbox: sandbox.with_context(|| self.tail("containerd"))?,
            took,
        })
    }
}

impl Pod {
    /// Whether a container that begins with a connection makes it before it would repeat its first packet.
    pub fn connect(&self) -> Result<bool> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let attempt =
            format!("exec 3<>/dev/tcp/{SERVER}/{PORT} && read -r line <&3 && [ \"$line\" = here ]");
        let command = ["/bin/timeout", "0.9", "/bin/bash", "-c", &attempt];
        let name = format!("c{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let run = self
            .cri
            .run_container(&self.config, &self.sandbox, &name, IMAGE, &command);
        let code = self.runtime.block_on(run)?;
        ensure!(matches!(code, 0 | 124), "the container ended with {code}");
        Ok(code == 0)
    }

    pub fn address(&self) -> Result<String> {
        self.runtime.block_on(self.cri.address(&self.sandbox))
    }

    /// How long the sandbox took to start.
    pub fn start_took(&self) -> Duration {
        self.took
    }

    pub fn remove(self) -> Result<()> {
        self.runtime.block_on(self.cri.remove(&self.sandbox))
    }
}

/// A server in a network that the node routes to.
fn network() -> Result<Netns> {
    let server = Netns::create("server")?;
    shell(
        "ip link del to-server 2>/dev/null || true
         ip link add to-server type veth peer name eth0 netns server
         ip addr add 192.168.77.1/24 dev to-server
         ip link set to-server up
         ip -n server addr add 192.168.77.2/24 dev eth0
         ip -n server link set eth0 up
         ip -n server link set lo up
         ip -n server route add default via 192.168.77.1
         sysctl -qw net.ipv4.ip_forward=1",
    )?;
    let listener = server.run(|| TcpListener::bind((SERVER, PORT)))??;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = stream;
            let _ = stream.write_all(b"here\n");
        }
    });
    Ok(server)
}

fn write_configuration(folder: &Path, range: &str) -> Result<()> {
    let at = |name: &str| folder.join(name).display().to_string();
    for name in ["manifests", "cni", "addresses", "plugins"] {
        fs::create_dir(folder.join(name))?;
    }
    let network = json!({
        "cniVersion": "1.0.0", "name": "pods",
        "plugins": [{"type": "ptp", "ipMasq": false, "ipam": {
            "type": "host-local", "dataDir": at("addresses"), "ranges": [[{"subnet": range}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        }}],
    });
    fs::write(folder.join("cni/10-pods.conflist"), network.to_string())?;
    let programs = lab::programs();
    // Without CAP_SYS_RESOURCE no process may lower its oom_score_adj.
    let configuration = format!(
        "version = 3\nroot = {root:?}\nstate = {state:?}\ndisabled_plugins = [\"io.containerd.tracing.processor.v1.otlp\"]\n\
         [grpc]\naddress = {socket:?}\n\
         [plugins.'io.containerd.cri.v1.images']\nsnapshotter = \"native\"\n\
         [plugins.'io.containerd.cri.v1.images'.pinned_images]\nsandbox = {IMAGE:?}\n\
         [plugins.'io.containerd.cri.v1.runtime']\nrestrict_oom_score_adj = true\n\
         [plugins.'io.containerd.cri.v1.runtime'.cni]\nbin_dirs = [{programs:?}]\nconf_dir = {cni:?}\n\
         [plugins.'io.containerd.nri.v1.nri']\ndisable = false\nsocket_path = {nri:?}\nplugin_path = {plugins:?}\n\
         plugin_config_path = {plugins:?}\n",
        root = at("root"),
        state = at("state"),
        socket = at("containerd.sock"),
        cni = at("cni"),
        nri = at("nri.sock"),
        plugins = at("plugins"),
    );
    fs::write(folder.join("containerd.toml"), configuration)?;
    let object = |kind: &str, api: &str, metadata: serde_json::Value, spec: serde_json::Value| {
        json!({"apiVersion": api, "kind": kind, "metadata": metadata, "spec": spec}).to_string()
    };
    let policy = json!({"podSelector": {}, "policyTypes": ["Egress"]});
    let objects = [
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"},
            "status": {"addresses": [{"type": "InternalIP", "address": "192.168.77.1"}]}})
        .to_string(),
        object("Namespace", "v1", json!({"name": "open"}), json!({})),
        object("Namespace", "v1", json!({"name": "closed"}), json!({})),
        object(
            "NetworkPolicy",
            "networking.k8s.io/v1",
            json!({"name": "nothing", "namespace": "closed"}),
            policy,
        ),
    ];
    fs::write(folder.join("manifests/base.yaml"), objects.join("\n---\n"))?;
    Ok(())
}

fn containerd(folder: &Path) -> Result<Process> {
    let programs = lab::programs();
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new(programs.join("containerd"));
    command
        .arg("--config")
        .arg(folder.join("containerd.toml"))
        .env("PATH", format!("{}:{path}", programs.display()));
    spawn(&mut command, &folder.join("containerd.log"))
}

/// An image with a shell and `timeout`, made of the machine's own and the libraries that they name.
fn import_image(folder: &Path) -> Result<()> {
    let image = folder.join("image");
    fs::create_dir_all(image.join("root/bin"))?;
    let script = format!(
        "cd {image}
         cp /bin/bash /usr/bin/sleep /usr/bin/timeout root/bin/
         for each in $(ldd root/bin/* | grep -o '/[^ :]*' | grep -v '^/.*root/bin' | sort -u); do
           [ -e \"$each\" ] && install -D \"$each\" \"root$each\"
         done
         tar -C root -cf layer.tar .
         printf '{{\"architecture\":\"%s\",\"os\":\"linux\",\"config\":{{\"Cmd\":[\"/bin/sleep\",\"infinity\"]}},\
         \"rootfs\":{{\"type\":\"layers\",\"diff_ids\":[\"sha256:%s\"]}}}}' \
           \"$(dpkg --print-architecture)\" \"$(sha256sum layer.tar | cut -d' ' -f1)\" > config.json
         printf '[{{\"Config\":\"config.json\",\"RepoTags\":[\"{IMAGE}\"],\"Layers\":[\"layer.tar\"]}}]' > manifest.json
         tar -cf image.tar manifest.json config.json layer.tar
         {ctr} --address {socket} --namespace k8s.io images import --local --snapshotter native image.tar",
        image = image.display(),
        ctr = lab::programs().join("ctr").display(),
        socket = folder.join("containerd.sock").display(),
    );
    shell(&script)
}
