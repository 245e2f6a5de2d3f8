//! Packets to a pcapng file: each with its interface, and with verdict and reason as its comment.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use mailgate_common::event::SNAP;
use mailgate_packet::xdp::trace::Traced;
use pcap_file::DataLink;
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};

use super::line::Told;
use super::{Failure, exit, failure};

/// Nanoseconds, as the negative power of ten that the format wants.
const NANOSECONDS: u8 = 9;

/// A file under construction.
pub(super) struct Writer {
    path: PathBuf,
    inner: PcapNgWriter<BufWriter<File>>,
    /// Number in the file of each interface.
    interfaces: HashMap<u32, u32>,
}

impl Writer {
    pub(super) fn create(path: &Path) -> Result<Self, Failure> {
        let file = File::create(path).map_err(|error| refused(path, &error))?;
        let inner = PcapNgWriter::new(BufWriter::new(file)).map_err(|error| refused(path, &error))?;
        Ok(Self { path: path.to_owned(), inner, interfaces: HashMap::new() })
    }

    pub(super) fn write(&mut self, event: &Traced, told: &Told) -> Result<(), Failure> {
        let interface_id = self.interface(event.interface, told.interface())?;
        let block = EnhancedPacketBlock {
            interface_id,
            timestamp: told.time(),
            original_len: event.length,
            data: Cow::Borrowed(&event.snap),
            options: vec![EnhancedPacketOption::Comment(Cow::Borrowed(told.verdict()))],
        };
        self.inner.write_pcapng_block(block).map(drop).map_err(|error| refused(&self.path, &error))
    }

    fn interface(&mut self, number: u32, name: &str) -> Result<u32, Failure> {
        if let Some(id) = self.interfaces.get(&number) {
            return Ok(*id);
        }
        let block = InterfaceDescriptionBlock {
            linktype: DataLink::ETHERNET,
            snaplen: SNAP as u32,
            options: vec![
                InterfaceDescriptionOption::IfName(Cow::Borrowed(name)),
                InterfaceDescriptionOption::IfTsResol(NANOSECONDS),
            ],
        };
        self.inner.write_pcapng_block(block).map_err(|error| refused(&self.path, &error))?;
        let id = self.interfaces.len() as u32;
        self.interfaces.insert(number, id);
        Ok(id)
    }

    /// Everything is on its way to the disk.
    pub(super) fn finish(self) -> Result<(), Failure> {
        let written = self.inner.into_inner().into_inner().map(drop);
        written.map_err(|error| refused(&self.path, &error.into_error()))
    }
}

fn refused(path: &Path, error: &dyn std::error::Error) -> Failure {
    failure(exit::SYSTEM, format!("{} could not be written: {error}", path.display()))
}
