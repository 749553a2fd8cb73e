//! Counts committed changes in the database and in a file outside of it: the generation of the
//! catalog.
//!
//! Every transaction that writes counts the generation up, so a catalog that
//! lost its last commit, its log or the whole file does not reach the number
//! in `GENERATION` beside it, and is refused: keys that were revoked would work
//! again, and without any key everybody on this machine would get in. The file
//! is written after the commit and before it is acknowledged. A catalog that
//! is ahead of the file was killed between the two, and lost nothing.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension};
use trialog_sqlite::Reach;
use trialog_sqlite::told::ToldFile;
use trialog_sqlite::watch::Watch;

use crate::connection::Guard;
use crate::database::DatabaseError;
use crate::error::CatalogError;

/// Returns the path of the file in `directory` that records the generation.
pub(crate) fn file(directory: &Path) -> PathBuf {
    directory.join("GENERATION")
}

/// Returns the last commit of a catalog and where it is recorded.
pub(crate) fn reach(told: &Path) -> Reach<'_> {
    Reach { told, reached }
}

fn reached(connection: &Connection) -> rusqlite::Result<u64> {
    let sql = "SELECT generation FROM generation";
    let found: Option<i64> = connection.query_row(sql, [], |row| row.get(0)).optional()?;
    Ok(found.unwrap_or_default().cast_unsigned())
}

/// Counts one more change, in the transaction that makes it.
pub(crate) fn next(transaction: &Connection) -> rusqlite::Result<u64> {
    let sql = "UPDATE generation SET generation = generation + 1 RETURNING generation";
    let next: i64 = transaction
        .prepare_cached(sql)?
        .query_row([], |row| row.get(0))?;
    Ok(next.cast_unsigned())
}

/// Guards the catalog at `path`, which `connection` has opened.
pub(crate) fn guard(
    connection: &Connection,
    path: &Path,
    told: &Path,
) -> Result<Guard, CatalogError> {
    let place = path.display().to_string();
    let failed = CatalogError::database("read the generation", &place);
    let generation = reached(connection).map_err(|error| failed(DatabaseError::from(error)))?;
    let told = ToldFile::open(told)?;
    told.tell(generation)?;
    Ok(Guard {
        told,
        watch: Watch::new(path),
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use trialog_model::time::UnixMicros;

    use super::*;
    use crate::Catalog;
    use crate::keys::{Key, Scope};

    const FILES: [&str; 3] = ["catalog.sqlite", "catalog.sqlite-wal", "GENERATION"];

    fn key(name: &str) -> Key {
        Key {
            id: format!("id-{name}"),
            name: name.to_owned(),
            scopes: vec![Scope::Admin],
            secret_hash: [7; 32],
            created_at: UnixMicros(10),
            created_by: "local".to_owned(),
            expires_at: None,
            revoked_at: None,
            last_used_at: None,
        }
    }

    /// A catalog as a process leaves it that is killed after a key was revoked.
    struct Killed {
        directory: tempfile::TempDir,
        contents: [Vec<u8>; 3],
        keys: Vec<Key>,
    }

    impl Killed {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let catalog = Catalog::open(directory.path()).unwrap();
            for name in ["a", "b", "c"] {
                catalog.create_key(&key(name)).unwrap();
            }
            catalog.revoke_key("id-b", UnixMicros(20)).unwrap();
            let contents = FILES.map(|name| fs::read(directory.path().join(name)).unwrap());
            let keys = catalog.keys().unwrap();
            drop(catalog);
            assert!(contents[1].len() > 4_096 && contents[2].len() == 12);
            Self {
                directory,
                contents,
                keys,
            }
        }

        /// Restores the files, and applies `spoil` to the one at `at`.
        fn put(&self, at: usize, spoil: impl Fn(&mut Vec<u8>)) {
            for name in fs::read_dir(self.directory.path()).unwrap() {
                fs::remove_file(name.unwrap().path()).unwrap();
            }
            for (number, name) in FILES.iter().enumerate() {
                let mut content = self.contents[number].clone();
                if number == at {
                    spoil(&mut content);
                }
                fs::write(self.directory.path().join(name), content).unwrap();
            }
        }

        /// Whether it opens and is right; else it has to be refused with the file's name.
        fn opens(&self) -> bool {
            match Catalog::open(self.directory.path()) {
                Ok(catalog) => {
                    assert_eq!(catalog.keys().unwrap(), self.keys);
                    assert!(catalog.had_keys().unwrap());
                    true
                }
                Err(error) => {
                    let told = error.to_string();
                    assert!(told.contains("catalog.sqlite"), "{told}");
                    assert!(told.contains("restore a whole backup"), "{told}");
                    false
                }
            }
        }
    }

    fn flip(bit: usize) -> impl Fn(&mut Vec<u8>) {
        move |content| content[bit / 8] ^= 1 << (bit % 8)
    }

    /// Every `step`th bit of the header of the log and of its last 4 KiB.
    fn bits_of_the_log(step: usize) {
        let killed = Killed::new();
        killed.put(1, |_| {});
        assert!(killed.opens(), "without damage");
        let end = 8 * killed.contents[1].len();
        let first = fastrand::Rng::with_seed(15).usize(..step);
        for bit in (0..32 * 8)
            .chain(end - 8 * 4_096..end)
            .skip(first)
            .step_by(step)
        {
            killed.put(1, flip(bit));
            assert!(!killed.opens(), "bit {bit} of the log");
        }
    }

    #[test]
    fn a_flipped_bit_in_the_log_brings_no_revoked_key_back() {
        bits_of_the_log(31);
    }

    #[test]
    #[ignore = "takes minutes: all 33,024 bits"]
    fn no_flipped_bit_in_the_log_brings_a_revoked_key_back() {
        bits_of_the_log(1);
    }

    #[test]
    fn a_log_that_was_cut_or_removed_is_refused_and_keeps_what_is_left_of_it() {
        let killed = Killed::new();
        let length = killed.contents[1].len();
        for cut in (0..length).step_by(1_000).chain([length - 1]) {
            killed.put(1, |log| log.truncate(cut));
            assert!(!killed.opens(), "the first {cut} bytes of the log");
            // Again, and with the log as it was: it may be found elsewhere.
            assert!(!killed.opens());
            let log = killed.directory.path().join(FILES[1]);
            assert_eq!(fs::read(log).unwrap().len(), cut);
        }
        killed.put(1, |_| {});
        fs::remove_file(killed.directory.path().join(FILES[1])).unwrap();
        assert!(!killed.opens());
    }

    #[test]
    fn a_catalog_that_is_gone_or_older_is_refused_and_nothing_is_made_of_it() {
        let killed = Killed::new();
        let older = {
            let directory = tempfile::tempdir().unwrap();
            let catalog = Catalog::open(directory.path()).unwrap();
            catalog.create_key(&key("a")).unwrap();
            drop(catalog);
            fs::read(directory.path().join(FILES[0])).unwrap()
        };
        for content in [None, Some(Vec::new()), Some(older)] {
            killed.put(0, |_| {});
            fs::remove_file(killed.directory.path().join(FILES[1])).unwrap();
            let path = killed.directory.path().join(FILES[0]);
            match &content {
                None => fs::remove_file(&path).unwrap(),
                Some(content) => fs::write(&path, content).unwrap(),
            }
            for _ in 0..2 {
                assert!(!killed.opens(), "{:?}", content.as_ref().map(Vec::len));
                assert!(Catalog::open_pinned(killed.directory.path()).is_err());
            }
            assert_eq!(fs::read(&path).ok(), content, "left as it was");
        }
    }

    #[test]
    fn what_changes_nothing_is_no_generation() {
        let directory = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(directory.path()).unwrap();
        let told = || ToldFile::read(&file(directory.path())).unwrap();
        let before = told();
        assert_eq!(catalog.mark_interrupted_runs().unwrap(), 0);
        assert_eq!(told(), before);
        catalog.create_key(&key("a")).unwrap();
        assert_eq!(told(), before.map(|number| number + 1));
    }

    #[test]
    fn what_is_told_may_lag_behind_or_be_lost() {
        let killed = Killed::new();
        for bit in 0..8 * 12 {
            killed.put(2, flip(bit));
            assert!(killed.opens(), "bit {bit} of GENERATION");
        }
        killed.put(2, |_| {});
        fs::remove_file(killed.directory.path().join(FILES[2])).unwrap();
        assert!(killed.opens(), "without GENERATION");
        // Killed between the commit and its record.
        killed.put(2, |_| {});
        let told = killed.directory.path().join(FILES[2]);
        let number = ToldFile::read(&told).unwrap().unwrap();
        ToldFile::open(&told).unwrap().tell(number - 1).unwrap();
        assert!(killed.opens());
        assert_eq!(ToldFile::read(&told).unwrap(), Some(number));
        ToldFile::open(&told).unwrap().tell(number + 1).unwrap();
        assert!(!killed.opens());
    }

    #[test]
    fn a_row_that_somebody_removed_is_missed() {
        let killed = Killed::new();
        for (table, row) in [
            ("api_keys", "key_id = 'id-b'"),
            ("facts", "fact = 'api_keys'"),
        ] {
            killed.put(0, |_| {});
            let path = killed.directory.path().join(FILES[0]);
            let connection = Connection::open(path).unwrap();
            let sql = format!("DELETE FROM {table} WHERE {row}");
            assert_eq!(connection.execute(&sql, []).unwrap(), 1);
            drop(connection);
            let refused = Catalog::open(killed.directory.path()).unwrap_err();
            assert!(refused.to_string().contains(table), "{refused}");
        }
    }
}
