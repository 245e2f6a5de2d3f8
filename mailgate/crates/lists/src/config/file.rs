//! `kind = "file"` and `kind = "directory"`.

use std::path::PathBuf;

use super::keys::source_config;
use crate::TableName;

source_config! {
    /// A file. It is read anew within a second of its change.
    pub struct FileConfig (called |config| config.path.display().to_string()) {
        /// The file. Example: `"/etc/mailgate/block.txt"`.
        pub path: PathBuf,
        /// Public key of signify(1); then only a list is taken that it has signed, by `FILE.sig` beside it.
        /// Default: none is asked for. Example: `"/etc/mailgate/feed.pub"`.
        #[serde(default)]
        pub signed_by: Option<PathBuf>,
    }
}

source_config! {
    /// All files of a folder, as one list. Files whose names begin with `.` or end with `~`, `.new` or `.tmp` are not read.
    pub struct DirectoryConfig (called |config| config.path.display().to_string()) {
        /// The folder. Example: `"/etc/mailgate/block.d"`.
        pub path: PathBuf,
    }
}

impl FileConfig {
    /// A file that fills a table.
    #[must_use]
    pub fn new(path: PathBuf, table: TableName) -> Self {
        Self {
            name: None,
            table: Some(table),
            action: None,
            format: crate::Format::Auto,
            message: None,
            min_entries: None,
            expire_after: None,
            admission: super::Admission::default(),
            path,
            signed_by: None,
        }
    }
}
