//! Who listens: warnings go to stderr, and what the log wants goes there.

use std::{
    fmt::{self, Write as _},
    io::{self, Write as _},
    sync::atomic::Ordering,
};

use podwire_spec::brief;
use podwire_trace::field;
use tracing::{
    Event, Level, Metadata,
    field::{Field, Visit},
    level_filters::LevelFilter,
    span,
};

use super::{LOG, Sink};

/// Spans mean nothing to it: a call is one, and every line says so.
pub(super) struct Subscriber;

/// What is listened to.
fn level() -> LevelFilter {
    LOG.get().map_or(LevelFilter::WARN, |log| log.level.max(LevelFilter::WARN))
}

impl tracing::Subscriber for Subscriber {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= level()
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(level())
    }

    fn event(&self, event: &Event<'_>) {
        let mut said = Said::default();
        event.record(&mut said);
        let metadata = event.metadata();
        let level = *metadata.level();
        let log = LOG.get();
        if level <= Level::WARN && !log.is_some_and(|log| matches!(log.sink, Sink::Stderr)) {
            // Without a reader there is nobody left to tell, and that is no reason to panic.
            let _ = writeln!(io::stderr(), "{level:>5} {}: {}", metadata.target(), brief(&said.message));
        }
        let Some(log) = log else { return };
        if metadata.target() == podwire_trace::TARGET {
            log.steps.fetch_add(1, Ordering::Relaxed);
        }
        log.tell(level, |line| {
            if metadata.target() != podwire_trace::TARGET {
                line.text("message", &said.message);
                return;
            }
            line.text("operation", &said.operation);
            line.text("object", &said.object);
            line.number("durationUs", said.microseconds);
            line.text("result", said.failure.as_deref().unwrap_or("ok"));
        });
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

/// The fields of an event: those of a step, or a message.
#[derive(Default)]
struct Said {
    message: String,
    operation: String,
    object: String,
    microseconds: u64,
    failure: Option<String>,
}

impl Visit for Said {
    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == field::MICROSECONDS {
            self.microseconds = value;
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            field::OPERATION => value.clone_into(&mut self.operation),
            field::OBJECT => value.clone_into(&mut self.object),
            field::FAILURE => self.failure = Some(value.to_owned()),
            _ => self.record_debug(field, &format_args!("{value}")),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string cannot fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.message, " {name}={value:?}"),
        };
    }
}
