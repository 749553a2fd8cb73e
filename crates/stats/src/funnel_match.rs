//! How far a user gets through ordered steps.
//!
//! A *chain* of length k is k distinct events of the types of steps 1 to k whose times do
//! not fall, each within its limit since the step before. It suffices to keep, for each
//! k, the latest time at which a chain of length k may have ended: a later predecessor
//! never hurts. The first event that fits, which is enough without limits, misses chains
//! where there are limits: of a at 0, b at 1 and 10 and c at 12, with c within 5 of b, it
//! takes the b at 1.

use crate::StatsError;

/// How many steps a funnel may have.
///
/// ```
/// use trialog_stats::{FunnelSteps, MAX_FUNNEL_STEPS};
/// assert!(FunnelSteps::new(&[0; MAX_FUNNEL_STEPS], &[], 1).is_ok());
/// assert!(FunnelSteps::new(&[0; MAX_FUNNEL_STEPS + 1], &[], 1).is_err());
/// ```
pub const MAX_FUNNEL_STEPS: usize = 20;

/// No limit: times since the exposure are below the window, so no difference reaches it.
const UNLIMITED: u64 = u64::MAX;

/// Describes a funnel: the event types of its steps, their limits and the window.
///
/// Event types are codes that the caller gives them, from 0 to 19; a type that occurs in
/// several steps has one code. Times, limits and the window have one unit, which is the
/// caller's, such as microseconds.
///
/// ```
/// use trialog_stats::FunnelSteps;
/// const HOUR: u64 = 3_600;
/// // View, add within the window, purchase within an hour of the add.
/// let steps = FunnelSteps::new(&[0, 1, 2], &[None, None, Some(HOUR)], 7 * 24 * HOUR)?;
/// assert_eq!(steps.len(), 3);
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FunnelSteps {
    n_steps: usize,
    codes: [u8; MAX_FUNNEL_STEPS],
    limits: [u64; MAX_FUNNEL_STEPS],
    window: u64,
    /// The steps of each code, as bits.
    steps_of: [u32; MAX_FUNNEL_STEPS],
    /// The steps after which the next one has a limit, as bits.
    limits_next: u32,
}

impl FunnelSteps {
    /// Returns the funnel with these types of steps, in order, and the `window` since the
    /// exposure within which an event counts, its end excluded.
    ///
    /// `limits` is empty, or has for each step how long after the step before it may
    /// come, the end excluded; for the first step, after the exposure.
    ///
    /// # Errors
    ///
    /// [`StatsError::List`] unless there are 1 to 20 steps, codes below 20, and no limits
    /// or as many as steps; [`StatsError::Range`] for a window or a limit of 0.
    ///
    /// ```
    /// use trialog_stats::FunnelSteps;
    /// assert!(FunnelSteps::new(&[0, 1, 0], &[None, Some(5), Some(5)], 100).is_ok());
    /// assert!(FunnelSteps::new(&[], &[], 100).is_err());
    /// assert!(FunnelSteps::new(&[0, 1], &[None, Some(0)], 100).is_err());
    /// ```
    pub fn new(types: &[u8], limits: &[Option<u64>], window: u64) -> Result<Self, StatsError> {
        let refused = |argument, rule| Err(StatsError::List { argument, rule });
        if types.is_empty() || types.len() > MAX_FUNNEL_STEPS {
            return refused("steps", "must be 1 to 20");
        }
        if types
            .iter()
            .any(|code| usize::from(*code) >= MAX_FUNNEL_STEPS)
        {
            return refused("steps", "must have codes below 20");
        }
        if !limits.is_empty() && limits.len() != types.len() {
            return refused("gaps", "must have an entry for each step");
        }
        let given = limits.iter().copied().flatten();
        let durations = given
            .map(|limit| ("gaps", limit))
            .chain([("window", window)]);
        for (argument, duration) in durations {
            if duration == 0 {
                return Err(StatsError::Range {
                    argument,
                    range: "at least 1",
                    value: 0.0,
                });
            }
        }
        let mut steps = Self {
            n_steps: types.len(),
            codes: [0; MAX_FUNNEL_STEPS],
            limits: [UNLIMITED; MAX_FUNNEL_STEPS],
            window,
            steps_of: [0; MAX_FUNNEL_STEPS],
            limits_next: 0,
        };
        for (step, code) in types.iter().enumerate() {
            steps.codes[step] = *code;
            steps.steps_of[usize::from(*code)] |= 1 << step;
        }
        for (step, limit) in limits.iter().enumerate() {
            if let Some(limit) = limit {
                steps.limits[step] = *limit;
                steps.limits_next |= (1 << step) >> 1;
            }
        }
        Ok(steps)
    }

    /// Returns how many steps there are, 1 to 20.
    ///
    /// ```
    /// use trialog_stats::FunnelSteps;
    /// assert_eq!(FunnelSteps::new(&[4, 4], &[], 1)?.len(), 2);
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "there is at least one step")]
    pub const fn len(&self) -> usize {
        self.n_steps
    }
}

/// Finds how far one user after the other gets through a funnel.
///
/// Takes the events of a user in the order of their times, keeps none of them and
/// allocates nothing: memory and the time for an event depend on the number of steps
/// alone. [`start`](Self::start) begins with the next user.
///
/// ```
/// use trialog_stats::{FunnelMatcher, FunnelSteps};
/// let mut matcher = FunnelMatcher::new(FunnelSteps::new(&[0, 1, 2], &[None, None, Some(5)], 100)?);
/// for (exposure, events) in [
///     (0, [(0, 0), (1, 1), (1, 10), (2, 12)]),
///     (50, [(0, 49), (1, 60), (0, 60), (2, 65)]),
/// ] {
///     matcher.start(exposure);
///     for (code, time) in events {
///         matcher.push(code, time)?;
///     }
///     let times = matcher.finish();
///     assert_eq!(times, if exposure == 0 { &[0, 1, 12][..] } else { &[10, 10] });
/// }
/// # Ok::<(), trialog_stats::StatsError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunnelMatcher {
    steps: FunnelSteps,
    exposure: i64,
    depth: usize,
    /// The earliest end of a chain of each length from 1, since the exposure.
    earliest: [u64; MAX_FUNNEL_STEPS],
    /// The latest end of a chain of each length from 0, the exposure itself, as far as a
    /// limit asks for it.
    latest: [u64; MAX_FUNNEL_STEPS + 1],
    /// The events at the last time, which count together.
    now: Moment,
}

/// The events at one time: how many there are of each code.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Moment {
    /// Since the exposure.
    time: u64,
    n_events: u8,
    /// The steps that they may serve, as bits.
    steps: u32,
    /// Counted up to 255, which exceeds the number of steps.
    counts: [u8; MAX_FUNNEL_STEPS],
}

impl Moment {
    const START: Self = Self {
        time: 0,
        n_events: 0,
        steps: 0,
        counts: [0; MAX_FUNNEL_STEPS],
    };
}

impl FunnelMatcher {
    /// Returns a matcher whose first user was exposed at 0.
    ///
    /// ```
    /// use trialog_stats::{FunnelMatcher, FunnelSteps};
    /// let mut matcher = FunnelMatcher::new(FunnelSteps::new(&[0, 1], &[], 10)?);
    /// assert!(matcher.finish().is_empty());
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    #[must_use]
    pub const fn new(steps: FunnelSteps) -> Self {
        Self {
            steps,
            exposure: 0,
            depth: 0,
            earliest: [0; MAX_FUNNEL_STEPS],
            latest: [0; MAX_FUNNEL_STEPS + 1],
            now: Moment::START,
        }
    }

    /// Begins with a user who was exposed at `exposure`, and forgets the one before.
    ///
    /// ```
    /// use trialog_stats::{FunnelMatcher, FunnelSteps};
    /// let mut matcher = FunnelMatcher::new(FunnelSteps::new(&[0, 1], &[], 10)?);
    /// matcher.push(0, 3)?;
    /// matcher.start(20);
    /// assert!(matcher.finish().is_empty());
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    pub const fn start(&mut self, exposure: i64) {
        self.exposure = exposure;
        self.depth = 0;
        self.now = Moment::START;
    }

    /// Takes an event of the type `code` at `time`.
    ///
    /// Events before the exposure, after the window, or of a type that no step has do not
    /// count. Copies of one event have to be removed before.
    ///
    /// # Errors
    ///
    /// [`StatsError::List`] for an event that counts and is before the last one that did;
    /// it is left out.
    ///
    /// ```
    /// use trialog_stats::{FunnelMatcher, FunnelSteps};
    /// let mut matcher = FunnelMatcher::new(FunnelSteps::new(&[0, 1], &[], 10)?);
    /// matcher.push(1, 3)?;
    /// matcher.push(0, 3)?;
    /// assert!(matcher.push(1, 2).is_err());
    /// assert_eq!(matcher.finish(), [3, 3]);
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    #[inline]
    pub fn push(&mut self, code: u8, time: i64) -> Result<(), StatsError> {
        let elapsed = time.abs_diff(self.exposure);
        let steps = self.steps.steps_of.get(usize::from(code));
        let steps = steps.copied().unwrap_or_default();
        let is_within = time >= self.exposure && elapsed < self.steps.window;
        if steps == 0 || !is_within || self.is_complete() {
            return Ok(());
        }
        if elapsed != self.now.time {
            if elapsed < self.now.time {
                return Err(StatsError::List {
                    argument: "events",
                    rule: "must come in the order of their times",
                });
            }
            self.advance();
            self.now.time = elapsed;
        }
        self.now.n_events = self.now.n_events.saturating_add(1);
        self.now.steps |= steps;
        let count = &mut self.now.counts[usize::from(code)];
        *count = count.saturating_add(1);
        Ok(())
    }

    /// Returns whether the user has reached the last step, so that further events make no
    /// difference; events at the last time count only once [`finish`](Self::finish) or a
    /// later event has taken them in.
    ///
    /// ```
    /// use trialog_stats::{FunnelMatcher, FunnelSteps};
    /// let mut matcher = FunnelMatcher::new(FunnelSteps::new(&[0], &[], 10)?);
    /// matcher.push(0, 3)?;
    /// matcher.push(0, 4)?;
    /// assert!(matcher.is_complete());
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.depth == self.steps.n_steps
    }

    /// Returns for each step that was reached the earliest time at which it was, since the
    /// exposure; their number is the depth.
    ///
    /// ```
    /// use trialog_stats::{FunnelMatcher, FunnelSteps};
    /// // One event serves one step.
    /// let mut matcher = FunnelMatcher::new(FunnelSteps::new(&[0, 0, 0], &[], 10)?);
    /// matcher.start(100);
    /// matcher.push(0, 101)?;
    /// matcher.push(0, 104)?;
    /// assert_eq!(matcher.finish(), [1, 4]);
    /// # Ok::<(), trialog_stats::StatsError>(())
    /// ```
    pub fn finish(&mut self) -> &[u64] {
        self.advance();
        &self.earliest[..self.depth]
    }

    /// Takes in the events at the last time.
    #[inline]
    fn advance(&mut self) {
        let next = 1_u32 << self.depth;
        // How late a step was reached makes a difference where the next one has a limit.
        let useful = self.now.steps & (next | (self.steps.limits_next & (next - 1)));
        match self.now.n_events {
            _ if useful == 0 => {}
            1 => self.advance_by_one(useful),
            _ => self.advance_by_many(),
        }
        self.now.n_events = 0;
        self.now.steps = 0;
        self.now.counts = [0; MAX_FUNNEL_STEPS];
    }

    /// From the last of `steps` to the first, so that the event serves one of them in a
    /// chain.
    #[inline]
    fn advance_by_one(&mut self, mut steps: u32) {
        while steps != 0 {
            let step = steps.ilog2() as usize;
            steps ^= 1 << step;
            if self.keeps_limit(step) {
                self.reach(step);
            }
        }
    }

    /// A step is reached if, from some step on whose predecessor was reached before this
    /// time, all steps up to it have an event of their own at this time.
    fn advance_by_many(&mut self) {
        // Without limits no step but the next and those after it matter.
        let first = if self.steps.limits_next == 0 {
            self.depth
        } else {
            0
        };
        let begins = (first..=self.depth)
            .filter(|step| self.keeps_limit(*step))
            .fold(0_u32, |bits, step| bits | (1 << step));
        // The steps `from..=step` are the longest run with events of their own.
        let mut taken = [0_u8; MAX_FUNNEL_STEPS];
        let mut from = first;
        for step in first..self.steps.n_steps {
            let code = usize::from(self.steps.codes[step]);
            taken[code] += 1;
            while taken[code] > self.now.counts[code] {
                taken[usize::from(self.steps.codes[from])] -= 1;
                from += 1;
            }
            let run = (2_u32 << step) - (1 << from);
            if begins & run != 0 {
                self.reach(step);
            } else if step >= self.depth {
                break;
            }
        }
    }

    /// Whether an event now is early enough after the end of a chain up to `step`.
    #[inline]
    fn keeps_limit(&self, step: usize) -> bool {
        self.now.time - self.latest[step] < self.steps.limits[step]
    }

    #[inline]
    fn reach(&mut self, step: usize) {
        self.latest[step + 1] = self.now.time;
        if step == self.depth {
            self.earliest[step] = self.now.time;
            self.depth += 1;
        }
    }
}
