//! Whom no feed keeps out: what the firewall protects, and the name servers; told to the lists.

use std::fs;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use mailgate_lists::{Lists, Protected, Why};
use mailgate_model::Clock;
use mailgate_packet::firewall::{Control, Why as FirewallWhy};
use tokio_util::sync::CancellationToken;

use crate::config::Config;

/// How often it is looked whether others are protected now; the firewall looks as often.
const INTERVAL: Duration = Duration::from_secs(10);

/// All of them, now.
pub(super) fn protected(config: &Config, control: &Control) -> Vec<Protected> {
    let firewall = control.protected().into_iter().map(|one| {
        let why = match one.why {
            FirewallWhy::Configured => Why::Configured,
            FirewallWhy::Own => Why::Own,
            FirewallWhy::Gateway => Why::Gateway,
            FirewallWhy::LoggedIn => Why::LoggedIn,
        };
        Protected { network: one.network, why }
    });
    let resolver = |ip: IpAddr| Protected { network: ip.to_canonical().into(), why: Why::Resolver };
    firewall.chain(name_servers(config).into_iter().map(resolver)).collect()
}

/// Those of the configuration, else those of the system.
fn name_servers(config: &Config) -> Vec<IpAddr> {
    let configured: Vec<IpAddr> = config.net.resolver.servers.iter().map(|server| server.ip()).collect();
    if !configured.is_empty() {
        return configured;
    }
    read(&fs::read_to_string("/etc/resolv.conf").unwrap_or_default())
}

/// The addresses of resolv.conf(5); a zone (`fe80::1%eth0`) is left out, link-local addresses are protected anyway.
fn read(text: &str) -> Vec<IpAddr> {
    let server = |line: &str| {
        let mut words = line.split_whitespace();
        words.next().filter(|word| *word == "nameserver")?;
        words.next()?.parse().ok()
    };
    text.lines().filter_map(server).collect()
}

/// Keeps the lists up to date until `shutdown`.
pub(super) async fn follow(
    config: Config,
    control: Arc<Control>,
    lists: Lists,
    clock: Arc<dyn Clock>,
    shutdown: CancellationToken,
) {
    let mut told = Vec::new();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = clock.sleep(INTERVAL) => {}
        }
        let now = protected(&config, &control);
        if now != told {
            if lists.protect(now.clone()).await.is_err() {
                return;
            }
            told = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_of_the_system_are_read_as_the_resolver_reads_them() {
        let text = "# comment\nsearch example.org\nnameserver 192.0.2.53\n nameserver\t2001:db8::53 \nnameserver x\n";
        let want: Vec<IpAddr> = vec!["192.0.2.53".parse().unwrap(), "2001:db8::53".parse().unwrap()];
        assert_eq!(read(text), want);
    }
}
