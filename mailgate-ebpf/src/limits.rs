//! Connections of each source network, counted where they are made: `track` (sock_ops), asked by `steer`.
//!
//! What counts is the end of a handshake, which a spoofed SYN never reaches. Each socket carries the sources it was
//! counted for, so its end takes away exactly that, whatever happened to the rules meanwhile.

use core::cell::UnsafeCell;
use core::intrinsics::{AtomicOrdering, atomic_cxchg, atomic_xadd};

use aya_ebpf::bindings::{
    BPF_F_NO_PREALLOC, BPF_NOEXIST, BPF_SK_STORAGE_GET_F_CREATE, BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB,
    BPF_SOCK_OPS_STATE_CB, BPF_SOCK_OPS_STATE_CB_FLAG, BPF_TCP_CLOSE, bpf_sock, bpf_sock_ops,
};
use aya_ebpf::btf_maps::{LruHashMap, RingBuf, SkStorage};
use aya_ebpf::helpers::{
    bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_ktime_get_ns, bpf_sk_storage_get,
    bpf_sock_ops_cb_flags_set,
};
use aya_ebpf::macros::btf_map;
use aya_ebpf::programs::SockOpsContext;
use mailgate_common::limit::{
    ATTEMPTS, Counted, Excess, LIMITS_PER_CONNECTION, LimitSpec, OVERRUN_RING, Opened, Overrun, SOURCES,
    Shared, Source, SourceKey,
};
use mailgate_common::ruleset::{Words as _, first_rule, limit_rules, limit_word};
use mailgate_common::{Address, Facts, Reason, lookup4, lookup6, setting};

use crate::maps::{Rules, Slot, count, setting};

type SourceState = Source<Word>;

const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;

/// [`SourceKey`] to [`SourceState`]. Values as words: their types' names mean nothing to the kernel.
#[btf_map]
pub static CONNECTIONS: LruHashMap<[u64; 3], [u64; 4], SOURCES> = LruHashMap::new();

/// [`Counted`] of each socket that was counted.
#[btf_map]
pub static COUNTED: SkStorage<[u64; 5]> = SkStorage::new();

#[btf_map]
pub static EVENTS: RingBuf<Overrun, OVERRUN_RING> = RingBuf::new();

const _: () = assert!(size_of::<[u64; 5]>() == Counted::SIZE && BPF_F_NO_PREALLOC == 1);

/// Counts a connection when its handshake is over, and when it ends.
#[inline(always)]
pub fn track(ctx: &SockOpsContext) {
    match ctx.op() {
        BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB => opened(ctx),
        BPF_SOCK_OPS_STATE_CB if ctx.arg(1) == BPF_TCP_CLOSE => closed(ctx),
        _ => {}
    }
}

/// The two ends of a connection.
struct Ends {
    source: Address,
    local: Address,
    source_port: u16,
    local_port: u16,
}

#[inline(always)]
fn opened(ctx: &SockOpsContext) {
    if !ours(ctx) {
        return;
    }
    let Some(ends) = ends(ctx) else { return };
    if is_local(&ends) {
        return;
    }
    let slot = Slot::current();
    let Some(rules) = slot.rules() else { return };
    let limits = limits(&rules, slot, ends.source, ends.local_port);
    if limits == 0 {
        return;
    }
    let counted = keys(&rules, ends.source, limits);
    // Without a place for what was counted, its end would not be: then it is not counted at all.
    let Some(sk) = socket(ctx) else { return };
    if storage(sk, Some(&counted)).is_none() || !hear_of_end(ctx) {
        return;
    }
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    let mut rest = limits;
    for n in 0..LIMITS_PER_CONNECTION {
        if rest == 0 {
            break;
        }
        let spec = spec(&rules, first_rule(rest));
        rest &= rest - 1;
        let key = SourceKey::new(ends.source.high, ends.source.low, spec.id, counted.bits[n]);
        let Some(state) = state_or_new(&key) else { continue };
        let outcome = state.opened(&spec, now);
        if outcome.excess != Excess::Fine {
            report(ctx, &ends, &spec, &outcome, state.report(now));
        }
    }
}

#[inline(always)]
fn closed(ctx: &SockOpsContext) {
    let Some(sk) = socket(ctx) else { return };
    let Some(counted) = storage(sk, None) else { return };
    for n in 0..LIMITS_PER_CONNECTION {
        // SAFETY: the value is this socket's, and its callbacks do not run side by side.
        let (high, low, id, bits) = unsafe {
            let id = (*counted).limits[n];
            // A socket may say twice that it closes.
            (*counted).limits[n] = 0;
            ((*counted).high, (*counted).low, id, (*counted).bits[n])
        };
        if id != 0
            && let Some(state) = state(&SourceKey::new(high, low, id, bits))
        {
            state.closed();
        }
    }
}

/// Whether a new connection is refused before its handshake, because of what its source has already. `set` are the
/// tables that hold the source.
#[inline(always)]
pub fn refuses(rules: &Rules, set: u64, facts: &Facts, source: Address) -> bool {
    let mut rest = limit_rules(rules, set, facts);
    if rest == 0 {
        return false;
    }
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    for _ in 0..LIMITS_PER_CONNECTION {
        if rest == 0 {
            break;
        }
        let spec = spec(rules, first_rule(rest));
        rest &= rest - 1;
        let key = SourceKey::new(source.high, source.low, spec.id, spec.bits(source.high, source.low));
        if let Some(state) = state(&key)
            && state.refuses_new(&spec, now)
        {
            return true;
        }
    }
    false
}

/// Is the socket in the network namespace whose packets we filter? A control group holds those of others too.
#[inline(always)]
fn ours(ctx: &SockOpsContext) -> bool {
    let wanted = setting(setting::NAMESPACE);
    // SAFETY: the context is the one we were called with.
    wanted != 0 && unsafe { bpf_get_netns_cookie(ctx.ops.cast()) } == wanted
}

#[inline(always)]
fn from_words(words: [u32; 4]) -> Address {
    let [a, b, c, d] = words.map(|word| u32::from_be(word) as u64);
    Address { high: a << 32 | b, low: c << 32 | d }
}

#[inline(always)]
fn ends(ctx: &SockOpsContext) -> Option<Ends> {
    // Each field by a load of its own: the kernel knows no wider one.
    let word = |at: *const u32| {
        // SAFETY: `at` points to a field of the context.
        unsafe { at.read_volatile() }
    };
    let ops: *const bpf_sock_ops = ctx.ops;
    // SAFETY: the context is valid; only addresses are taken here.
    let (remote4, local4, remote6, local6, port) = unsafe {
        (
            &raw const (*ops).remote_ip4,
            &raw const (*ops).local_ip4,
            &raw const (*ops).remote_ip6,
            &raw const (*ops).local_ip6,
            &raw const (*ops).remote_port,
        )
    };
    let four = |at: *const [u32; 4]| {
        let at = at.cast::<u32>();
        from_words([word(at), word(at.wrapping_add(1)), word(at.wrapping_add(2)), word(at.wrapping_add(3))])
    };
    let v4 = |at| Address::from_v4(u32::from_be(word(at)));
    let (source, local) = match ctx.family() {
        AF_INET => (v4(remote4), v4(local4)),
        // An IPv4 connection to an IPv6 socket has mapped addresses here.
        AF_INET6 => (four(remote6), four(local6)),
        _ => return None,
    };
    let source_port = u32::from_be(word(port)) as u16;
    Some(Ends { source, local, source_port, local_port: ctx.local_port() as u16 })
}

/// A program of this host connecting to it.
#[inline(always)]
fn is_local(ends: &Ends) -> bool {
    (is_v4(ends.source) && ends.source.v4() >> 24 == 127) || ends.source == ends.local
}

/// An IPv4 connection to an IPv6 socket has mapped addresses, as all of ours are.
#[inline(always)]
fn is_v4(address: Address) -> bool {
    address.high == 0 && address.low >> 32 == 0xffff
}

/// The socket of the context, once the kernel has made it a full one.
#[inline(always)]
fn socket(ctx: &SockOpsContext) -> Option<*mut bpf_sock> {
    // SAFETY: the context is valid.
    let sk = unsafe { (*ctx.ops).__bindgen_anon_2.sk };
    if sk.is_null() { None } else { Some(sk) }
}

/// What the socket carries; made from `initial` when that is given.
#[inline(always)]
fn storage(sk: *mut bpf_sock, initial: Option<&Counted>) -> Option<*mut Counted> {
    let (value, flags) = match initial {
        Some(initial) => (core::ptr::from_ref(initial).cast_mut(), BPF_SK_STORAGE_GET_F_CREATE as u64),
        None => (core::ptr::null_mut(), 0),
    };
    let map = core::ptr::from_ref(&COUNTED).cast_mut();
    // SAFETY: map and socket are valid, the value has the size of the map's.
    let found = unsafe { bpf_sk_storage_get(map.cast(), sk.cast(), value.cast(), flags) };
    if found.is_null() { None } else { Some(found.cast()) }
}

/// Asks for the call at the end of this connection, beside what other programs asked for.
#[inline(always)]
fn hear_of_end(ctx: &SockOpsContext) -> bool {
    let flags = ctx.cb_flags() | BPF_SOCK_OPS_STATE_CB_FLAG;
    // SAFETY: the context is the one we were called with.
    unsafe { bpf_sock_ops_cb_flags_set(ctx.ops, flags as i32) == 0 }
}

#[inline(always)]
fn keys(rules: &Rules, source: Address, limits: u64) -> Counted {
    let mut counted = Counted::new(source.high, source.low);
    let mut rest = limits;
    for n in 0..LIMITS_PER_CONNECTION {
        if rest == 0 {
            break;
        }
        let spec = spec(rules, first_rule(rest));
        rest &= rest - 1;
        counted.limits[n] = spec.id;
        counted.bits[n] = spec.bits(source.high, source.low);
    }
    counted
}

#[inline(always)]
fn words(key: &SourceKey) -> &[u64; 3] {
    // SAFETY: a key is three words long and aligned like them.
    unsafe { &*core::ptr::from_ref(key).cast() }
}

#[inline(always)]
fn state(key: &SourceKey) -> Option<&'static SourceState> {
    // SAFETY: a state is three words, all of them atomic; the memory stays a state even when another source gets it.
    CONNECTIONS.get_ptr(words(key)).map(|found| unsafe { &*found.cast::<SourceState>() })
}

#[inline(always)]
fn state_or_new(key: &SourceKey) -> Option<&'static SourceState> {
    if let Some(state) = state(key) {
        return Some(state);
    }
    // Another processor may be faster: then its value is the one.
    let _ = CONNECTIONS.insert(words(key), &[0; 4], BPF_NOEXIST as u64);
    state(key)
}

/// Tells user space; a full ring loses the report, the next connection over the limit makes another.
#[inline(always)]
fn report(ctx: &SockOpsContext, ends: &Ends, spec: &LimitSpec, outcome: &Opened, first: bool) {
    if first {
        count(Reason::Overloaded, 0);
    }
    let Some(mut entry) = EVENTS.reserve(0) else { return count(Reason::EventLost, 0) };
    entry.write(Overrun {
        high: ends.source.high,
        low: ends.source.low,
        local_high: ends.local.high,
        local_low: ends.local.low,
        // SAFETY: the context is the one we were called with.
        cookie: unsafe { bpf_get_socket_cookie(ctx.ops.cast()) },
        limit: spec.id,
        excess: outcome.excess as u32,
        connections: outcome.connections,
        rate: outcome.rate,
        source_port: ends.source_port,
        local_port: ends.local_port,
        first: first as u32,
    });
    entry.submit(0);
}

/// The limits that hold for a new connection from this source to a local port.
#[inline(always)]
fn limits(rules: &Rules, slot: Slot, source: Address, port: u16) -> u64 {
    // What a socket came in by is not known to its callbacks: rules with an interface are refused where they are read.
    let facts = Facts::connection(port, 0);
    let set = if is_v4(source) {
        lookup4(&slot.tables4(), source.v4())
    } else {
        lookup6(&slot.tables6(), source.high, source.low)
    };
    limit_rules(rules, set, &facts)
}

/// What the limit with this number allows.
#[inline(always)]
fn spec(rules: &Rules, rule: u32) -> LimitSpec {
    let at = limit_word(rule);
    LimitSpec::decode([rules.word(at), rules.word(at + 1), rules.word(at + 2), rules.word(at + 3)])
}

/// A word in a map.
#[repr(transparent)]
struct Word(UnsafeCell<u64>);

impl Shared for Word {
    #[inline(always)]
    fn load(&self) -> u64 {
        // SAFETY: the word is inside a map's value.
        unsafe { self.0.get().read_volatile() }
    }

    #[inline(always)]
    fn add(&self, more: u64) -> u64 {
        // The instruction set we compile for has an addition, but not one that tells what was there.
        let mut seen = self.load();
        for _ in 0..ATTEMPTS {
            match self.exchange(seen, seen.wrapping_add(more)) {
                Ok(()) => return seen,
                Err(other) => seen = other,
            }
        }
        // SAFETY: as above, and aligned.
        unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::SeqCst }>(self.0.get(), more) };
        seen
    }

    #[inline(always)]
    fn exchange(&self, from: u64, to: u64) -> Result<(), u64> {
        const ORDER: AtomicOrdering = AtomicOrdering::SeqCst;
        // SAFETY: as above, and aligned.
        let (found, done) = unsafe { atomic_cxchg::<u64, ORDER, ORDER>(self.0.get(), from, to) };
        if done { Ok(()) } else { Err(found) }
    }
}
