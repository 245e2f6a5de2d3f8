//! `[edge.suspicion]`: what counts how much, and which DNS lists are asked.

use std::collections::BTreeMap;

use mailgate_model::Span;
use serde::Deserialize;

use super::dnsbl::ZoneConfig;
use crate::reason::Reason;

/// Points of each finding. What a real mail server may well do counts little: no single one of those up to 4 makes anybody
/// wait with the default of `grey_at`. What speaks for a client takes away.
const POINTS: &[(Reason, i32)] = &[
    (Reason::NoReverse, 4),
    (Reason::ReverseUnconfirmed, 3),
    (Reason::DynamicName, 4),
    (Reason::GenericName, 3),
    (Reason::HeloLiteral, 2),
    (Reason::HeloOtherLiteral, 4),
    (Reason::HeloBare, 3),
    (Reason::HeloOurs, 5),
    (Reason::HeloUnresolvable, 2),
    (Reason::HeloMismatch, 1),
    (Reason::EarlyTalk, 6),
    (Reason::EarlyPipelining, 3),
    (Reason::SpfFail, 4),
    (Reason::SpfSoftfail, 2),
    (Reason::SpfNone, 1),
    (Reason::SpfPermerror, 1),
    (Reason::SpfPass, -1),
    (Reason::DnswlLow, -2),
    (Reason::Dnswl, -5),
    (Reason::ScoreTable, 3),
    (Reason::GreyTable, 0),
];

/// `[edge.suspicion]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SuspicionConfig {
    /// Points from which on a client is greylisted in mode `"selective"`, 1 to 100. Default 5: two things must speak
    /// against it.
    pub grey_at: i32,
    /// Points from which on its retry must wait as long as with spamd, 1 to 100, not below `grey_at`. Default 8.
    pub strong_at: i32,
    /// How long the DNS may take at each of the steps connect, HELO and MAIL, 0 to 10 s. What is not answered then counts
    /// for nothing. Default `"2s"`.
    pub budget: Span,
    /// How long a suspicious client must be silent between the two lines of its greeting, 0 (not done) to 6 s. Default
    /// `"4s"`.
    pub silence: Span,
    /// Points from which on a client counts as suspicious before it has said anything, and must be silent for so long.
    /// Default 3.
    pub silence_at: i32,
    /// Other points than the built-in ones, by reason, -20 to 20. Default none; example `{ no-reverse = 2 }`.
    pub points: BTreeMap<Reason, i32>,
    /// DNS lists that are asked. Default none, because most want to know who asks.
    /// Example `[{ zone = "zen.spamhaus.org" }]`.
    pub zones: Vec<ZoneConfig>,
}

impl Default for SuspicionConfig {
    fn default() -> Self {
        Self {
            grey_at: 5,
            strong_at: 8,
            budget: Span::from_secs(2),
            silence: Span::from_secs(4),
            silence_at: 3,
            points: BTreeMap::new(),
            zones: Vec::new(),
        }
    }
}

impl SuspicionConfig {
    /// What a finding counts.
    #[must_use]
    pub fn points(&self, reason: Reason) -> i32 {
        let built_in = || POINTS.iter().find(|(one, _)| *one == reason).map_or(0, |(_, points)| *points);
        self.points.get(&reason).copied().unwrap_or_else(built_in)
    }

    pub(crate) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut want = |right: bool, problem: String| {
            if !right {
                problems.push(problem);
            }
        };
        let (grey_at, strong_at) = (self.grey_at, self.strong_at);
        want(
            (1..=100).contains(&grey_at),
            format!("edge.suspicion.grey_at: found {grey_at}, expected 1 to 100, for example 5"),
        );
        want(
            strong_at >= grey_at && strong_at <= 100,
            format!(
                "edge.suspicion.strong_at: found {strong_at}, expected grey_at ({grey_at}) to 100, for example 8"
            ),
        );
        let (budget, silence) = (self.budget, self.silence);
        want(
            budget <= Span::from_secs(10),
            format!("edge.suspicion.budget: found {budget}, expected 0s to 10s, for example \"2s\""),
        );
        want(
            silence <= Span::from_secs(6),
            format!("edge.suspicion.silence: found {silence}, expected 0s to 6s, for example \"4s\""),
        );
        for (reason, points) in &self.points {
            want(
                POINTS.iter().any(|(one, _)| one == reason),
                format!(
                    "edge.suspicion.points.{reason}: found a reason without points, expected one such as no-reverse"
                ),
            );
            want(
                (-20..=20).contains(points),
                format!("edge.suspicion.points.{reason}: found {points}, expected -20 to 20"),
            );
        }
        problems.extend(self.zones.iter().flat_map(ZoneConfig::problems));
        problems
    }
}
