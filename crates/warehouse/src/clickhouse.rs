//! Stores events in ClickHouse: append-only tables in the order of the fold, and analyses as SQL.
//!
//! Every insertion carries the number of a batch, which the journal in the
//! catalog gives out; what a [`View`] sees are the batches that were finished
//! at its moment. There is no other state here: who may read what is decided
//! in the catalog, and a batch that was inserted twice, or in part, or long
//! after its writer died, changes no answer.
//!
//! The statements are in `sql/`, one file for each, and beside the analyses that they belong
//! to; [`sql`] fills them in.

mod address;
mod client;
mod export;
pub(crate) mod metric_rows;
pub(crate) mod plans;
mod rows;
mod schema;
pub(crate) mod sql;
pub(crate) mod stream;
mod user_texts;
mod view;

pub use address::Address;
pub use view::View;

use std::path::Path;

use crate::batch::Batch;
use crate::error::WarehouseError;
use crate::private;
use client::Client;
use rows::UserTexts;

/// Raw events in a ClickHouse database.
#[derive(Debug, Clone)]
pub struct ClickHouse {
    client: Client,
    user_texts: UserTexts,
}

impl ClickHouse {
    /// Connects to the database at `address`, and creates the tables that are missing.
    ///
    /// # Errors
    ///
    /// The server cannot be reached, refuses the user, or has tables of a later version.
    pub fn connect(address: Address) -> Result<Self, WarehouseError> {
        let client = Client::new(address)?;
        schema::migrate(&client)?;
        Ok(Self {
            client,
            user_texts: UserTexts::Kept,
        })
    }

    /// Makes the warehouse store the 64-bit id of a user only, without the string id.
    #[must_use]
    pub fn without_user_texts(self) -> Self {
        Self {
            user_texts: UserTexts::Dropped,
            ..self
        }
    }

    /// Sets the directory of temporary files for data that exceeds memory, and creates it if it is
    /// missing. The default is the temporary directory of the system.
    ///
    /// # Errors
    ///
    /// The directory cannot be created.
    pub fn spilling_into(self, directory: &Path) -> Result<Self, WarehouseError> {
        if !directory.is_dir() {
            let created = private::create_directory(directory);
            created.map_err(WarehouseError::io("create", directory))?;
        }
        Ok(Self {
            client: self.client.spilling_into(directory),
            ..self
        })
    }

    /// Returns the schema version of the database at `address`, 0 if it has no tables, and the
    /// newest version that this binary knows. Changes nothing.
    ///
    /// # Errors
    ///
    /// The server cannot be reached or refuses the user.
    pub fn inspect(address: Address) -> Result<(u32, u32), WarehouseError> {
        schema::inspect(&Client::new(address)?)
    }

    /// Returns the address for display.
    pub fn place(&self) -> &str {
        self.client.place()
    }

    /// Checks that the server answers and accepts the user.
    ///
    /// # Errors
    ///
    /// It does not.
    pub fn check(&self) -> Result<(), WarehouseError> {
        self.client.run("ask", "SELECT 1").map(drop)
    }

    /// Inserts a batch under its number. A caller that does not know the outcome may insert it
    /// again.
    ///
    /// # Errors
    ///
    /// The server cannot be reached or refuses it.
    pub fn insert(&self, batch: &Batch, number: u64) -> Result<(), WarehouseError> {
        let (query, rows) = rows::insertion(batch, number, self.user_texts);
        // The token lets the server drop a second insertion, which saves space and no more.
        let settings = [(
            "insert_deduplication_token",
            format!("{number}-{}", batch.kind().plural()),
        )];
        self.client.send("insert events", &query, &settings, &rows)
    }

    /// Executes a statement that only tests need.
    #[doc(hidden)]
    pub fn execute_in_tests(&self, sql: &str) {
        self.client
            .run("prepare a test", sql)
            .expect("a test's statement is good");
    }

    /// Reads the batches up to `last`, without the `unreadable_batches` among them.
    pub fn view(&self, last: u64, unreadable_batches: Vec<u64>) -> View {
        View::new(self.client.clone(), last, unreadable_batches)
    }

    /// Returns the number of rows and bytes in both tables, as the server counts them.
    ///
    /// # Errors
    ///
    /// The server cannot be reached.
    pub fn size(&self) -> Result<(u64, u64), WarehouseError> {
        let sql = "SELECT sum(rows), sum(bytes_on_disk) FROM system.parts
            WHERE active AND database = currentDatabase() AND table LIKE '%assignments%' OR active AND database = currentDatabase() AND table LIKE '%metric_events%'
            FORMAT JSONCompactEachRow";
        let rows = self
            .client
            .rows::<(u64, u64)>("ask for the size of the tables", sql)?;
        Ok(rows.first().copied().unwrap_or_default())
    }
}
