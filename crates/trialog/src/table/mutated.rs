//! Tests files whose bytes were changed at random: each is read, or rejected with a message.

use std::fs;

use super::Options;
use super::cut::{delimited, feather, gzip, ndjson, parquet, read, zstd};

/// The number of changes to each format; `MUTATIONS` in the environment sets another one.
const N_MUTATIONS: u64 = 300;
const OPTIONS: Options = Options {
    separator: None,
    encoding: None,
    is_strict: false,
};

/// Changes some bytes, removes some, or repeats some.
fn mutated(bytes: &[u8], random: &mut fastrand::Rng) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    for _ in 0..random.usize(1..=4) {
        let at = random.usize(0..changed.len());
        match random.u8(0..8) {
            0 => changed[at] = random.u8(..),
            1 => changed[at] = random.choice([0, 1, 0x7f, 0x80, 0xff]).unwrap(),
            2 => changed[at] ^= 1 << random.u8(0..8),
            3 => {
                // Lengths and offsets are numbers of four or eight bytes.
                let number = random
                    .choice([0u64, 1, u64::MAX, 1 << 31, 1 << 40])
                    .unwrap();
                let end = (at + 8).min(changed.len());
                changed[at..end].copy_from_slice(&number.to_le_bytes()[..end - at]);
            }
            4 => changed.truncate(at.max(1)),
            5 => drop(changed.remove(at)),
            6 => changed.insert(at, random.u8(..)),
            _ => {
                let end = (at + random.usize(1..64)).min(changed.len());
                let piece = changed[at..end].to_vec();
                changed.splice(at..at, piece);
            }
        }
        if changed.is_empty() {
            changed.push(0);
        }
    }
    changed
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "who looks for more gives another seed and number"
)]
fn no_change_of_a_file_ends_the_command_without_a_message() {
    let seed = std::env::var("SEED")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(7);
    let n_mutations = (std::env::var("MUTATIONS").ok())
        .and_then(|text| text.parse().ok())
        .unwrap_or(N_MUTATIONS);
    println!("SEED={seed} MUTATIONS={n_mutations}");
    let mut random = fastrand::Rng::with_seed(seed);
    let csv = delimited(',', "\n").into_bytes();
    let forms = [
        ("parquet", parquet()),
        ("feather", feather()),
        ("csv.gz", gzip(&csv)),
        ("csv.zst", zstd(&csv)),
        ("ndjson", ndjson().into_bytes()),
        ("csv", csv),
    ];
    let directory = tempfile::tempdir().unwrap();
    for (ending, bytes) in &forms {
        let path = directory.path().join(format!("table.{ending}"));
        let mut n_refused = 0;
        for n in 0..n_mutations {
            fs::write(&path, mutated(bytes, &mut random)).unwrap();
            if let (_, Err(said)) = read(&path, OPTIONS) {
                n_refused += 1;
                // A header that lost a name is found before the rows are read.
                let names_it = said.contains("table.") || said.starts_with("there is no column");
                assert!(names_it, "{ending} {n}: {said}");
            }
        }
        println!("{ending}: {n_refused} of {n_mutations} were refused");
        assert!(n_refused > 0 || *ending == "csv", "{ending}");
    }
}
