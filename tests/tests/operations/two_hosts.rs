//! Follows the operator's document as a new operator would: two hosts from nothing, with no other
//! knowledge.
//!
//! The hosts are two network namespaces. Overlay file systems hide this machine's folders, so
//! everything that is installed or configured on a host is gone with it. The test needs root, as
//! the operator does.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bridge_skips::{Lack, skipped};
use bridge_tests::testkit::proc_stat::{Stat, children_of};
use bridge_tests::testkit::process::Programs;
use bridge_tests::testkit::tied;
use rustix::process::Pid;

/// Upper limit of each wait. It is generous, since other programs may use the machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Namespaces of a host.
const NAMESPACES: [&str; 6] = ["--net", "--mount", "--uts", "--pid", "--propagation", "private"];

/// Folders that each host has for itself.
const FOLDERS: [&str; 3] = ["/etc", "/var", "/usr/local"];

/// Namespaces that exist as long as a sleeping process in them. That process is the first one of
/// its PID namespace, so the kernel ends every process of the host when it dies. The sleeping
/// process dies with its parent, and the parent dies with this test.
struct Host {
    name: &'static str,
    maker: Child,
    sleeper: Pid,
}

impl Host {
    fn new(name: &'static str, dir: &Path) -> Result<Host> {
        // The overlay's own folders are created outside the host. On the host they would be hidden
        // if they lay in an overlaid folder.
        let mut maker = tied::command("unshare");
        maker.args(NAMESPACES).args(["--fork", "--kill-child", "sleep", "infinity"]);
        let maker = tied::start(maker).context("start unshare")?;
        let mut host = Host { name, sleeper: Pid::from_child(&maker), maker };
        let until = Instant::now() + PATIENCE;
        // The namespaces exist as soon as the sleeping process runs in them.
        host.sleeper = loop {
            if let [sleeper] = children_of(host.sleeper)[..]
                && fs::read_to_string(format!("/proc/{}/comm", id(sleeper)))? == "sleep\n"
            {
                break sleeper;
            }
            ensure!(Instant::now() < until, "{name} does not become a host");
            std::thread::sleep(Duration::from_millis(5));
        };
        for folder in FOLDERS {
            let [upper, work] = ["upper", "work"].map(|kind| dir.join(name).join(kind).join(&folder[1..]));
            fs::create_dir_all(&upper)?;
            fs::create_dir_all(&work)?;
            let options =
                format!("lowerdir={folder},upperdir={},workdir={}", upper.display(), work.display());
            host.run(&format!("mount -t overlay overlay -o {options} {folder}"))?;
        }
        host.run("ip link set lo up")?;
        Ok(host)
    }

    fn command(&self, script: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &id(self.sleeper), "--net", "--mount", "--uts", "--pid"]);
        command.args(["bash", "-euo", "pipefail", "-c", script]);
        command
    }

    fn run(&self, script: &str) -> Result<String> {
        done(self.name, script, self.command(script).output()?)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _gone = self.maker.kill();
        let _reaped = self.maker.wait();
        // The sleeping process ends last, after every other process of the host.
        let until = Instant::now() + PATIENCE;
        while Stat::of(self.sleeper).is_some_and(|stat| stat.is_alive()) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn id(process: Pid) -> String {
    process.as_raw_nonzero().to_string()
}

/// Returns the names of the processes in a PID namespace, without zombies.
fn running_on(namespace: &Path) -> Result<Vec<String>> {
    let mut running = Vec::new();
    for process in fs::read_dir("/proc")?.flatten() {
        // Other processes may end meanwhile, or may not be readable.
        let on_host = fs::read_link(process.path().join("ns/pid")).is_ok_and(|of| of == *namespace);
        let pid = process.file_name().to_string_lossy().parse().ok().and_then(Pid::from_raw);
        if on_host && pid.and_then(Stat::of).is_some_and(|stat| stat.is_alive()) {
            running
                .push(fs::read_to_string(process.path().join("comm")).unwrap_or_default().trim().to_owned());
        }
    }
    running.sort();
    Ok(running)
}

fn done(host: &str, script: &str, output: Output) -> Result<String> {
    let (out, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "on {host}:\n{script}\n{out}{said}");
    Ok(out.into_owned())
}

/// Returns the document's command blocks, each with the words after `sh`.
fn blocks(document: &str) -> Vec<(&str, &str)> {
    let mut blocks = Vec::new();
    for block in document.split("\n```sh ").skip(1) {
        if let Some((place, rest)) = block.split_once('\n') {
            blocks.push((place, rest.split("\n```").next().unwrap_or_default()));
        }
    }
    blocks
}

/// Creates both hosts and a cable between them. Returns `None` if this machine allows no
/// namespaces.
fn hosts(dir: &Path) -> Result<Option<(Host, Host)>> {
    let tried = Command::new("unshare")
        .args(NAMESPACES)
        .args(["--fork", "mount", "-t", "tmpfs", "none", "/mnt"])
        .output();
    if !tried.is_ok_and(|output| output.status.success()) {
        return Ok(None);
    }
    // An overlay cannot lie on another overlay, and the folder for temporary files may be one. So
    // the hosts' folders lie on a tmpfs.
    let on =
        done("this machine", "mount", Command::new("mount").args(["-t", "tmpfs", "none"]).arg(dir).output()?);
    on?;
    let (cloud, idc) = (Host::new("cloud", dir)?, Host::new("idc", dir)?);
    let (cloud_pid, idc_pid) = (id(cloud.sleeper), id(idc.sleeper));
    let cable =
        format!("ip link add name bridge0 netns {cloud_pid} type veth peer name bridge0 netns {idc_pid}");
    done("this machine", &cable, Command::new("bash").args(["-c", &cable]).output()?)?;
    cloud.run("ip address add 10.77.0.1/24 dev bridge0 && ip link set bridge0 up")?;
    idc.run("ip address add 10.77.0.2/24 dev bridge0 && ip link set bridge0 up")?;
    idc.run("echo '10.77.0.1 front-1.example.com' >> /etc/hosts")?;
    Ok(Some((cloud, idc)))
}

/// A tmpfs at a folder. It is unmounted when dropped.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _gone = Command::new("umount").arg("--lazy").arg(&self.0).output();
    }
}

#[test]
fn two_hosts_are_set_up_by_the_operator_s_document_alone() -> Result<()> {
    let programs = Programs::build()?;
    let document = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operator.md"))?;
    let dir = tempfile::tempdir()?;
    let folder = dir.path().join("hosts");
    fs::create_dir(&folder)?;
    let Some((cloud, idc)) = hosts(&folder)? else {
        skipped(Lack::Namespaces, "only root can make the namespaces that stand for two hosts");
        return Ok(());
    };
    let _mounted = Mounted(folder.clone());
    let binaries = programs.cloud.parent().context("no folder")?;
    for host in [&cloud, &idc] {
        host.run(&format!(
            "install -m 755 {}/bridge-{{cloud,idc,certs}} /usr/local/bin/",
            binaries.display()
        ))?;
    }

    let mut agents = Vec::new();
    let mut verifier_key = String::new();
    let mut orders = 0;
    for (place, script) in blocks(&document) {
        let script = script.replace("VERIFIER-KEY", &verifier_key);
        match place {
            // The programs under test are built already.
            "build" => {}
            "both" => {
                cloud.run(&script)?;
                idc.run(&script)?;
            }
            "authority" => {
                let mut command = Command::new("bash");
                command.args(["-euo", "pipefail", "-c", &script]);
                let path = format!("{}:{}", binaries.display(), std::env::var("PATH").unwrap_or_default());
                done("the authority", &script, command.current_dir(dir.path()).env("PATH", path).output()?)?;
                // The document says: "Give each host its own."
                for (host, agent) in [(&cloud, "cloud-front-1"), (&idc, "idc-seoul-1")] {
                    let pki = dir.path().join("pki");
                    host.run(&format!(
                        "cd {} && cp {agent}.pem {agent}.key ca.pem crl.pem /etc/bridge/",
                        pki.display()
                    ))?;
                }
            }
            "idc" => {
                let out = idc.run(&script)?;
                verifier_key.extend(out.lines().filter_map(|line| line.strip_prefix("verifier key: ")));
            }
            "serve idc" | "serve cloud" => {
                let host = if place == "serve idc" { &idc } else { &cloud };
                let log = fs::File::create(dir.path().join(format!("{}.log", host.name)))?;
                let agent = host.command(&script).stdout(Stdio::null()).stderr(log).spawn()?;
                agents.push(agent);
            }
            "cloud" => {
                let until = Instant::now() + PATIENCE;
                loop {
                    match cloud.run(&script) {
                        Ok(out) => {
                            orders += out.matches("\"state\":\"placed\"").count();
                            break;
                        }
                        // An operator also retries until both agents are up.
                        Err(_) if !agents.is_empty() && Instant::now() < until => {
                            std::thread::sleep(Duration::from_millis(200));
                        }
                        Err(error) => {
                            let logs = ["cloud", "idc"].map(|name| {
                                fs::read_to_string(dir.path().join(format!("{name}.log"))).unwrap_or_default()
                            });
                            bail!("{error:#}\n{}", logs.join("\n"));
                        }
                    }
                }
            }
            other => bail!("the document has commands for {other:?}"),
        }
    }
    ensure!(orders == 1, "{orders} orders were placed");

    let mut namespaces = Vec::new();
    for (host, agent) in [(&cloud, "bridge-cloud"), (&idc, "bridge-idc")] {
        let namespace = fs::read_link(format!("/proc/{}/ns/pid", id(host.sleeper)))?;
        let running = running_on(&namespace)?;
        ensure!(running.iter().any(|name| name == agent), "{agent} does not run on its host: {running:?}");
        namespaces.push(namespace);
    }
    drop((cloud, idc));
    for (namespace, mut agent) in namespaces.iter().zip(agents) {
        let running = running_on(namespace)?;
        ensure!(running.is_empty(), "left behind: {running:?}");
        agent.wait()?;
    }
    Ok(())
}
