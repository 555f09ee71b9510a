//! An API server, a distributor over TLS, and folders of credentials as the kubelet mounts them.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use sidewall_host_tests::apiserver::{ApiServer, Kubectl, Token};
use sidewall_host_tests::envoy::{Artifact, Envoy, Spec, artifact, template};
use sidewall_host_tests::net::Netns;
use sidewall_host_tests::{http, sandbox};

use crate::pki::Authority;
use crate::rights::of_the_chart;

/// So long that only something broken takes longer, on a busy machine too.
pub const PATIENCE: Duration = Duration::from_secs(60);

const API: ([u8; 4], u16) = ([127, 0, 0, 1], 6443);
const ADMIN: ([u8; 4], u16) = ([127, 0, 0, 1], 18080);
pub const XDS: &str = "127.0.0.1:18000";
/// What the distributor's certificate is for: not the address that is dialled, as in a cluster.
pub const XDS_NAME: &str = "sidewall.sidewall-system.svc";

pub struct Site {
    pub api: ApiServer,
    pub netns: Netns,
    pub folder: PathBuf,
    /// Who signs the distributor's certificate.
    pub ca: Authority,
    /// Who signs client certificates.
    pub client_ca: Authority,
    distributor: Option<Child>,
}

impl Site {
    /// Starts an API server with the pods `shop/web` and `shop/db` on node `one`, and a distributor.
    pub fn start(name: &str) -> Result<Self> {
        let netns = Netns::create(name)?;
        let up = netns
            .command("ip")
            .args(["link", "set", "lo", "up"])
            .status()?;
        ensure!(up.success(), "{name}: lo does not come up");
        let api = ApiServer::start_at(SocketAddr::from(API), Some(netns.clone()))?;
        for object in objects() {
            api.put(&object)?;
        }
        let folder = sandbox::scratch().join(name);
        fs::create_dir_all(&folder)?;
        let kubectl = Kubectl::new(&api.kubeconfig(), Some(netns.clone()))?;
        fs::write(folder.join("kubeconfig"), of_the_chart(&api, &kubectl)?)?;
        let mut site = Self {
            api,
            netns,
            folder,
            ca: Authority::new(),
            client_ca: Authority::new(),
            distributor: None,
        };
        site.certify(&site.ca)?;
        mount(
            &site.folder.join("tls"),
            "client-ca.crt",
            site.client_ca.pem(),
        )?;
        site.start_distributor()?;
        Ok(site)
    }

    /// Gives the distributor a certificate that this authority signed.
    pub fn certify(&self, ca: &Authority) -> Result<()> {
        let pair = ca.server(&[XDS_NAME]);
        mount(&self.folder.join("tls"), "tls.crt", &pair.certificate)?;
        mount(&self.folder.join("tls"), "tls.key", &pair.key)
    }

    /// Ends the distributor, if it runs, and starts another one.
    pub fn start_distributor(&mut self) -> Result<()> {
        self.stop_distributor();
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.folder.join("serve.log"))?;
        let tls = |name: &str| self.folder.join("tls").join(name);
        let distributor = self
            .netns
            .command(Artifact::Sidewall.find()?)
            .args(["serve", "--kube", "--node-plane", "--log-format=json"])
            .arg(format!("--xds-listen={XDS}"))
            .arg("--tls-cert")
            .arg(tls("tls.crt"))
            .arg("--tls-key")
            .arg(tls("tls.key"))
            .arg("--client-ca")
            .arg(tls("client-ca.crt"))
            .arg("--node-service-account=sidewall-system/node")
            .env("KUBECONFIG", self.folder.join("kubeconfig"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        self.distributor = Some(distributor);
        self.until("a distributor that is ready", || {
            Ok(self.get("/readyz").is_ok())
        })
    }

    pub fn stop_distributor(&mut self) {
        if let Some(mut running) = self.distributor.take() {
            // It may have ended already.
            let _ended = running.kill();
            let _reaped = running.wait();
        }
    }

    /// A token of a pod, which the API server knows from now on.
    pub fn issue(&self, account: (&str, &str), pod: &str, expires: SystemTime) -> Result<String> {
        let (namespace, service_account) = account;
        let meaning = Token {
            audiences: vec!["sidewall".to_owned()],
            namespace: namespace.to_owned(),
            service_account: service_account.to_owned(),
            pod: Some((pod.to_owned(), self.uid(pod)?)),
            node: Some(("one".to_owned(), "uid-of-one".to_owned())),
            expires: Some(expires),
        };
        Ok(self.api.issue(meaning)?)
    }

    /// A pod as the API server has it.
    pub fn pod(&self, name: &str) -> Result<Option<Value>> {
        let mut objects = self.api.objects()?.into_iter();
        Ok(objects.find(|object| object["kind"] == "Pod" && object["metadata"]["name"] == name))
    }

    fn uid(&self, pod: &str) -> Result<String> {
        let pod = self.pod(pod)?.unwrap_or_default();
        let uid = pod["metadata"]["uid"].as_str();
        Ok(uid.unwrap_or("of a pod that is not there").to_owned())
    }

    /// A folder with a client's token and CA, and what tells an Envoy where they are.
    pub fn credentials(&self, client: &str, token: &str) -> Result<PathBuf> {
        let folder = self.folder.join(client);
        mount(&folder.join("secrets"), "token", token)?;
        mount(&folder.join("secrets"), "ca.crt", self.ca.pem())?;
        for (name, secret, file, deployed) in [
            (
                "token",
                template::TOKEN_SECRET,
                "token",
                "/var/run/secrets/sidewall/token",
            ),
            (
                "ca",
                template::CA_SECRET,
                "ca.crt",
                "/var/run/secrets/sidewall/ca.crt",
            ),
        ] {
            ensure!(secret.contains(deployed), "envoy/sds names no {deployed}");
            let here = folder.join("secrets").join(file).display().to_string();
            let secret = secret.replace(deployed, &here);
            fs::write(folder.join(format!("{name}.yaml")), secret)?;
        }
        Ok(folder)
    }

    /// Starts an Envoy of `template` with these credentials.
    pub fn envoy(&self, template: &str, node_id: &str, credentials: &Path) -> Result<Envoy> {
        let filter = self.folder.join("sidewall_filter.wasm");
        if !filter.exists() {
            fs::copy(Artifact::Filter.find()?, &filter)?;
        }
        let text = |path: &Path| path.display().to_string();
        let (host, port) = XDS.split_once(':').context("an address")?;
        let values = [
            ("SIDEWALL_HOST", host),
            ("SIDEWALL_NAME", XDS_NAME),
            ("SIDEWALL_PORT", port),
            ("SIDEWALL_WASM", &text(&filter)),
            ("SIDEWALL_SDS", &text(credentials)),
        ];
        Ok(Envoy::spawn(Spec {
            name: node_id.to_owned(),
            binary: artifact::install_envoy(&sandbox::scratch().join("bin"))?,
            netns: self.netns.clone(),
            bootstrap: template::render(template, &values)?,
            node_id: node_id.to_owned(),
            workers: 1,
            net_admin: true,
            folder: credentials.join("envoy"),
        })?)
    }

    pub fn get(&self, path: &str) -> Result<String> {
        let address = SocketAddr::from(ADMIN);
        Ok(self
            .netns
            .run(|| http::get(address, path, Duration::from_secs(5)))??)
    }

    pub fn status(&self) -> Result<Value> {
        Ok(serde_json::from_str(&self.get("/status")?)?)
    }

    /// A counter of the distributor; 0 while it is not there.
    pub fn counter(&self, name: &str) -> Result<u64> {
        let metrics = self.get("/metrics")?;
        let value = metrics.lines().find_map(|line| line.strip_prefix(name));
        value.map_or(Ok(0), |value| Ok(value.trim().parse()?))
    }

    /// How often somebody was turned away for this reason.
    pub fn refusals(&self, reason: &str) -> Result<u64> {
        self.counter(&format!(
            "sidewall_xds_refusals_total{{reason=\"{reason}\"}}"
        ))
    }

    /// The messages that the distributor logged with this text in them, fields and all.
    pub fn logged(&self, text: &str) -> Result<Vec<Value>> {
        let log = fs::read_to_string(self.folder.join("serve.log"))?;
        let lines = log.lines().map(serde_json::from_str::<Value>);
        let lines = lines.collect::<Result<Vec<_>, _>>()?;
        let says = |line: &Value| {
            line["fields"]["message"]
                .as_str()
                .is_some_and(|it| it.contains(text))
        };
        Ok(lines
            .into_iter()
            .filter(says)
            .map(|mut line| line["fields"].take())
            .collect())
    }

    /// Waits until something holds.
    pub fn until(&self, what: &str, holds: impl Fn() -> Result<bool>) -> Result<()> {
        let started = Instant::now();
        while !holds()? {
            ensure!(
                started.elapsed() < PATIENCE,
                "not {what}; the distributor's log:\n{}",
                fs::read_to_string(self.folder.join("serve.log"))?
            );
            sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.stop_distributor();
    }
}

/// Writes a file as the kubelet does: into a new folder that a link is then swapped to.
pub fn mount(folder: &Path, name: &str, content: &str) -> Result<()> {
    fs::create_dir_all(folder)?;
    let data = folder.join("..data");
    let number = fs::read_dir(folder)?.count();
    let new = folder.join(format!("..{number}"));
    fs::create_dir(&new)?;
    if data.exists() {
        for kept in fs::read_dir(&data)? {
            let kept = kept?;
            fs::copy(kept.path(), new.join(kept.file_name()))?;
        }
    }
    fs::write(new.join(name), content)?;
    // Envoy runs as another user.
    for path in [folder, &new] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    }
    let link = folder.join("..data_tmp");
    symlink(new.file_name().context("a name")?, &link)?;
    fs::rename(link, &data)?;
    if !folder.join(name).exists() {
        symlink(format!("..data/{name}"), folder.join(name))?;
    }
    Ok(())
}

fn objects() -> Vec<Value> {
    let pod = |namespace: &str, name: &str, ip: &str| {
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": name, "namespace": namespace },
            "spec": {
                "nodeName": "one", "serviceAccountName": name, "containers": [{ "name": "c", "image": "i" }],
                "readinessGates": [{ "conditionType": "sidewall.dev/policy-applied" }],
            },
            "status": { "phase": "Running", "podIP": ip, "podIPs": [{ "ip": ip }] },
        })
    };
    let namespace = |name: &str| json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
    let node = |name: &str, ip: &str| {
        let addresses = json!([{ "type": "InternalIP", "address": ip }]);
        json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": name }, "status": { "addresses": addresses } })
    };
    let mut agent = pod("sidewall-system", "agent", "192.168.50.1");
    agent["spec"]["hostNetwork"] = json!(true);
    vec![
        namespace("shop"),
        namespace("sidewall-system"),
        node("one", "192.168.50.1"),
        node("two", "192.168.50.2"),
        pod("shop", "web", "10.0.0.1"),
        pod("shop", "db", "10.0.0.2"),
        agent,
    ]
}
