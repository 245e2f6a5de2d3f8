//! Postfix as a peer: an MTA with a queue and a retry of its own, and an MX that keeps what it gets.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};

use crate::{Certificate, Namespace, Running, SmtpClient, find, until};

/// The user that owns delivered mail: `nobody`.
const OWNER: u32 = 65534;

/// A running Postfix, with all its files below one folder.
#[derive(Debug)]
pub struct Postfix {
    folder: PathBuf,
    _master: Running,
}

impl Postfix {
    /// Starts it in `namespace` as the MTA called `host` of `domain`; `folder` must be traversable for other users.
    ///
    /// # Errors
    /// When Postfix is not installed or does not come up.
    pub fn start(namespace: &Namespace, folder: &Path, host: &str, domain: &str) -> Result<Postfix> {
        Postfix::start_with(namespace, folder, host, domain, "", "")
    }

    /// The same with more lines in `main.cf` and `master.cf`.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with(
        namespace: &Namespace,
        folder: &Path,
        host: &str,
        domain: &str,
        main: &str,
        master: &str,
    ) -> Result<Postfix> {
        let program = find("postfix").ok_or_else(|| anyhow!("postfix is not installed"))?;
        let folder = folder.join("postfix");
        for name in ["etc", "spool", "lib", "mail"] {
            fs::create_dir_all(folder.join(name))?;
        }
        fs::set_permissions(folder.join("mail"), fs::Permissions::from_mode(0o777))?;
        let user = nix::unistd::User::from_name("postfix")?.ok_or_else(|| anyhow!("no user postfix"))?;
        nix::unistd::chown(&folder.join("lib"), Some(user.uid), None)?;
        let certificate = Certificate::create(&folder.join("etc"), &[host])?;
        fs::write(folder.join("etc/main.cf"), main_cf(&folder, host, domain, &certificate) + main)?;
        fs::write(folder.join("etc/master.cf"), format!("{MASTER_CF}{master}"))?;

        // Makes the folders of the queue.
        let mut check = Command::new(program);
        check.arg("-c").arg(folder.join("etc")).arg("check");
        namespace.run(check, Duration::from_secs(20))?.success()?;
        let mut command = Command::new("/usr/lib/postfix/sbin/master");
        // Not detached, so that it ends with us; on SIGTERM it ends the group that it leads.
        command.arg("-c").arg(folder.join("etc")).arg("-d");
        let mut master = namespace.start(command, &folder.join("start.log"))?;
        let ready = until("Postfix to greet", Duration::from_secs(20), || {
            if master.ended().is_some() {
                return Some(Err(anyhow!("Postfix ended: {}", master.log())));
            }
            let client =
                namespace.within(|| SmtpClient::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, 25))));
            client.ok().and_then(|mut client| client.reply().ok()).map(|_| Ok(()))
        });
        ready.with_context(|| master.log())?.0?;
        Ok(Postfix { folder, _master: master })
    }

    /// Its log so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("postfix.log")).unwrap_or_default()
    }

    /// Every message delivered here, as it arrived.
    #[must_use]
    pub fn delivered(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.folder.join("mail/inbox/new"));
        entries.map(|entries| entries.flatten().map(|entry| entry.path()).collect()).unwrap_or_default()
    }
}

fn main_cf(folder: &Path, host: &str, domain: &str, certificate: &Certificate) -> String {
    let folder = folder.display();
    format!(
        "compatibility_level = 3.6
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
queue_directory = {folder}/spool
data_directory = {folder}/lib
maillog_file = {folder}/postfix.log
maillog_file_prefixes = {folder}
mail_owner = postfix
setgid_group = postdrop
myhostname = {host}
mydomain = {domain}
myorigin = {domain}
mydestination =
mynetworks = 127.0.0.0/8
alias_maps =
alias_database =
inet_interfaces = all
inet_protocols = all
smtp_address_preference = ipv4
smtp_host_lookup = dns
virtual_mailbox_domains = {domain}
virtual_mailbox_base = {folder}/mail
virtual_mailbox_maps = static:inbox/
virtual_uid_maps = static:{OWNER}
virtual_gid_maps = static:{OWNER}
smtp_tls_security_level = may
smtpd_tls_security_level = may
smtpd_tls_cert_file = {certificate}
smtpd_tls_key_file = {key}
queue_run_delay = 1s
minimal_backoff_time = 1s
maximal_backoff_time = 2s
smtp_connect_timeout = 5s
",
        certificate = certificate.certificate.display(),
        key = certificate.key.display(),
    )
}

/// Postfix's services without chroot; the queue manager wakes each second.
const MASTER_CF: &str = "\
smtp       inet  n - n - - smtpd
pickup     unix  n - n 60 1 pickup
cleanup    unix  n - n - 0 cleanup
qmgr       unix  n - n 1 1 qmgr
tlsmgr     unix  - - n 1000? 1 tlsmgr
rewrite    unix  - - n - - trivial-rewrite
bounce     unix  - - n - 0 bounce
defer      unix  - - n - 0 bounce
trace      unix  - - n - 0 bounce
verify     unix  - - n - 1 verify
flush      unix  n - n 1000? 0 flush
proxymap   unix  - - n - - proxymap
smtp       unix  - - n - - smtp
error      unix  - - n - - error
retry      unix  - - n - - error
virtual    unix  - n n - - virtual
anvil      unix  - - n - 1 anvil
scache     unix  - - n - 1 scache
postlog    unix-dgram n - n - 1 postlogd
";
