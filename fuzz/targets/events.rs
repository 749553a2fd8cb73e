//! Bodies of `POST /v1/events/*`: no panic, and whatever is accepted keeps its bounds.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trialog_model::event::EventKind;
use trialog_model::time::UnixMicros;
use trialog_model::wire::{Layout, decode};

const NOW: UnixMicros = UnixMicros(1_780_000_000_000_000);
const DAY: i64 = 86_400_000_000;
/// 2000-01-01, the earliest time of an event.
const EARLIEST: i64 = 946_684_800_000_000;
/// 10^18 - 1: the largest DECIMAL(18,4) in units of 1/10,000.
const LARGEST: i64 = 999_999_999_999_999_999;

fuzz_target!(|input: &[u8]| {
    let Some((&choice, body)) = input.split_first() else {
        return;
    };
    let kind = EventKind::ALL[usize::from(choice & 1)];
    let layout = if choice & 2 == 0 {
        Layout::Detect
    } else {
        Layout::Lines
    };
    let mut last = None;
    let outcome = decode(kind, body, layout, NOW, |index, event| {
        assert!(last.is_none_or(|last| last < index), "indexes grow");
        last = Some(index);
        match event {
            Ok(event) => {
                assert!((1..=64).contains(&event.experiment_id.len()));
                assert!((1..=64).contains(&event.name.len()));
                assert!((EARLIEST..=NOW.0 + DAY).contains(&event.timestamp.0));
                assert!((-LARGEST..=LARGEST).contains(&event.value));
                assert!(event.context.is_none_or(|context| context.len() <= 4096));
            }
            Err(error) => assert!(!error.field.is_empty() && !error.reason.is_empty()),
        }
    });
    if let Err(error) = outcome {
        assert!(!error.to_string().is_empty());
    }
});
