//! Several machines at the same time.

use std::collections::VecDeque;
use std::sync::Mutex;

use crate::error::{Error, Result};

/// Machines that run at the same time: one emulates deterministically on one processor.
pub(crate) const PARALLEL: usize = 2;

/// Does the work of every index, a few at a time, and gives what came of it in the order of the indices. After an error nothing else
/// is begun.
///
/// # Errors
/// The first one of `work`.
pub(crate) fn each<T: Send>(
    indices: impl IntoIterator<Item = usize>,
    work: impl Fn(usize) -> Result<T> + Sync,
) -> Result<Vec<(usize, T)>> {
    let queue: Mutex<VecDeque<usize>> = Mutex::new(indices.into_iter().collect());
    let worker = || -> Result<Vec<(usize, T)>> {
        let mut finished = Vec::new();
        while let Some(index) = queue.lock().ok().and_then(|mut queue| queue.pop_front()) {
            let result = work(index);
            if result.is_err()
                && let Ok(mut queue) = queue.lock()
            {
                queue.clear();
            }
            finished.push((index, result?));
        }
        Ok(finished)
    };
    let mut all = std::thread::scope(|scope| -> Result<Vec<_>> {
        let workers: Vec<_> = (0..PARALLEL).map(|_| scope.spawn(worker)).collect();
        let mut all = Vec::new();
        for worker in workers {
            let result =
                worker.join().map_err(|_| Error::Host("running QEMU".into(), "a worker died".into()))?;
            all.extend(result?);
        }
        Ok(all)
    })?;
    all.sort_by_key(|(index, _)| *index);
    Ok(all)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;

    #[test]
    fn results_come_in_order() {
        let squares = each([3, 1, 2], |index| Ok(index * index)).unwrap();
        assert_eq!(squares, [(1, 1), (2, 4), (3, 9)]);
    }

    #[test]
    fn nothing_is_begun_after_an_error() {
        let begun = AtomicUsize::new(0);
        let result = each(0..100, |_| -> Result<()> {
            begun.fetch_add(1, Relaxed);
            Err(Error::interrupted())
        });
        assert!(result.is_err() && begun.load(Relaxed) <= PARALLEL);
    }
}
