//! Stores API keys: their scopes, expiry and last use.
//!
//! Of a key's secret only the SHA-256 is here. A key is never deleted while
//! it is in use or was revoked lately, so that it is known who had access.

use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trialog_model::time::UnixMicros;

use crate::audit::Subject;
use crate::connection::{Catalog, Writes};
use crate::database::{self, Connection, Optional, Row, corrupt, params};
use crate::error::CatalogError;
use crate::facts;

/// The maximum number of keys that are stored, revoked ones included.
pub const MAX_KEYS: usize = 10_000;

/// What a key allows.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[schemars(inline)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Configuration of the SDK, evaluation, and sending events.
    Sdk,
    /// Sending events.
    Ingest,
    /// Reading everything but keys.
    Read,
    /// Everything.
    Admin,
}

impl Scope {
    /// All scopes.
    pub const ALL: [Self; 4] = [Self::Sdk, Self::Ingest, Self::Read, Self::Admin];

    /// Returns the name of the scope in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sdk => "sdk",
            Self::Ingest => "ingest",
            Self::Read => "read",
            Self::Admin => "admin",
        }
    }
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        (Self::ALL.into_iter())
            .find(|scope| scope.as_str() == text)
            .ok_or_else(|| format!("`{text}` is no scope: use sdk, ingest, read or admin"))
    }
}

/// A key as the catalog stores it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Names it for good; a part of the key itself, and no secret.
    pub id: String,
    /// What people call it; unique among the keys that are not revoked.
    pub name: String,
    /// What it allows, in order and each once.
    pub scopes: Vec<Scope>,
    /// The SHA-256 of the key.
    pub secret_hash: [u8; 32],
    /// When it was created.
    pub created_at: UnixMicros,
    /// The key that it was created with, or how else.
    pub created_by: String,
    /// From when on it is not accepted.
    pub expires_at: Option<UnixMicros>,
    /// When it was revoked.
    pub revoked_at: Option<UnixMicros>,
    /// When it was used last, to the minute or so.
    pub last_used_at: Option<UnixMicros>,
}

/// All columns of `api_keys` in the table's order, then the seal.
const COLUMNS: &str = "key_id, name, scopes, secret_hash, created_at, created_by, expires_at, revoked_at, last_used_at, seal";
const N_COLUMNS: usize = 9;

fn key(row: &Row<'_>) -> database::Result<Key> {
    let id: String = row.get(0)?;
    if !row.is_sound(N_COLUMNS)? {
        return Err(corrupt(format!(
            "the API key `{id}` does not match its checksum"
        )));
    }
    let scopes: String = row.get(2)?;
    let scopes: Result<Vec<Scope>, String> = scopes.split(' ').map(str::parse).collect();
    let time = |column| -> database::Result<Option<UnixMicros>> {
        Ok(row.get::<Option<i64>>(column)?.map(UnixMicros))
    };
    Ok(Key {
        name: row.get(1)?,
        scopes: scopes.map_err(|error| corrupt(format!("the API key `{id}`: {error}")))?,
        secret_hash: row.get(3)?,
        created_at: UnixMicros(row.get(4)?),
        created_by: row.get(5)?,
        expires_at: time(6)?,
        revoked_at: time(7)?,
        last_used_at: time(8)?,
        id,
    })
}

fn find(connection: &Connection<'_>, id: &str) -> database::Result<Option<Key>> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM api_keys WHERE key_id = ?1"))?
        .query_row([id], key)
        .optional()
}

/// Makes room for one more: the keys that were revoked first go.
fn make_room(connection: &Connection<'_>, most: usize) -> database::Result<bool> {
    let count = || -> database::Result<usize> {
        connection.query_row("SELECT count(*) FROM api_keys", params![], |row| row.get(0))
    };
    let excess = (count()? + 1).saturating_sub(most);
    if excess > 0 {
        connection.execute(
            "DELETE FROM api_keys WHERE key_id IN
             (SELECT key_id FROM api_keys WHERE revoked_at IS NOT NULL ORDER BY revoked_at LIMIT ?1)",
            [excess],
        )?;
    }
    Ok(count()? < most)
}

impl Catalog {
    /// Returns all keys, the oldest first; at most [`MAX_KEYS`].
    ///
    /// # Errors
    ///
    /// The database cannot be read.
    pub fn keys(&self) -> Result<Vec<Key>, CatalogError> {
        self.read("list API keys", |connection| {
            let sql = format!("SELECT {COLUMNS} FROM api_keys ORDER BY created_at, key_id");
            connection
                .prepare_cached(&sql)?
                .query_map(params![], key)?
                .collect()
        })
    }

    /// Stores a new key.
    ///
    /// # Errors
    ///
    /// [`CatalogError::Exists`] where a key of this name is in use,
    /// [`CatalogError::TooManyKeys`] where [`MAX_KEYS`] are.
    pub fn create_key(&self, new: &Key) -> Result<(), CatalogError> {
        self.write("create an API key", |transaction| {
            let taken: bool = transaction.query_row(
                "SELECT EXISTS (SELECT 1 FROM api_keys WHERE name = ?1 AND revoked_at IS NULL)",
                [&new.name],
                |row| row.get(0),
            )?;
            if taken {
                let (subject, name) = (Subject::Key, new.name.clone());
                return Err(CatalogError::Exists { subject, name }.into());
            }
            if !make_room(transaction, MAX_KEYS)? {
                return Err(CatalogError::TooManyKeys(MAX_KEYS).into());
            }
            let scopes: Vec<&str> = new.scopes.iter().map(|scope| scope.as_str()).collect();
            transaction.execute(
                "INSERT INTO api_keys
                     (key_id, name, scopes, secret_hash, created_at, created_by, expires_at)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![
                    new.id,
                    new.name,
                    scopes.join(" "),
                    new.secret_hash,
                    new.created_at.0,
                    new.created_by,
                    new.expires_at.map(|time| time.0)
                ],
            )?;
            Ok(facts::note_keys(transaction, new.created_at)?)
        })
    }

    /// Revokes a key. A key that was revoked before stays as it was.
    ///
    /// # Errors
    ///
    /// [`CatalogError::NotFound`] where it is not known.
    pub fn revoke_key(&self, id: &str, now: UnixMicros) -> Result<Key, CatalogError> {
        self.write("revoke an API key", |transaction| {
            transaction.execute(
                "UPDATE api_keys SET revoked_at = ?2 WHERE key_id = ?1 AND revoked_at IS NULL",
                params![id, now.0],
            )?;
            find(transaction, id)?.ok_or_else(|| CatalogError::not_found(Subject::Key, id).into())
        })
    }

    /// Records when keys were last used, in one transaction.
    ///
    /// # Errors
    ///
    /// The database cannot be written.
    pub fn note_key_uses(&self, uses: &[(String, UnixMicros)]) -> Result<(), CatalogError> {
        self.write_as(Writes::Rows, "note the use of API keys", |transaction| {
            let mut statement = transaction
                .prepare_cached("UPDATE api_keys SET last_used_at = ?2 WHERE key_id = ?1")?;
            for (id, at) in uses {
                statement.execute(params![id, at.0])?;
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(name: &str) -> Key {
        Key {
            id: format!("id-{name}"),
            name: name.to_owned(),
            scopes: vec![Scope::Sdk, Scope::Read],
            secret_hash: [7; 32],
            created_at: UnixMicros(10),
            created_by: "local".to_owned(),
            expires_at: Some(UnixMicros(99)),
            revoked_at: None,
            last_used_at: None,
        }
    }

    #[test]
    fn a_key_comes_back_as_it_was_kept() {
        let directory = tempfile::tempdir().unwrap();
        let catalog = crate::testing::open(directory.path()).unwrap();
        catalog.create_key(&new("ci")).unwrap();
        catalog
            .note_key_uses(&[("id-ci".to_owned(), UnixMicros(20))])
            .unwrap();
        drop(catalog);
        let catalog = crate::testing::open(directory.path()).unwrap();
        let expected = Key {
            last_used_at: Some(UnixMicros(20)),
            ..new("ci")
        };
        assert_eq!(catalog.keys().unwrap(), [expected]);
    }

    #[test]
    fn a_name_is_free_again_once_its_key_is_revoked() {
        let directory = tempfile::tempdir().unwrap();
        let catalog = crate::testing::open(directory.path()).unwrap();
        catalog.create_key(&new("ci")).unwrap();
        let again = Key {
            id: "other".to_owned(),
            ..new("ci")
        };
        let error = catalog.create_key(&again).unwrap_err();
        assert!(matches!(error, CatalogError::Exists { .. }), "{error}");
        let revoked = catalog.revoke_key("id-ci", UnixMicros(30)).unwrap();
        assert_eq!(revoked.revoked_at, Some(UnixMicros(30)));
        catalog.create_key(&again).unwrap();
        let repeated = catalog.revoke_key("id-ci", UnixMicros(40)).unwrap();
        assert_eq!(repeated.revoked_at, Some(UnixMicros(30)));
        let error = catalog.revoke_key("nobody", UnixMicros(1)).unwrap_err();
        assert!(matches!(error, CatalogError::NotFound { .. }), "{error}");
    }

    #[test]
    fn the_key_that_was_revoked_first_makes_room_and_one_in_use_never_does() {
        let directory = tempfile::tempdir().unwrap();
        let catalog = crate::testing::open(directory.path()).unwrap();
        for name in ["a", "b", "c"] {
            catalog.create_key(&new(name)).unwrap();
        }
        let room = |most| {
            catalog
                .write::<_, CatalogError>("make room", |transaction| {
                    Ok(make_room(transaction, most).unwrap())
                })
                .unwrap()
        };
        assert!(!room(3), "all three are in use");
        catalog.revoke_key("id-b", UnixMicros(2)).unwrap();
        catalog.revoke_key("id-a", UnixMicros(3)).unwrap();
        assert!(room(3));
        let left: Vec<String> = catalog
            .keys()
            .unwrap()
            .into_iter()
            .map(|key| key.id)
            .collect();
        assert_eq!(left, ["id-a", "id-c"]);
    }
}
