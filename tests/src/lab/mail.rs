//! Steps about mail: in, out, and read.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};

use super::internet::{AWAY, MX, READER, STRANGER};
use super::setting::{ALICE, ANN, PASSWORD, Setting};
use crate::{SmtpClient, until};

pub(super) fn greylisting(lab: &mut Setting<'_>) -> Result<String> {
    let stranger = lab.node(STRANGER.label)?;
    let content = format!(
        "From: Ann <{ANN}>\r\nTo: {ALICE}\r\nSubject: {}\r\nMessage-ID: <1@{AWAY}>\r\n\r\nHello Alice.\r\n",
        lab.token
    );
    let begun = Instant::now();
    stranger.within(move || {
        let mut client = SmtpClient::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, 25)))?;
        client.greet("localhost")?;
        let reply = client.message(ANN, &[ALICE], &content)?;
        ensure!(reply.code == 250, "Postfix said {reply}");
        Ok(())
    })?;
    let seen = |status: &str| {
        let log = lab.postfix.log();
        let line = log.lines().find(|line| line.contains(&format!("to=<{ALICE}>")) && line.contains(status));
        line.map(str::to_owned)
    };
    let deferred = until("Postfix to be deferred", Duration::from_secs(20), || seen("status=deferred"));
    let (deferred, _) = deferred.with_context(|| lab.postfix.log())?;
    ensure!(deferred.contains("451 "), "deferred for another reason: {deferred}");
    let grey = lab.daemon.command(&["grey", "list"])?;
    ensure!(grey.contains(ANN), "the greylist does not know the tuple: {grey}");
    let sent = until("Postfix's retry to be accepted", Duration::from_secs(30), || seen("status=sent"));
    sent.with_context(|| lab.postfix.log())?;
    let time = begun.elapsed();
    mailbox(lab, &lab.token)?;
    let answer =
        deferred.split("said: ").nth(1).and_then(|rest| rest.split(" (in reply").next()).unwrap_or("451");
    Ok(format!("`{}`, and {:.1} s later it is in the mailbox", answer.trim(), time.as_secs_f64()))
}

/// The message with this token, from a Maildir on disk.
fn mailbox(lab: &Setting<'_>, token: &str) -> Result<String> {
    let found = until("the message in the mailbox", Duration::from_secs(10), || {
        lab.daemon.mailboxes().ok()?.into_iter().find(|message| message.contains(token))
    });
    Ok(found?.0)
}

pub(super) fn authentication_results(lab: &mut Setting<'_>) -> Result<String> {
    let message = mailbox(lab, &lab.token)?;
    let header = unfolded_header(&message);
    let field = header
        .lines()
        .find(|line| line.starts_with("Authentication-Results:"))
        .ok_or_else(|| anyhow!("no Authentication-Results in {header}"))?;
    for wanted in [MX, "spf=pass", "dmarc=pass", "iprev=pass"] {
        ensure!(field.contains(wanted), "no {wanted} in {field}");
    }
    ensure!(header.lines().any(|line| line.starts_with("Received:")), "no Received in {header}");
    Ok("spf=pass dmarc=pass iprev=pass".into())
}

/// The header with one line per field (RFC 5322 §2.2.3), whatever the line ends on disk are.
fn unfolded_header(message: &str) -> String {
    let mut header = String::new();
    for line in message.lines().take_while(|line| !line.is_empty()) {
        if !line.starts_with([' ', '\t']) && !header.is_empty() {
            header.push('\n');
        }
        header.push_str(line);
    }
    header
}

pub(super) fn reply(lab: &mut Setting<'_>) -> Result<String> {
    let begun = Instant::now();
    let said = lab.run(
        READER.label,
        "swaks",
        &[
            "--server",
            MX,
            "--port",
            "587",
            "--tls",
            "--auth",
            "PLAIN",
            "--auth-user",
            ALICE,
            "--auth-password",
            PASSWORD,
            "--from",
            ALICE,
            "--to",
            ANN,
            "--h-Subject",
            "Re: the reply",
            "--body",
            "Hello Ann.",
        ],
    )?;
    let said = said.success().context("swaks")?;
    ensure!(said.contains("=== TLS started") && said.contains("235 "), "{said}");
    let arrived = until("the reply at Postfix", Duration::from_secs(20), || lab.postfix.delivered().pop());
    arrived.with_context(|| lab.postfix.log())?;
    let text = delivered(lab)?;
    let tls = text.contains("using TLSv1");
    ensure!(tls, "it came without TLS though Postfix offers it: {text}");
    Ok(format!("AUTH over STARTTLS, by MX to Postfix over TLS, {:.1} s", begun.elapsed().as_secs_f64()))
}

fn delivered(lab: &Setting<'_>) -> Result<String> {
    let file = lab.postfix.delivered().pop().ok_or_else(|| anyhow!("nothing was delivered"))?;
    Ok(fs::read_to_string(file)?)
}

pub(super) fn signature(lab: &mut Setting<'_>) -> Result<String> {
    let text = delivered(lab)?;
    // What Postfix put before the message on delivery is not signed and does not matter; the line ends do not either.
    let file = lab.folder.join("reply.eml");
    fs::write(&file, &text)?;
    let verify = format!("dkimverify < {}", file.display());
    let said = lab.run(STRANGER.label, "sh", &["-c", &verify])?.success().context(text)?;
    ensure!(said.contains("signature ok"), "dkimverify said {said}");
    fs::write(&file, fs::read_to_string(&file)?.replace("Hello Ann.", "Hello Amy."))?;
    let forged = lab.run(STRANGER.label, "sh", &["-c", &verify])?;
    ensure!(!forged.status.success(), "dkimverify accepts a changed message: {}", forged.output);
    Ok(format!("dkimverify: {}; changed by a letter it fails", said.trim()))
}

pub(super) fn mbsync(lab: &mut Setting<'_>) -> Result<String> {
    let folder = lab.folder.join("mbsync");
    fs::create_dir_all(folder.join("mail"))?;
    let file = folder.join("mbsyncrc");
    fs::write(
        &file,
        format!(
            "IMAPAccount lab\nHost {MX}\nUser {ALICE}\nPass \"{PASSWORD}\"\nSSLType IMAPS\nCertificateFile {pem}\n\n\
             IMAPStore far\nAccount lab\n\n\
             MaildirStore near\nPath {mail}/\nInbox {mail}/INBOX\nSubFolders Verbatim\n\n\
             Channel lab\nFar :far:\nNear :near:\nPatterns *\nCreate Near\nSyncState *\n",
            pem = lab.certificate.certificate.display(),
            mail = folder.join("mail").display(),
        ),
    )?;
    let begun = Instant::now();
    lab.run(READER.label, "mbsync", &["--config", &file.display().to_string(), "lab"])?.success()?;
    let time = begun.elapsed();
    let mut fetched = 0;
    let mut found = false;
    for entry in
        fs::read_dir(folder.join("mail/INBOX/cur"))?.chain(fs::read_dir(folder.join("mail/INBOX/new"))?)
    {
        found |= fs::read_to_string(entry?.path())?.contains(&lab.token);
        fetched += 1;
    }
    ensure!(found, "the stranger's message is not among the {fetched} that were fetched");
    Ok(format!("{fetched} messages in {:.1} s", time.as_secs_f64()))
}

pub(super) fn curl(lab: &mut Setting<'_>) -> Result<String> {
    let user = format!("{ALICE}:{PASSWORD}");
    let pem = lab.certificate.certificate.display().to_string();
    let fetch = |url: &str, more: &[&str]| -> Result<String> {
        let mut arguments =
            vec!["--silent", "--show-error", "--max-time", "20", "--cacert", &pem, "--user", &user];
        arguments.extend(more);
        arguments.push(url);
        lab.run(READER.label, "curl", &arguments)?.success().with_context(|| url.to_owned())
    };
    let implicit = fetch(&format!("imaps://{MX}/INBOX;MAILINDEX=1"), &[])?;
    let upgraded = fetch(&format!("imap://{MX}/INBOX;MAILINDEX=1"), &["--ssl-reqd"])?;
    ensure!(implicit == upgraded, "993 and 143 give different mail");
    ensure!(implicit.contains(&lab.token), "not the stranger's message: {implicit}");
    Ok(format!("{} bytes, the same over 993 and over 143 with STARTTLS", implicit.len()))
}
