//! The tests, one file or folder a topic. Names start with the ids of the protocol's checklist that a test proves.

mod labcheck;

use crate::runner::{Test, Topic};

/// Every topic.
pub const TOPICS: &[Topic] = &[Topic { name: "lab", tests: &[labcheck::TESTS] }, crate::runtimes::TOPIC];

/// The test of that name with its topic's.
pub fn find(name: &str) -> Option<(&'static str, &'static Test)> {
    let mut all = TOPICS
        .iter()
        .flat_map(|topic| topic.tests.iter().copied().flatten().map(|test| (topic.name, test)));
    all.find(|(_, test)| test.name == name)
}
