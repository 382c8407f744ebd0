//! journald, in its native protocol (systemd's JOURNAL_NATIVE_PROTOCOL). `journalctl` shows MESSAGE alone, so MESSAGE says
//! which study, to whom and why; each is a field of its own besides, `F_STUDY` and so on.

use std::{
    fmt::{self, Write},
    io,
    os::unix::net::UnixDatagram,
    path::Path,
};

use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{Layer, layer::Context, registry::LookupSpan};

use crate::output::one_line;

/// Where journald listens.
pub(super) const SOCKET: &str = "/run/systemd/journal/socket";

/// The longest MESSAGE; what is longer is cut, because a datagram that is too long would be lost whole.
const LONGEST: usize = 16 << 10;

/// Sends each event as a datagram.
pub(super) struct Journal {
    socket: UnixDatagram,
}

impl Journal {
    /// Errors when nobody listens at `path`.
    pub(super) fn connect(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(path)?;
        Ok(Self { socket })
    }
}

/// The fields of an event or a span, in their order.
#[derive(Default, Clone)]
struct Fields(Vec<(&'static str, String)>);

impl Fields {
    fn put(&mut self, field: &Field, value: String) {
        self.0.retain(|(name, _)| *name != field.name());
        self.0.push((field.name(), one_line(&value)));
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(field, _)| *field == name).map(|(_, value)| value.as_str())
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.to_owned());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.put(field, value.to_string());
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Journal {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut all = Fields::default();
        for span in context.event_scope(event).into_iter().flat_map(tracing_subscriber::registry::Scope::from_root) {
            if let Some(fields) = span.extensions().get::<Fields>() {
                all.0.extend(fields.0.iter().cloned());
            }
        }
        let mut own = Fields::default();
        event.record(&mut own);
        all.0.retain(|(name, _)| own.get(name).is_none());
        all.0.extend(own.0);
        let datagram = datagram(*event.metadata().level(), event.metadata().target(), &all);
        // The journal restarts now and then; whoever logs cannot wait for it.
        let _ = self.socket.send(datagram.as_bytes());
    }
}

/// An event as journald takes it: no value has a line end.
fn datagram(level: Level, target: &str, fields: &Fields) -> String {
    let priority = match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    };
    let mut message = message(fields);
    if message.len() > LONGEST {
        let end = (0..=LONGEST).rev().find(|at| message.is_char_boundary(*at)).unwrap_or(0);
        message.truncate(end);
        message.push('…');
    }
    let mut datagram = format!("MESSAGE={message}\nPRIORITY={priority}\nSYSLOG_IDENTIFIER=preread\nTARGET={target}\n");
    for (name, value) in fields.0.iter().filter(|(name, value)| *name != "message" && value.len() <= LONGEST) {
        let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        let _ = writeln!(datagram, "F_{}={value}", name.to_ascii_uppercase());
    }
    datagram
}

/// `report not delivered study=5 destination=pacs: connection refused`: what happened, to which, and why.
fn message(fields: &Fields) -> String {
    let what = fields.get("message").unwrap_or_default();
    // "study held" is said of one: "study 12 held".
    let numbered =
        fields.get("study").and_then(|study| Some(format!("study {study} {}", what.strip_prefix("study ")?)));
    let mut message = numbered.clone().unwrap_or_else(|| what.to_owned());
    let is_why = |name: &str| matches!(name, "reason" | "error" | "why");
    for (name, value) in &fields.0 {
        let said = *name == "message" || is_why(name) || (*name == "study" && numbered.is_some());
        if !said {
            let _ = write!(message, " {name}={value}");
        }
    }
    for (_, why) in fields.0.iter().filter(|(name, _)| is_why(name)) {
        let _ = write!(message, ": {why}");
    }
    message
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    /// What journald gets of what `log` says.
    fn heard(log: impl FnOnce()) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let journald = UnixDatagram::bind(&path).unwrap();
        journald.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let layer = Journal::connect(&path).unwrap();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), log);
        let mut heard = Vec::new();
        let mut buffer = vec![0; 64 << 10];
        while let Ok(length) = journald.recv(&mut buffer) {
            heard.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
        }
        heard
    }

    #[test]
    fn a_message_says_which_to_whom_and_why() {
        let check = |log: fn(), message: &str, priority: u8, fields: &[&str]| {
            let heard = heard(log);
            let [datagram] = heard.as_slice() else { panic!("{heard:?}") };
            let lines: Vec<&str> = datagram.lines().collect();
            assert_eq!(lines[0], format!("MESSAGE={message}"));
            assert!(lines.contains(&format!("PRIORITY={priority}").as_str()), "{datagram}");
            for field in fields {
                assert!(lines.contains(field), "{field} is not in {datagram}");
            }
        };
        check(
            || {
                let _span = tracing::info_span!("study", study = 12).entered();
                tracing::warn!(reason = "no image to read", "study held");
            },
            "study 12 held: no image to read",
            4,
            &["F_STUDY=12", "F_REASON=no image to read"],
        );
        check(
            || tracing::warn!(study = 5, destination = "pacs", error = "connection refused", "report not delivered"),
            "report not delivered study=5 destination=pacs: connection refused",
            4,
            &["F_STUDY=5", "F_DESTINATION=pacs", "F_ERROR=connection refused"],
        );
        check(
            || tracing::error!(calling = "A\nMESSAGE=forged\u{1b}[2J", "association rejected"),
            r"association rejected calling=A\nMESSAGE=forged\u{1b}[2J",
            3,
            &[],
        );
        check(|| tracing::info!("ready"), "ready", 6, &["SYSLOG_IDENTIFIER=preread"]);
        // The innermost says it.
        check(
            || {
                let _span = tracing::info_span!("study", study = 1).entered();
                tracing::debug!(study = 2, "looked at");
            },
            "looked at study=2",
            7,
            &["F_STUDY=2"],
        );
    }

    #[test]
    fn a_message_that_is_too_long_is_cut_and_not_lost() {
        let heard = heard(|| tracing::info!(reason = "é".repeat(100_000), "long"));
        assert!(heard[0].starts_with("MESSAGE=long: é") && heard[0].lines().next().unwrap().ends_with('…'));
    }
}
