//! Why connections of two hosts could not be joined that look as if they could be.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::incidents::was_accepted;
use super::join::{SLACK, ends};
use super::{Run, Story};
use crate::record::printable;
use crate::time::Time;

/// So many reasons are enough.
const REASONS: usize = 5;

/// Connections that one host accepted on one port, by their beginnings.
#[derive(Default)]
struct Accepted {
    places: Vec<usize>,
    /// Of each and all before it the one that lasted longest.
    longest: Vec<usize>,
}

impl Accepted {
    /// Puts them in order, once all are there.
    fn order(&mut self, stories: &[Story]) {
        self.places.sort_by_key(|place| stories[*place].span.0);
        for place in &self.places {
            let before =
                self.longest.last().filter(|before| stories[**before].span.1 >= stories[*place].span.1);
            self.longest.push(*before.unwrap_or(place));
        }
    }

    /// One of them that overlaps a time.
    fn during(&self, stories: &[Story], (begins, ended): (Time, Time)) -> Option<usize> {
        let begun = self.places.partition_point(|place| stories[*place].span.0 <= ended.after(SLACK));
        let longest = *self.longest.get(begun.checked_sub(1)?)?;
        (begins <= stories[longest].span.1.after(SLACK)).then_some(longest)
    }
}

/// Hosts that seem to share connections of which none could be joined: one made some to a port on which the other accepted some at the
/// time, but their addresses differ.
pub(super) fn unjoined(runs: &[Run], stories: &[Story]) -> Vec<String> {
    let host = |story: &Story| &*runs[story.run].host;
    let mut joined: HashSet<(&str, &str)> = HashSet::new();
    let mut accepted: HashMap<u16, BTreeMap<&str, Accepted>> = HashMap::new();
    for (place, story) in stories.iter().enumerate() {
        joined.extend(story.other_end.map(|there| (host(story), host(&stories[there]))));
        if was_accepted(story) == Some(true)
            && let Some((local, _)) = ends(story)
        {
            accepted.entry(local.port()).or_default().entry(host(story)).or_default().places.push(place);
        }
    }
    accepted.values_mut().flat_map(BTreeMap::values_mut).for_each(|accepted| accepted.order(stories));
    let mut said: BTreeMap<(&str, &str), String> = BTreeMap::new();
    for here in stories.iter().filter(|story| was_accepted(story) == Some(false)) {
        let Some((local, remote)) = ends(here) else { continue };
        for (there, accepted) in accepted.get(&remote.port()).into_iter().flatten() {
            let hosts = (host(here), *there);
            if hosts.0 == hosts.1
                || said.len() >= REASONS
                || said.contains_key(&hosts)
                || joined.contains(&hosts)
            {
                continue;
            }
            let during = accepted.during(stories, here.span);
            let Some((local_there, remote_there)) = during.and_then(|there| ends(&stories[there])) else {
                continue;
            };
            let [one, other] = [hosts.0, hosts.1].map(printable);
            let reason = format!(
                "connections of {one} and {other} cannot be joined: {one} knows {local} → {remote}, {other} knows \
                 {remote_there} → {local_there}, and no two have the same ends; a NAT or a proxy is between them, or they are others"
            );
            said.insert(hosts, reason);
        }
    }
    said.into_values().collect()
}
