//! Runs blocking work: a pool for each kind, so that no kind takes the threads of another.
//!
//! A pool does so many pieces of work at a time, lets as many wait, and answers 429 beyond
//! that. Where there is a queue, a caller may have half of it, so that one who asks for much
//! does not turn others away. A piece of work ends early where it looks at its flag, which is
//! set when its client goes away and when the process stops.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::limits::Who;
use crate::problem::{Answer, Problem};

tokio::task_local! {
    /// The caller on whose behalf a request is handled; `None` if it has no limit.
    static CALLER: Option<Who>;
}

/// Handles a request on behalf of `caller`, whose share the pools limit; `None` has no limit.
pub(crate) async fn on_behalf_of<T>(caller: Option<Who>, handling: impl Future<Output = T>) -> T {
    CALLER.scope(caller, handling).await
}

/// Set to end a piece of work without an answer.
pub(crate) type Flag = Arc<AtomicBool>;

/// The limits of a kind of work.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    /// The name of the work in messages.
    pub(crate) what: &'static str,
    /// Pieces of work at a time.
    pub(crate) running: usize,
    /// Pieces of work that wait for their turn; beyond them the answer is 429.
    pub(crate) waiting: usize,
    /// The seconds after which a rejected client may retry.
    pub(crate) retry_after_s: u32,
    /// Whether a piece takes long, so that none begins once the process stops.
    pub(crate) is_long: bool,
}

/// The pool of one kind of work.
pub(crate) struct Pool {
    size: Size,
    places: Arc<Semaphore>,
    /// Those that run and those that wait.
    present: Arc<Semaphore>,
    /// How many of them are each caller's.
    callers: Arc<Mutex<HashMap<Who, usize>>>,
    jobs: Arc<Jobs>,
}

impl Pool {
    pub(crate) fn new(size: Size, jobs: &Arc<Jobs>) -> Self {
        Self {
            size,
            places: Arc::new(Semaphore::new(size.running)),
            present: Arc::new(Semaphore::new(size.running.saturating_add(size.waiting))),
            callers: Arc::default(),
            jobs: Arc::clone(jobs),
        }
    }

    /// Waits for a turn. A client that goes away meanwhile gives up its place.
    pub(crate) async fn turn(&self) -> Answer<Turn> {
        let busy = || {
            let what = self.size.what;
            Problem::busy(
                format!(
                    "the server has as much work of this kind as it takes on ({what}): ask again shortly"
                ),
                self.size.retry_after_s,
            )
        };
        let present = Arc::clone(&self.present).try_acquire_owned();
        let present = present.map_err(|_| busy())?;
        let share = self.share().map_err(|()| busy())?;
        let place = Arc::clone(&self.places).acquire_owned();
        let place = place.await.map_err(|_| busy())?;
        if self.size.is_long && self.jobs.is_stopping() {
            return Err(stopping());
        }
        Ok(Turn {
            job: Job::begin(&self.jobs),
            _place: (place, present, share),
        })
    }

    /// Counts one more piece of work of the caller; an error where there are too many.
    fn share(&self) -> Result<Option<Share>, ()> {
        let caller = CALLER.try_with(Option::clone).ok().flatten();
        let Some(caller) = caller.filter(|_| self.size.waiting > 0) else {
            return Ok(None);
        };
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        let n_own = callers.entry(caller.clone()).or_default();
        if *n_own >= self.size.running + self.size.waiting / 2 {
            return Err(());
        }
        *n_own += 1;
        Ok(Some(Share {
            caller,
            callers: Arc::clone(&self.callers),
        }))
    }

    /// Runs `work` in its turn, for a client that may go away.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Flag) -> Answer<T> + Send + 'static,
    ) -> Answer<T> {
        let (done, _turn) = self.turn().await?.run(work).await?;
        Ok(done)
    }

    /// Runs `work` in its turn. Once begun, it goes on without its client, and ends early only
    /// when the process stops.
    pub(crate) async fn finish<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Flag) -> Answer<T> + Send + 'static,
    ) -> Answer<T> {
        let turn = self.turn().await?;
        on_thread(move || work(turn.flag())).await
    }
}

/// A piece of work of a caller, until it is dropped.
struct Share {
    caller: Who,
    callers: Arc<Mutex<HashMap<Who, usize>>>,
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(n_own) = callers.get_mut(&self.caller) {
            *n_own -= 1;
            if *n_own == 0 {
                callers.remove(&self.caller);
            }
        }
    }
}

fn stopping() -> Problem {
    Problem::unavailable("the server is shutting down: ask again shortly", 5)
}

/// Runs `work` on a thread for such work.
async fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> Answer<T> + Send + 'static,
) -> Answer<T> {
    let span = tracing::Span::current();
    match tokio::task::spawn_blocking(move || span.in_scope(work)).await {
        Ok(answer) => answer,
        Err(error) => Err(Problem::internal(format!(
            "the request's work ended early: {error}"
        ))),
    }
}

/// A place in a pool, which is free again when its thread ends.
pub(crate) struct Turn {
    job: Job,
    _place: (OwnedSemaphorePermit, OwnedSemaphorePermit, Option<Share>),
}

impl Turn {
    /// Returns the flag that is set when the work of this turn must end.
    pub(crate) fn flag(&self) -> &Flag {
        &self.job.flag
    }

    /// Runs `work`, and returns the turn for more of it.
    pub(crate) async fn run<T: Send + 'static>(
        self,
        work: impl FnOnce(&Flag) -> Answer<T> + Send + 'static,
    ) -> Answer<(T, Self)> {
        let client = Client::from_flag(self.flag());
        let answer = on_thread(move || work(self.flag()).map(|done| (done, self))).await;
        client.stays();
        answer
    }

    /// Runs `work` on a thread, for the holder of the returned [`Client`].
    pub(crate) fn detach(self, work: impl FnOnce(&Flag) + Send + 'static) -> Client {
        let client = Client::from_flag(self.flag());
        let span = tracing::Span::current();
        tokio::task::spawn_blocking(move || span.in_scope(|| work(self.flag())));
        client
    }
}

/// The client of a piece of work. Dropping it ends the work.
pub(crate) struct Client(Option<Flag>);

impl Client {
    fn from_flag(flag: &Flag) -> Self {
        Self(Some(Arc::clone(flag)))
    }

    /// The work has ended by itself.
    fn stays(mut self) {
        self.0 = None;
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Some(flag) = &self.0 {
            flag.store(true, Ordering::Relaxed);
        }
    }
}

/// All pieces of work under way, at most as many as the pools have places.
pub(crate) struct Jobs {
    under_way: Mutex<UnderWay>,
    n_under_way: watch::Sender<usize>,
}

#[derive(Default)]
struct UnderWay {
    is_stopping: bool,
    next: u64,
    flags: HashMap<u64, Flag>,
}

impl Jobs {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            under_way: Mutex::default(),
            n_under_way: watch::Sender::new(0),
        })
    }

    /// Ends long work, and prevents more of it.
    pub(crate) fn stop(&self) {
        let mut under_way = self.under_way();
        under_way.is_stopping = true;
        for flag in under_way.flags.values() {
            flag.store(true, Ordering::Relaxed);
        }
    }

    /// Waits until no work is under way.
    pub(crate) async fn idle(&self) {
        let mut count = self.n_under_way.subscribe();
        // The sender lives as long as `self`.
        let _ = count.wait_for(|n_under_way| *n_under_way == 0).await;
    }

    /// Runs short `work`, which is counted elsewhere, on a blocking thread.
    pub(crate) async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce() -> Answer<T> + Send + 'static,
    ) -> Answer<T> {
        let job = Job::begin(self);
        let counted = move || {
            let _job = job;
            work()
        };
        on_thread(counted).await
    }

    fn is_stopping(&self) -> bool {
        self.under_way().is_stopping
    }

    fn under_way(&self) -> MutexGuard<'_, UnderWay> {
        (self.under_way.lock()).unwrap_or_else(PoisonError::into_inner)
    }
}

/// A piece of work under way, until it is dropped.
struct Job {
    id: u64,
    flag: Flag,
    jobs: Arc<Jobs>,
}

impl Job {
    fn begin(jobs: &Arc<Jobs>) -> Self {
        let mut under_way = jobs.under_way();
        let id = under_way.next;
        under_way.next += 1;
        let flag = Flag::new(AtomicBool::new(under_way.is_stopping));
        under_way.flags.insert(id, Arc::clone(&flag));
        jobs.n_under_way.send_replace(under_way.flags.len());
        drop(under_way);
        Self {
            id,
            flag,
            jobs: Arc::clone(jobs),
        }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        let mut under_way = self.jobs.under_way();
        under_way.flags.remove(&self.id);
        self.jobs.n_under_way.send_replace(under_way.flags.len());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    const LONG: Size = Size {
        what: "a test",
        running: 1,
        waiting: 1,
        retry_after_s: 7,
        is_long: true,
    };

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap()
    }

    /// Does nothing until its flag is set.
    fn wait_for_flag(flag: &Flag) {
        while !flag.load(Ordering::Relaxed) {
            std::thread::yield_now();
        }
    }

    #[test]
    fn work_beyond_the_queue_is_refused_and_told_when_to_come_back() {
        runtime().block_on(async {
            let pool = Arc::new(Pool::new(LONG, &Jobs::new()));
            let running = pool.turn().await.unwrap();
            let second = Arc::clone(&pool);
            let waiting = tokio::spawn(async move { second.turn().await.map(drop) });
            while pool.present.available_permits() > 0 {
                tokio::task::yield_now().await;
            }
            let refused = pool.turn().await.map(drop).unwrap_err();
            assert_eq!(refused.status(), axum::http::StatusCode::TOO_MANY_REQUESTS);
            assert_eq!(refused.retry_after_s(), Some(7));
            drop(running);
            waiting.await.unwrap().unwrap();
            drop(pool.turn().await.unwrap());
        });
    }

    #[test]
    fn a_caller_has_half_of_the_queue_and_others_the_rest() {
        runtime().block_on(async {
            let size = Size {
                running: 2,
                waiting: 4,
                ..LONG
            };
            let pool = Arc::new(Pool::new(size, &Jobs::new()));
            let key = |name: &str| Some(Who::Key(name.to_owned()));
            let running = [
                on_behalf_of(key("a"), pool.turn()).await.unwrap(),
                on_behalf_of(key("a"), pool.turn()).await.unwrap(),
            ];
            let wait = |name: &str| {
                let pool = Arc::clone(&pool);
                let turn = async move { pool.turn().await.map(drop) };
                tokio::spawn(on_behalf_of(key(name), turn))
            };
            let waiting = [wait("a"), wait("a"), wait("b")];
            while pool.present.available_permits() > 1 {
                tokio::task::yield_now().await;
            }
            let refused = on_behalf_of(key("a"), pool.turn()).await.map(drop);
            let status = refused.unwrap_err().status();
            assert_eq!(status, axum::http::StatusCode::TOO_MANY_REQUESTS);
            // A caller without a limit may wait as others may.
            let local = Arc::clone(&pool);
            let local = tokio::spawn(async move { local.turn().await.map(drop) });
            while pool.present.available_permits() > 0 {
                tokio::task::yield_now().await;
            }
            drop(running);
            for turn in waiting.into_iter().chain([local]) {
                turn.await.unwrap().unwrap();
            }
            assert!(pool.callers.lock().unwrap().is_empty());
        });
    }

    #[test]
    fn work_is_told_that_its_client_went_away_and_keeps_its_place_until_it_ends() {
        runtime().block_on(async {
            let pool = Arc::new(Pool::new(LONG, &Jobs::new()));
            let (begun, has_begun) = mpsc::channel();
            let first = Arc::clone(&pool);
            let request = tokio::spawn(async move {
                let work = move |flag: &Flag| {
                    begun.send(()).unwrap();
                    wait_for_flag(flag);
                    Ok(())
                };
                first.run(work).await
            });
            tokio::task::spawn_blocking(move || has_begun.recv())
                .await
                .unwrap()
                .unwrap();
            assert_eq!(pool.places.available_permits(), 0);
            request.abort();
            // The place is free once the work has seen the flag.
            drop(pool.turn().await.unwrap());
        });
    }

    #[test]
    fn stopping_ends_the_work_under_way_and_lets_no_long_work_begin() {
        runtime().block_on(async {
            let jobs = Jobs::new();
            let pool = Pool::new(LONG, &jobs);
            let short = Pool::new(
                Size {
                    is_long: false,
                    ..LONG
                },
                &jobs,
            );
            let client = pool.turn().await.unwrap().detach(wait_for_flag);
            jobs.stop();
            jobs.idle().await;
            drop(client);
            let refused = pool.run(|_| Ok(())).await.unwrap_err();
            assert_eq!(
                refused.status(),
                axum::http::StatusCode::SERVICE_UNAVAILABLE
            );
            short.run(|_| Ok(())).await.unwrap();
        });
    }

    #[test]
    fn work_that_is_finished_without_its_client_does_not_hear_of_it() {
        runtime().block_on(async {
            let jobs = Jobs::new();
            let pool = Arc::new(Pool::new(LONG, &jobs));
            let (begun, has_begun) = mpsc::channel();
            let (go, may_go) = mpsc::channel::<()>();
            let (seen, outcome) = mpsc::channel();
            let first = Arc::clone(&pool);
            let request = tokio::spawn(async move {
                let work = move |flag: &Flag| {
                    begun.send(()).unwrap();
                    let _ = may_go.recv_timeout(Duration::from_secs(60));
                    seen.send(flag.load(Ordering::Relaxed)).unwrap();
                    Ok(())
                };
                first.finish(work).await
            });
            tokio::task::spawn_blocking(move || has_begun.recv())
                .await
                .unwrap()
                .unwrap();
            request.abort();
            assert!(request.await.unwrap_err().is_cancelled());
            go.send(()).unwrap();
            jobs.idle().await;
            assert!(!outcome.recv().unwrap());
        });
    }
}
