//! What a kernel cannot do: taken from the hooks that the `start` record says are not attached, and from nowhere else.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

use crate::story::Line;

/// Lines of a story, by how they begin, that come from one hook alone. Without it a story is told without them, and is
/// compared whole all the same.
const ONLY_BY: [(&str, &str); 1] = [("error ", "error")];

/// Hooks that this kernel lacks. It is the same kernel for all scenarios.
static LACKING: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Takes from a `start` record which hooks this kernel lacks.
pub(crate) fn note(start: &Line) {
    let hooks = start.get("hooks").and_then(Value::as_object);
    let lacking = hooks
        .into_iter()
        .flatten()
        .filter(|(_, how)| how.as_str().is_some_and(|how| how.starts_with("no: ")));
    let mut known = LACKING.lock().unwrap_or_else(PoisonError::into_inner);
    known.extend(lacking.map(|(name, _)| name.clone()));
}

/// What zsock said but for what it says at every start on a kernel that lacks hooks or fields.
pub(crate) fn beside_lacks(said: &str) -> String {
    let is_of_lack =
        |line: &&str| line.contains(" WARN ] hook ") || line.contains(" WARN ] this kernel's types lack ");
    said.split_inclusive('\n').filter(|line| !is_of_lack(line)).collect()
}

/// Whether this kernel has what it takes to tell such a line.
pub(crate) fn tells(line: &str) -> bool {
    let known = LACKING.lock().unwrap_or_else(PoisonError::into_inner);
    ONLY_BY.iter().all(|(begins, hook)| !line.starts_with(begins) || !known.contains(*hook))
}
