//! Several funnels of one experiment in one pass: each follows the events by itself.

use crate::analysis::Analysis;
use crate::analysis::funnel::{Funnel, FunnelPlan};
use crate::error::FoldError;
use crate::fold::{Accumulator, Exposure, Folded, Names, Plan, Row};

/// One of several funnels: its types of events, and the steps with the codes that these have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OneFunnel {
    /// The types of events of its steps. The plan has those of all funnels.
    pub types: Names,
    /// The steps and the window.
    pub plan: FunnelPlan,
}

/// Counts the users of each slot who reach each step of each funnel.
#[derive(Debug)]
pub struct Funnels {
    funnels: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    funnel: Funnel,
    /// The codes that types have in this funnel, by the codes that they have in the plan.
    codes: Vec<Option<u8>>,
    /// From when on events of the present user cannot matter to this funnel.
    end: i64,
}

impl Funnels {
    /// Returns the users of `slot` who reached each step of the funnel with this number.
    pub fn reached(&self, number: usize, slot: usize) -> &[u64] {
        self.funnels[number].funnel.reached(slot)
    }
}

impl Analysis for Funnels {
    type Question = Vec<OneFunnel>;
    type Answer = Folded<Self>;

    fn for_plan(plan: &Plan, question: &Vec<OneFunnel>) -> Self {
        let member = |one: &OneFunnel| {
            let code = |name: &String| one.types.code(name).and_then(|code| code.try_into().ok());
            Member {
                funnel: Funnel::for_plan(plan, &one.plan),
                codes: plan.event_types.texts().iter().map(code).collect(),
                end: 0,
            }
        };
        Self {
            funnels: question.iter().map(member).collect(),
        }
    }

    fn answer(folded: Folded<Self>) -> Folded<Self> {
        folded
    }
}

impl Accumulator for Funnels {
    fn horizon(&self, exposure: i64) -> i64 {
        let ends = self.funnels.iter();
        let ends = ends.map(|member| member.funnel.horizon(exposure));
        ends.max().unwrap_or(exposure)
    }

    fn begin(&mut self, exposure: &Exposure) {
        for member in &mut self.funnels {
            member.end = member.funnel.horizon(exposure.at);
            member.funnel.begin(exposure);
        }
    }

    fn events(&mut self, events: &[Row]) {
        for member in &mut self.funnels {
            let n_before = events.partition_point(|event| event.timestamp < member.end);
            for event in &events[..n_before] {
                let code = event.name.code();
                let code = code.and_then(|code| *member.codes.get(code as usize)?);
                if let Some(code) = code {
                    member.funnel.push(code, event.timestamp);
                }
            }
        }
    }

    fn end(&mut self) -> Result<(), FoldError> {
        (self.funnels.iter_mut()).try_for_each(|member| member.funnel.end())
    }

    fn merge(&mut self, other: Self) -> Result<(), FoldError> {
        let mut pairs = self.funnels.iter_mut().zip(other.funnels);
        pairs.try_for_each(|(member, other)| member.funnel.merge(other.funnel))
    }
}
