//! Keeps the API keys in memory, so that no request waits for the catalog.
//!
//! Where the catalog is a file, the process that holds it is the only one that
//! changes keys; where others share it, its count of writes shows when to read
//! them again. So what is in memory is what is in the catalog. At most
//! [`trialog_catalog::keys::MAX_KEYS`] are held.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError, RwLock};

use trialog_catalog::keys::{Key, Scope};
use trialog_catalog::{Catalog, CatalogError};
use trialog_model::time::UnixMicros;

use super::secret;

/// How often uses are written to the catalog, at most.
const NOTE_EVERY_MICROS: i64 = 60_000_000;

/// The owner of a valid key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) scopes: Vec<Scope>,
}

/// The reason why a key is rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Its id is unknown, or its secret is wrong.
    Unknown,
    /// It was revoked.
    Revoked(String),
    /// It has expired.
    Expired(String),
}

struct Entry {
    key: Key,
    /// Microseconds since 1970; 0 where it was never used.
    used_at: AtomicI64,
    /// What the catalog has of it.
    noted: AtomicI64,
}

/// The keys and the times of their last uses.
pub(crate) struct Keyring {
    /// `None` until they were read from the catalog.
    keys: RwLock<Option<HashMap<String, Entry>>>,
    /// The hash of the key for commands on this machine.
    local: RwLock<Option<[u8; 32]>>,
    /// Held from a change of the catalog until memory has it.
    changing: Mutex<()>,
    /// There was a key once: from then on this never is false again.
    had_keys: AtomicBool,
    /// A file that records the same if the catalog is not in the directory.
    fact: OnceLock<PathBuf>,
    noted_at: AtomicI64,
    /// The catalog's count of writes at which a shared catalog was read.
    read_at: AtomicU64,
}

impl Keyring {
    pub(crate) fn new() -> Self {
        Self {
            keys: RwLock::new(None),
            local: RwLock::new(None),
            changing: Mutex::new(()),
            had_keys: AtomicBool::new(false),
            fact: OnceLock::new(),
            noted_at: AtomicI64::new(0),
            read_at: AtomicU64::new(0),
        }
    }

    pub(crate) fn is_loaded(&self) -> bool {
        self.keys
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some()
    }

    /// Records in the file at `path` as well that there were keys, and trusts it: a catalog on a
    /// server may be replaced by another one, or by an older one.
    pub(crate) fn remember_at(&self, path: PathBuf) {
        if path.exists() {
            self.had_keys.store(true, Ordering::Release);
        }
        // The first one stays, and there is no second.
        let _ = self.fact.set(path);
    }

    /// Records that there was a key, which stays true even if all keys disappear.
    fn note_keys(&self) {
        self.had_keys.store(true, Ordering::Release);
        let Some(path) = self.fact.get().filter(|path| !path.exists()) else {
            return;
        };
        if let Err(error) = create_durably(path) {
            tracing::error!("cannot create `{}`: {error}", path.display());
        }
    }

    /// Returns whether memory is up to date with `catalog`.
    pub(crate) fn is_current(&self, catalog: &Catalog) -> bool {
        self.is_loaded()
            && (!catalog.is_shared() || self.read_at.load(Ordering::Acquire) == catalog.n_writes())
    }

    /// Reads the keys from `catalog` where memory has others.
    pub(crate) fn load(&self, catalog: &Catalog) -> Result<(), CatalogError> {
        if self.is_current(catalog) {
            return Ok(());
        }
        self.change(catalog, || Ok(()))
    }

    /// Runs `change` on the catalog, then reloads the keys.
    pub(crate) fn change<T>(
        &self,
        catalog: &Catalog,
        change: impl FnOnce() -> Result<T, CatalogError>,
    ) -> Result<T, CatalogError> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = change()?;
        let read_at = catalog.n_writes();
        let kept = catalog.keys()?;
        if !kept.is_empty() || catalog.had_keys()? {
            self.note_keys();
        }
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        let before = keys.take().unwrap_or_default();
        let entries = kept.into_iter().map(|key| {
            let noted = key.last_used_at.map_or(0, |time| time.0);
            let used = before
                .get(&key.id)
                .map_or(0, |earlier| earlier.used_at.load(Ordering::Relaxed));
            let entry = Entry {
                used_at: AtomicI64::new(used.max(noted)),
                noted: AtomicI64::new(noted),
                key,
            };
            (entry.key.id.clone(), entry)
        });
        *keys = Some(entries.collect());
        self.read_at.store(read_at, Ordering::Release);
        Ok(changed)
    }

    /// Returns whether no key was ever created. Only then requests need none.
    pub(crate) fn is_empty(&self) -> bool {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.as_ref().is_some_and(HashMap::is_empty) && !self.had_keys.load(Ordering::Acquire)
    }

    /// Returns whether any key is valid now.
    pub(crate) fn has_usable(&self, now: UnixMicros) -> bool {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let mut entries = keys.iter().flat_map(HashMap::values);
        entries.any(|entry| {
            entry.key.revoked_at.is_none() && entry.key.expires_at.is_none_or(|end| end > now)
        })
    }

    /// Returns all keys, the oldest first, with their uses up to now.
    pub(crate) fn list(&self) -> Vec<Key> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let mut list: Vec<Key> = (keys.iter().flat_map(HashMap::values))
            .map(|entry| {
                let used = entry.used_at.load(Ordering::Relaxed);
                let last_used_at = (used > 0).then_some(UnixMicros(used));
                Key {
                    last_used_at,
                    ..entry.key.clone()
                }
            })
            .collect();
        list.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        list
    }

    /// Accepts the key for commands on this machine from now on.
    pub(crate) fn set_local(&self, key: &str) {
        *self.local.write().unwrap_or_else(PoisonError::into_inner) = Some(secret::hash(key));
    }

    /// Returns the caller of the key `presented`, and records its use.
    pub(crate) fn check(&self, presented: &str, now: UnixMicros) -> Result<Caller, Refused> {
        let id = secret::id_in(presented).ok_or(Refused::Unknown)?;
        if id == secret::LOCAL_ID {
            return self.check_local(presented);
        }
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let entry = (keys.as_ref().and_then(|keys| keys.get(id))).ok_or(Refused::Unknown)?;
        let key = &entry.key;
        if !secret::matches(presented, &key.secret_hash) {
            return Err(Refused::Unknown);
        }
        if key.revoked_at.is_some() {
            return Err(Refused::Revoked(key.name.clone()));
        }
        if key.expires_at.is_some_and(|end| end <= now) {
            return Err(Refused::Expired(key.name.clone()));
        }
        entry.used_at.fetch_max(now.0, Ordering::Relaxed);
        Ok(Caller {
            id: key.id.clone(),
            name: key.name.clone(),
            scopes: key.scopes.clone(),
        })
    }

    fn check_local(&self, presented: &str) -> Result<Caller, Refused> {
        let local = *self.local.read().unwrap_or_else(PoisonError::into_inner);
        match local {
            Some(kept) if secret::matches(presented, &kept) => Ok(Caller {
                id: secret::LOCAL_ID.to_owned(),
                name: secret::LOCAL_ID.to_owned(),
                scopes: vec![Scope::Admin],
            }),
            _ => Err(Refused::Unknown),
        }
    }

    /// Returns whether it is time to write uses to the catalog; true for one caller a minute.
    pub(crate) fn is_due(&self, now: UnixMicros) -> bool {
        let noted = self.noted_at.load(Ordering::Relaxed);
        // A clock that was set back does not stop the notes.
        let is_due = now.0 >= noted.saturating_add(NOTE_EVERY_MICROS) || now.0 < noted;
        is_due
            && (self.noted_at)
                .compare_exchange(noted, now.0, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    /// Writes the uses that the catalog does not have yet.
    pub(crate) fn note_uses(&self, catalog: &Catalog) -> Result<(), CatalogError> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let uses = self.fresh_uses();
        if uses.is_empty() {
            return Ok(());
        }
        catalog.note_key_uses(&uses)?;
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        for (id, at) in &uses {
            if let Some(entry) = keys.as_ref().and_then(|keys| keys.get(id)) {
                entry.noted.store(at.0, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    fn fresh_uses(&self) -> Vec<(String, UnixMicros)> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        (keys.iter().flatten())
            .filter_map(|(id, entry)| {
                let used = entry.used_at.load(Ordering::Relaxed);
                (used > entry.noted.load(Ordering::Relaxed)).then(|| (id.clone(), UnixMicros(used)))
            })
            .collect()
    }
}

fn create_durably(path: &Path) -> std::io::Result<()> {
    File::create(path)?.sync_all()?;
    match path.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMicros = UnixMicros(1_000_000_000);

    fn kept(name: &str, expires_at: Option<UnixMicros>) -> (Key, String) {
        let random = [name.len() as u8; secret::RANDOM_BYTES];
        let (id, text) = secret::from_random(&random);
        let key = Key {
            id,
            name: name.to_owned(),
            scopes: vec![Scope::Read],
            secret_hash: secret::hash(&text),
            created_at: UnixMicros(1),
            created_by: "local".to_owned(),
            expires_at,
            revoked_at: None,
            last_used_at: None,
        };
        (key, text)
    }

    #[test]
    fn a_key_is_accepted_until_it_expires_or_is_revoked() {
        let directory = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(directory.path()).unwrap();
        let keyring = Keyring::new();
        assert!(!keyring.is_empty(), "nobody knows before it is loaded");
        keyring.load(&catalog).unwrap();
        assert!(keyring.is_empty());
        let (forever, text) = kept("forever", None);
        let (short, short_text) = kept("short", Some(NOW));
        for key in [&forever, &short] {
            keyring
                .change(&catalog, || catalog.create_key(key))
                .unwrap();
        }
        assert_eq!(keyring.check(&text, NOW).unwrap().name, "forever");
        let before = UnixMicros(NOW.0 - 1);
        assert_eq!(keyring.check(&short_text, before).unwrap().name, "short");
        let expired = Refused::Expired("short".to_owned());
        assert_eq!(keyring.check(&short_text, NOW), Err(expired));
        let wrong = format!("{}0", &text[..text.len() - 1]);
        assert_eq!(keyring.check(&wrong, NOW), Err(Refused::Unknown));
        keyring
            .change(&catalog, || catalog.revoke_key(&forever.id, NOW))
            .unwrap();
        let revoked = Refused::Revoked("forever".to_owned());
        assert_eq!(keyring.check(&text, NOW), Err(revoked));
        assert!(!keyring.is_empty(), "a revoked key still closes the door");
        assert!(!keyring.has_usable(NOW));
    }

    #[test]
    fn uses_are_noted_once_a_minute_and_only_fresh_ones() {
        let directory = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(directory.path()).unwrap();
        let keyring = Keyring::new();
        let (key, text) = kept("ci", None);
        keyring
            .change(&catalog, || catalog.create_key(&key))
            .unwrap();
        keyring.check(&text, NOW).unwrap();
        assert!(keyring.is_due(NOW));
        assert!(!keyring.is_due(UnixMicros(NOW.0 + NOTE_EVERY_MICROS - 1)));
        keyring.note_uses(&catalog).unwrap();
        assert_eq!(catalog.keys().unwrap()[0].last_used_at, Some(NOW));
        assert_eq!(keyring.fresh_uses(), []);
        assert!(keyring.is_due(UnixMicros(NOW.0 + NOTE_EVERY_MICROS)));
    }

    #[test]
    fn a_door_that_keys_closed_stays_closed_when_they_are_gone() {
        let directory = tempfile::tempdir().unwrap();
        let fact = directory.path().join("KEYS_EXISTED");
        let catalog = Catalog::open(directory.path()).unwrap();
        let keyring = Keyring::new();
        keyring.remember_at(fact.clone());
        keyring.load(&catalog).unwrap();
        assert!(keyring.is_empty() && !fact.exists());
        let (key, _) = kept("ci", None);
        keyring
            .change(&catalog, || catalog.create_key(&key))
            .unwrap();
        assert!(!keyring.is_empty() && fact.exists());
        // Another catalog, as it was before the first key or of another service.
        let other = tempfile::tempdir().unwrap();
        let empty = Catalog::open(other.path()).unwrap();
        keyring.change(&empty, || Ok(())).unwrap();
        assert!(!keyring.is_empty(), "in memory");
        let next = Keyring::new();
        next.remember_at(fact);
        next.load(&empty).unwrap();
        assert!(!next.is_empty(), "in the file");
        let elsewhere = Keyring::new();
        elsewhere.load(&catalog).unwrap();
        assert!(!elsewhere.is_empty(), "in the catalog");
        let new = Keyring::new();
        new.load(&empty).unwrap();
        assert!(new.is_empty(), "where there never was a key");
    }

    #[test]
    fn the_local_key_is_this_processs_own() {
        let keyring = Keyring::new();
        let key = secret::local_from_random(&[3; secret::RANDOM_BYTES]);
        assert_eq!(keyring.check(&key, NOW), Err(Refused::Unknown));
        keyring.set_local(&key);
        assert_eq!(keyring.check(&key, NOW).unwrap().scopes, [Scope::Admin]);
        let other = secret::local_from_random(&[4; secret::RANDOM_BYTES]);
        assert_eq!(keyring.check(&other, NOW), Err(Refused::Unknown));
    }
}
