use std::error::Error;
use std::sync::mpsc;

use tracing::field::{Field, Visit};
use tracing::{debug, error, info, subscriber};

use super::*;

/// Records every value with the name of the method that delivered it.
#[derive(Clone, Default)]
struct Capturing(Arc<Mutex<Vec<String>>>);

impl Capturing {
    fn events(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    fn backend(&self) -> impl FnOnce() -> Backend + Send + 'static {
        let this = self.clone();
        move || Backend::new(Dispatch::new(this))
    }
}

struct Typed(String);

impl Typed {
    fn put(&mut self, field: &Field, kind: &str, value: impl fmt::Display) {
        let separator = if self.0.is_empty() { "" } else { " " };
        self.0.push_str(&format!("{separator}{}:{kind}:{value}", field.name()));
    }
}

impl Visit for Typed {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, "f64", value);
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, "i64", value);
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, "u64", value);
    }
    fn record_i128(&mut self, field: &Field, value: i128) {
        self.put(field, "i128", value);
    }
    fn record_u128(&mut self, field: &Field, value: u128) {
        self.put(field, "u128", value);
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, "bool", value);
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, "str", value);
    }
    fn record_bytes(&mut self, field: &Field, value: &[u8]) {
        self.put(field, "bytes", format!("{value:?}"));
    }
    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        let source = value.source().map(ToString::to_string);
        self.put(field, "error", format!("{value}|{value:?}|{source:?}"));
    }
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, "debug", format!("{value:?}"));
    }
}

impl Subscriber for Capturing {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn event(&self, event: &Event<'_>) {
        let mut typed = Typed(String::new());
        event.record(&mut typed);
        self.0.lock().unwrap().push(format!("{} {}", event.metadata().level(), typed.0));
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

/// A backend that signals each event and then waits for permission to continue.
struct Stalling {
    arrived: mpsc::SyncSender<()>,
    pass: Mutex<mpsc::Receiver<()>>,
    then: Capturing,
}

impl Subscriber for Stalling {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn event(&self, event: &Event<'_>) {
        let _ = self.arrived.send(());
        // An error means that the test ended: everything may pass.
        let _ = self.pass.lock().unwrap().recv();
        self.then.event(event);
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

struct Stall {
    capturing: Capturing,
    arrived: mpsc::Receiver<()>,
    pass: mpsc::Sender<()>,
    subscriber: QueueSubscriber,
    writer: WriterHandle,
}

fn stalling(lines: usize) -> Stall {
    let capturing = Capturing::default();
    let (arrived_in, arrived) = sync_channel(1000);
    let (pass, pass_out) = mpsc::channel();
    let backend = Stalling { arrived: arrived_in, pass: Mutex::new(pass_out), then: capturing.clone() };
    let (subscriber, writer) =
        super::new(LevelFilter::TRACE, lines, move || Backend::new(Dispatch::new(backend)));
    Stall { capturing, arrived, pass, subscriber, writer }
}

const LONG: Duration = Duration::from_secs(20);

#[test]
fn every_type_of_value_arrives_unchanged() {
    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] std::num::ParseIntError);
    let outer = Outer("x".parse::<u8>().unwrap_err());

    let capturing = Capturing::default();
    let (subscriber, mut writer) = super::new(LevelFilter::TRACE, 16, capturing.backend());
    subscriber::with_default(subscriber, || {
        info!(text = "a \"b\"", shown = %"c d", debugged = ?Some("e"), "message {}", 1);
        debug!(small = -1_i64, big = u64::MAX, narrow = 7_u8, huge = i128::MIN, huger = u128::MAX);
        error!(
            yes = true,
            half = 0.5_f64,
            bytes = &[1_u8, 2][..],
            failure = &outer as &(dyn Error + 'static)
        );
        info!(there = Some(1_u64), absent = None::<u64>, empty = tracing::field::Empty, r#type = "raw");
        info!("");
    });
    writer.flush(LONG);
    let failure = "failure:error:outer|Outer(ParseIntError { kind: InvalidDigit })|\
                   Some(\"invalid digit found in string\")";
    assert_eq!(
        capturing.events(),
        [
            r#"INFO message:debug:message 1 text:str:a "b" shown:debug:c d debugged:debug:Some("e")"#
                .to_owned(),
            format!(
                "DEBUG small:i64:-1 big:u64:{} narrow:u64:7 huge:i128:{} huger:u128:{}",
                u64::MAX,
                i128::MIN,
                u128::MAX
            ),
            format!("ERROR yes:bool:true half:f64:0.5 bytes:bytes:[1, 2] {failure}"),
            "INFO there:u64:1 type:str:raw".to_owned(),
            "INFO message:debug:".to_owned(),
        ]
    );
}

/// A thread that is started later would have the sandbox of the whole process.
#[test]
fn a_writer_that_has_started_is_not_started_again() {
    for _ in 0..200 {
        let (_subscriber, mut writer) = super::new(LevelFilter::INFO, 4, Capturing::default().backend());
        writer.start(None).unwrap();
        assert!(lock(&writer.writer).is_none(), "a flush would start another thread");
    }
}

#[test]
fn lines_keep_their_order_before_and_after_the_writer_starts() {
    let capturing = Capturing::default();
    let (subscriber, mut writer) = super::new(LevelFilter::INFO, 1024, capturing.backend());
    subscriber::with_default(subscriber, || {
        for number in 0..500_u64 {
            info!(number);
        }
        assert!(capturing.events().is_empty(), "nobody writes yet");
        writer.start(None).unwrap();
        writer.start(None).unwrap();
        for number in 500..1000_u64 {
            info!(number);
        }
        debug!("filtered");
        writer.flush(LONG);
    });
    let expected: Vec<_> = (0..1000).map(|number| format!("INFO number:u64:{number}")).collect();
    assert_eq!(capturing.events(), expected);
}

#[test]
fn a_full_queue_counts_the_lost_and_never_blocks() {
    let Stall { capturing, arrived, pass, subscriber, mut writer } = stalling(4);
    writer.start(None).unwrap();
    let subscriber = Dispatch::new(subscriber);
    dispatcher::with_default(&subscriber, || {
        info!(number = 0_u64);
        // The writer holds the first line; the queue is empty.
        arrived.recv_timeout(LONG).unwrap();
        for number in 1..=100_u64 {
            info!(number);
        }
        for _ in 0..6 {
            pass.send(()).unwrap();
        }
        writer.flush(LONG);
        pass.send(()).unwrap();
        info!("afterwards");
        writer.flush(LONG);
    });
    let mut expected: Vec<_> = (0..5).map(|number| format!("INFO number:u64:{number}")).collect();
    let lost = "96 log lines were lost: the reader of the log is too slow or stalled";
    expected.push(format!("WARN message:debug:{lost} lost:u64:96"));
    expected.push("INFO message:debug:afterwards".to_owned());
    assert_eq!(capturing.events(), expected);
}

#[test]
fn lines_lost_before_the_writer_started_are_told() {
    let capturing = Capturing::default();
    let (subscriber, mut writer) = super::new(LevelFilter::INFO, 2, capturing.backend());
    subscriber::with_default(subscriber, || (0..5_u64).for_each(|number| info!(number)));
    writer.flush(LONG);
    let events = capturing.events();
    assert_eq!(events.len(), 3, "{events:?}");
    assert!(events[2].starts_with("WARN message:debug:3 log lines were lost"), "{events:?}");
}

#[test]
fn a_stalled_back_end_does_not_hold_flush_beyond_its_timeout() {
    for started in [true, false] {
        let Stall { capturing, arrived, pass, subscriber, mut writer } = stalling(4);
        if started {
            writer.start(None).unwrap();
        }
        subscriber::with_default(subscriber, || (0..10_u64).for_each(|number| info!(number)));
        let start = Instant::now();
        writer.flush(Duration::from_millis(50));
        let took = start.elapsed();
        assert!(took >= Duration::from_millis(50) && took < Duration::from_secs(10), "{took:?}");
        assert!(capturing.events().is_empty());
        drop(pass);
        drop(arrived);
    }
}

#[test]
fn nothing_to_write_needs_no_time() {
    let capturing = Capturing::default();
    let (subscriber, mut writer) = super::new(LevelFilter::OFF, 4, capturing.backend());
    subscriber::with_default(subscriber, || error!("off"));
    writer.flush(LONG);
    writer.flush(Duration::ZERO);
    assert!(capturing.events().is_empty());
}

#[test]
fn a_writer_that_the_kernel_refused_drains_in_place() {
    let capturing = Capturing::default();
    let (subscriber, writer) = super::new(LevelFilter::INFO, 4, capturing.backend());
    subscriber::with_default(subscriber, || (0..6_u64).for_each(|number| info!(number)));
    let writer = lock(&writer.writer).take().unwrap();
    writer.drain(Instant::now() + LONG);
    assert_eq!(capturing.events().len(), 5);
}
