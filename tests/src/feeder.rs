//! A BGP feeder that announces what no well-meaning one would, octet by octet, without the program's own encoder.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::until;

/// Longest message (RFC 4271 §4).
const MESSAGE: usize = 4096;
/// Host routes in one UPDATE: five octets each, beside 60 of header and attributes.
const ROUTES: usize = 800;
/// How long the other side may take for anything.
const PATIENCE: Duration = Duration::from_secs(30);

/// A listening feeder with one session at a time.
#[derive(Debug)]
pub struct Feeder {
    listener: TcpListener,
    asn: u32,
}

/// An established session.
#[derive(Debug)]
pub struct Feeding {
    stream: TcpStream,
    asn: u32,
    /// Code and subcode of the NOTIFICATION that ended it, once there is one.
    ended: Arc<Mutex<Option<(u8, u8)>>>,
}

impl Feeder {
    /// Listens on loopback as this AS.
    ///
    /// # Errors
    /// When there is no port.
    pub fn start(asn: u32) -> Result<Feeder> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        Ok(Feeder { listener, asn })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the system does not know.
    pub fn address(&self) -> Result<SocketAddr> {
        Ok(self.listener.local_addr()?)
    }

    /// Waits for the other side and brings the session up.
    ///
    /// # Errors
    /// When it does not come or says no.
    pub fn session(&self) -> Result<Feeding> {
        let (stream, _) = until("a BGP connection", PATIENCE, || self.listener.accept().ok())?.0;
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut feeding = Feeding { stream, asn: self.asn, ended: Arc::default() };
        feeding.expect(1)?;
        feeding.send(1, &open(self.asn))?;
        feeding.expect(4)?;
        feeding.send(4, &[])?;
        feeding.listen()?;
        Ok(feeding)
    }
}

impl Feeding {
    /// Announces prefixes, written as `192.0.2.0/24`, with one community.
    ///
    /// # Errors
    /// When the session has ended.
    pub fn announce(&mut self, prefixes: &[&str], community: (u16, u16)) -> Result<()> {
        for prefix in prefixes {
            let (address, length) = prefix.split_once('/').context("a prefix has a length")?;
            let address: Ipv4Addr = address.parse()?;
            let length: u8 = length.parse()?;
            let octets = usize::from(length.div_ceil(8));
            let mut route = vec![length];
            route.extend(address.octets().iter().take(octets));
            self.update(&route, community)?;
        }
        Ok(())
    }

    /// Announces so many hosts from this address on.
    ///
    /// # Errors
    /// When the session has ended.
    pub fn announce_hosts(&mut self, first: Ipv4Addr, count: u32, community: (u16, u16)) -> Result<()> {
        let hosts: Vec<u32> = (0..count).map(|n| u32::from(first).wrapping_add(n)).collect();
        for part in hosts.chunks(ROUTES) {
            let mut routes = Vec::with_capacity(part.len() * 5);
            for host in part {
                routes.push(32);
                routes.extend(host.to_be_bytes());
            }
            self.update(&routes, community)?;
        }
        Ok(())
    }

    /// Why the other side ended the session: code and subcode of its NOTIFICATION.
    ///
    /// # Errors
    /// When it does not.
    pub fn notification(&self) -> Result<(u8, u8)> {
        let said = || *self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(until("a NOTIFICATION", PATIENCE, said)?.0)
    }

    fn update(&mut self, routes: &[u8], (high, low): (u16, u16)) -> Result<()> {
        let mut attributes = vec![0x40, 1, 1, 0, 0x40, 2, 6, 2, 1];
        attributes.extend(self.asn.to_be_bytes());
        attributes.extend([0x40, 3, 4, 192, 0, 2, 66, 0xc0, 8, 4]);
        attributes.extend(high.to_be_bytes());
        attributes.extend(low.to_be_bytes());
        let mut body = vec![0, 0];
        body.extend(u16::try_from(attributes.len())?.to_be_bytes());
        body.extend(&attributes);
        body.extend(routes);
        self.send(2, &body)
    }

    fn send(&mut self, kind: u8, body: &[u8]) -> Result<()> {
        let length = 19 + body.len();
        anyhow::ensure!(length <= MESSAGE, "a message of {length} octets");
        let mut message = vec![0xff; 16];
        message.extend(u16::try_from(length)?.to_be_bytes());
        message.push(kind);
        message.extend(body);
        Ok(self.stream.write_all(&message)?)
    }

    /// Reads one message, which has to be of this kind.
    fn expect(&mut self, kind: u8) -> Result<()> {
        let (found, body) = read(&mut self.stream)?;
        if found != kind {
            bail!("message {found} {body:?} instead of {kind}");
        }
        Ok(())
    }

    /// Reads whatever comes, so that the other side never waits, until it says why it ends the session.
    fn listen(&self) -> Result<()> {
        let mut stream = self.stream.try_clone()?;
        let ended = Arc::clone(&self.ended);
        std::thread::spawn(move || {
            while let Ok((kind, body)) = read(&mut stream) {
                if let (3, [code, subcode, ..]) = (kind, body.as_slice()) {
                    *ended.lock().unwrap_or_else(PoisonError::into_inner) = Some((*code, *subcode));
                }
            }
        });
        Ok(())
    }
}

/// Version 4, hold time 90 s, IPv4 unicast, four-octet AS (RFC 4271 §4.2, RFC 4760 §8, RFC 6793 §3).
fn open(asn: u32) -> Vec<u8> {
    let two_octets = u16::try_from(asn).unwrap_or(23_456);
    let mut capabilities = vec![1, 4, 0, 1, 0, 1, 65, 4];
    capabilities.extend(asn.to_be_bytes());
    let length = u8::try_from(capabilities.len()).unwrap_or(0);
    let mut body = vec![4];
    body.extend(two_octets.to_be_bytes());
    body.extend([0, 90, 192, 0, 2, 66, length + 2, 2, length]);
    body.extend(capabilities);
    body
}

fn read(stream: &mut TcpStream) -> Result<(u8, Vec<u8>)> {
    let mut head = [0; 19];
    stream.read_exact(&mut head)?;
    let [.., high, low, kind] = head;
    let length = usize::from(u16::from_be_bytes([high, low]));
    let mut body = vec![0; length.saturating_sub(head.len())];
    stream.read_exact(&mut body)?;
    Ok((kind, body))
}
