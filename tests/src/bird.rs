//! BIRD as a BGP feeder: prefixes with communities, announced and withdrawn on command.

use std::fmt::Write as _;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};

use crate::{Namespace, Running, find, until};

/// What to announce, under a name by which it is switched on and off.
#[derive(Clone, Debug)]
pub struct Route {
    /// Name of the switch.
    pub name: String,
    /// Prefix, `203.0.113.66/32`; several of one family with spaces between.
    pub prefix: String,
    /// Community, both halves.
    pub community: (u16, u16),
}

/// Both ends of the session.
#[derive(Clone, Copy, Debug)]
pub struct Session {
    /// BIRD's address.
    pub local: IpAddr,
    /// BIRD's AS number.
    pub local_as: u32,
    /// The address of the other.
    pub peer: IpAddr,
    /// Its AS number.
    pub peer_as: u32,
    /// The port of the other; 179 (RFC 4271 §8.2.1) when it has the right to it.
    pub peer_port: u16,
}

/// A running BIRD.
#[derive(Debug)]
pub struct Bird {
    socket: PathBuf,
    running: Running,
}

impl Bird {
    /// Starts it in `namespace`; every route is known and none announced.
    ///
    /// # Errors
    /// When BIRD is not installed or does not come up.
    pub fn start(namespace: &Namespace, folder: &Path, session: Session, routes: &[Route]) -> Result<Bird> {
        let program = find("bird").ok_or_else(|| anyhow!("bird is not installed"))?;
        let folder = folder.join("bird");
        fs::create_dir_all(&folder)?;
        let file = folder.join("bird.conf");
        fs::write(&file, configuration(session, routes)?)?;
        let socket = folder.join("bird.ctl");
        let mut command = Command::new(program);
        command.arg("-f").arg("-c").arg(&file).arg("-s").arg(&socket).arg("-P").arg(folder.join("bird.pid"));
        let running = namespace.start(command, &folder.join("bird.log"))?;
        let mut bird = Bird { socket, running };
        // It listens before it has read its configuration.
        until("BIRD's answer", Duration::from_secs(30), || {
            (bird.ask(&["show", "status"]).is_ok() || bird.running.ended().is_some()).then_some(())
        })?;
        anyhow::ensure!(bird.running.ended().is_none(), "BIRD ended: {}", bird.running.log());
        Ok(bird)
    }

    /// Announces the route of this name.
    ///
    /// # Errors
    /// When BIRD refuses.
    pub fn announce(&self, name: &str) -> Result<()> {
        self.ask(&["enable", name]).map(drop)
    }

    /// Withdraws it.
    ///
    /// # Errors
    /// When BIRD refuses.
    pub fn withdraw(&self, name: &str) -> Result<()> {
        self.ask(&["disable", name]).map(drop)
    }

    /// Whether the BGP session is established.
    #[must_use]
    pub fn is_established(&self) -> bool {
        self.ask(&["show", "protocols", "mailgate"]).is_ok_and(|text| text.contains("Established"))
    }

    /// What BIRD knows of one prefix, with attributes.
    ///
    /// # Errors
    /// When BIRD refuses, or knows nothing of it.
    pub fn route(&self, prefix: &str) -> Result<String> {
        self.ask(&["show", "route", prefix, "all"])
    }

    /// What BIRD says of the session, and its log.
    #[must_use]
    pub fn report(&self) -> String {
        let session = self.ask(&["show", "protocols", "all", "mailgate"]).unwrap_or_default();
        format!("{session}\n{}", self.running.log())
    }

    fn ask(&self, words: &[&str]) -> Result<String> {
        let mut command = Command::new(find("birdc").ok_or_else(|| anyhow!("birdc is not installed"))?);
        command.arg("-s").arg(&self.socket).args(words);
        crate::run(command, Duration::from_secs(30))?.success().with_context(|| format!("birdc {words:?}"))
    }
}

fn configuration(session: Session, routes: &[Route]) -> Result<String> {
    let Session { local, local_as, peer, peer_as, peer_port } = session;
    let mut text = String::from("log stderr all;\nrouter id 198.18.0.179;\nprotocol device {}\n");
    for route in routes {
        let family = if route.prefix.contains(':') { "ipv6" } else { "ipv4" };
        let Route { name, prefix, community: (high, low) } = route;
        writeln!(text, "protocol static {name} {{ disabled; {family};")?;
        for prefix in prefix.split_whitespace() {
            writeln!(text, "route {prefix} blackhole {{ bgp_community.add(({high},{low})); }};")?;
        }
        text.push_str("}\n");
    }
    writeln!(
        text,
        "protocol bgp mailgate {{ local {local} as {local_as}; neighbor {peer} port {peer_port} as {peer_as}; multihop;
  connect delay time 1; connect retry time 1; error wait time 1, 2; hold time 9;
  ipv4 {{ import all; export all; next hop self; }};
  ipv6 {{ import all; export all; next hop address 2001:db8:179::1; }};
}}"
    )?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bird_understands_the_configuration() {
        let Some(program) = find("bird") else { return crate::skip("bird is not installed") };
        let session = Session {
            local: "198.18.0.179".parse().unwrap(),
            local_as: 65066,
            peer: "192.0.2.25".parse().unwrap(),
            peer_as: 65025,
            peer_port: 179,
        };
        let routes =
            [("four", "203.0.113.66/32", 666), ("six", "2001:db8:66::/64", 42)].map(|(name, prefix, low)| {
                Route { name: name.into(), prefix: prefix.into(), community: (65066, low) }
            });
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), configuration(session, &routes).unwrap()).unwrap();
        let mut command = Command::new(program);
        command.arg("-p").arg("-c").arg(file.path());
        crate::run(command, Duration::from_secs(30)).unwrap().success().unwrap();
    }
}
