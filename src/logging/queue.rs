//! The bounded queue between the program, which must not block, and the writer, which may.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use tracing::level_filters::LevelFilter;
use tracing::span;
use tracing::{Dispatch, Event, Metadata, Subscriber, dispatcher, warn};

use super::record::Record;
use crate::sandbox::LogSandbox;

/// Stack size of the writer. Formatting needs little; a thread's usual 2 MiB would be charged where
/// memory is locked or not overcommitted.
const WRITER_STACK: usize = 128 * 1024;

/// The destination of the lines.
pub(super) struct Backend {
    dispatch: Dispatch,
    /// The time of the event being written, in microseconds since 1970, for a formatter that prints
    /// it.
    event_time: Arc<AtomicU64>,
}

impl Backend {
    /// Creates a backend that adds the timestamps itself.
    pub(super) fn new(dispatch: Dispatch) -> Self {
        Self { dispatch, event_time: Arc::default() }
    }

    /// Creates a backend that reads each event's time from `event_time`.
    pub(super) fn with_event_time(dispatch: Dispatch, event_time: Arc<AtomicU64>) -> Self {
        Self { dispatch, event_time }
    }

    fn set_event_time(&self, time: SystemTime) {
        let since_1970 = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.event_time.store(u64::try_from(since_1970.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

type OpenBackend = Box<dyn FnOnce() -> Backend + Send>;

enum Message {
    Line(Record),
    /// Wakes the writer, to report lost lines.
    Wake,
}

/// The state shared by both ends of the queue.
#[derive(Debug, Default)]
struct State {
    /// Lines put into the queue so far.
    queued: AtomicU64,
    /// Lines that were dropped because the queue was full and that are not reported yet.
    lost: AtomicU64,
    /// Lines handed to the backend so far.
    written: Mutex<u64>,
    advanced: Condvar,
}

impl State {
    fn written(&self) -> MutexGuard<'_, u64> {
        // A number is never half-written, even if the other thread panicked.
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn all_written(&self, written: u64) -> bool {
        written >= self.queued.load(Ordering::Acquire) && self.lost.load(Ordering::Acquire) == 0
    }
}

/// Returns both ends of a queue of at most `lines` lines: the subscriber that fills it, and the end
/// that empties it and `open`s the backend, both on the writer's thread.
pub(super) fn new(
    level: LevelFilter,
    lines: usize,
    open: impl FnOnce() -> Backend + Send + 'static,
) -> (QueueSubscriber, WriterHandle) {
    let (sender, receiver) = sync_channel(lines);
    let state = Arc::new(State::default());
    let writer = Writer { queue: receiver, state: Arc::clone(&state), open: Box::new(open) };
    let subscriber = QueueSubscriber { level, queue: sender.clone(), state: Arc::clone(&state) };
    (subscriber, WriterHandle { queue: sender, state, writer: Arc::new(Mutex::new(Some(writer))) })
}

/// The subscriber that the program logs to. It never blocks, and its only system call is the one
/// that wakes the writer. Spans are accepted and ignored: this program has none.
pub(super) struct QueueSubscriber {
    level: LevelFilter,
    queue: SyncSender<Message>,
    state: Arc<State>,
}

impl Subscriber for QueueSubscriber {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.level
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    fn event(&self, event: &Event<'_>) {
        let record = Record::capture(event, SystemTime::now());
        // Any failure is a lost line: a full queue, or a writer that has ended.
        let counter = match self.queue.try_send(Message::Line(record)) {
            Ok(()) => &self.state.queued,
            Err(_) => &self.state.lost,
        };
        counter.fetch_add(1, Ordering::Release);
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// The receiving end of the queue, as its owner holds it: it contains the writer until the writer
/// runs.
pub(super) struct WriterHandle {
    queue: SyncSender<Message>,
    state: Arc<State>,
    /// Taken by the thread itself, so that it stays here if the thread cannot be started.
    writer: Arc<Mutex<Option<Writer>>>,
}

impl WriterHandle {
    /// Starts the writer's thread, unless it was started already, and waits until it has engaged
    /// the `sandbox`.
    pub(super) fn start(&mut self, sandbox: Option<LogSandbox>) -> io::Result<()> {
        let slot = Arc::clone(&self.writer);
        if lock(&slot).is_none() {
            return Ok(());
        }
        let (engaged_sender, engaged_receiver) = sync_channel(1);
        thread::Builder::new().name("wontun-log".to_owned()).stack_size(WRITER_STACK).spawn(move || {
            let engaged = sandbox.as_ref().map_or(Ok(()), |sandbox| sandbox.engage().map(drop));
            // before the caller continues: it would start another thread, in its own sandbox
            let writer = if engaged.is_ok() { lock(&slot).take() } else { None };
            let _ = engaged_sender.send(engaged);
            if let Some(writer) = writer {
                writer.run(sandbox);
            }
        })?;
        engaged_receiver.recv().map_err(io::Error::other)?.map_err(io::Error::other)
    }

    /// Waits until all lines are written, at most `timeout`.
    pub(super) fn flush(&mut self, timeout: Duration) {
        let Some(deadline) = Instant::now().checked_add(timeout) else { return };
        // Uses a thread even if none was started: a write may block, and only a thread can be
        // abandoned.
        if self.start(None).is_err() {
            if let Some(writer) = lock(&self.writer).take() {
                writer.drain(deadline);
            }
            return;
        }
        if self.state.lost.load(Ordering::Acquire) != 0 {
            // A full queue needs no wake: the writer checks for lost lines when it has drained it.
            let _ = self.queue.try_send(Message::Wake);
        }
        let mut written = self.state.written();
        while !self.state.all_written(*written) {
            let remaining = deadline.saturating_duration_since(Instant::now());
            if remaining.is_zero() {
                return;
            }
            let waited = self.state.advanced.wait_timeout(written, remaining);
            written = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl fmt::Debug for WriterHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriterHandle").field("state", &self.state).finish_non_exhaustive()
    }
}

fn lock(writer: &Mutex<Option<Writer>>) -> MutexGuard<'_, Option<Writer>> {
    writer.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Writer {
    queue: Receiver<Message>,
    state: Arc<State>,
    open: OpenBackend,
}

impl Writer {
    /// Writes until all senders are gone. Sleeps while there is nothing to write.
    fn run(self, sandbox: Option<LogSandbox>) {
        let backend = (self.open)();
        if let Some(Err(error)) = sandbox.map(LogSandbox::restrict_further) {
            warn!(%error, "the sandbox of the log thread could not be tightened");
        }
        loop {
            let message = match self.queue.try_recv() {
                Ok(message) => message,
                Err(TryRecvError::Empty) => {
                    report_lost(&self.state, &backend);
                    let Ok(message) = self.queue.recv() else { return };
                    message
                }
                Err(TryRecvError::Disconnected) => return report_lost(&self.state, &backend),
            };
            write(&self.state, &backend, message);
        }
    }

    /// Writes the queued lines, until `deadline`.
    fn drain(self, deadline: Instant) {
        let backend = (self.open)();
        while Instant::now() < deadline {
            let Ok(message) = self.queue.try_recv() else { return report_lost(&self.state, &backend) };
            write(&self.state, &backend, message);
        }
    }
}

fn write(state: &State, backend: &Backend, message: Message) {
    if let Message::Line(record) = message {
        backend.set_event_time(record.time);
        record.replay(&backend.dispatch);
        *state.written() += 1;
        state.advanced.notify_all();
    }
}

/// Logs the number of lines that were lost. Directly to the backend: this line must not be lost
/// itself.
fn report_lost(state: &State, backend: &Backend) {
    let lost = state.lost.load(Ordering::Acquire);
    if lost == 0 {
        return;
    }
    backend.set_event_time(SystemTime::now());
    dispatcher::with_default(&backend.dispatch, || {
        warn!(lost, "{lost} log lines were lost: the reader of the log is too slow or stalled");
    });
    state.lost.fetch_sub(lost, Ordering::AcqRel);
    // Under the lock, because a waiter that has just checked would miss it.
    let written = state.written();
    state.advanced.notify_all();
    drop(written);
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
