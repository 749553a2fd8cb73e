//! Summarises how long users took to each step of a funnel.

use std::collections::BTreeMap;

use trialog_model::duration::Window;
use trialog_report::funnel_times;
use trialog_stats::{Alpha, StatsError, StepTimes, StepTimesScan, StepUserCounts};
use trialog_warehouse::WarehouseError;
use trialog_warehouse::analysis::funnel::{Funnel, StepEvent};
use trialog_warehouse::fold::{Folded, Plan};

/// Returns for each variant how long its users took to each step; `None` if the times were not
/// kept.
pub(super) fn step_times(
    plan: &Plan,
    folded: Folded<Funnel>,
    n_steps: usize,
    (window, alpha): (Window, Alpha),
) -> Result<Option<BTreeMap<String, Vec<StepTimes>>>, WarehouseError> {
    let n_users = folded.users;
    let Some(times) = folded.accumulator.into_times() else {
        return Ok(None);
    };
    let points: Vec<f64> = (funnel_times(window).iter())
        .filter_map(|time| time.micros())
        .map(|micros| seconds(micros.unsigned_abs()))
        .collect();
    let mut scans = Vec::with_capacity(n_users.len() * n_steps);
    for (slot, users) in n_users.iter().enumerate() {
        for mature_reached in times.mature_reached(slot) {
            let counts = StepUserCounts {
                users: *users,
                mature: times.mature(slot),
                mature_reached: *mature_reached,
            };
            // The counts of a fold fit each other.
            scans.extend(StepTimesScan::new(counts, &points, alpha));
        }
    }
    times.drain(|slot, micros, event| {
        let scans = &mut scans[slot * n_steps..][..n_steps];
        let taken = take(scans, seconds(micros), event);
        debug_assert!(taken.is_ok(), "times come in order, and one for each user");
        Ok::<(), WarehouseError>(())
    })?;
    let found: Vec<StepTimes> = scans.into_iter().map(StepTimesScan::finish).collect();
    // Without cells the slot of a variant is its code.
    let by_variant = plan.variants.texts().iter().zip(found.chunks(n_steps));
    let by_variant = by_variant.map(|(variant, steps)| (variant.clone(), steps.to_vec()));
    Ok(Some(by_variant.collect()))
}

fn take(scans: &mut [StepTimesScan], time: f64, event: StepEvent) -> Result<(), StatsError> {
    match event {
        StepEvent::Reached { step, is_mature } => scans[step].reach(time, is_mature),
        StepEvent::Ended { step } => {
            (scans[step..].iter_mut()).try_for_each(|scan| scan.censor(time))
        }
    }
}

fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}
