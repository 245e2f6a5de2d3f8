//! spamd.conf(5), read unchanged: records of getcap(3), of which `all` names the lists and their order.

use std::collections::BTreeMap;

use crate::prefix::quoted;

/// Largest file: thousands of lists.
pub(crate) const SIZE_LIMIT: usize = 1024 * 1024;

/// Most lists that `all` may name.
const LISTS_LIMIT: usize = 256;

/// Records may include others (`tc=`); this deep at most.
const INCLUDES_LIMIT: usize = 8;

/// Hosts and names of lists that have been shut down for years. openbsd.org/spamd says so of its own.
const DEAD: [&str; 7] = [
    "www.openbsd.org/spamd/traplist",
    "www.openbsd.org/spamd/nixspam",
    "www.openbsd.org/spamd/chinacidr",
    "www.openbsd.org/spamd/koreacidr",
    "www.okean.com",
    "www.spews.org",
    "www.dnsbl.sorbs.net",
];

/// What `all` comes to: black lists in their order, each with what is taken out of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct SpamdConf {
    pub(crate) black: Vec<Black>,
    /// What is remarkable and not wrong: a white list without effect, a dead list.
    pub(crate) warnings: Vec<String>,
}

/// One black list.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Black {
    pub(crate) list: List,
    pub(crate) message: Message,
    /// White lists between this black list and the next one.
    pub(crate) white: Vec<List>,
}

/// Where a list comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct List {
    pub(crate) name: String,
    pub(crate) method: Method,
    /// Whether it is known to be gone.
    pub(crate) is_dead: bool,
}

/// How it is had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Method {
    /// A program with its arguments.
    Exec(Vec<String>),
    /// A file.
    File(String),
    /// A URL.
    Url(String),
}

/// What those on the list are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Message {
    /// What a file says.
    File(String),
    /// This; `%A` and `%%` still stand.
    Text(String),
}

/// Reads the file.
///
/// # Errors
/// A sentence with what was found and what was expected; the first that stands in the way.
pub(crate) fn parse(text: &[u8]) -> Result<SpamdConf, String> {
    if text.len() > SIZE_LIMIT {
        return Err(format!("found {} bytes, expected at most {SIZE_LIMIT}", text.len()));
    }
    let records = records(&String::from_utf8_lossy(text));
    let all = records
        .get("all")
        .ok_or("found no record `all`, expected one that names the lists in their order")?;
    let mut conf = SpamdConf::default();
    for name in all.iter().filter(|name| !name.is_empty()).take(LISTS_LIMIT + 1) {
        if conf.black.len() >= LISTS_LIMIT {
            return Err(format!("found more than {LISTS_LIMIT} lists in `all`, expected fewer"));
        }
        conf.take(name, &records)?;
    }
    Ok(conf)
}

impl SpamdConf {
    fn take(&mut self, name: &str, records: &BTreeMap<String, Vec<String>>) -> Result<(), String> {
        let caps = Caps::of(name, records, INCLUDES_LIMIT)
            .ok_or_else(|| format!("found {name} in `all`, expected a record {name}"))?;
        let list = List { name: name.to_owned(), method: caps.method(name)?, is_dead: caps.is_dead() };
        if list.is_dead {
            self.warnings.push(format!(
                "{name}: the list has been shut down, it is passed over; remove it from `all`"
            ));
        } else if matches!(&list.method, Method::Url(url) if url.starts_with("http:")) {
            self.warnings.push(format!("{name}: fetched without TLS; whoever is on the way can change it"));
        }
        match (caps.has("black"), caps.has("white")) {
            (true, false) => {
                let message = caps.message(name)?;
                self.black.push(Black { list, message, white: Vec::new() });
            }
            (false, true) => match self.black.last_mut() {
                Some(black) => black.white.push(list),
                None => {
                    self.warnings.push(format!("{name}: a white list before any black list has no effect"))
                }
            },
            _ => {
                return Err(format!(
                    "{name}: found neither or both of black and white, expected one of them"
                ));
            }
        }
        Ok(())
    }
}

/// The fields of a record.
struct Caps(Vec<String>);

impl Caps {
    /// The fields, those of included records after its own.
    fn of(name: &str, records: &BTreeMap<String, Vec<String>>, deep: usize) -> Option<Self> {
        let mut fields = Vec::new();
        for field in records.get(name)? {
            match field.strip_prefix("tc=") {
                Some(other) if deep > 0 => fields.extend(Self::of(other, records, deep - 1)?.0),
                Some(_) => {}
                None => fields.push(field.clone()),
            }
        }
        Some(Self(fields))
    }

    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|field| field == name)
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.0.iter().find_map(|field| field.strip_prefix(name)?.strip_prefix('=')).map(str::trim)
    }

    fn method(&self, name: &str) -> Result<Method, String> {
        let file = self.value("file").filter(|file| !file.is_empty());
        let file =
            file.ok_or_else(|| format!("{name}: found no file, expected file=\"/path\" or file=host/path"))?;
        let file = unquoted(file);
        let method = self.value("method").map_or("file", |method| method.trim_matches('"'));
        let with_scheme = |scheme: &str| {
            let rest = file.trim_start_matches("http://").trim_start_matches("https://");
            Method::Url(format!("{scheme}://{rest}"))
        };
        match method {
            "file" => Ok(Method::File(file)),
            "http" => Ok(with_scheme("http")),
            "https" => Ok(with_scheme("https")),
            "exec" => {
                let words: Vec<String> = file.split_ascii_whitespace().map(str::to_owned).collect();
                if words.is_empty() {
                    return Err(format!(
                        "{name}: found no command, expected file=\"/path/to/program argument\""
                    ));
                }
                Ok(Method::Exec(words))
            }
            "ftp" => Err(format!("{name}: found method=ftp, expected file, http, https or exec")),
            other => Err(format!(
                "{name}: found method {}, expected file, http, https or exec",
                quoted(other.as_bytes())
            )),
        }
    }

    fn message(&self, name: &str) -> Result<Message, String> {
        let message = self.value("msg").ok_or_else(|| {
            format!("{name}: found no msg, expected msg=\"text with %A\" or msg=/path/of/a/file")
        })?;
        if message.starts_with('"') {
            Ok(Message::Text(unquoted(message)))
        } else {
            Ok(Message::File(message.to_owned()))
        }
    }

    fn is_dead(&self) -> bool {
        let file = self.value("file").unwrap_or_default().trim_matches('"');
        let file =
            file.trim_start_matches("http://").trim_start_matches("https://").trim_start_matches("ftp://");
        let is_remote =
            self.value("method").is_some_and(|method| !matches!(method.trim_matches('"'), "file" | "exec"));
        is_remote && DEAD.iter().any(|dead| file.starts_with(dead))
    }
}

/// What stands between the quotes, with `\n` for a line end, `\"` and `\\`; `%A` and `%%` stay.
pub(crate) fn unquoted(text: &str) -> String {
    let text = text.strip_prefix('"').unwrap_or(text);
    let text = text.strip_suffix('"').unwrap_or(text);
    let mut said = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            said.push(c);
            continue;
        }
        match rest.next() {
            Some('n') => said.push('\n'),
            Some('t') => said.push(' '),
            Some('r') | None => {}
            Some(other) => said.push(other),
        }
    }
    said
}

/// The records by name: continued lines joined, split at colons outside of quotes.
fn records(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut records = BTreeMap::new();
    let mut logical = String::new();
    for line in text.lines() {
        let is_first = logical.is_empty();
        let line = line.trim_end_matches('\r');
        if is_first && (line.trim().is_empty() || line.starts_with('#')) {
            continue;
        }
        // White space that begins a continued line is for the eye.
        let part = if is_first { line } else { line.trim_start() };
        if let Some(part) = part.strip_suffix('\\').filter(|part| !part.ends_with('\\')) {
            // A continued line is never empty afterwards, or it would pass for the first.
            logical.push_str(if part.is_empty() { " " } else { part });
            continue;
        }
        logical.push_str(part);
        record(&std::mem::take(&mut logical), &mut records);
    }
    record(&logical, &mut records);
    records
}

/// One record; the first of a name counts.
fn record(logical: &str, records: &mut BTreeMap<String, Vec<String>>) {
    let mut fields = fields(logical).into_iter();
    let Some(names) = fields.next() else { return };
    let fields: Vec<String> =
        fields.map(|field| field.trim().to_owned()).filter(|field| !field.is_empty()).collect();
    for name in names.split('|').map(str::trim).filter(|name| !name.is_empty()) {
        records.entry(name.to_owned()).or_insert_with(|| fields.clone());
    }
}

/// Splits at colons, except between quotes and in `://`.
fn fields(logical: &str) -> Vec<String> {
    let mut fields = Vec::new();
    let mut field = String::new();
    let (mut is_quoted, mut is_escaped) = (false, false);
    let mut rest = logical.chars().peekable();
    while let Some(c) = rest.next() {
        let is_split = c == ':' && !is_quoted && !is_escaped && rest.peek() != Some(&'/');
        if is_split {
            fields.push(std::mem::take(&mut field));
        } else {
            field.push(c);
        }
        if c == '"' && !is_escaped {
            is_quoted = !is_quoted;
        }
        is_escaped = c == '\\' && !is_escaped;
    }
    fields.push(field);
    fields
}
