//! Who gets a place, and who gives one up: by sender, so that none of them pushes out another
//! that has fewer.

use std::collections::{BTreeMap, HashSet, VecDeque};

use trialog_model::ids::ExperimentId;

/// The experiments of one sender.
#[derive(Debug, Default)]
struct Share {
    /// Those with a place and without new events, the oldest results first.
    quiet: VecDeque<ExperimentId>,
    /// Those with a place and with new events, likewise.
    active: VecDeque<ExperimentId>,
    /// Those that were given a place just now.
    n_new: usize,
    /// Those that wait for a place.
    waiting: VecDeque<ExperimentId>,
}

impl Share {
    fn n_places(&self) -> usize {
        self.quiet.len() + self.active.len() + self.n_new
    }
}

/// Places of unregistered experiments.
#[derive(Debug, Default)]
pub(super) struct Places {
    shares: BTreeMap<String, Share>,
}

/// What changes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Moves {
    /// Who gets a place.
    pub(super) added: Vec<ExperimentId>,
    /// Who loses one.
    pub(super) giving_way: Vec<ExperimentId>,
    /// How many get none.
    pub(super) left_out: usize,
}

impl Places {
    /// Places that are `taken`, the oldest results first, each with its sender; those among
    /// `active` have new events.
    pub(super) fn from_taken(
        taken: impl IntoIterator<Item = (ExperimentId, String)>,
        active: &HashSet<&ExperimentId>,
    ) -> Self {
        let mut places = Self::default();
        for (experiment, sender) in taken {
            let share = places.shares.entry(sender).or_default();
            match active.contains(&experiment) {
                true => share.active.push_back(experiment),
                false => share.quiet.push_back(experiment),
            }
        }
        places
    }

    /// Adds a newcomer that waits for a place.
    pub(super) fn push_waiting(&mut self, experiment: ExperimentId, sender: String) {
        let share = self.shares.entry(sender).or_default();
        share.waiting.push_back(experiment);
    }

    /// The sender with the most places, and how many these are.
    pub(super) fn largest(&self) -> Option<(&str, usize)> {
        let counts = self.shares.iter();
        let counts = counts.map(|(sender, share)| (sender.as_str(), share.n_places()));
        counts.max_by_key(|&(_, n_places)| n_places)
    }

    /// Gives places to newcomers, those of the sender with the fewest places first: `n_free`
    /// free ones, then ones that at most `max_giving_way` others give up.
    pub(super) fn fill(&mut self, mut n_free: usize, max_giving_way: usize) -> Moves {
        let mut moves = Moves::default();
        while let Some(sender) = self.poorest_waiting() {
            if n_free > 0 {
                n_free -= 1;
            } else {
                let may_give_way = moves.giving_way.len() < max_giving_way;
                match may_give_way.then(|| self.take_from(&sender)).flatten() {
                    Some(giving_way) => moves.giving_way.push(giving_way),
                    None => {
                        moves.left_out += self.shares.get_mut(&sender).map_or(0, |share| {
                            let n_waiting = share.waiting.len();
                            share.waiting.clear();
                            n_waiting
                        });
                        continue;
                    }
                }
            }
            if let Some(share) = self.shares.get_mut(&sender) {
                share.n_new += 1;
                moves.added.extend(share.waiting.pop_front());
            }
        }
        moves
    }

    fn poorest_waiting(&self) -> Option<String> {
        let waiting = self
            .shares
            .iter()
            .filter(|(_, share)| !share.waiting.is_empty());
        let poorest = waiting.min_by_key(|(_, share)| share.n_places());
        poorest.map(|(sender, _)| sender.clone())
    }

    /// Takes a place for `sender`: from one that has more places, else from itself. One with
    /// new events gives way only where its sender keeps at least as many as `sender` has then,
    /// so that places do not go to and fro.
    fn take_from(&mut self, sender: &str) -> Option<ExperimentId> {
        let n_own = self.shares.get(sender).map_or(0, Share::n_places);
        let others = (self.shares.iter_mut()).filter(|(other, _)| other.as_str() != sender);
        let richest = others
            .map(|(_, share)| share)
            .max_by_key(|share| share.n_places());
        if let Some(share) = richest.filter(|share| share.n_places() > n_own) {
            let n_places = share.n_places();
            if let Some(quiet) = share.quiet.pop_front() {
                return Some(quiet);
            }
            if n_places > n_own + 1
                && let Some(active) = share.active.pop_front()
            {
                return Some(active);
            }
        }
        self.shares.get_mut(sender)?.quiet.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(prefix: &str, n: usize) -> Vec<ExperimentId> {
        let name = |at| ExperimentId::new(format!("{prefix}{at}")).unwrap();
        (0..n).map(name).collect()
    }

    /// Fills 100 places round by round: `greedy` names 300 new ones each time, `quiet` the same
    /// few, and gives how many places each has in the end.
    fn rounds(n_quiet: usize, n_rounds: usize) -> (usize, usize) {
        let mut taken: Vec<(ExperimentId, String)> = Vec::new();
        for round in 0..n_rounds {
            let greedy = ids(&format!("greedy{round}_"), 300);
            let quiet = ids("quiet", n_quiet);
            let active: HashSet<&ExperimentId> = greedy.iter().chain(&quiet).collect();
            let mut places = Places::from_taken(taken.clone(), &active);
            for (experiments, sender) in [(&greedy, "a"), (&quiet, "b")] {
                for experiment in experiments {
                    if !taken.iter().any(|(known, _)| known == experiment) {
                        places.push_waiting(experiment.clone(), sender.to_owned());
                    }
                }
            }
            let moves = places.fill(100 - taken.len(), 40);
            taken.retain(|(known, _)| !moves.giving_way.contains(known));
            let sender = |id: &ExperimentId| match id.as_str().starts_with("quiet") {
                true => "b".to_owned(),
                false => "a".to_owned(),
            };
            let added = moves.added.into_iter();
            taken.extend(added.map(|id| (id.clone(), sender(&id))));
            assert!(taken.len() <= 100);
        }
        let n_greedy = taken.iter().filter(|(_, sender)| sender == "a").count();
        (n_greedy, taken.len() - n_greedy)
    }

    #[test]
    fn a_sender_of_ever_new_names_takes_no_place_of_one_that_has_fewer() {
        assert_eq!(rounds(10, 6), (90, 10));
        assert_eq!(rounds(200, 12), (50, 50));
    }

    #[test]
    fn a_newcomer_among_active_ones_finds_a_place() {
        let taken = ids("a", 4).into_iter().map(|id| (id, "a".to_owned()));
        let active = ids("a", 4);
        let mut places = Places::from_taken(taken, &active.iter().collect());
        for id in ids("b", 3) {
            places.push_waiting(id, "b".to_owned());
        }
        let moves = places.fill(0, 10);
        assert_eq!(moves.giving_way, ids("a", 2));
        assert_eq!(moves.added, ids("b", 2));
        assert_eq!(moves.left_out, 1);
        assert_eq!(places.largest().map(|(_, n_places)| n_places), Some(2));
    }

    #[test]
    fn nobody_gives_way_to_one_that_has_as_many() {
        let taken = [("a0", "a"), ("b0", "b")]
            .map(|(id, sender)| (ExperimentId::new(id).unwrap(), sender.to_owned()));
        let active = ids("a", 1);
        let mut places = Places::from_taken(taken, &active.iter().collect());
        places.push_waiting(ExperimentId::new("a1").unwrap(), "a".to_owned());
        let moves = places.fill(0, 10);
        assert_eq!((moves.added.len(), moves.left_out), (0, 1));
    }
}
