//! Mail clients that others wrote, against our server on loopback. A client that is not installed is skipped and named.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that fails should fail loudly"
)]

mod house;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use house::{House, LOGIN, PASSWORD};
use tokio::process::Command;

/// No client needs this long for a handful of messages.
const CLIENT_LIMIT: Duration = Duration::from_secs(120);

fn message(subject: &str, body: &str) -> String {
    format!(
        "From: Ann <ann@example.org>\nTo: user@example.test\nSubject: {subject}\nDate: Thu, 1 Jan 2026 10:00:00 +0000\n\
         Message-ID: <{subject}@example.org>\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=B\n\n\
         --B\nContent-Type: text/plain\n\n{body}\n--B\nContent-Type: application/octet-stream; name=x\n\
         Content-Transfer-Encoding: base64\n\naGk=\n--B--\n"
    )
}

/// Whether the client is there; says so when not.
fn installed(program: &str) -> bool {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()));
    if !found {
        println!("skipped: {program} is not installed");
    }
    found
}

/// Runs a client to its end; its output, and whether it was content.
async fn run(command: &mut Command) -> (bool, String) {
    let running = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(CLIENT_LIMIT, running)
        .await
        .expect("the client hangs")
        .expect("the client starts");
    let text =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    (output.status.success(), text)
}

async fn succeeds(command: &mut Command) -> String {
    let (success, text) = run(command).await;
    assert!(success, "{text}");
    text
}

/// Message files of a Maildir, with their content.
fn mail_in(dir: &Path) -> Vec<(PathBuf, String)> {
    let mut files: Vec<_> = ["new", "cur"]
        .iter()
        .filter_map(|part| fs::read_dir(dir.join(part)).ok())
        .flatten()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
        .into_iter()
        .map(|path| (path.clone(), String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned()))
        .collect()
}

fn has_subject(dir: &Path, subject: &str) -> bool {
    mail_in(dir).iter().any(|(_, text)| text.contains(&format!("Subject: {subject}\n")))
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_reads_searches_and_appends_in_the_clear_after_starttls_and_inside_tls() {
    if !installed("curl") {
        return;
    }
    let house = House::new().await;
    house.deliver(&message("hello", "first body")).await;
    let curl = |url: &str| {
        let mut command = Command::new("curl");
        command.args(["-sS", "-k", "--max-time", "60", "-u", &format!("{LOGIN}:{PASSWORD}"), url]);
        command
    };
    let plain = format!("imap://{}", house.plain);
    let inside = format!("imaps://{}", house.tls);
    let list = succeeds(&mut curl(&plain)).await;
    assert!(list.contains("LIST (\\HasNoChildren) \".\" INBOX"), "{list}");
    for (url, extra) in [(&plain, &[][..]), (&plain, &["--ssl-reqd"][..]), (&inside, &[][..])] {
        let text = succeeds(curl(&format!("{url}/INBOX;MAILINDEX=1")).args(extra)).await;
        assert!(text.contains("Subject: hello\r\n") && text.contains("first body"), "{text}");
        let part = succeeds(curl(&format!("{url}/INBOX;UID=1;SECTION=1")).args(extra)).await;
        assert_eq!(part, "first body");
    }
    let found = succeeds(&mut curl(&format!("{inside}/INBOX?SUBJECT%20hello"))).await;
    assert_eq!(found.trim(), "* SEARCH 1");
    let file = house.dir.path().join("draft.eml");
    fs::write(&file, message("appended", "x").replace('\n', "\r\n")).unwrap();
    succeeds(curl(&format!("{inside}/Drafts")).arg("-T").arg(&file)).await;
    assert!(has_subject(&house.maildir().join(".Drafts"), "appended"));
    let status = succeeds(curl(&inside).args(["-X", "STATUS Drafts (MESSAGES)"])).await;
    assert!(status.contains("MESSAGES 1"), "{status}");
    let (success, _) = run(Command::new("curl").args(["-sS", "-u", "user@example.test:no", &plain])).await;
    assert!(!success, "a wrong password must not do");
}

#[tokio::test(flavor = "multi_thread")]
async fn mbsync_carries_messages_flags_and_deletions_both_ways() {
    if !installed("mbsync") {
        return;
    }
    let house = House::new().await;
    for n in 1..=25 {
        house.deliver(&message(&format!("m{n}"), &"long line of text\n".repeat(n * 20))).await;
    }
    let local = house.dir.path().join("local");
    fs::create_dir_all(&local).unwrap();
    let config = house.dir.path().join("mbsyncrc");
    fs::write(
        &config,
        format!(
            "IMAPAccount a\nHost 127.0.0.1\nPort {}\nUser {LOGIN}\nPass \"{PASSWORD}\"\nSSLType None\nAuthMechs PLAIN\n\n\
             IMAPStore far\nAccount a\n\nMaildirStore near\nSubFolders Verbatim\nPath {dir}/\nInbox {dir}/INBOX\n\n\
             Channel c\nFar :far:\nNear :near:\nPatterns *\nCreate Both\nExpunge Both\nSyncState *\n",
            house.plain.port(),
            dir = local.display()
        ),
    )
    .unwrap();
    let sync = || async {
        let mut command = Command::new("mbsync");
        command.env("HOME", house.dir.path()).arg("-c").arg(&config).arg("-a");
        succeeds(&mut command).await
    };
    sync().await;
    let inbox = local.join("INBOX");
    assert_eq!(mail_in(&inbox).len(), 25);
    assert!(local.join("Drafts/cur").is_dir(), "mailboxes with a use arrive");
    // Near: one is read, one is deleted, one is new. Far: one is new, another program deletes one.
    let files = mail_in(&inbox);
    let path_of = |subject: &str| {
        files
            .iter()
            .find(|(_, text)| text.contains(&format!("Subject: {subject}\n")))
            .map(|(path, _)| path.clone())
            .unwrap()
    };
    let with_flags = |path: &Path, flags: &str| {
        let name = path.file_name().unwrap().to_str().unwrap().split(":2,").next().unwrap().to_owned();
        inbox.join("cur").join(format!("{name}:2,{flags}"))
    };
    fs::rename(path_of("m3"), with_flags(&path_of("m3"), "FS")).unwrap();
    fs::rename(path_of("m5"), with_flags(&path_of("m5"), "ST")).unwrap();
    fs::create_dir_all(local.join("Drafts/new")).unwrap();
    fs::write(local.join("Drafts/new/1700000000.near"), message("near", "written here")).unwrap();
    house.deliver(&message("later", "x")).await;
    let doomed =
        mail_in(&house.maildir()).into_iter().find(|(_, text)| text.contains("Subject: m7\n")).unwrap();
    fs::remove_file(doomed.0).unwrap();
    sync().await;
    let far: Vec<_> = mail_in(&house.maildir());
    assert_eq!(far.len(), 24, "25, one deleted near, one far, one more");
    let read = far.iter().find(|(_, text)| text.contains("Subject: m3\n")).unwrap();
    assert!(read.0.to_str().unwrap().ends_with(":2,FS"), "{read:?}");
    assert!(!has_subject(&house.maildir(), "m5") && has_subject(&house.maildir().join(".Drafts"), "near"));
    assert!(has_subject(&inbox, "later") && !has_subject(&inbox, "m7"));
    // Nothing changed: nothing may move, and no message may come twice.
    sync().await;
    assert_eq!((mail_in(&inbox).len(), mail_in(&house.maildir()).len()), (24, 24));
}

#[tokio::test(flavor = "multi_thread")]
async fn mbsync_speaks_starttls_and_implicit_tls() {
    if !installed("mbsync") {
        return;
    }
    let house = House::new().await;
    house.deliver(&message("secret", "x")).await;
    let certificate = fs::read_dir(house.dir.path().join("tls"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| fs::read_to_string(path).is_ok_and(|text| text.contains("BEGIN CERTIFICATE")))
        .expect("a certificate");
    for (kind, port) in [("STARTTLS", house.plain.port()), ("IMAPS", house.tls.port())] {
        let local = house.dir.path().join(kind);
        fs::create_dir_all(&local).unwrap();
        let config = house.dir.path().join(format!("{kind}.rc"));
        fs::write(
            &config,
            format!(
                "IMAPStore far\nHost 127.0.0.1\nPort {port}\nUser {LOGIN}\nPass \"{PASSWORD}\"\nSSLType {kind}\n\
                 SystemCertificates no\nCertificateFile {}\n\nMaildirStore near\nPath {dir}/\nInbox {dir}/INBOX\n\n\
                 Channel c\nFar :far:\nNear :near:\nSync Pull\nCreate Near\nSyncState *\n",
                certificate.display(),
                dir = local.display()
            ),
        )
        .unwrap();
        let mut command = Command::new("mbsync");
        command.env("HOME", house.dir.path()).arg("-c").arg(&config).arg("-a");
        succeeds(&mut command).await;
        assert!(has_subject(&local.join("INBOX"), "secret"), "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mutt_reads_saves_flags_and_deletes() {
    if !installed("mutt") || !installed("script") {
        return;
    }
    let house = House::new().await;
    for subject in ["one", "two", "three"] {
        house.deliver(&message(subject, "body")).await;
    }
    let home = house.dir.path();
    let saved = home.join("saved");
    let config = home.join("muttrc");
    // Flags the first, copies it to Sent, saves it to a file, deletes the second, leaves.
    fs::write(
        &config,
        format!(
            "set imap_user=\"{LOGIN}\"\nset imap_pass=\"{PASSWORD}\"\nset ssl_starttls=no\nset ssl_force_tls=no\n\
             set delete=yes\nset confirmappend=no\nset confirmcreate=no\nset copy=no\nset move=no\nset mail_check=1\n\
             set sort=mailbox-order\nset wait_key=no\nset resolve=no\nset imap_authenticators=\"plain:login\"\nset spoolfile=imap://127.0.0.1:{port}/INBOX\n\
             set folder=imap://127.0.0.1:{port}/\nset header_cache=\"{home}/cache\"\nset timeout=5\n\
             push \"<flag-message><copy-message>=Sent<enter><copy-message>{saved}<enter><next-entry><delete-message><sync-mailbox><quit>\"\n",
            port = house.plain.port(),
            home = home.display(),
            saved = saved.display(),
        ),
    )
    .unwrap();
    let mut command = Command::new("script");
    command
        .args(["-qec", &format!("mutt -n -F {}", config.display()), "/dev/null"])
        .env("HOME", home)
        .env("TERM", "xterm");
    let screen = succeeds(&mut command).await;
    let inbox = house.maildir();
    assert_eq!(mail_in(&inbox).len(), 2, "{screen}");
    assert!(!has_subject(&inbox, "two"), "{screen}");
    let one = mail_in(&inbox).into_iter().find(|(_, text)| text.contains("Subject: one\n")).unwrap();
    assert!(one.0.to_str().unwrap().split(":2,").nth(1).unwrap().contains('F'), "{one:?}");
    assert!(has_subject(&inbox.join(".Sent"), "one"));
    assert!(fs::read_to_string(saved).unwrap().contains("Subject: one\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn offlineimap_carries_messages_and_flags_both_ways() {
    if !installed("offlineimap") {
        return;
    }
    let house = House::new().await;
    for subject in ["one", "two", "three"] {
        house.deliver(&message(subject, "body")).await;
    }
    let home = house.dir.path();
    let local = home.join("local");
    let config = home.join("offlineimaprc");
    fs::write(
        &config,
        format!(
            "[general]\naccounts = a\nmetadata = {home}/meta\nui = quiet\nsocktimeout = 60\n\n[Account a]\nlocalrepository = l\n\
             remoterepository = r\n\n[Repository l]\ntype = Maildir\nlocalfolders = {local}\n\n\
             [Repository r]\ntype = IMAP\nremotehost = 127.0.0.1\nremoteport = {port}\nremoteuser = {LOGIN}\n\
             remotepass = {PASSWORD}\nssl = no\nstarttls = no\nauth_mechanisms = PLAIN\n",
            home = home.display(),
            local = local.display(),
            port = house.plain.port()
        ),
    )
    .unwrap();
    let sync = || async {
        let mut command = Command::new("offlineimap");
        command.env("HOME", home).arg("-c").arg(&config).args(["-o", "-u", "basic"]);
        let text = succeeds(&mut command).await;
        assert!(!text.contains("ERROR"), "{text}");
        text
    };
    sync().await;
    let inbox = local.join("INBOX");
    let files = mail_in(&inbox);
    assert_eq!(files.len(), 3);
    assert!(local.join("Drafts/cur").is_dir());
    let one = files.iter().find(|(_, text)| text.contains("Subject: one\n")).unwrap();
    let name = one.0.file_name().unwrap().to_str().unwrap().split(":2,").next().unwrap();
    fs::rename(&one.0, inbox.join("cur").join(format!("{name}:2,RS"))).unwrap();
    fs::write(local.join("Drafts/new/1700000000.1_1.near"), message("near", "written here")).unwrap();
    let two = files.iter().find(|(_, text)| text.contains("Subject: two\n")).unwrap();
    fs::remove_file(&two.0).unwrap();
    house.deliver(&message("later", "x")).await;
    let log = sync().await;
    let far = mail_in(&house.maildir());
    assert!(!has_subject(&house.maildir(), "two"), "{log}");
    let one = far.iter().find(|(_, text)| text.contains("Subject: one\n")).unwrap();
    assert!(one.0.to_str().unwrap().ends_with(":2,RS"), "{one:?}\n{log}");
    assert!(has_subject(&inbox, "later") && mail_in(&house.maildir().join(".Drafts")).len() == 1, "{log}");
    sync().await;
    assert_eq!((mail_in(&inbox).len(), mail_in(&house.maildir()).len()), (3, 3));
}

const PYTHON: &str = r#"
import imaplib, sys, time
host, port, tls_port, login, password = sys.argv[1:]
imaplib.Debug = 0
def check(answer, what):
    assert answer[0] == 'OK', (what, answer)
    return answer[1]
import ssl
context = ssl._create_unverified_context()
secure = imaplib.IMAP4_SSL(host, int(tls_port), ssl_context=context)
check(secure.login(login, password), 'login inside TLS')
secure.logout()
m = imaplib.IMAP4(host, int(port))
m.starttls(ssl_context=context)
check(m.authenticate('PLAIN', lambda _: ('\0%s\0%s' % (login, password)).encode()), 'authenticate')
assert check(m.select('INBOX'), 'select') == [b'2']
assert check(m.search(None, 'SUBJECT', 'one'), 'search') == [b'1']
data = check(m.fetch('1', '(UID FLAGS ENVELOPE BODYSTRUCTURE BODY.PEEK[HEADER.FIELDS (SUBJECT)])'), 'fetch')
assert b'Subject: one' in data[0][1], data
check(m.store('1', '+FLAGS', r'(\Answered mykeyword)'), 'store')
assert b'mykeyword' in check(m.fetch('1', '(FLAGS)'), 'flags')[0]
check(m.append('"Sent"', r'(\Seen)', imaplib.Time2Internaldate(time.time()), b'Subject: appended\r\n\r\nx\r\n'), 'append')
check(m.copy('1', 'Archive'), 'copy')
check(m.uid('MOVE', '2', 'Trash'), 'move')
assert check(m.status('Trash', '(MESSAGES UNSEEN)'), 'status') == [b'Trash (MESSAGES 1 UNSEEN 1)']
check(m.create('"Gr&APwA3w-e"'), 'create')
check(m.rename('"Gr&APwA3w-e"', 'Plain'), 'rename')
check(m.delete('Plain'), 'delete')
check(m.store('1', '+FLAGS.SILENT', r'(\Deleted)'), 'delete message')
assert check(m.expunge(), 'expunge')[-1] == b'1'
check(m.namespace(), 'namespace'); check(m.noop(), 'noop'); check(m.check(), 'check')
check(m.enable('UTF8=ACCEPT'), 'enable') if 'UTF8=ACCEPT' in m.capabilities else None
check(m.close(), 'close')
m.logout()
print('all well')
"#;

#[tokio::test(flavor = "multi_thread")]
async fn python_imaplib_goes_through_a_whole_session() {
    if !installed("python3") {
        return;
    }
    let house = House::new().await;
    for subject in ["one", "two"] {
        house.deliver(&message(subject, "body")).await;
    }
    let (plain, tls) = (house.plain.port().to_string(), house.tls.port().to_string());
    let text = succeeds(Command::new("python3").args([
        "-W",
        "ignore",
        "-c",
        PYTHON,
        "127.0.0.1",
        &plain,
        &tls,
        LOGIN,
        PASSWORD,
    ]))
    .await;
    assert!(text.contains("all well"), "{text}");
}
