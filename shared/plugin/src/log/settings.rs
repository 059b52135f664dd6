//! How much is logged, and where: `logLevel` and `logFile` of the configuration, and the runtime's environment.
//!
//! A configuration may be written by somebody who owns a pod and not the node, and the plugin is root. So a file that it
//! names is directly in one folder, which the node's admin chooses. The environment is the runtime's own.

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
};

use podwire_spec::did_you_mean;
use serde_json::Value;
use tracing::level_filters::LevelFilter;

/// `LEVEL`, `LEVEL:FILE` or `:FILE`: instead of what the configuration says.
pub(super) const VARIABLE: &str = "PODWIRE_LOG";
/// The folder of all files that configurations may name, where it is another one.
const FOLDER_VARIABLE: &str = "PODWIRE_LOG_DIR";
const FOLDER: &str = "/var/log";

/// The levels, and what other plugins call them: Multus has `panic`, `verbose` and `warning`.
const LEVELS: [(&str, LevelFilter); 9] = [
    ("off", LevelFilter::OFF),
    ("error", LevelFilter::ERROR),
    ("warning", LevelFilter::WARN),
    ("info", LevelFilter::INFO),
    ("debug", LevelFilter::DEBUG),
    ("trace", LevelFilter::TRACE),
    ("panic", LevelFilter::ERROR),
    ("verbose", LevelFilter::INFO),
    ("warn", LevelFilter::WARN),
];

/// A log that is wanted.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) level: LevelFilter,
    pub(super) place: Place,
}

/// Where it goes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// To stderr, which is the runtime's.
    Stderr,
    /// To the file `name` in `folder`.
    File { folder: PathBuf, name: OsString },
}

impl Settings {
    /// What is wanted by `ordered`, the environment's word, and else by `conf`; `None` for no log. A wrong word is warned
    /// of and passed over: the plugins that podwire replaces do not look at these keys, and no pod is to fail by them.
    pub(super) fn read(
        ordered: Option<&OsStr>,
        conf: &Value,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Option<Self> {
        let ordered = ordered.and_then(OsStr::to_str).unwrap_or_default();
        let (ordered_level, ordered_file) = ordered.split_once(':').unwrap_or((ordered, ""));
        let wanted = |ordered, key| {
            let own = match conf.get(key) {
                None | Some(Value::Null) => "",
                Some(Value::String(text)) => text,
                Some(other) => {
                    tracing::warn!("{key}: expected a string, found {other}; passed over");
                    ""
                }
            };
            Some(if str::is_empty(ordered) { own } else { ordered }).filter(|text| !text.is_empty())
        };
        let (level, file) = (wanted(ordered_level, "logLevel"), wanted(ordered_file, "logFile"));
        let level = match (level, file) {
            (None, None) => return None,
            (None, Some(_)) => LevelFilter::INFO,
            (Some(level), _) => level_of(level)?,
        };
        let place = match file {
            _ if level == LevelFilter::OFF => return None,
            None => Place::Stderr,
            Some(file) => {
                let folder = variable(FOLDER_VARIABLE).map_or_else(|| FOLDER.into(), PathBuf::from);
                let folder = if ordered_file.is_empty() { Some(folder.as_path()) } else { None };
                place_of(Path::new(file), folder).map_err(|why| tracing::warn!("{why}; this call has no log")).ok()?
            }
        };
        Some(Self { level, place })
    }
}

fn level_of(text: &str) -> Option<LevelFilter> {
    let level = LEVELS.iter().find(|(name, _)| text.eq_ignore_ascii_case(name)).map(|(_, level)| *level);
    if level.is_none() {
        let near = did_you_mean(text, LEVELS.map(|(name, _)| name));
        tracing::warn!(
            "logLevel {text:?}: expected off, error, warning, info, debug or trace{near}; this call has no log"
        );
    }
    level
}

/// The file at `path`, which has to be directly in `only`, where that is given.
fn place_of(path: &Path, only: Option<&Path>) -> Result<Place, String> {
    let refused = |why: &str| Err(format!("logFile \"{}\": {why}", path.display()));
    let (Some(folder), Some(name)) = (path.parent().filter(|_| path.is_absolute()), path.file_name()) else {
        return refused("must be an absolute path of a file");
    };
    if let Some(only) = only {
        if only != folder {
            return refused(&format!(
                "must be directly in \"{}\"; {FOLDER_VARIABLE} in the runtime's environment names another folder",
                only.display()
            ));
        }
        // What somebody else makes in that folder on a later day has another name.
        if path.extension().is_none_or(|extension| extension != "log") {
            return refused("its name must end in \".log\"");
        }
    }
    Ok(Place::File { folder: folder.to_owned(), name: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(ordered: &str, conf: &Value) -> Option<Settings> {
        Settings::read(Some(OsStr::new(ordered)), conf, |_| None)
    }

    fn file(level: LevelFilter, folder: &str, name: &str) -> Settings {
        Settings { level, place: Place::File { folder: folder.into(), name: name.into() } }
    }

    #[test]
    fn the_configuration_says_how_much_and_where() {
        let multus = json!({"logLevel": "Verbose", "logFile": "/var/log/pods.log"});
        assert_eq!(read("", &multus), Some(file(LevelFilter::INFO, "/var/log", "pods.log")));
        assert_eq!(read("", &json!({"logFile": "/var/log/a.log"})), Some(file(LevelFilter::INFO, "/var/log", "a.log")));
        let stderr = |level| Some(Settings { level, place: Place::Stderr });
        assert_eq!(read("", &json!({"logLevel": "debug"})), stderr(LevelFilter::DEBUG));
        for none in [
            json!({}),
            json!({"logLevel": "", "logFile": ""}),
            json!({"logLevel": null, "logFile": null}),
            json!({"logLevel": "off", "logFile": "/var/log/a.log"}),
            json!({"logLevel": "loud", "logFile": "/var/log/a.log"}),
            json!({"logLevel": 3}),
            Value::Null,
        ] {
            assert_eq!(read("", &none), None, "{none}");
        }
    }

    #[test]
    fn the_environment_has_the_last_word() {
        let conf = json!({"logLevel": "debug", "logFile": "/var/log/a.log"});
        assert_eq!(read("off", &conf), None);
        assert_eq!(read("error", &conf), Some(file(LevelFilter::ERROR, "/var/log", "a.log")));
        assert_eq!(read(":/tmp/x", &conf), Some(file(LevelFilter::DEBUG, "/tmp", "x")));
        assert_eq!(read("trace:/tmp/x", &json!({})), Some(file(LevelFilter::TRACE, "/tmp", "x")));
        assert_eq!(read("trace:x", &json!({})), None);
    }

    #[test]
    fn a_file_elsewhere_is_refused() {
        for path in [
            "a.log",
            "/",
            "..",
            "/var/log",
            "/var/log/..",
            "/var/log/../log2/a.log",
            "/var/log/sub/a.log",
            "/var/log/sub/../a.log",
            "/etc/a.log",
            "/var/log/wtmp",
            "/var/log/.log",
            "/var/log/a.log/..",
        ] {
            assert_eq!(read("", &json!({"logLevel": "info", "logFile": path})), None, "{path}");
        }
        let elsewhere = |name: &str| (name == FOLDER_VARIABLE).then(|| OsString::from("/srv/logs/"));
        let read = |path| Settings::read(None, &json!({ "logFile": path }), elsewhere);
        assert_eq!(read("/srv/logs/a.log"), Some(file(LevelFilter::INFO, "/srv/logs/", "a.log")));
        assert_eq!(read("/var/log/a.log"), None);
    }
}
