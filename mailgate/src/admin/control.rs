//! The control socket: a Unix socket that only the administrator can open.

use std::future::Future;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use super::call::{Answer, Call};

/// Longest call in bytes. A table of a million prefixes is about 20 MB of JSON.
const CALL_LIMIT: u64 = 256 * 1024 * 1024;
/// How long a call may take until the asking side gives up.
const PATIENCE: Duration = Duration::from_secs(120);

/// A control socket that listens; removed when it is dropped.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Whoever finds it left over takes it for what it is.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Gives each call to `answer` until `shutdown`.
pub async fn serve<F, R>(socket: Socket, answer: F, shutdown: CancellationToken)
where
    F: Fn(Call) -> R + Send + Sync + 'static,
    R: Future<Output = Answer> + Send,
{
    let answer = Arc::new(answer);
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = socket.listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        if !is_ours(&stream) {
            continue;
        }
        let answer = Arc::clone(&answer);
        tokio::spawn(async move {
            // A caller that went away is no concern of ours.
            let _ = converse(stream, &*answer).await;
        });
    }
}

/// Listens at `path`, mode 0600.
///
/// # Errors
/// When the socket cannot be made, or another daemon answers there.
pub async fn bind(path: &Path) -> io::Result<Socket> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    if UnixStream::connect(path).await.is_ok() {
        return Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            format!(
                "a daemon already answers at {}; stop it first, or give this one another admin.control",
                path.display()
            ),
        ));
    }
    // What is left there belongs to a daemon that is gone.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(Socket { listener, path: path.to_owned() })
}

/// The file mode keeps others out; this holds even when somebody widened it.
fn is_ours(stream: &UnixStream) -> bool {
    let own = nix::unistd::Uid::effective().as_raw();
    stream.peer_cred().is_ok_and(|peer| peer.uid() == 0 || peer.uid() == own)
}

async fn converse<F, R>(stream: UnixStream, answer: &F) -> io::Result<()>
where
    F: Fn(Call) -> R,
    R: Future<Output = Answer>,
{
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    loop {
        let mut line = Vec::new();
        let read = (&mut reader).take(CALL_LIMIT).read_until(b'\n', &mut line).await?;
        if read == 0 {
            return Ok(());
        }
        let reply = match serde_json::from_slice::<Call>(&line) {
            Ok(call) => answer(call).await,
            Err(error) => Answer::failed(64, format!("the call was not understood: {error}")),
        };
        let mut bytes = serde_json::to_vec(&reply).map_err(io::Error::other)?;
        bytes.push(b'\n');
        writer.write_all(&bytes).await?;
    }
}

/// Asks the daemon at `path` once.
///
/// # Errors
/// When nobody listens there, or the answer does not come within two minutes.
pub async fn ask(path: &Path, call: &Call) -> io::Result<Answer> {
    let conversation = async {
        let mut stream = UnixStream::connect(path).await?;
        let mut bytes = serde_json::to_vec(call).map_err(io::Error::other)?;
        bytes.push(b'\n');
        stream.write_all(&bytes).await?;
        stream.shutdown().await?;
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply).await?;
        serde_json::from_slice(&reply).map_err(io::Error::other)
    };
    tokio::time::timeout(PATIENCE, conversation).await.unwrap_or_else(|_| {
        Err(io::Error::new(io::ErrorKind::TimedOut, "the daemon did not answer within two minutes"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_call_is_answered_and_a_second_daemon_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control");
        let shutdown = CancellationToken::new();
        let server = {
            let socket = bind(&path).await.unwrap();
            tokio::spawn(serve(socket, |_| async { Answer::done("well") }, shutdown.clone()))
        };
        let answer = ask(&path, &Call::Status).await.unwrap();
        assert!(matches!(answer, Answer::Done(value) if value == "well"));
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(bind(&path).await.unwrap_err().kind(), io::ErrorKind::AddrInUse);
        shutdown.cancel();
        server.await.unwrap();
        assert!(!path.exists());
    }
}
