//! Checks the data directory by read-only inspection: its owner, its holder, its disk, its schemas,
//! and the clock.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use axum::http::Method;
use rustix::fs::{Access as Permission, access};
use trialog_catalog::{CatalogError, Inspected, SchemaVersions};
use trialog_model::time::UnixMicros;
use trialog_warehouse::disk::{FileSystem, Space, file_system, space};
use trialog_warehouse::lock::{Holder, holder};

use super::Finding;
use crate::access::Access;
use crate::config::Config;

/// Free inodes below which files of events soon cannot be created.
const FEW_INODES: u64 = 1_000;
/// 2025-01-01: no clock that is right shows an earlier time.
const EARLIEST: UnixMicros = UnixMicros(1_735_689_600_000_000);
/// 2100-01-01.
const LATEST: UnixMicros = UnixMicros(4_102_444_800_000_000);

pub(super) fn inspect(
    config: &Config,
    catalog: Result<Option<Inspected>, CatalogError>,
    now: UnixMicros,
) -> Vec<Finding> {
    let directory = &config.data_dir;
    let mut findings = Vec::new();
    let metadata = fs::metadata(directory);
    match &metadata {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            findings.push(absent(directory));
            findings.push(clock_against(now, None));
            return findings;
        }
        Err(error) => findings.push(Finding::failed(
            "data_dir",
            format!(
                "`{}` cannot be inspected: {error}; change its permissions, or name another --data-dir",
                directory.display()
            ),
        )),
        Ok(found) if !found.is_dir() => findings.push(Finding::failed(
            "data_dir",
            format!(
                "`{}` is no directory: name another --data-dir",
                directory.display()
            ),
        )),
        Ok(found) => {
            findings.push(writable(directory));
            findings.extend(owner(
                directory,
                found.uid(),
                rustix::process::geteuid().as_raw(),
            ));
            findings.push(held(directory));
            findings.extend(disk(directory, config.min_free_bytes));
            findings.push(durable(directory));
        }
    }
    let last = catalog.as_ref().ok().copied().flatten();
    findings.extend(schema(
        "catalog.sqlite",
        catalog.map(|found| found.map(|found| found.schema)),
    ));
    let warehouse = trialog_warehouse::inspect(directory).map_err(|error| error.chain());
    findings.extend(schema("warehouse.sqlite", warehouse));
    let last = last.and_then(|last| last.last_computed_at);
    findings.push(clock_against(now, last));
    findings
}

fn absent(directory: &Path) -> Finding {
    let exists = directory
        .ancestors()
        .skip(1)
        .find(|parent| parent.is_dir() || parent.as_os_str().is_empty());
    let parent = match exists {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let shown = directory.display();
    match access(parent, Permission::WRITE_OK | Permission::EXEC_OK) {
        Ok(()) => Finding::good(
            "data_dir",
            format!("`{shown}` does not exist; it is created when needed"),
        ),
        Err(error) => Finding::failed(
            "data_dir",
            format!(
                "`{shown}` does not exist and cannot be created in `{}`: {error}; create it, or give another --data-dir",
                parent.display()
            ),
        ),
    }
}

/// Checks that the directory can be written, and the files in it that are written in place.
fn writable(directory: &Path) -> Finding {
    let parts = [
        "",
        "catalog.sqlite",
        "warehouse.sqlite",
        "LOCK",
        "POSITION",
        "events",
    ];
    for part in parts {
        let path = if part.is_empty() {
            directory.to_owned()
        } else {
            directory.join(part)
        };
        let wanted = if path.is_dir() {
            Permission::READ_OK | Permission::WRITE_OK | Permission::EXEC_OK
        } else {
            Permission::READ_OK | Permission::WRITE_OK
        };
        if path.exists()
            && let Err(error) = access(&path, wanted)
        {
            let remedy = "run as the user whom it belongs to, or change its owner";
            return Finding::failed(
                "data_dir",
                format!("`{}` cannot be written: {error}; {remedy}", path.display()),
            );
        }
    }
    Finding::good(
        "data_dir",
        format!("`{}` can be written", directory.display()),
    )
}

/// Warns if the directory belongs to another user than the one of this process.
fn owner(directory: &Path, owner: u32, process_user: u32) -> Option<Finding> {
    (owner != process_user).then(|| {
        Finding::warning(
            "owner",
            format!(
                "`{}` belongs to the user with id {owner}, this runs as {process_user}: a server that runs as this user creates files that the other cannot change; run as user {owner}, or change the owner",
                directory.display()
            ),
        )
    })
}

/// Reports who holds the directory, and whether a server there is ready.
fn held(directory: &Path) -> Finding {
    let address = match holder(directory) {
        Err(error) => return Finding::failed("lock", error.chain()),
        Ok(Holder::Nobody) => return Finding::good("lock", "no process has the directory open"),
        Ok(Holder::Process { address: None }) => {
            return Finding::good(
                "lock",
                "a process that does not serve has the directory open",
            );
        }
        Ok(Holder::Process {
            address: Some(address),
        }) => address,
    };
    let asked = Access::server(&address, None, None)
        .and_then(|server| server.request(&Method::GET, "/readyz", None))
        .and_then(|answer| answer.read());
    match asked {
        Ok(_) => Finding::good(
            "server",
            format!("{address} has the directory open and is ready"),
        ),
        Err(error) => Finding::failed(
            "server",
            format!("the server at {address} has the directory open but is not ready: {error:#}"),
        ),
    }
}

/// Checks the free space and the free inodes of the file system.
fn disk(directory: &Path, least: u64) -> Vec<Finding> {
    let space = match space(directory) {
        Ok(space) => space,
        Err(error) => {
            return vec![Finding::failed(
                "disk_space",
                format!("cannot read the free space: {error}"),
            )];
        }
    };
    let mut findings = vec![free(space, least)];
    match space.free_inodes {
        Some(0) => findings.push(Finding::failed(
            "inodes",
            "none is free: no file can be created; remove files from this file system",
        )),
        Some(few) if few < FEW_INODES => findings.push(Finding::warning(
            "inodes",
            format!("{few} are free: remove files from this file system"),
        )),
        Some(many) => findings.push(Finding::good("inodes", format!("{many} are free"))),
        None => {}
    }
    findings
}

/// Compares the free space with `least`, the setting `min_free_disk`.
fn free(space: Space, least: u64) -> Finding {
    let Space {
        free_bytes,
        total_bytes,
        ..
    } = space;
    let shown = format!("{} of {} are free", mib(free_bytes), mib(total_bytes));
    if free_bytes < least {
        let remedy = format!("`min_free_disk` asks for {}: free space", mib(least));
        return Finding::failed("disk_space", format!("{shown}, {remedy}"));
    }
    if free_bytes < least.saturating_mul(4) {
        let remedy = "less than four times `min_free_disk`; free space before the next merge: merging needs as much again as the files it merges";
        return Finding::warning("disk_space", format!("{shown}, {remedy}"));
    }
    Finding::good("disk_space", shown)
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

/// Checks whether the file system makes writes durable, and keeps them.
fn durable(directory: &Path) -> Finding {
    if let Err(error) = File::open(directory).and_then(|opened| opened.sync_all()) {
        return Finding::failed(
            "fsync",
            format!(
                "the file system refuses fsync ({error}): events would not be durable; put the data directory on another one"
            ),
        );
    }
    match file_system(directory) {
        Err(error) => Finding::warning(
            "fsync",
            format!("the kind of the file system cannot be determined: {error}"),
        ),
        Ok(FileSystem::Local) => Finding::good("fsync", "the file system takes fsync"),
        Ok(FileSystem::Memory) => Finding::warning(
            "fsync",
            "the data directory is in memory: everything is lost when the machine starts again",
        ),
        Ok(FileSystem::ContainerLayer) => Finding::warning(
            "fsync",
            "the data directory may be a container's own layer and be lost with it: mount a volume there",
        ),
        Ok(FileSystem::Remote(kind)) => Finding::warning(
            "fsync",
            format!(
                "the file system is {kind}: SQLite's log needs locks and shared memory that such systems may lack; prefer a local disk"
            ),
        ),
    }
}

fn schema<E: std::fmt::Display>(
    file: &'static str,
    found: Result<Option<SchemaVersions>, E>,
) -> Option<Finding> {
    let check = if file == "catalog.sqlite" {
        "catalog_schema"
    } else {
        "warehouse_schema"
    };
    match found {
        Ok(None) => None,
        Err(error) => Some(Finding::failed(check, error.to_string())),
        Ok(Some(SchemaVersions { found, known })) if found > known => Some(Finding::failed(
            check,
            format!(
                "`{file}` has version {found}, this binary knows up to {known}: run a newer trialog"
            ),
        )),
        Ok(Some(SchemaVersions { found, known })) if found < known => Some(Finding::good(
            check,
            format!(
                "`{file}` has version {found}; the next start brings it to {known}, and older binaries refuse it then"
            ),
        )),
        Ok(Some(SchemaVersions { found, .. })) => Some(Finding::good(
            check,
            format!("`{file}` has version {found}"),
        )),
    }
}

fn clock_against(now: UnixMicros, last: Option<UnixMicros>) -> Finding {
    let shown = now.to_rfc3339();
    if now < EARLIEST || now >= LATEST {
        return Finding::failed(
            "clock",
            format!(
                "the clock shows {shown}: set it, because the server validates event times against it"
            ),
        );
    }
    match last {
        Some(last) if now < last => Finding::warning(
            "clock",
            format!(
                "the clock shows {shown}, but the last run ended at {}: it runs behind, and new results may count as older than published ones",
                last.to_rfc3339()
            ),
        ),
        _ => Finding::good("clock", shown),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Severity;
    use super::*;

    #[test]
    fn a_clock_behind_the_last_run_is_a_warning_and_a_wild_one_a_failure() {
        let now = UnixMicros(EARLIEST.0 + 1_000);
        let cases = [
            (now, None, Severity::Good),
            (now, Some(now), Severity::Good),
            (now, Some(UnixMicros(now.0 + 1)), Severity::Warning),
            (UnixMicros(0), None, Severity::Failed),
            (LATEST, None, Severity::Failed),
        ];
        for (now, last, expected) in cases {
            assert_eq!(
                clock_against(now, last).severity,
                expected,
                "{now:?} {last:?}"
            );
        }
    }

    #[test]
    fn little_room_warns_before_it_fails() {
        let severity = |free_bytes| {
            let space = Space {
                free_bytes,
                total_bytes: 1 << 40,
                free_inodes: None,
            };
            free(space, 100).severity
        };
        let severities = [99, 100, 399, 400].map(severity);
        assert_eq!(
            severities,
            [
                Severity::Failed,
                Severity::Warning,
                Severity::Warning,
                Severity::Good
            ]
        );
    }

    #[test]
    fn a_newer_schema_fails_and_an_older_one_does_not() {
        let severity = |found| {
            let found = Ok::<_, String>(Some(SchemaVersions { found, known: 2 }));
            schema("catalog.sqlite", found).map(|finding| finding.severity)
        };
        assert_eq!(severity(3), Some(Severity::Failed));
        assert_eq!(severity(1), Some(Severity::Good));
    }

    #[test]
    fn an_inspection_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("a/b");
        assert_eq!(absent(&missing).severity, Severity::Good);
        assert_eq!(writable(directory.path()).severity, Severity::Good);
        assert_eq!(held(directory.path()).severity, Severity::Good);
        durable(directory.path());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
