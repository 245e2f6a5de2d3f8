//! Lists behind URLs.

use std::path::PathBuf;
use std::time::Duration;

use mailgate_net::http::{Answer, Document, Http, HttpError, Wanted};

use crate::config::UrlConfig;
use crate::file::off_runtime;
use crate::format::Format;
use crate::signify::PublicKey;
use crate::source::{Bounds, Failure, Fetched, Look, Reading, Source, Validators};

/// One URL.
pub(crate) struct UrlSource {
    http: Http,
    wanted: Wanted,
    format: Format,
    bounds: Bounds,
    /// The key that has to have signed it.
    signed_by: Option<PathBuf>,
}

/// Most bytes of a signature, which has about 150.
const SIGNATURE_LIMIT: u64 = 4096;

impl UrlSource {
    pub(crate) fn new(http: Http, config: &UrlConfig, most: usize) -> Self {
        let wanted = Wanted {
            url: config.url.clone(),
            limit: config.sent_limit,
            timeout: config.timeout.duration(),
            ca_file: config.ca_file.clone(),
            ..Wanted::default()
        };
        let bounds = Bounds { bytes: config.size_limit, entries: most };
        Self { http, wanted, format: config.format, bounds, signed_by: config.signed_by.clone() }
    }

    /// One of the lists of a spamd.conf.
    pub(crate) fn of_spamd(http: Http, url: String, sent: u64, bounds: Bounds, timeout: Duration) -> Self {
        let wanted = Wanted { url, limit: sent, timeout, ..Wanted::default() };
        Self { http, wanted, format: Format::Spamd, bounds, signed_by: None }
    }

    /// The signature of the list: at the same URL with `.sig` at the end of its path.
    async fn signature(&self) -> Result<Vec<u8>, Failure> {
        let url = match self.wanted.url.split_once('?') {
            Some((path, query)) => format!("{path}.sig?{query}"),
            None => format!("{}.sig", self.wanted.url),
        };
        let wanted = Wanted { url, limit: SIGNATURE_LIMIT, ..self.wanted.clone() };
        match self.http.fetch(&wanted).await {
            Ok(Answer::Document(document)) => Ok(document.body),
            Ok(Answer::Unchanged) => Err(Failure::content("found no signature, expected one of signify(1)")),
            Err(error) => Err(Failure { said: format!("the signature: {error}"), ..failure(error) }),
        }
    }
}

impl Source for UrlSource {
    fn place(&self) -> String {
        self.wanted.url.clone()
    }

    async fn look(&self) -> Option<Look> {
        None
    }

    async fn fetch(&mut self, known: &Validators) -> Result<Fetched, Failure> {
        let wanted =
            Wanted { etag: known.etag.clone(), modified: known.modified.clone(), ..self.wanted.clone() };
        let document = match self.http.fetch(&wanted).await {
            Ok(Answer::Unchanged) => return Ok(Fetched::Same),
            Ok(Answer::Document(document)) => document,
            Err(error) => return Err(failure(error)),
        };
        if let Some(key) = self.signed_by.clone() {
            let (signature, text) = (self.signature().await?, document.body.clone());
            let check = move || PublicKey::check(&key, &text, &signature).map_err(Failure::content);
            off_runtime(check).await?;
        }
        let (format, bounds, url) = (self.format, self.bounds, self.wanted.url.clone());
        let reading = off_runtime(move || read(document, format, &url, bounds)).await?;
        Ok(Fetched::New(Box::new(reading)))
    }
}

fn failure(error: HttpError) -> Failure {
    let retry_after = match &error {
        HttpError::Status { retry_after, .. } => retry_after.map(Duration::from_secs),
        _ => None,
    };
    Failure { retry_after, ..Failure::absent(error.to_string()) }
}

fn read(document: Document, format: Format, url: &str, bounds: Bounds) -> Result<Reading, Failure> {
    if !matches!(document.encoding.as_str(), "" | "identity" | "gzip" | "x-gzip" | "zstd") {
        let found = crate::prefix::quoted(document.encoding.as_bytes());
        return Err(Failure::content(format!("found content encoding {found}, expected gzip or zstd")));
    }
    let kind = document.kind.split(';').next().unwrap_or_default().trim();
    if matches!(kind, "text/html" | "application/xhtml+xml") {
        return Err(Failure::content("found an HTML or XML page, expected a list"));
    }
    // As `UrlConfig::shown` has it.
    let name = url.split('?').next().unwrap_or(url);
    let reading = Reading::of(format, name, document.body, bounds)?;
    Ok(Reading { validators: Validators { etag: document.etag, modified: document.modified }, ..reading })
}
