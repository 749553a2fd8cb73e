//! Defines the errors of the catalog and what a person can do about them.

use std::ops::Range;
use std::path::PathBuf;

use trialog_model::experiment::Status;

use trialog_model::ids::{ExperimentId, HoldoutName, LayerName, MetricName, Variant};
use trialog_sqlite::{OpenError, RESTORE_ALL, is_damage};

use crate::audit::Subject;
use crate::database::DatabaseError;

/// An error of the catalog.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CatalogError {
    /// The database refused a statement, or cannot be reached.
    #[error("cannot {action} in `{place}`: {reason}")]
    Database {
        /// What was tried.
        action: String,
        /// The database file or its address.
        place: String,
        /// Why not.
        reason: DatabaseError,
    },
    /// The address of the database cannot be read.
    #[error(
        "`catalog` is not an address of a PostgreSQL database: {0}; give one such as postgres://user:password@host:5432/trialog"
    )]
    BadAddress(String),
    /// The database was written by a newer version.
    #[error(
        "`{place}` has schema version {found}, this binary knows up to {known}: run trialog {needs} or newer"
    )]
    NewerSchema {
        /// The address of the database.
        place: String,
        /// The version found.
        found: i64,
        /// The newest version that this binary knows.
        known: i64,
        /// The version of Trialog that wrote it.
        needs: String,
    },
    /// A source that may be used once was used with other events.
    #[error("the source of these events was used before with other events")]
    SourceUsed,
    /// The operation needs the catalog to be a file.
    #[error("the catalog is in PostgreSQL, so {what}")]
    NotAFile {
        /// What cannot be done, and what can be done instead.
        what: &'static str,
    },
    /// A thread cannot be started.
    #[error("cannot start a thread: {0}")]
    Thread(String),
    /// Another process has the lease, or took it over.
    #[error(
        "the lease for {name} passed to another process meanwhile, so nothing was published here"
    )]
    LeaseLost {
        /// What the lease is for.
        name: String,
    },
    /// Another process took over the source of a batch.
    #[error("another process ingests `{source_name}` now and stores these events")]
    SourceLost {
        /// The source.
        source_name: String,
    },
    /// The file does not hold what was written to it.
    #[error("`{}` is damaged: {what}; {RESTORE_ALL}", path.display())]
    Damaged {
        /// The database file.
        path: PathBuf,
        /// What does not fit.
        what: String,
    },
    /// The file cannot be opened.
    #[error("{}", chain(.0))]
    Open(OpenError),
    /// Nothing of this kind has the name.
    #[error("{} `{name}` does not exist{there_are}", subject.as_str())]
    NotFound {
        /// The kind.
        subject: Subject,
        /// The requested name.
        name: String,
        /// Names that there are, as the end of the message; may be empty.
        there_are: String,
    },
    /// The name is taken.
    #[error("{} `{name}` exists already: {}", subject.as_str(), subject.instead_of_creating())]
    Exists {
        /// The kind.
        subject: Subject,
        /// The name.
        name: String,
    },
    /// What results are tested with would change after the start.
    #[error(
        "{} cannot change after the start of `{experiment}`: results would be tested otherwise than was planned; a change with `\"confirm\": true` restarts the sequence of looks, and there is no verdict until somebody confirms the change",
        fields.join(", ")
    )]
    Locked {
        /// The experiment.
        experiment: ExperimentId,
        /// The fields, those of a metric's definition behind its name.
        fields: Vec<String>,
    },
    /// No change of the experiment waits to be confirmed.
    #[error("`{0}` has no change after its start that needs confirmation")]
    NothingToConfirm(ExperimentId),
    /// Experiments name the metric definition.
    #[error("metric `{metric}` is named by experiment `{experiment}`{}: take it out of the `metrics` there first", and_others(*.n_others))]
    MetricNamed {
        /// The metric.
        metric: MetricName,
        /// An experiment that names it.
        experiment: String,
        /// How many more do.
        n_others: u64,
    },
    /// An experiment names a layer that is not registered. The text lists the registered ones.
    #[error("`layer` is `{0}`, which is not registered: register it first, or check its name{1}")]
    UnknownLayer(LayerName, String),
    /// A layer has too few free buckets.
    #[error("the experiment needs {n_wanted} of the 10000 buckets of the layer `{layer}`, of which {n_free} are free{}: {}", ranges(.free), remedy_for_full_layer(*.n_free))]
    LayerFull {
        /// The layer.
        layer: LayerName,
        /// The buckets that the experiment needs.
        n_wanted: u16,
        /// The buckets that it can have.
        n_free: u16,
        /// Those that no experiment owns.
        free: Vec<Range<u16>>,
    },
    /// An experiment owns buckets of the layer.
    #[error("layer `{layer}` is used by experiment `{experiment}`: stop or archive it first")]
    LayerInUse {
        /// The layer.
        layer: LayerName,
        /// An experiment that owns buckets of it.
        experiment: ExperimentId,
    },
    /// The holdout's status does not allow the step.
    #[error("holdout `{holdout}` is {}: {mend}", status.as_str())]
    HoldoutStatus {
        /// The holdout.
        holdout: HoldoutName,
        /// Its status.
        status: Status,
        /// What can be done instead.
        mend: &'static str,
    },
    /// The experiment measures a holdout, and lives and changes with that.
    #[error(
        "`{experiment}` measures a holdout and follows it: change the holdout `{holdout}` instead"
    )]
    OfHoldout {
        /// The experiment.
        experiment: ExperimentId,
        /// The holdout's name.
        holdout: String,
    },
    /// The experiment's status does not allow the step.
    #[error("experiment `{experiment}` is {}: {mend}", status.as_str())]
    WrongStatus {
        /// The experiment.
        experiment: ExperimentId,
        /// Its status.
        status: Status,
        /// What can be done instead.
        mend: &'static str,
    },
    /// The experiment cannot go on where it was stopped.
    #[error("experiment `{experiment}` cannot be resumed: {reason}")]
    NoResume {
        /// The experiment.
        experiment: ExperimentId,
        /// The precondition that failed, and what to do instead.
        reason: String,
    },
    /// The experiment has no such variant. The text lists its variants.
    #[error("experiment `{experiment}` has no variant `{variant}`{there_are}")]
    NoVariant {
        /// The experiment.
        experiment: ExperimentId,
        /// The variant that was named.
        variant: Variant,
        /// Those that there are.
        there_are: String,
    },
    /// There are as many shipped variants as there may be.
    #[error(
        "{0} experiments ship a variant already, which is the most: archive those whose variant is in the code by now"
    )]
    TooManyShipped(u64),
    /// There are as many keys as there may be.
    #[error("there are {0} API keys already, which is the most: revoke those that are not used")]
    TooManyKeys(usize),
    /// Somebody else changed it since it was read.
    #[error("{what} was changed since it was read: read it again, its ETag is now `\"{current}\"`")]
    Stale {
        /// What was to be changed.
        what: String,
        /// The number of its present state.
        current: i64,
    },
}

impl CatalogError {
    /// Builds the error for a name that does not exist, without suggestions.
    pub fn not_found(subject: Subject, name: impl Into<String>) -> Self {
        Self::NotFound {
            subject,
            name: name.into(),
            there_are: String::new(),
        }
    }

    pub(crate) fn database<'a>(
        action: &'a str,
        place: &'a str,
    ) -> impl Fn(DatabaseError) -> Self + 'a {
        move |reason| {
            let what = match &reason {
                DatabaseError::Sqlite(error) if is_damage(error) => Some(error.to_string()),
                DatabaseError::Corrupt(what) => Some(what.clone()),
                _ => None,
            };
            match what {
                Some(what) => Self::Damaged {
                    path: place.into(),
                    what,
                },
                None => Self::Database {
                    action: action.to_owned(),
                    place: place.to_owned(),
                    reason,
                },
            }
        }
    }

    /// Returns whether a retry may succeed: the database cannot be reached now.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Database { reason, .. } if reason.is_transient())
    }
}

impl From<OpenError> for CatalogError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Damaged { path, what } => Self::Damaged { path, what },
            other => Self::Open(other),
        }
    }
}

fn and_others(n_others: u64) -> String {
    match n_others {
        0 => String::new(),
        1 => " and another one".to_owned(),
        more => format!(" and {more} others"),
    }
}

fn ranges(free: &[Range<u16>]) -> String {
    let each: Vec<_> = free
        .iter()
        .map(|range| format!("{} to below {}", range.start, range.end))
        .collect();
    if each.is_empty() {
        String::new()
    } else {
        format!(": {}", each.join(", "))
    }
}

fn remedy_for_full_layer(n_free: u16) -> String {
    match n_free {
        0 => "stop an experiment of the layer first".to_owned(),
        n => format!(
            "give it an allocation of at most {}, or stop an experiment of the layer first",
            f64::from(n) / 10_000.0
        ),
    }
}

/// An error with its cause: this crate's messages are whole.
fn chain(error: &OpenError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
