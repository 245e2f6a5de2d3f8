//! The TCP connections of one neighbour: one that we open, one that it opens.

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use mailgate_model::Clock;
use mailgate_proto::bgp::{Framer, Way};
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::TcpStream;

/// Bytes read at once: as much as a few hundred routes need, and the most that waits here unread.
const READ_LIMIT: usize = 64 * 1024;

/// Longest time for a peer to take our last word, and most bytes of its own that we let pass meanwhile.
const FAREWELL: Duration = Duration::from_secs(2);
const FAREWELL_BYTES: u64 = 4 * 1024 * 1024;

/// A connection that is on its way.
pub(super) type Dialling = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

/// Both connections.
#[derive(Default)]
pub(super) struct Wires {
    inward: Wire,
    outward: Wire,
}

#[derive(Default)]
enum Wire {
    #[default]
    Down,
    Dialling(Dialling),
    Up(Box<Up>),
}

struct Up {
    stream: TcpStream,
    framer: Framer,
    /// What TCP has not yet taken.
    unsent: BytesMut,
    buffer: Vec<u8>,
}

/// What a connection has to tell.
pub(super) enum Turn {
    Connected(io::Result<TcpStream>),
    Failed(Way, String),
    /// Everything was taken.
    Flushed(Way),
    /// So many bytes are in its framer.
    Read(Way),
}

impl Wires {
    fn wire(&mut self, way: Way) -> &mut Wire {
        match way {
            Way::In => &mut self.inward,
            Way::Out => &mut self.outward,
        }
    }

    fn up(&mut self, way: Way) -> Option<&mut Up> {
        match self.wire(way) {
            Wire::Up(up) => Some(up),
            Wire::Dialling(_) | Wire::Down => None,
        }
    }

    /// Waits until one of them has something to tell; for ever when there is none. Nothing is lost when this is dropped.
    pub(super) async fn next(&mut self) -> Turn {
        tokio::select! {
            turn = self.inward.turn(Way::In) => turn,
            turn = self.outward.turn(Way::Out) => turn,
        }
    }

    pub(super) fn dial(&mut self, dialling: Dialling) {
        self.outward = Wire::Dialling(dialling);
    }

    pub(super) fn open(&mut self, way: Way, stream: TcpStream) {
        *self.wire(way) = Wire::Up(Box::new(Up {
            stream,
            framer: Framer::default(),
            unsent: BytesMut::new(),
            buffer: vec![0; READ_LIMIT],
        }));
    }

    /// What arrived, to be cut into messages.
    pub(super) fn framer(&mut self, way: Way) -> Option<&mut Framer> {
        self.up(way).map(|up| &mut up.framer)
    }

    /// Our own address on this connection.
    pub(super) fn local(&mut self, way: Way) -> Option<IpAddr> {
        self.up(way)?.stream.local_addr().ok().map(|address| address.ip().to_canonical())
    }

    /// Queues bytes; TCP takes them when it can.
    pub(super) fn send(&mut self, way: Way, bytes: &[u8]) {
        self.up(way).into_iter().for_each(|up| up.unsent.extend_from_slice(bytes));
    }

    /// Bytes that TCP has not yet taken.
    pub(super) fn unsent(&mut self, way: Way) -> usize {
        self.up(way).map_or(0, |up| up.unsent.len())
    }

    /// Ends a connection; the future returned says the last words.
    pub(super) fn close(
        &mut self,
        way: Way,
        clock: Arc<dyn Clock>,
    ) -> Option<impl Future<Output = ()> + Send + use<>> {
        match std::mem::take(self.wire(way)) {
            Wire::Up(up) if !up.unsent.is_empty() => Some(farewell(up.stream, up.unsent, clock)),
            Wire::Up(_) | Wire::Dialling(_) | Wire::Down => None,
        }
    }
}

/// Sends what is left and waits for the peer to close: closing with bytes unread would reset the connection, and the peer
/// might never see why.
async fn farewell(mut stream: TcpStream, unsent: BytesMut, clock: Arc<dyn Clock>) {
    let words = async {
        stream.write_all(&unsent).await?;
        stream.shutdown().await?;
        let mut rest = stream.take(FAREWELL_BYTES);
        tokio::io::copy(&mut rest, &mut tokio::io::sink()).await
    };
    // Whatever comes of it: the session is over.
    tokio::select! {
        _ = words => {}
        () = clock.sleep(FAREWELL) => {}
    }
}

impl Wire {
    async fn turn(&mut self, way: Way) -> Turn {
        match self {
            Self::Down => std::future::pending().await,
            Self::Dialling(dialling) => {
                let connected = dialling.await;
                *self = Self::Down;
                Turn::Connected(connected)
            }
            Self::Up(up) => match up.turn(way).await {
                Ok(turn) => turn,
                Err(error) => Turn::Failed(way, error.to_string()),
            },
        }
    }
}

impl Up {
    async fn turn(&mut self, way: Way) -> io::Result<Turn> {
        loop {
            let writes = if self.unsent.is_empty() {
                Interest::READABLE
            } else {
                Interest::READABLE | Interest::WRITABLE
            };
            let ready = self.stream.ready(writes).await?;
            if ready.is_writable() && !self.unsent.is_empty() {
                match self.stream.try_write(&self.unsent) {
                    Ok(count) => self.unsent.advance(count),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
                if self.unsent.is_empty() {
                    return Ok(Turn::Flushed(way));
                }
            }
            if ready.is_readable() || ready.is_read_closed() {
                match self.stream.try_read(&mut self.buffer) {
                    Ok(0) => return Ok(Turn::Failed(way, "the peer closed the connection".into())),
                    Ok(count) => {
                        self.framer.push(self.buffer.get(..count).unwrap_or_default());
                        return Ok(Turn::Read(way));
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }
}
