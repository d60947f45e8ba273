//! Threads for work that waits for the disk: reads that miss the cache, scans, jobs of shards.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use tinykv_lsm::Changes;
use tokio::sync::{Semaphore, oneshot};

use crate::failure::Failure;
use crate::spawn::Threads;

/// Pieces of work that askers (not shards) may have waiting or running; the next one waits
/// outside, without a thread.
const ASKED_MAX: usize = 1024;

/// Jobs in the queue above which hints are dropped.
const HINTS_MAX: usize = 64;

type Job = Box<dyn FnOnce() + Send>;
type PatientJob = Box<dyn FnMut() -> Turn + Send>;

/// What a turn of a patient job came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// The job is over.
    Done,
    /// Something it needs is not to be had; it takes another turn later, and no thread meanwhile.
    Again,
}

/// A capped pool. Cheap to clone.
#[derive(Clone)]
pub struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
    asked: Semaphore,
    /// Told when a job asks for another turn.
    changes: Changes,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    /// What waits for its next turn. A group has one such job at a time.
    patient: Vec<PatientJob>,
    closed: bool,
}

/// The pool is closed: the process goes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolClosed;

impl Pool {
    /// A pool of so many threads, which end with the node. Who waits for `changes` hears of jobs that
    /// want another turn.
    ///
    /// # Errors
    /// [`Failure::Other`] when a thread cannot be started.
    pub fn start(threads: &Threads, count: usize, changes: Changes) -> Result<Pool, Failure> {
        let pool = Pool {
            shared: Arc::new(Shared {
                queue: Mutex::default(),
                wake: Condvar::new(),
                asked: Semaphore::new(ASKED_MAX),
                changes,
            }),
        };
        for number in 0..count.max(1) {
            let pool = pool.clone();
            threads.spawn(format!("pool-{number}"), move || pool.work())?;
        }
        Ok(pool)
    }

    /// Runs `work` on a thread of the pool and waits for it.
    ///
    /// # Errors
    /// When the pool is closed before the work was done.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PoolClosed> {
        let permit = self.shared.asked.acquire().await.map_err(|_| PoolClosed)?;
        let (answer, receiver) = oneshot::channel();
        self.push(Box::new(move || {
            // The asker may have stopped waiting; then nobody needs the result.
            let _unwanted = answer.send(work());
        }));
        let result = receiver.await.map_err(|_| PoolClosed);
        drop(permit);
        result
    }

    /// Queues a job of a shard. A group has one of each kind at a time, which is their bound.
    /// After the end of the pool the job is dropped.
    pub(crate) fn push(&self, job: Job) {
        let mut queue = self.shared.queue.lock();
        if queue.closed {
            return;
        }
        queue.jobs.push_back(job);
        drop(queue);
        self.shared.wake.notify_one();
    }

    /// Queues a job that may need several turns; see [`Pool::again`].
    pub(crate) fn push_patient(&self, mut job: PatientJob) {
        let pool = self.clone();
        self.push(Box::new(move || match job() {
            Turn::Done => {}
            Turn::Again => pool.set_aside(job),
        }));
    }

    /// Gives every job that asked for it its next turn. To be called now and then.
    pub(crate) fn again(&self) {
        let patient = std::mem::take(&mut self.shared.queue.lock().patient);
        for job in patient {
            self.push_patient(job);
        }
    }

    fn set_aside(&self, job: PatientJob) {
        let mut queue = self.shared.queue.lock();
        if !queue.closed {
            queue.patient.push(job);
        }
        drop(queue);
        self.shared.changes.note();
    }

    /// Whether a job asked for another turn.
    pub(crate) fn has_patient_jobs(&self) -> bool {
        !self.shared.queue.lock().patient.is_empty()
    }

    /// Queues a job that may as well not be done; it is not when there is much to do.
    pub(crate) fn push_hint(&self, job: Job) {
        if self.shared.queue.lock().jobs.len() < HINTS_MAX {
            self.push(job);
        }
    }

    /// Lets the threads finish what they are doing and end; what waits is dropped.
    pub(crate) fn close(&self) {
        self.shared.asked.close();
        let mut queue = self.shared.queue.lock();
        queue.closed = true;
        let dropped = (
            std::mem::take(&mut queue.jobs),
            std::mem::take(&mut queue.patient),
        );
        drop(queue);
        self.shared.wake.notify_all();
        drop(dropped);
    }

    fn work(&self) {
        loop {
            let mut queue = self.shared.queue.lock();
            let job = loop {
                if let Some(job) = queue.jobs.pop_front() {
                    break job;
                }
                if queue.closed {
                    return;
                }
                self.shared.wake.wait(&mut queue);
            };
            drop(queue);
            job();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::spawn::Fatal;

    fn pool(count: usize) -> (Threads, Pool) {
        let fatal = Fatal::new(|failure| panic!("{failure}"));
        let threads = Threads::new(fatal);
        let pool = Pool::start(&threads, count, Changes::default()).expect("threads");
        (threads, pool)
    }

    #[tokio::test]
    async fn work_is_done_and_everybody_hears_of_the_end() {
        let (threads, pool) = pool(2);
        assert_eq!(pool.run(|| 6 * 7).await, Ok(42));
        pool.close();
        assert_eq!(pool.run(|| 6 * 7).await, Err(PoolClosed));
        tokio::task::spawn_blocking(move || threads.join())
            .await
            .expect("joined");
    }

    #[tokio::test]
    async fn a_patient_job_holds_no_thread_between_its_turns() {
        let (threads, pool) = pool(1);
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let mut turns = 0;
        pool.push_patient(Box::new(move || {
            turns += 1;
            tell.send(turns).expect("the test listens");
            match turns {
                1 | 2 => Turn::Again,
                _ => Turn::Done,
            }
        }));
        for turn in 1..=3 {
            // The only thread is free again after each turn.
            assert_eq!(pool.run(|| "free").await, Ok("free"));
            assert_eq!(told.try_recv(), Ok(turn));
            pool.again();
        }
        assert_eq!(pool.run(|| "free").await, Ok("free"));
        assert_eq!(told.recv().await, None, "it was done");
        pool.close();
        tokio::task::spawn_blocking(move || threads.join())
            .await
            .expect("joined");
    }

    #[tokio::test]
    async fn what_waits_at_the_end_is_dropped_and_its_asker_told() {
        let (threads, pool) = pool(1);
        let (begin, begun) = oneshot::channel();
        let (release, held) = std::sync::mpsc::channel::<()>();
        pool.push(Box::new(move || {
            begin.send(()).expect("the test waits");
            held.recv().expect("the test lets go");
        }));
        begun.await.expect("it runs");
        let waiting = pool.run(|| ());
        let closing = async {
            pool.close();
            release.send(()).expect("it runs");
        };
        let both = async { tokio::join!(biased; waiting, closing) };
        let (outcome, ()) = tokio::time::timeout(Duration::from_secs(10), both)
            .await
            .expect("in time");
        assert_eq!(outcome, Err(PoolClosed));
        tokio::task::spawn_blocking(move || threads.join())
            .await
            .expect("joined");
    }
}
