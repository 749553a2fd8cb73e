//! Defines the errors of runs and queries.

use trialog_catalog::CatalogError;
use trialog_model::ids::ExperimentId;
use trialog_model::time::UnixMicros;
use trialog_warehouse::WarehouseError;

/// An error of a run or a query.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PipelineError {
    /// The process is stopping.
    #[error(
        "the server is shutting down: nothing of this run was published, and the next one covers its events"
    )]
    Stopping,
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The warehouse failed.
    #[error("{}", .0.chain())]
    Warehouse(WarehouseError),
    /// Old events of an experiment are gone, so it cannot be computed any more.
    #[error(
        "events of `{experiment}` before {before} were dropped by retention: its published results stay, but nothing can be computed from what is left"
    )]
    EventsDropped {
        /// The experiment.
        experiment: ExperimentId,
        /// Events before this are gone.
        before: UnixMicros,
    },
    /// The clock cannot be right.
    #[error("{0}")]
    Clock(String),
    /// The operation needs the embedded warehouse.
    #[error("the events are in ClickHouse, so {what}")]
    NotEmbedded {
        /// What cannot be done, and what can be done instead.
        what: &'static str,
    },
    /// Another process is aggregating now.
    #[error(
        "`{holder}` is aggregating now: wait for its results, or try again after its lease ends at {until}"
    )]
    Held {
        /// Who.
        holder: String,
        /// When its lease ends unless it is renewed.
        until: UnixMicros,
    },
    /// The warehouse accepts no more events now.
    #[error("the warehouse cannot accept more events now: {0}")]
    Busy(String),
    /// Kafka cannot be reached or refuses something.
    #[cfg(feature = "kafka")]
    #[error("cannot {action} in `{place}`: {what}")]
    Kafka {
        /// What was tried.
        action: &'static str,
        /// The brokers and topics, without a password.
        place: String,
        /// The reason, with the remedy.
        what: String,
        /// Whether the same may well succeed later.
        is_transient: bool,
    },
    /// No funnel has such steps.
    #[error("the funnel cannot be computed: {0}")]
    Funnel(String),
    /// One experiment cannot be folded.
    #[error(transparent)]
    Fold(#[from] trialog_warehouse::FoldError),
}

// The message holds the whole chain of causes already, so it is no `source` beside that.
impl From<WarehouseError> for PipelineError {
    fn from(error: WarehouseError) -> Self {
        Self::Warehouse(error)
    }
}

impl PipelineError {
    /// Returns whether a retry may succeed: a server cannot be reached now.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Catalog(error) => error.is_transient(),
            Self::Warehouse(error) => error.is_transient(),
            #[cfg(feature = "kafka")]
            Self::Kafka { is_transient, .. } => *is_transient,
            Self::Busy(_) => true,
            _ => false,
        }
    }

    /// Returns whether the process is stopping, so that nothing is wrong.
    pub fn is_stopping(&self) -> bool {
        matches!(
            self,
            Self::Stopping | Self::Warehouse(WarehouseError::Abandoned)
        )
    }
}
