//! What other plugins are known to fail, as a file that is kept true.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::{Outcome, Record};
use crate::topics::find;

/// Names of tests that are known to fail.
#[derive(Clone, Debug, Default)]
pub(super) struct Known(BTreeSet<String>);

impl Known {
    /// Reads a file of one name a line; `#` starts a comment.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("{path:?}: read"))?;
        let mut names = BTreeSet::new();
        for line in text.lines() {
            let name = line.split('#').next().unwrap_or_default().trim();
            if name.is_empty() {
                continue;
            }
            ensure!(find(name).is_some(), "{path:?}: names {name:?}, and there is no such test; remove the line");
            names.insert(name.to_owned());
        }
        Ok(Self(names))
    }

    /// What `record` means in the light of what is known.
    pub(super) fn judge(&self, mut record: Record) -> Record {
        let listed = self.0.contains(&record.name);
        record.outcome = match record.outcome {
            Outcome::Failed(_) if listed => Outcome::KnownFailure,
            Outcome::Passed if listed => {
                Outcome::Failed("  passes, but is listed as a known failure; remove it from the list".to_owned())
            }
            Outcome::Failed(why) => Outcome::Failed(format!("  fails, and is not listed as a known failure\n{why}")),
            outcome => outcome,
        };
        record
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(listed: bool, outcome: Outcome) -> Outcome {
        let names = if listed { BTreeSet::from(["a".to_owned()]) } else { BTreeSet::new() };
        let (ms, note) = (1, String::new());
        let record = Record { name: "a".into(), topic: "t".into(), kernel: "k".into(), ms, note, outcome };
        Known(names).judge(record).outcome
    }

    #[test]
    fn a_list_out_of_date_is_a_failure_either_way() {
        assert_eq!(judged(true, Outcome::Failed("x".into())), Outcome::KnownFailure);
        assert_eq!(judged(false, Outcome::Passed), Outcome::Passed);
        assert!(matches!(judged(true, Outcome::Passed), Outcome::Failed(_)));
        assert!(matches!(judged(false, Outcome::Failed("x".into())), Outcome::Failed(_)));
    }
}
