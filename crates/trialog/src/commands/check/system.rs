//! Checks versions and limits of this process.

use rustix::process::{Resource, getrlimit};

use super::Finding;

/// Open files below which many clients or files of events meet the limit.
const MANY_FILES: u64 = 4_096;

pub(super) fn inspect() -> Vec<Finding> {
    let version = env!("CARGO_PKG_VERSION");
    let sqlite = trialog_catalog::sqlite_version();
    vec![
        Finding::good("versions", format!("trialog {version}, SQLite {sqlite}")),
        open_files(getrlimit(Resource::Nofile).current),
    ]
}

/// Checks the limit of open files; `None` is no limit.
fn open_files(limit: Option<u64>) -> Finding {
    match limit {
        Some(limit) if limit < MANY_FILES => Finding::warning(
            "open_files",
            format!(
                "{limit} files may be open, one for each client and each file of events: \
                 raise it to {MANY_FILES} or more with `ulimit -n`, or LimitNOFILE= in a unit"
            ),
        ),
        Some(limit) => Finding::good("open_files", format!("{limit} files may be open")),
        None => Finding::good("open_files", "any number of files may be open"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Severity;
    use super::*;

    #[test]
    fn a_low_limit_on_open_files_is_a_warning() {
        let severities = [Some(1_024), Some(4_096), None].map(|limit| open_files(limit).severity);
        assert_eq!(
            severities,
            [Severity::Warning, Severity::Good, Severity::Good]
        );
    }
}
