//! Layers, and which experiments own which of their buckets.

mod buckets;

use std::ops::Range;

use trialog_model::holdout::LayerDefinition;
use trialog_model::ids::{ExperimentId, LayerName};
use trialog_model::ranges::free;
use trialog_model::time::UnixMicros;

use crate::audit::Subject;
use crate::database::{self, Abort, Connection, Row};
use crate::documents::{self, Deletable, Document, Table};
use crate::error::CatalogError;
use crate::experiments;

pub(crate) use buckets::{allocate_buckets, claim, create_tables, ranges_of, release};

/// A layer as the catalog knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// What it is.
    pub definition: LayerDefinition,
    /// When it was created.
    pub created_at: UnixMicros,
    /// When it was changed last.
    pub updated_at: UnixMicros,
    /// Counts its states.
    pub revision: i64,
    /// Which experiment owns which buckets, in the order of the buckets.
    pub owned: Vec<(ExperimentId, Range<u16>)>,
}

impl Layer {
    /// The buckets that no experiment owns.
    pub fn free(&self) -> Vec<Range<u16>> {
        let taken: Vec<_> = self.owned.iter().map(|(_, range)| range.clone()).collect();
        free(&taken)
    }
}

impl Document for Layer {
    type Name = LayerName;
    type Definition = LayerDefinition;

    const SUBJECT: Subject = Subject::Layer;
    const TABLE: Table = Table {
        name: "layers",
        columns: &documents::COLUMNS,
    };

    documents::common_fields!(revision);

    fn name_of(definition: &LayerDefinition) -> &LayerName {
        &definition.name
    }

    fn complete(mut self, connection: &Connection<'_>) -> database::Result<Self> {
        let sql =
            "SELECT experiment_id, first, past FROM layer_ranges WHERE layer = ?1 ORDER BY first";
        let owned = |row: &Row<'_>| Ok((experiments::id(row)?, row.get(1)?..row.get(2)?));
        self.owned = (connection.prepare_cached(sql)?)
            .query_map([self.definition.name.as_str()], owned)?
            .collect::<database::Result<_>>()?;
        Ok(self)
    }

    fn created(definition: LayerDefinition, at: UnixMicros, _placeholder: Option<&Self>) -> Self {
        Self {
            definition,
            created_at: at,
            updated_at: at,
            revision: 1,
            owned: Vec::new(),
        }
    }
}

impl Deletable for Layer {
    fn check_deletable(&self, _transaction: &Connection<'_>) -> Result<(), Abort> {
        let Some((experiment, _)) = self.owned.first() else {
            return Ok(());
        };
        let refused = CatalogError::LayerInUse {
            layer: self.definition.name.clone(),
            experiment: experiment.clone(),
        };
        Err(refused.into())
    }
}

#[cfg(test)]
mod tests {
    use trialog_model::experiment::Definition;

    use super::*;
    use crate::Catalog;
    use crate::audit::{Actor, Edit};
    use crate::experiments::Experiment;

    fn edit() -> Edit {
        Edit::new(Actor::new("mia"), UnixMicros(1_700_000_000_000_000))
    }

    fn definition(id: &str, allocation: f64) -> Definition {
        let text = format!(
            r#"{{"experiment_id":"{id}","layer":"page","allocation":{allocation},"variants":[{{"variant":"a"}},{{"variant":"b"}}]}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    fn catalog() -> (tempfile::TempDir, Catalog) {
        let directory = tempfile::tempdir().unwrap();
        let catalog = crate::testing::open(directory.path()).unwrap();
        let page = serde_json::from_str(r#"{"name":"page"}"#).unwrap();
        catalog.create::<Layer>(&page, &edit()).unwrap();
        (directory, catalog)
    }

    fn owned(catalog: &Catalog) -> Vec<(String, Range<u16>)> {
        let layer = catalog
            .get::<Layer>(&LayerName::new("page").unwrap())
            .unwrap();
        layer
            .owned
            .into_iter()
            .map(|(id, range)| (id.to_string(), range))
            .collect()
    }

    #[test]
    fn experiments_of_a_layer_get_buckets_of_their_own_until_there_are_none_left() {
        let (_directory, catalog) = catalog();
        catalog
            .create_experiment(&definition("a", 0.5), &edit())
            .unwrap();
        catalog
            .create_experiment(&definition("b", 0.3), &edit())
            .unwrap();
        let refused = catalog
            .create_experiment(&definition("c", 0.25), &edit())
            .unwrap_err();
        let refused = refused.to_string();
        assert!(
            refused.contains("2000 are free: 8000 to below 10000"),
            "{refused}"
        );
        assert!(refused.contains("at most 0.2"), "{refused}");
        assert_eq!(
            owned(&catalog),
            [("a".to_owned(), 0..5_000), ("b".to_owned(), 5_000..8_000)]
        );
        assert!(matches!(
            catalog.experiment(&ExperimentId::new("c").unwrap()),
            Err(CatalogError::NotFound { .. })
        ));
    }

    #[test]
    fn growing_keeps_the_buckets_and_stopping_frees_them() {
        let (_directory, catalog) = catalog();
        for id in ["a", "b"] {
            catalog
                .create_experiment(&definition(id, 0.3), &edit())
                .unwrap();
        }
        let a = ExperimentId::new("a").unwrap();
        catalog.start_experiment(&a, &edit()).unwrap();
        let grown =
            |_: &crate::experiments::Experiment| Ok::<_, CatalogError>(definition("a", 0.5));
        let grown = catalog.change::<Experiment, _>(&a, &edit(), grown).unwrap();
        assert_eq!(grown.ranges, [0..3_000, 6_000..8_000]);
        catalog.stop_experiment(&a, &edit()).unwrap();
        assert_eq!(owned(&catalog), [("b".to_owned(), 3_000..6_000)]);
        let page = LayerName::new("page").unwrap();
        let refused = catalog
            .delete::<Layer>(&page, &edit())
            .unwrap_err()
            .to_string();
        assert!(refused.contains("`b`"), "{refused}");
        catalog
            .archive_experiment(&ExperimentId::new("b").unwrap(), &edit())
            .unwrap();
        catalog.delete::<Layer>(&page, &edit()).unwrap();
        assert!(matches!(
            catalog.get::<Layer>(&page),
            Err(CatalogError::NotFound { .. })
        ));
    }

    #[test]
    fn an_experiment_of_an_unknown_layer_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let catalog = crate::testing::open(directory.path()).unwrap();
        let refused = catalog
            .create_experiment(&definition("a", 0.5), &edit())
            .unwrap_err();
        assert!(
            refused.to_string().contains("register it first"),
            "{refused}"
        );
    }
}
