//! The keys that every source but a BGP peer has.

use mailgate_model::Span;

use crate::format::Format;
use crate::{Action, TableName};

/// What every source but a BGP peer is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    /// What `lists show` calls it.
    pub name: String,
    /// The table it fills.
    pub table: Option<TableName>,
    /// What is done with who is on it, where it brings a table of its own.
    pub action: Option<Action>,
    /// How its lists are written.
    pub format: Format,
    /// What those on it are told.
    pub message: Option<String>,
    /// Fewest entries of a list.
    pub min_entries: Option<usize>,
    /// How long the last good set is used without a new one.
    pub expire_after: Option<Span>,
}

impl Keys {
    /// The table it fills: the one that is named, else one of its own name.
    ///
    /// # Errors
    /// A sentence, when there is neither.
    pub fn table(&self) -> Result<TableName, String> {
        match (&self.table, self.action) {
            (Some(table), _) => Ok(table.clone()),
            (None, Some(_)) => TableName::parse(&self.name).map_err(|said| {
                format!("{said}, or table = \"...\": without it the name of the source is that of its table")
            }),
            (None, None) => Err("found neither table nor action, expected one of them".to_owned()),
        }
    }

    /// All contradictions, one sentence each.
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems: Vec<String> = self.table().err().into_iter().collect();
        if self.expire_after.is_some_and(|span| span.duration().is_zero()) {
            problems.push("found expire_after 0s, expected a longer time, or no such key".into());
        }
        if self.message.as_ref().is_some_and(|text| text.len() > crate::notes::NOTE_LIMIT) {
            problems.push(format!("found a message of more than {} bytes", crate::notes::NOTE_LIMIT));
        }
        problems
    }
}

/// Makes the configuration of a source: the keys that all have, and its own.
macro_rules! source_config {
    (
        $(#[$about:meta])*
        pub struct $name:ident (called $called:expr) {
            $($(#[$doc:meta])* pub $field:ident: $kind:ty,)*
        }
    ) => {
        $(#[$about])*
        #[derive(Debug, Clone, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            /// What `lists show` calls it, and the table of `action` if no other is named. Default: where it comes from.
            /// Example: `"spamhaus"`.
            #[serde(default)]
            pub name: Option<String>,
            /// The table it fills. Default: with `action` the table of its own name, else it has to be said.
            /// Example: `"block"`.
            #[serde(default)]
            pub table: Option<$crate::TableName>,
            /// Brings the table itself, with this action, so that no `[[lists.table]]` is needed: `"tarpit"`, `"grey"`,
            /// `"drop"`, `"reject"`, `"bypass"` or `"score"`. Default: none; the table is another's. Example: `"tarpit"`.
            #[serde(default)]
            pub action: Option<$crate::Action>,
            /// How the list is written: `"plain"` (addresses, prefixes, ranges `a-b`, FireHOL netsets), `"drop"`,
            /// `"drop-json"`, `"ipset"`, `"nft"`, `"rpz"`, `"rbldnsd"` or `"spamd"`; gzip and zstd are recognised.
            /// Default: `"auto"`, by its first lines. Example: `"rbldnsd"`.
            #[serde(default)]
            pub format: $crate::Format,
            /// What the tarpit tells those on it at the end: `%A` is the address, `%N` what the list says of its entry, such
            /// as the number of a listing. At most 800 bytes. Default: what the list says.
            /// Example: `"%A is on the DROP list, see https://check.spamhaus.org/results?query=%A"`.
            #[serde(default)]
            pub message: Option<String>,
            /// Fewest entries of a list that is taken; with fewer the last good set stays. Default: 1 for what is fetched,
            /// 0 for files. Example: `500`.
            #[serde(default)]
            pub min_entries: Option<usize>,
            /// How long the last good set is used when no new one comes; then its entries go. Of files the time of their last
            /// change counts. Default: for ever. Example: `"7d"`.
            #[serde(default)]
            pub expire_after: Option<mailgate_model::Span>,
            /// What it may bring.
            #[serde(default)]
            pub admission: $crate::config::Admission,
            $($(#[$doc])* pub $field: $kind,)*
        }

        impl $name {
            /// What every source is told.
            #[must_use]
            pub fn keys(&self) -> $crate::config::Keys {
                let called: fn(&Self) -> String = $called;
                $crate::config::Keys {
                    name: self.name.clone().unwrap_or_else(|| called(self)),
                    table: self.table.clone(),
                    action: self.action,
                    format: self.format,
                    message: self.message.clone(),
                    min_entries: self.min_entries,
                    expire_after: self.expire_after,
                }
            }
        }
    };
}
pub(super) use source_config;
