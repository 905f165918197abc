// SPDX-License-Identifier: Apache-2.0
//! One node: its agent, and the lab in the role of its kubelet.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use super::cluster::{Options, Programs, node_ip};
use super::place::Place;
use super::pod::Pod;

/// An agent that is not ready by then never will be, also where the processor is emulated.
const PATIENCE: Duration = Duration::from_secs(600);

#[derive(Debug)]
pub struct Node {
    pub name: String,
    pub index: u8,
    pub place: Place,
    pub programs: Programs,
    /// State directory, configuration, logs and CNI configuration.
    pub dir: PathBuf,
    pub agent: Option<Child>,
}

impl Node {
    pub fn new(
        options: &Options,
        lab: &Path,
        bpf_root: PathBuf,
        place: Place,
        index: u8,
    ) -> Result<Self> {
        let name = format!("n{index}");
        let dir = lab.join(&name);
        fs::create_dir_all(&dir)?;
        let cgroup = place.cgroup.parent().context("the host's cgroup is below the node's")?;
        let config = format!(
            "nodeName: {name}\nmanifests: {manifests}\nbpfRoot: {bpf}\nstateDir: {dir}/state\n\
             cgroupRoot: {cgroup}\nautoDirectNodeRoutes: true\ncni:\n  confPath: {dir}/cni\n{more}",
            manifests = lab.join("manifests").display(),
            bpf = bpf_root.display(),
            dir = dir.display(),
            cgroup = cgroup.display(),
            more = options.config,
        );
        fs::write(dir.join("culvert.yaml"), config)?;
        Ok(Self { name, index, place, programs: options.programs.clone(), dir, agent: None })
    }

    /// As the API server would tell of it.
    pub fn manifest(&self) -> Value {
        let address = |ip| json!({ "type": "InternalIP", "address": ip });
        json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": { "name": self.name },
            "spec": { "podCIDRs": [
                format!("10.1.{}.0/24", self.index),
                format!("fd00:10:{}::/64", self.index),
            ] },
            "status": { "addresses": [
                address(node_ip(self.index, false)),
                address(node_ip(self.index, true)),
            ] },
        })
    }

    pub fn start_agent(&mut self) -> Result<()> {
        let log = File::options().create(true).append(true).open(self.log_path())?;
        let mut command = self.place.command(&self.programs.culvert);
        command.args(["agent", "--config"]).arg(self.dir.join("culvert.yaml"));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.agent = Some(self.place.spawn(&mut command)?);
        Ok(())
    }

    /// Waits for what kubelet waits for: the network configuration, and STATUS saying yes.
    pub fn wait_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let why_not = match self.cni("STATUS", &[], None) {
                Ok(_) => return Ok(()),
                Err(cause) => cause,
            };
            let ended = self.agent.as_mut().map(Child::try_wait).transpose()?.flatten();
            if ended.is_some() || Instant::now() > deadline {
                let log = fs::read_to_string(self.log_path()).unwrap_or_default();
                bail!("the agent of `{}` is not ready ({ended:?}): {why_not:#}\n{log}", self.name);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Makes the agent ask the API server at `url` from its next start on.
    pub fn follow(&self, url: &str) -> Result<()> {
        let kubeconfig = self.dir.join("kubeconfig");
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: lab\n\
             clusters: [{{name: lab, cluster: {{server: '{url}'}}}}]\n\
             contexts: [{{name: lab, context: {{cluster: lab, user: lab}}}}]\n\
             users: [{{name: lab, user: {{}}}}]\n"
        );
        fs::write(&kubeconfig, text)?;
        let config = self.dir.join("culvert.yaml");
        let text = fs::read_to_string(&config)?;
        let lines = text.lines().map(|line| match line.starts_with("manifests: ") {
            true => format!("kubeconfig: {}\n", kubeconfig.display()),
            false => format!("{line}\n"),
        });
        Ok(fs::write(&config, lines.collect::<String>())?)
    }

    /// The agent's `/metrics`.
    pub fn metrics(&self) -> Result<String> {
        self.place.netns.run(|| {
            let mut stream = TcpStream::connect("127.0.0.1:1025")?;
            write!(stream, "GET /metrics HTTP/1.0\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            let (_, page) = answer.split_once("\r\n\r\n").context("no header ends")?;
            Ok(page.to_owned())
        })
    }

    /// A line of the agent's `/metrics`, which begins with `name`; 0 while it is not there.
    pub fn metric(&self, name: &str) -> f64 {
        let page = self.metrics().unwrap_or_default();
        let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.trim().parse().unwrap_or(0.0))
    }

    pub fn log_path(&self) -> PathBuf {
        self.dir.join("agent.log")
    }

    /// As [`Self::culvert`], for a command that shows what is wrong and fails then.
    pub fn shown(&self, args: &[&str]) -> Result<String> {
        Ok(String::from_utf8(self.run(args)?.stdout)?)
    }

    fn run(&self, args: &[&str]) -> Result<Output> {
        let mut command = self.place.command(&self.programs.culvert);
        command.args(args).arg("--config").arg(self.dir.join("culvert.yaml"));
        Ok(self.place.output(command.stdin(Stdio::null()))?)
    }

    /// `culvert ARGS` on this node.
    pub fn culvert(&self, args: &[&str]) -> Result<String> {
        let output = self.run(args)?;
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(
            output.status.success(),
            "`culvert {}` on `{}`: {}\n{stdout}{}",
            args.join(" "),
            self.name,
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(stdout)
    }

    /// A pod without a process.
    pub fn add_pod(&self, name: &str) -> Result<Pod> {
        let cgroup = self.place.cgroup.with_file_name("pods").join(name);
        Pod::add(self, name, Place::new(cgroup)?)
    }

    /// Runs the plugin as a container runtime does, with `more` in its configuration.
    pub fn cni(&self, command: &str, env: &[(&str, &str)], more: Option<Value>) -> Result<Value> {
        let path = self.dir.join("cni/05-culvert.conflist");
        let conflist =
            fs::read(&path).with_context(|| format!("there is no `{}`", path.display()))?;
        let conflist: Value = serde_json::from_slice(&conflist)?;
        let mut conf = conflist["plugins"][0].clone();
        conf["cniVersion"] = conflist["cniVersion"].clone();
        conf["name"] = conflist["name"].clone();
        for (key, value) in more.iter().filter_map(Value::as_object).flatten() {
            conf[key] = value.clone();
        }
        let input = self.dir.join(format!("cni-input-{command}-{}", fresh()));
        fs::write(&input, conf.to_string())?;
        let mut plugin = Command::new(&self.programs.culvert_cni);
        plugin.env_clear().env("CNI_COMMAND", command).envs(env.iter().copied());
        let output = self.place.output(plugin.stdin(File::open(&input)?))?;
        fs::remove_file(&input)?;
        let stdout = String::from_utf8_lossy(&output.stdout);
        ensure!(
            output.status.success(),
            "{command} on `{}`: {}{}",
            self.name,
            stdout.trim(),
            String::from_utf8_lossy(&output.stderr)
        );
        if stdout.is_empty() { Ok(Value::Null) } else { Ok(serde_json::from_str(&stdout)?) }
    }
}

/// Never the same number twice in this process.
pub fn fresh() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};

    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
