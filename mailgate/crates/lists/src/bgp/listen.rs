//! Neighbours that connect to us: one listener for all that share an address.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use mailgate_model::Clock;
use mailgate_net::{Terms, expect_neighbour, listen, welcome_neighbour};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Connections of one neighbour that wait to be looked at; more are closed.
pub(super) const WAITING: usize = 2;

/// Pause before an address is tried again that cannot be listened on, or after accepting failed.
const PAUSE: Duration = Duration::from_secs(10);

/// Whom a listener lets in.
pub(super) struct Guest {
    pub(super) peer: IpAddr,
    pub(super) terms: Terms,
    pub(super) door: mpsc::Sender<TcpStream>,
}

/// Listens everywhere until `shutdown`.
pub(super) fn start(
    guests: BTreeMap<SocketAddr, Vec<Guest>>,
    clock: &Arc<dyn Clock>,
    shutdown: &CancellationToken,
) {
    for (address, guests) in guests {
        let (clock, shutdown) = (Arc::clone(clock), shutdown.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = run(address, guests, clock) => {}
            }
        });
    }
}

async fn run(address: SocketAddr, guests: Vec<Guest>, clock: Arc<dyn Clock>) {
    let mut told = false;
    let listener = loop {
        match prepare(address, &guests) {
            Ok(listener) => break listener,
            Err(error) if told => tracing::debug!(target: "lists", event = "bgp_listen", %error),
            Err(error) => {
                tracing::error!(target: "lists", event = "bgp_listen", %error, "will be tried again")
            }
        }
        told = true;
        clock.sleep(PAUSE).await;
    };
    let guests: HashMap<IpAddr, Guest> = guests.into_iter().map(|guest| (guest.peer, guest)).collect();
    loop {
        match listener.accept().await {
            Ok((stream, from)) => welcome(stream, from.ip().to_canonical(), &guests),
            Err(error) => {
                tracing::warn!(target: "lists", event = "bgp_accept", %error, "pausing for a moment");
                clock.sleep(PAUSE).await;
            }
        }
    }
}

fn prepare(address: SocketAddr, guests: &[Guest]) -> std::io::Result<TcpListener> {
    let listener = listen(address)?;
    for guest in guests {
        if let Err(error) = expect_neighbour(&listener, guest.peer, &guest.terms) {
            tracing::error!(target: "lists", event = "bgp_listen", peer = %guest.peer, %error, "it cannot come in");
        }
    }
    Ok(listener)
}

/// Strangers, and neighbours that come too often, are closed without a word.
fn welcome(stream: TcpStream, from: IpAddr, guests: &HashMap<IpAddr, Guest>) {
    let Some(guest) = guests.get(&from) else {
        tracing::info!(target: "lists", event = "bgp_stranger", peer = %from, "closed: it is no configured neighbour");
        return;
    };
    if let Err(error) = welcome_neighbour(&stream, from, &guest.terms) {
        tracing::warn!(target: "lists", event = "bgp_accept", peer = %from, %error);
        return;
    }
    // A full door drops the connection.
    let _ = guest.door.try_send(stream);
}
