//! Defines the kinds of blocking work and the limits of each.

use std::sync::Arc;

use crate::app::{App, Settings};
use crate::problem::Answer;
use crate::work::{Jobs, Pool, Size};

/// Reading the catalog, pages of the dashboard, published results: work for the processor.
const QUERIES: Size = Size {
    what: "queries",
    running: 6,
    waiting: 512,
    retry_after_s: 1,
    is_long: false,
};
/// Changing the catalog, which one connection does: the others wait for it, and for a run that
/// is being published, and keep no query waiting.
const CHANGES: Size = Size {
    what: "changes",
    running: 4,
    waiting: 256,
    retry_after_s: 1,
    is_long: false,
};
/// What every request may wait for: keys, rulesets, readiness. There is room for each connection.
const UPKEEP: Size = Size {
    what: "upkeep",
    running: 8,
    waiting: 2_048,
    retry_after_s: 1,
    is_long: false,
};
/// A calculation takes seconds at most, as its cost is checked before it begins. It only computes,
/// so more at a time would take the cores from events.
const CALC: Size = Size {
    what: "calculations",
    running: 1,
    waiting: 32,
    retry_after_s: 1,
    is_long: true,
};
/// It reads all there is.
const VERIFY: Size = Size {
    what: "verification",
    running: 1,
    waiting: 2,
    retry_after_s: 10,
    is_long: true,
};
/// Backup, erasure and retention, of which one can be under way at a time anyway.
const MAINTENANCE: Size = Size {
    what: "backup, erasure and retention",
    running: 1,
    waiting: 4,
    retry_after_s: 10,
    is_long: true,
};
/// Runs on request, of which one can be under way at a time anyway.
const RUNS: Size = Size {
    what: "runs",
    running: 1,
    waiting: 16,
    retry_after_s: 5,
    is_long: true,
};
/// A client that reads slowly keeps its place, so requests do not wait for one.
const EXPORTS: Size = Size {
    what: "exports, two at a time",
    running: 2,
    waiting: 0,
    retry_after_s: 10,
    is_long: true,
};

/// One pool for each kind of work.
pub(crate) struct Pools {
    pub(crate) queries: Pool,
    pub(crate) changes: Pool,
    pub(crate) upkeep: Pool,
    pub(crate) folds: Pool,
    pub(crate) calc: Pool,
    pub(crate) verify: Pool,
    pub(crate) maintenance: Pool,
    pub(crate) runs: Pool,
    pub(crate) exports: Pool,
    pub(crate) jobs: Arc<Jobs>,
}

impl Pools {
    pub(crate) fn new(settings: &Settings) -> Self {
        let jobs = Jobs::new();
        let folds = Size {
            what: "filtered results",
            running: settings.max_folds,
            waiting: settings.max_waiting_folds,
            retry_after_s: 2,
            is_long: true,
        };
        Self {
            queries: Pool::new(QUERIES, &jobs),
            changes: Pool::new(CHANGES, &jobs),
            upkeep: Pool::new(UPKEEP, &jobs),
            folds: Pool::new(folds, &jobs),
            calc: Pool::new(CALC, &jobs),
            verify: Pool::new(VERIFY, &jobs),
            maintenance: Pool::new(MAINTENANCE, &jobs),
            runs: Pool::new(RUNS, &jobs),
            exports: Pool::new(EXPORTS, &jobs),
            jobs,
        }
    }
}

/// Changes the catalog on a blocking thread. A change that has begun is completed.
pub(crate) async fn change<T: Send + 'static>(
    app: &Arc<App>,
    work: impl FnOnce(&App) -> Answer<T> + Send + 'static,
) -> Answer<T> {
    on(&app.pools.changes, app, work).await
}

/// Reads the catalog on a thread for such work.
pub(crate) async fn query<T: Send + 'static>(
    app: &Arc<App>,
    work: impl FnOnce(&App) -> Answer<T> + Send + 'static,
) -> Answer<T> {
    on(&app.pools.queries, app, work).await
}

/// Updates caches that requests depend on, and is never queued behind other work.
pub(crate) async fn upkeep<T: Send + 'static>(
    app: &Arc<App>,
    work: impl FnOnce(&App) -> Answer<T> + Send + 'static,
) -> Answer<T> {
    on(&app.pools.upkeep, app, work).await
}

async fn on<T: Send + 'static>(
    pool: &Pool,
    app: &Arc<App>,
    work: impl FnOnce(&App) -> Answer<T> + Send + 'static,
) -> Answer<T> {
    let app = Arc::clone(app);
    pool.run(move |_| work(&app)).await
}
