//! The table of fates, and the goals.

use serde_json::{Value, json};

use crate::replay::Fate;
use crate::world::POPULATIONS;

/// At most this share of legitimate first contacts may be delayed by selective greylisting.
const DELAYED_GOAL: f64 = 0.01;

/// What one policy did to every population.
pub(crate) struct Played {
    pub(crate) policy: &'static str,
    pub(crate) fates: Vec<Fate>,
    /// Attempts judged per second of processor time, in thousands.
    pub(crate) speed: f64,
}

impl Played {
    fn sum(&self, is_legitimate: bool) -> Fate {
        let mut sum = Fate::default();
        for (population, fate) in POPULATIONS.iter().zip(&self.fates) {
            if population.is_legitimate == is_legitimate {
                sum.messages += fate.messages;
                sum.firsts += fate.firsts;
                sum.firsts_delayed += fate.firsts_delayed;
                sum.accepted += fate.accepted;
                sum.given_up += fate.given_up;
                sum.rejected += fate.rejected;
                sum.delays.extend(&fate.delays);
            }
        }
        sum.delays.sort_unstable();
        sum
    }
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

fn percent(part: u64, whole: u64) -> String {
    format!("{:.2} %", 100.0 * share(part, whole))
}

/// The delay that `nth` of 100 of the delayed do not exceed.
fn percentile(delays: &[u64], nth: usize) -> u64 {
    let index = (delays.len() * nth / 100).min(delays.len().saturating_sub(1));
    delays.get(index).copied().unwrap_or(0)
}

fn span(seconds: u64) -> String {
    match seconds {
        0 => "-".to_owned(),
        1..=599 => format!("{seconds} s"),
        600..=35_999 => format!("{} min", seconds / 60),
        _ => format!("{:.1} h", seconds as f64 / 3600.0),
    }
}

fn legitimate(name: &str, fate: &Fate) {
    println!(
        "  {name:18} {:>9} {:>10} {:>10} {:>8} {:>8} {:>8} {:>7}",
        fate.messages,
        percent(fate.firsts_delayed, fate.firsts),
        percent(fate.delays.len() as u64, fate.messages),
        span(percentile(&fate.delays, 50)),
        span(percentile(&fate.delays, 95)),
        span(percentile(&fate.delays, 99)),
        fate.given_up + fate.rejected,
    );
}

fn bots(name: &str, fate: &Fate) {
    println!(
        "  {name:18} {:>9} {:>10} {:>10} {:>10}",
        fate.messages,
        percent(fate.given_up, fate.messages),
        percent(fate.rejected, fate.messages),
        percent(fate.accepted, fate.messages),
    );
}

/// One block per policy.
pub(crate) fn print(played: &Played) {
    println!("\n{} ({:.0} thousand attempts a second)", played.policy, played.speed);
    println!(
        "  {:18} {:>9} {:>10} {:>10} {:>8} {:>8} {:>8} {:>7}",
        "legitimate", "messages", "firsts del", "delayed", "p50", "p95", "p99", "lost"
    );
    for (population, fate) in POPULATIONS.iter().zip(&played.fates).filter(|(one, _)| one.is_legitimate) {
        legitimate(population.name, fate);
    }
    legitimate("all", &played.sum(true));
    println!("  {:18} {:>9} {:>10} {:>10} {:>10}", "bots", "messages", "deferred", "rejected", "accepted");
    for (population, fate) in POPULATIONS.iter().zip(&played.fates).filter(|(one, _)| !one.is_legitimate) {
        bots(population.name, fate);
    }
    bots("all", &played.sum(false));
}

/// The goals of selective greylisting; each met or missed.
pub(crate) fn goals(all: &[Played]) {
    let find = |name: &str| all.iter().find(|played| played.policy == name);
    let (Some(ours), Some(spamd)) = (find("mailgate selective"), find("spamd")) else { return };
    let (good, bad, bad_there) = (ours.sum(true), ours.sum(false), spamd.sum(false));
    let delayed = share(good.firsts_delayed, good.firsts);
    let lost = good.given_up + good.rejected;
    let (in_here, in_there) =
        (share(bad.accepted, bad.messages), share(bad_there.accepted, bad_there.messages));
    let word = |is_met: bool| if is_met { "met" } else { "missed" };
    println!("\ngoals of mailgate selective");
    println!(
        "  legitimate first contacts delayed  at most {:.0} %, found {:.2} %  {}",
        100.0 * DELAYED_GOAL,
        100.0 * delayed,
        word(delayed <= DELAYED_GOAL)
    );
    println!("  legitimate messages lost           0, found {lost}  {}", word(lost == 0));
    println!(
        "  bot mail accepted                  at most spamd's {:.2} %, found {:.2} %  {}",
        100.0 * in_there,
        100.0 * in_here,
        word(in_here <= in_there)
    );
}

/// Everything, for `--json`.
pub(crate) fn to_json(all: &[Played]) -> Value {
    let fate = |name: &str, fate: &Fate| {
        json!({
            "population": name, "messages": fate.messages, "firsts": fate.firsts,
            "firsts_delayed": fate.firsts_delayed, "delayed": fate.delays.len(),
            "delay_p50": percentile(&fate.delays, 50), "delay_p95": percentile(&fate.delays, 95),
            "delay_p99": percentile(&fate.delays, 99), "accepted": fate.accepted,
            "given_up": fate.given_up, "rejected": fate.rejected,
        })
    };
    let played = |played: &Played| {
        let fates = POPULATIONS.iter().zip(&played.fates).map(|(one, its)| fate(one.name, its));
        json!({ "policy": played.policy, "populations": fates.collect::<Vec<_>>() })
    };
    Value::Array(all.iter().map(played).collect())
}
