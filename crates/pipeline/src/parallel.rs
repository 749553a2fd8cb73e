//! Spreads independent work over threads.

use std::panic::resume_unwind;
use std::thread;

/// Calls `work` with each number below `n` on up to `n_threads` threads, and returns the answers in
/// the order of the numbers.
pub(crate) fn in_parallel<R: Send>(
    n: usize,
    n_threads: usize,
    work: impl Fn(usize) -> R + Sync,
) -> Vec<R> {
    let length = n.div_ceil(n_threads.max(1)).max(1);
    let part = |start: usize| {
        (start..n.min(start + length))
            .map(&work)
            .collect::<Vec<R>>()
    };
    let part = &part;
    thread::scope(|scope| {
        // This thread does the first part.
        let starts = (length..n).step_by(length);
        let others: Vec<_> = starts
            .map(|start| scope.spawn(move || part(start)))
            .collect();
        let mut answers = part(0);
        for other in others {
            match other.join() {
                Ok(part) => answers.extend(part),
                Err(panic) => resume_unwind(panic),
            }
        }
        answers
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_in_order_whatever_the_number_of_threads() {
        for n in [0, 1, 2, 7, 100] {
            for n_threads in [0, 1, 2, 3, 8, 200] {
                let squares = in_parallel(n, n_threads, |number| number * number);
                let expected: Vec<usize> = (0..n).map(|number| number * number).collect();
                assert_eq!(squares, expected, "{n} numbers on {n_threads} threads");
            }
        }
    }
}
