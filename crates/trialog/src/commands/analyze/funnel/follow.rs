//! Follows each unit of a file through the steps of a funnel.

use std::collections::HashMap;

use anyhow::bail;
use trialog_model::cell::is_number;
use trialog_model::duration::Window;
use trialog_model::experiment::MAX_VARIANTS;
use trialog_model::funnel::FunnelDefinition;
use trialog_model::ids::Variant;
use trialog_model::murmur3::murmur3_x64_128;
use trialog_model::time::{Parts, TimeError, TimeUnit, UnixMicros};
use trialog_stats::{FunnelMatcher, FunnelSteps};

/// Events of the steps that are kept; they take 16 bytes each.
const MOST_EVENTS: usize = 20_000_000;
/// Units that are told apart; about 64 bytes each.
const MOST_UNITS: usize = 10_000_000;
/// Types of events that are remembered, to say what there is instead of a step.
const MOST_TYPES: usize = 1_000;

/// The events of the steps, and the units that they are of.
pub(super) struct Follower {
    steps: FunnelSteps,
    n_steps: usize,
    /// The code of the type of each step.
    codes: HashMap<String, u8>,
    types: Vec<String>,
    has_more_types: bool,
    variants: Vec<String>,
    /// Units by the fingerprints of their names.
    numbers: HashMap<u64, u32>,
    units: Vec<Unit>,
    events: Vec<Event>,
}

#[derive(Debug, Clone, Copy)]
struct Unit {
    /// When its first event was: its exposure.
    first: i64,
    /// None for a unit of several variants.
    variant: Option<u16>,
}

/// An event of a step's type, in the order in which they are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Event {
    unit: u32,
    time: i64,
    code: u8,
}

/// How many users got how far.
pub(super) struct Counted {
    pub(super) variants: Vec<String>,
    /// By variant.
    pub(super) users: Vec<u64>,
    /// By variant and step.
    pub(super) reached: Vec<Vec<u64>>,
    pub(super) n_crossovers: u64,
}

impl Follower {
    pub(super) fn new(funnel: &FunnelDefinition) -> anyhow::Result<Self> {
        let mut codes: HashMap<String, u8> = HashMap::new();
        let of_steps: Vec<u8> = (funnel.steps.iter())
            .map(|step| {
                let next = codes.len() as u8;
                *codes.entry(step.to_string()).or_insert(next)
            })
            .collect();
        let micros = |window: Window| window.micros().map(i64::unsigned_abs);
        let limits = funnel.limits.iter();
        let limits: Vec<Option<u64>> = limits.map(|limit| limit.and_then(micros)).collect();
        let window = micros(funnel.window).unwrap_or(u64::MAX);
        Ok(Self {
            steps: FunnelSteps::new(&of_steps, &limits, window)?,
            n_steps: funnel.steps.len(),
            codes,
            types: Vec::new(),
            has_more_types: false,
            variants: Vec::new(),
            numbers: HashMap::new(),
            units: Vec::new(),
            events: Vec::new(),
        })
    }

    /// The types of events of the file, at most a thousand of them.
    pub(super) fn types(&self) -> &[String] {
        &self.types
    }

    pub(super) fn has_more_types(&self) -> bool {
        self.has_more_types
    }

    /// Takes a row.
    pub(super) fn add(
        &mut self,
        unit: &str,
        variant: &str,
        event: &str,
        time: i64,
    ) -> anyhow::Result<()> {
        let variant = self.variant(variant)?;
        let unit = self.unit(unit, variant, time)?;
        if !self.types.iter().any(|known| known == event) {
            match self.types.len() < MOST_TYPES {
                true => self.types.push(event.to_owned()),
                false => self.has_more_types = true,
            }
        }
        let Some(code) = self.codes.get(event).copied() else {
            return Ok(());
        };
        if self.events.len() == MOST_EVENTS {
            bail!(
                "there are more than {MOST_EVENTS} events of the steps: import the file, and ask for `trialog funnel`"
            );
        }
        self.events.push(Event { unit, time, code });
        Ok(())
    }

    fn variant(&mut self, name: &str) -> anyhow::Result<u16> {
        if let Some(at) = self.variants.iter().position(|known| known == name) {
            return Ok(at as u16);
        }
        Variant::new(name).map_err(|error| anyhow::anyhow!("the variant `{name}` {error}"))?;
        if self.variants.len() == MAX_VARIANTS {
            bail!("there are more than {MAX_VARIANTS} variants: is it the right column?");
        }
        self.variants.push(name.to_owned());
        Ok(self.variants.len() as u16 - 1)
    }

    fn unit(&mut self, name: &str, variant: u16, time: i64) -> anyhow::Result<u32> {
        let (fingerprint, _) = murmur3_x64_128(name.as_bytes(), 0);
        if let Some(number) = self.numbers.get(&fingerprint) {
            let unit = &mut self.units[*number as usize];
            unit.first = unit.first.min(time);
            unit.variant = unit.variant.filter(|known| *known == variant);
            return Ok(*number);
        }
        if self.units.len() == MOST_UNITS {
            bail!(
                "there are more than {MOST_UNITS} units: import the file, and ask for `trialog funnel`"
            );
        }
        let number = self.units.len() as u32;
        self.numbers.insert(fingerprint, number);
        self.units.push(Unit {
            first: time,
            variant: Some(variant),
        });
        Ok(number)
    }

    /// Counts the units of each step. Events that are alike in all that is read count once.
    pub(super) fn finish(mut self) -> Counted {
        self.events.sort_unstable();
        self.events.dedup();
        let mut counted = Counted {
            users: vec![0; self.variants.len()],
            reached: vec![vec![0; self.n_steps]; self.variants.len()],
            variants: self.variants,
            n_crossovers: 0,
        };
        for unit in &self.units {
            match unit.variant {
                Some(variant) => counted.users[variant as usize] += 1,
                None => counted.n_crossovers += 1,
            }
        }
        let mut matcher = FunnelMatcher::new(self.steps);
        for events in self.events.chunk_by(|a, b| a.unit == b.unit) {
            let unit = self.units[events[0].unit as usize];
            let Some(variant) = unit.variant else {
                continue;
            };
            matcher.start(unit.first);
            for event in events {
                let pushed = matcher.push(event.code, event.time);
                debug_assert!(pushed.is_ok(), "the events of a unit are in order");
            }
            let depth = matcher.finish().len();
            let reached = &mut counted.reached[variant as usize][..depth];
            reached.iter_mut().for_each(|users| *users += 1);
        }
        counted
    }
}

/// Reads a time: epoch milliseconds, or a date and time, in UTC where it names no zone.
pub(super) fn time(text: &str) -> Result<i64, TimeError> {
    if is_number(text) {
        return Ok(UnixMicros::from_epoch(text, TimeUnit::Millis)?.0);
    }
    let parts = Parts::parse(text)?;
    Ok(parts.local - parts.offset_seconds.unwrap_or(0) * 1_000_000)
}

#[cfg(test)]
mod tests {
    use trialog_model::ids::EventType;

    use super::*;

    fn follower(steps: &[&str], limits: &[Option<&str>]) -> Follower {
        let steps = steps.iter().map(|step| EventType::new(*step).unwrap());
        let limits = limits
            .iter()
            .map(|limit| limit.map(|limit| Window::parse(limit).unwrap()));
        let funnel = FunnelDefinition::new(steps.collect(), Window::UNBOUNDED, limits.collect());
        Follower::new(&funnel).unwrap()
    }

    #[test]
    fn rows_in_any_order_are_followed_by_their_times() {
        let mut follower = follower(&["view", "add", "add"], &[None, Some("1h"), None]);
        for (unit, variant, event, at) in [
            ("1", "a", "add", "2024-01-01 10:30:00"),
            ("1", "a", "add", "2024-01-01 10:30:00"),
            ("1", "a", "view", "2024-01-01 10:00:00"),
            ("2", "b", "view", "2024-01-01T10:00:00Z"),
            ("2", "b", "add", "2024-01-01T12:00:00+01:30"),
            ("2", "b", "add", "2024-01-02T12:00:00Z"),
            ("3", "a", "view", "1704103200000"),
            ("3", "b", "view", "1704103200000"),
            ("4", "b", "home", "1704103200000"),
        ] {
            follower
                .add(unit, variant, event, time(at).unwrap())
                .unwrap();
        }
        assert_eq!(follower.types(), ["add", "view", "home"]);
        let counted = follower.finish();
        assert_eq!(counted.variants, ["a", "b"]);
        assert_eq!((counted.users, counted.n_crossovers), (vec![1, 2], 1));
        // A row that is there twice counts once; so there is no second `add`.
        assert_eq!(counted.reached, [[1, 1, 0], [1, 1, 1]]);
    }

    #[test]
    fn a_time_that_cannot_be_read_is_an_error() {
        assert!(time("yesterday").is_err() && time("2024-13-01").is_err());
    }
}
