//! The decision: which tables hold an address, hence what is done.

/// What is done with a source. The order is the order of precedence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum Verdict {
    /// Straight to reception.
    Bypass = 0,
    /// Packets vanish, on every port.
    Drop = 1,
    /// The connection is refused.
    Reject = 2,
    /// One byte a second.
    Tarpit = 3,
    /// In no table that says anything about this destination.
    Unknown = 4,
}

/// Where a packet goes, as far as the decision cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// Anything but the ports of reception: only [`Verdict::Drop`] and bypass reach so far.
    Elsewhere,
    /// A port where mail is received.
    Reception,
}

/// The tables of each action, as bit sets. The precedence of actions is fixed: bypass, drop, reject, tarpit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Policy {
    /// Tables whose sources go straight to reception.
    pub bypass: u64,
    /// Tables whose sources vanish on all ports.
    pub drop: u64,
    /// Tables whose sources are refused at reception.
    pub reject: u64,
    /// Tables whose sources are held at reception.
    pub tarpit: u64,
}

/// What is done with a source that the tables of `set` hold. Runs in the kernel, in the fallback and in tests.
#[must_use]
#[inline(always)]
pub const fn decide(set: u64, policy: &Policy, destination: Destination) -> Verdict {
    if set & policy.bypass != 0 {
        return Verdict::Bypass;
    }
    if set & policy.drop != 0 {
        return Verdict::Drop;
    }
    if matches!(destination, Destination::Reception) {
        if set & policy.reject != 0 {
            return Verdict::Reject;
        }
        if set & policy.tarpit != 0 {
            return Verdict::Tarpit;
        }
    }
    Verdict::Unknown
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Policy = Policy { bypass: 1, drop: 2, reject: 4, tarpit: 8 };

    #[test]
    fn precedence_is_bypass_drop_reject_tarpit() {
        for (set, want) in [
            (0, Verdict::Unknown),
            (0b1111, Verdict::Bypass),
            (0b1110, Verdict::Drop),
            (0b1100, Verdict::Reject),
            (0b1000, Verdict::Tarpit),
            (1 << 40, Verdict::Unknown),
        ] {
            assert_eq!(decide(set, &POLICY, Destination::Reception), want, "set {set:b}");
        }
    }

    #[test]
    fn only_drop_and_bypass_reach_beyond_reception() {
        for (set, want) in [
            (0b1110, Verdict::Drop),
            (0b1100, Verdict::Unknown),
            (0b1000, Verdict::Unknown),
            (1, Verdict::Bypass),
        ] {
            assert_eq!(decide(set, &POLICY, Destination::Elsewhere), want, "set {set:b}");
        }
    }
}
