//! The routes of a peer on disk, so that a restart of ours has them until the peer has told them anew.
//!
//! A file for each peer, replaced as a whole: a head, then for each kind of route its communities and its prefixes in the
//! wire's own form, then a foot. A file without its foot, or with anything else than that, is not used.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use mailgate_model::Timestamp;
use mailgate_proto::bgp::{Community, ExtendedCommunity, LargeCommunity, Nlri};

use super::community::Marks;
use crate::disk::Draft;

/// First bytes of the file; the number changes with its form.
const HEAD: &[u8] = b"mailgate bgp 1\n";

/// Last bytes.
const FOOT: &[u8] = b"end\n";

/// Routes of one kind are written in runs of at most so many, so that reading one back never takes more memory than this.
pub(super) const RUN: usize = 65_536;

/// Routes that carry the same.
pub(super) struct Run {
    pub(super) marks: Marks,
    pub(super) routes: Vec<Nlri>,
}

/// Where the routes of a peer are: its name, with whatever does not belong into a file name written in hexadecimal.
pub(super) fn path(folder: &Path, name: &str) -> PathBuf {
    let mut file = String::from("bgp-");
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => file.push(char::from(byte)),
            _ => file.push_str(&format!("%{byte:02x}")),
        }
    }
    file.push_str(".state");
    folder.join(file)
}

/// Replaces the file.
pub(super) fn write(path: &Path, now: Timestamp, runs: impl Iterator<Item = Run>) -> io::Result<()> {
    let fill = |file: &mut File| {
        let mut file = BufWriter::new(file);
        file.write_all(HEAD)?;
        file.write_all(&now.millis().to_be_bytes())?;
        for run in runs {
            write_run(&mut file, &run)?;
        }
        // No run has no routes: this says that there are no more.
        file.write_all(&0_u32.to_be_bytes())?;
        file.write_all(FOOT)?;
        file.flush()
    };
    Draft::new(path, fill)?.place()
}

fn write_run(file: &mut impl Write, run: &Run) -> io::Result<()> {
    if run.routes.is_empty() {
        return Ok(());
    }
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX).to_be_bytes();
    file.write_all(&count(run.routes.len()))?;
    file.write_all(&count(run.marks.plain.len()))?;
    file.write_all(&count(run.marks.large.len()))?;
    file.write_all(&count(run.marks.extended.len()))?;
    for community in &run.marks.plain {
        file.write_all(&community.0.to_be_bytes())?;
    }
    for community in &run.marks.large {
        for part in [community.global, community.local_1, community.local_2] {
            file.write_all(&part.to_be_bytes())?;
        }
    }
    for community in &run.marks.extended {
        file.write_all(&community.0)?;
    }
    for nlri in &run.routes {
        file.write_all(&nlri.path.to_be_bytes())?;
        let length = nlri.prefix.prefix_len();
        let bytes = usize::from(length).div_ceil(8);
        match nlri.prefix {
            IpNet::V4(net) => {
                file.write_all(&[4, length])?;
                file.write_all(net.network().octets().get(..bytes).unwrap_or_default())?;
            }
            IpNet::V6(net) => {
                file.write_all(&[6, length])?;
                file.write_all(net.network().octets().get(..bytes).unwrap_or_default())?;
            }
        }
    }
    Ok(())
}

/// Reads the file and gives its runs to `take`; says when it was written. `None` when there is no file. At most `limit` routes.
/// Nothing is given before the whole file was found to be good.
///
/// # Errors
/// When the file cannot be read, or is not one of ours.
pub(super) fn read(path: &Path, limit: usize, mut take: impl FnMut(Run)) -> io::Result<Option<Timestamp>> {
    let open = || match File::open(path) {
        Ok(file) => Ok(Some(BufReader::new(file))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    };
    let Some(file) = open()? else { return Ok(None) };
    walk(file, limit, |_| {})?;
    let Some(file) = open()? else { return Ok(None) };
    walk(file, limit, &mut take).map(Some)
}

fn walk(mut file: impl Read, limit: usize, mut take: impl FnMut(Run)) -> io::Result<Timestamp> {
    let bad = || {
        io::Error::new(io::ErrorKind::InvalidData, "found something else than a table that mailgate wrote")
    };
    if bytes::<{ HEAD.len() }>(&mut file)? != HEAD {
        return Err(bad());
    }
    let at = Timestamp::from_millis(i64::from_be_bytes(bytes(&mut file)?));
    let mut total = 0;
    loop {
        let count = number(&mut file)?;
        if count == 0 {
            break;
        }
        total += count;
        if count > RUN || total > limit {
            return Err(bad());
        }
        let marks = read_marks(&mut file)?.ok_or_else(bad)?;
        let mut routes = Vec::with_capacity(count);
        for _ in 0..count {
            routes.push(read_route(&mut file)?.ok_or_else(bad)?);
        }
        take(Run { marks, routes });
    }
    if bytes::<{ FOOT.len() }>(&mut file)? != FOOT {
        return Err(bad());
    }
    Ok(at)
}

fn bytes<const N: usize>(file: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn number(file: &mut impl Read) -> io::Result<usize> {
    bytes(file).map(|bytes| usize::try_from(u32::from_be_bytes(bytes)).unwrap_or(usize::MAX))
}

/// `None` when there are more communities than an attribute holds.
fn read_marks(file: &mut impl Read) -> io::Result<Option<Marks>> {
    let counts = [number(file)?, number(file)?, number(file)?];
    if counts.iter().any(|count| *count > usize::from(u16::MAX)) {
        return Ok(None);
    }
    let [plain, large, extended] = counts;
    let mut marks = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..plain {
        marks.0.push(Community(u32::from_be_bytes(bytes(file)?)));
    }
    for _ in 0..large {
        let [global, local_1, local_2] = [bytes(file)?, bytes(file)?, bytes(file)?].map(u32::from_be_bytes);
        marks.1.push(LargeCommunity { global, local_1, local_2 });
    }
    for _ in 0..extended {
        marks.2.push(ExtendedCommunity(bytes(file)?));
    }
    let (plain, large, extended) = marks;
    Ok(Some(Marks { plain: plain.into(), large: large.into(), extended: extended.into() }))
}

fn read_route(file: &mut impl Read) -> io::Result<Option<Nlri>> {
    let path = u32::from_be_bytes(bytes(file)?);
    let [family, length] = bytes(file)?;
    let count = usize::from(length).div_ceil(8);
    let mut octets = [0; 16];
    let most = if family == 4 { 4 } else { 16 };
    let Some(place) = octets.get_mut(..count).filter(|_| count <= most) else { return Ok(None) };
    file.read_exact(place)?;
    let prefix = match (family, octets) {
        (4, [a, b, c, d, ..]) => {
            Ipv4Net::new(Ipv4Addr::new(a, b, c, d), length).ok().map(|net| IpNet::V4(net.trunc()))
        }
        (6, octets) => Ipv6Net::new(Ipv6Addr::from(octets), length).ok().map(|net| IpNet::V6(net.trunc())),
        _ => None,
    };
    Ok(prefix.map(|prefix| Nlri { prefix, path }))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn runs() -> Vec<Run> {
        let nlri = |text: &str, path| Nlri { prefix: text.parse().unwrap(), path };
        let marks = Marks {
            plain: [Community::new(65066, 666)].into(),
            large: [LargeCommunity { global: 1, local_1: 2, local_2: 3 }].into(),
            extended: [ExtendedCommunity([1; 8])].into(),
        };
        vec![
            Run {
                marks,
                routes: vec![nlri("192.0.2.1/32", 0), nlri("10.0.0.0/9", 7), nlri("2001:db8::/48", 0)],
            },
            Run { marks: Marks::default(), routes: vec![nlri("198.51.100.7/32", 0)] },
        ]
    }

    fn read_back(path: &Path, limit: usize) -> io::Result<Vec<(Marks, Vec<Nlri>)>> {
        let mut found = Vec::new();
        read(path, limit, |run| found.push((run.marks, run.routes))).map(|_| found)
    }

    #[test]
    fn what_is_written_is_read_back_and_nothing_else_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = path(folder.path(), "feed/1 ä");
        assert_eq!(path.file_name().unwrap(), "bgp-feed%2f1%20%c3%a4.state");
        assert!(read(&path, 10, |_| panic!()).unwrap().is_none(), "there is no file yet");
        let now = Timestamp::from_secs(1_000_000);
        write(&path, now, runs().into_iter()).unwrap();
        let want: Vec<_> = runs().into_iter().map(|run| (run.marks, run.routes)).collect();
        assert_eq!(read_back(&path, 4).unwrap(), want);
        assert_eq!(read(&path, 4, |_| {}).unwrap(), Some(now));
        assert!(read_back(&path, 3).is_err(), "more than may be");
        let whole = fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            let mut given = 0;
            assert!(read(&path, 10, |_| given += 1).is_err(), "{cut}");
            assert_eq!(given, 0, "nothing of a file that was cut at {cut}");
        }
    }

    #[test]
    fn a_writer_that_dies_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = path(folder.path(), "feed");
        write(&path, Timestamp::from_secs(1), runs().into_iter()).unwrap();
        let dying = std::panic::AssertUnwindSafe(|| {
            let runs = runs()
                .into_iter()
                .enumerate()
                .map(|(nth, run)| if nth == 1 { panic!("killed") } else { run });
            let _ = write(&path, Timestamp::from_secs(2), runs);
        });
        assert!(std::panic::catch_unwind(dying).is_err());
        assert_eq!(read(&path, 10, |_| {}).unwrap(), Some(Timestamp::from_secs(1)));
    }
}
