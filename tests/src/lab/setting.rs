//! What the steps play with: everything up and running.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use super::internet::{AWAY, FEEDER, GATE, HOME, HUB, MX, SENDER, SPAMMER, STRANGER};
use crate::{Bird, Certificate, Daemon, Dns, Finished, Namespace, Network, Postfix, Route, Session};

/// Whose mail it is.
pub(super) const ALICE: &str = "alice@example.org";
/// Her password.
pub(super) const PASSWORD: &str = "correct horse battery";
/// The stranger's user.
pub(super) const ANN: &str = "ann@example.net";
/// The feeder's switches for the spammer's addresses, IPv4 and IPv6.
pub(super) const SPAMMER_ROUTES: [&str; 2] = ["spammer4", "spammer6"];
/// The feeder's AS, and the community that blocks.
const FEEDER_AS: u16 = 65066;

/// Everything up and running.
pub(super) struct Setting<'n> {
    pub(super) folder: &'n Path,
    pub(super) network: &'n Network,
    pub(super) daemon: Daemon<'n>,
    pub(super) postfix: Postfix,
    pub(super) bird: Bird,
    pub(super) certificate: Certificate,
    /// The words by which the stranger's message is found again.
    pub(super) token: String,
}

/// A folder that other users may enter (Postfix gives up root).
pub(super) fn folder() -> Result<tempfile::TempDir> {
    let folder = tempfile::Builder::new().prefix("mailgate-lab").tempdir()?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    Ok(folder)
}

impl<'n> Setting<'n> {
    pub(super) fn new(folder: &'n Path, network: &'n Network, dns: &Dns) -> Result<Setting<'n>> {
        let certificate = Certificate::create(folder, &[MX])?;
        fs::write(block_file(folder), "# hosts that nobody wants to hear\n")?;
        let text = configuration(folder, &certificate);
        let daemon = Daemon::start(folder, &text, Some(network.node(GATE.label)?))?;
        daemon.command(&["domain", "add", HOME])?;
        daemon.command_with(&["account", "add", ALICE, "--password-stdin"], PASSWORD)?;
        daemon.command(&["dkim", "create", HOME])?;
        publish_keys(&daemon, dns)?;
        let postfix = Postfix::start(network.node(STRANGER.label)?, folder, SENDER, AWAY)?;
        let session = Session {
            local: FEEDER.v4.into(),
            local_as: FEEDER_AS.into(),
            peer: GATE.v4.into(),
            peer_as: 65025,
            peer_port: 179,
        };
        let [v4, v6] = SPAMMER_ROUTES;
        let routes = [(v4, format!("{}/32", SPAMMER.v4)), (v6, format!("{}/128", SPAMMER.v6))];
        let routes =
            routes.map(|(name, prefix)| Route { name: name.into(), prefix, community: (FEEDER_AS, 666) });
        let bird = Bird::start(network.node(FEEDER.label)?, folder, session, &routes)?;
        let token = format!("token-{}", std::process::id());
        Ok(Setting { folder, network, daemon, postfix, bird, certificate, token })
    }

    /// One line of what runs.
    pub(super) fn summary(&self) -> Result<String> {
        let mut command = Command::new(Daemon::binary()?);
        command.arg("--version");
        let version = crate::run(command, Duration::from_secs(10))?.success()?;
        Ok(version.trim().to_owned())
    }

    /// The namespace with this label.
    pub(super) fn node(&self, label: &str) -> Result<&'n Namespace> {
        self.network.node(label)
    }

    /// Runs a program in a namespace.
    pub(super) fn run(&self, label: &str, program: &str, arguments: &[&str]) -> Result<Finished> {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.folder);
        self.node(label)?.run(command, Duration::from_secs(30))
    }

    /// The file of hosts to drop.
    pub(super) fn block_file(&self) -> PathBuf {
        block_file(self.folder)
    }

    /// The last lines of the daemon's log.
    pub(super) fn end_of_log(&self) -> String {
        const LINES: usize = 40;
        let log = self.daemon.log();
        let lines: Vec<&str> = log.lines().collect();
        let end = lines.get(lines.len().saturating_sub(LINES)..).unwrap_or_default();
        format!("the end of the daemon's log:\n{}", end.join("\n"))
    }
}

fn block_file(folder: &Path) -> PathBuf {
    folder.join("outcasts.txt")
}

/// Puts what `mailgate dns records` prints about keys into the DNS.
fn publish_keys(daemon: &Daemon<'_>, dns: &Dns) -> Result<()> {
    let printed = daemon.command(&["dns", "records", HOME])?;
    let mut published = 0;
    for line in printed.lines().filter(|line| line.contains("_domainkey") && line.contains("TXT")) {
        let owner = line.split_whitespace().next().unwrap_or_default();
        // Text between quotes; long text comes as several strings (RFC 1035 §5.1).
        let text: String = line.split('"').skip(1).step_by(2).collect();
        dns.txt(owner.trim_end_matches('.'), &text)?;
        published += 1;
    }
    anyhow::ensure!(published > 0, "no key among the records: {printed}");
    Ok(())
}

fn configuration(folder: &Path, certificate: &Certificate) -> String {
    let [pem, key] = [&certificate.certificate, &certificate.key].map(|path| format!("{path:?}"));
    let block_file = block_file(folder);
    let (feeder, resolver) = (FEEDER.v4, HUB.v4);
    format!(
        r#"hostname = "{MX}"

[[net.tls.pair]]
certificate = {pem}
key = {key}

[net.resolver]
servers = ["{resolver}:53"]

[edge]
mode = "classic"
[edge.packet]
interfaces = ["eth0"]
mode = "native"
instance = "lab"

[edge.greylist]
pass_after = "3s"

[[lists.source]]
kind = "file"
name = "outcasts"
path = {block_file:?}
table = "drop"

[[lists.source]]
kind = "bgp"
name = "feeder"
peer = "{feeder}"
local_as = 65025
peer_as = {FEEDER_AS}
retry_min = "1s"
communities = {{ "65066:666" = "block", "65066:42" = "bypass" }}
"#
    )
}
