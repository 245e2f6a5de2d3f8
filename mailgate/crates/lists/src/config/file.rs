//! `kind = "file"`.

use std::path::PathBuf;

use serde::Deserialize;

use super::Admission;
use crate::TableName;

/// A file with one address or prefix per line.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileConfig {
    /// What `lists show` calls it. Default: the path. Example: `"spamhaus"`.
    #[serde(default)]
    pub name: Option<String>,
    /// The file. Example: `"/etc/mailgate/block.txt"`.
    pub path: PathBuf,
    /// The table it fills. Example: `"block"`.
    pub table: TableName,
    /// What it may bring.
    #[serde(default)]
    pub admission: Admission,
}
