//! Builds the bodies that the load sends, and a file of them for other engines.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::process::ExitCode;

use anyhow::Context;

use crate::cli::BodiesArgs;
use crate::clock;

/// Stands where the id of each event is written.
const ID: &str = "iiiiiiiiiiiiiiii";

/// Writes one body per line, those of the load's clients in turn.
pub(crate) fn run(args: &BodiesArgs) -> anyhow::Result<ExitCode> {
    let failed = || format!("cannot write `{}`", args.out.display());
    let mut bodies: Vec<Body> = (0..args.clients.get())
        .map(|client| Body::new(args.batch, client as u64))
        .collect();
    let mut file = BufWriter::new(File::create(&args.out).with_context(failed)?);
    let mut next_id = first_id();
    for number in 0..args.bodies {
        let body = &mut bodies[number % args.clients];
        body.renew(next_id);
        next_id += args.batch as u64;
        file.write_all(&body.bytes).with_context(failed)?;
        file.write_all(b"\n").with_context(failed)?;
    }
    file.flush().with_context(failed)?;
    println!(
        "{} bodies of {} events in `{}`",
        args.bodies,
        args.batch,
        args.out.display()
    );
    Ok(ExitCode::SUCCESS)
}

/// Returns an id from which on no earlier load has used ids.
pub(super) fn first_id() -> u64 {
    clock::now().0.unsigned_abs() << 8
}

/// A request body whose event ids can be renewed in place.
pub(super) struct Body {
    pub(super) bytes: Vec<u8>,
    ids: Vec<usize>,
}

impl Body {
    /// Builds the body of client number `seed`.
    pub(super) fn new(n_events: usize, seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let types = ["page_view", "click", "search", "add_to_cart", "purchase"];
        let now = clock::now();
        let events: Vec<String> = (0..n_events)
            .map(|_| {
                let event_type = types[random.usize(..types.len())];
                let value = if event_type == "purchase" { format!("{}.{:02}", random.u32(1..200), random.u32(..100)) } else { "1".to_owned() };
                let time = trialog_model::time::UnixMicros(now.0 - random.i64(0..600_000_000)).to_rfc3339();
                // Squared, so that a few experiments have most of the events.
                let experiment = (random.f64() * random.f64() * 1_000.0) as u32;
                format!(
                    r#"{{"user_id":{},"experiment_id":"exp_{experiment:04}","event_type":"{event_type}","value":{value},"timestamp":"{time}","event_id":"{ID}"}}"#,
                    random.i64(1..3_000_000)
                )
            })
            .collect();
        let text = format!("[{}]", events.join(","));
        let ids = text.match_indices(ID).map(|(at, _)| at).collect();
        Self {
            bytes: text.into_bytes(),
            ids,
        }
    }

    /// Sets the ids of the events to `first_id` and the following.
    pub(super) fn renew(&mut self, first_id: u64) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        for (id, &at) in (first_id..).zip(&self.ids) {
            for (digit, byte) in self.bytes[at..at + 16].iter_mut().enumerate() {
                *byte = DIGITS[(id >> (60 - 4 * digit)) as usize & 15];
            }
        }
    }
}
