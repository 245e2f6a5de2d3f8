//! The stand-in without a kernel: the same words, the same lookup, asked at accept.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use mailgate_lists::Change;
use mailgate_model::Clock;

use super::area::Area;
use super::engine::{Backing, Current, Engine, Family};
use super::{Applied, Error, Listeners, PacketFilter, Status, Verdict, Where};

/// The packet filter in user space.
pub struct Memory {
    reason: String,
    engine: Mutex<Engine>,
    current: RwLock<Current>,
}

impl Memory {
    /// An empty filter; `reason` is shown by `status`.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, reason: String) -> Self {
        Self {
            reason,
            engine: Mutex::new(Engine::new(Box::new(Anonymous), clock)),
            current: RwLock::default(),
        }
    }
}

/// Generations in memory of our own.
struct Anonymous;

impl Backing for Anonymous {
    fn area(&self, _: Family, words: usize) -> Result<Area, Error> {
        Area::anonymous(words).map_err(|source| Error::kernel("memory for the tables", source))
    }

    fn publish(&self, _: Family, _: Option<&Area>) -> Result<(), Error> {
        Ok(())
    }
}

impl PacketFilter for Memory {
    fn apply(&self, changes: Vec<Change>) -> Result<Applied, Error> {
        let mut engine = self.engine.lock().unwrap_or_else(PoisonError::into_inner);
        let applied = engine.apply(changes);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = engine.current();
        applied
    }

    fn verdict(&self, source: IpAddr) -> Verdict {
        self.current.read().unwrap_or_else(PoisonError::into_inner).verdict(source)
    }

    fn set_listeners(&self, _: Listeners, _: Listeners) -> Result<(), Error> {
        Ok(())
    }

    fn status(&self) -> Status {
        let (generation, entries4, entries6) =
            self.engine.lock().unwrap_or_else(PoisonError::into_inner).figures();
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        Status {
            acts: Where::Memory,
            reason: Some(self.reason.clone()),
            interfaces: Vec::new(),
            pins: None,
            generation,
            entries4,
            entries6,
            bytes: current.bytes(),
            tables: current.names(),
            counters: Vec::new(),
        }
    }

    fn detach(&self) -> Result<(), Error> {
        Ok(())
    }
}
