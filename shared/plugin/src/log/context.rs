//! What every line of a call says: which plugin, which call, whose.

use std::time::SystemTime;

use podwire_spec::{Command, Env};
use serde_json::Value;
use tracing::Level;

use super::line::{Line, rfc3339};

/// The first member of every line, by which a log of ours is known: `podwire`, with the plugin's name.
pub(super) const KEY: &str = "podwire";

/// The trace that the runtime's call is part of: <https://www.w3.org/TR/trace-context/>.
const TRACEPARENT: &str = "TRACEPARENT";

/// What is the same in all lines of a call.
pub(super) struct Context {
    plugin: &'static str,
    pub(super) command: Command,
    /// What the call as a whole is about.
    pub(super) object: String,
    call: Line,
}

impl Context {
    pub(super) fn of(plugin: &'static str, env: &Env, conf: &Value) -> Self {
        let mut call = Line::new();
        call.text("command", env.command.as_str());
        let pod = env.args.pod.as_ref().map(|pod| format!("{}/{}", pod.namespace, pod.name));
        let traceparent = std::env::var(TRACEPARENT).ok().filter(|text| is_traceparent(text));
        for (key, value) in [
            ("network", conf["name"].as_str()),
            ("containerID", Some(&*env.container_id)),
            ("ifname", Some(&*env.ifname)),
            ("pod", pod.as_deref()),
            ("traceparent", traceparent.as_deref()),
        ] {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                call.text(key, value);
            }
        }
        call.number("pid", std::process::id().into());
        let object = if env.container_id.is_empty() {
            "node".to_owned()
        } else {
            format!("interface {:?} of container {:?}", env.ifname, env.container_id)
        };
        Self { plugin, command: env.command, object, call }
    }

    /// The beginning of a line.
    pub(super) fn line(&self, level: Level) -> Line {
        let mut line = Line::new();
        line.text(KEY, self.plugin);
        line.text("time", &rfc3339(SystemTime::now()));
        line.text("level", &level.as_str().to_ascii_lowercase());
        line.append(&self.call);
        line
    }
}

/// Whether it is what it says: version, trace, parent, flags. There is one version yet.
fn is_traceparent(text: &str) -> bool {
    let mut parts = text.splitn(5, '-');
    let mut next = |length| {
        let part = parts.next().unwrap_or_default();
        let is_hex = part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        (part.len() == length && is_hex).then_some(part)
    };
    let (version, trace, parent, flags) = (next(2), next(32), next(16), next(2));
    let is_set = |part: Option<&str>| part.is_some_and(|part| part.bytes().any(|byte| byte != b'0'));
    let is_whole = version == Some("00") && parts.next().is_none();
    is_whole && is_set(trace) && is_set(parent) && flags.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_is_checked() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert!(is_traceparent(good));
        for bad in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473\u{e9}-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\n",
        ] {
            assert!(!is_traceparent(bad), "{bad:?}");
        }
    }
}
