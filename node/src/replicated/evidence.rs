//! Whose word for a blob still stands: a pure decision over what this node has applied.
//!
//! Apply judges by the same rule and has the last word; deciding it here first saves a round
//! through the log. Always holds: nothing is struck out that apply could accept.

use trow_raft::{Evidence, Member};

/// Strikes out what no longer counts: words given twice, of nodes that are no full members, and
/// of a generation that a fence has ended. A word of a newer generation than this node has applied
/// stands: the fence is on its way here.
pub fn strike(evidence: &mut Vec<Evidence>, members: &[Member]) {
    evidence.sort_unstable();
    evidence.reverse();
    // The newest word of each node comes first and is the one that stays.
    evidence.dedup_by_key(|word| word.node);
    evidence.retain(|word| {
        let member = members.iter().find(|member| member.id == word.node);
        member.is_some_and(|member| member.state.counts() && member.generation <= word.generation)
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use trow_raft::{Generation, MemberState, NodeId};

    fn member(id: u64, state: MemberState, generation: u64) -> Member {
        Member {
            id: NodeId(id),
            name: format!("n{id}"),
            zone: String::new(),
            state,
            generation: Generation(generation),
            max_level: 1,
            weight: 1,
            client: String::new(),
            peer: String::new(),
        }
    }

    #[test]
    fn only_current_words_of_full_members_stand() {
        let members = [
            member(1, MemberState::Active, 5),
            member(2, MemberState::Joining, 1),
            member(3, MemberState::Retired, 1),
            member(4, MemberState::Draining, 2),
        ];
        let check = |given: &[(u64, u64)], expected: &[(u64, u64)]| {
            let word =
                |&(node, generation)| Evidence { node: NodeId(node), generation: Generation(generation) };
            let mut evidence: Vec<Evidence> = given.iter().map(word).collect();
            strike(&mut evidence, &members);
            evidence.sort_unstable();
            assert_eq!(evidence, expected.iter().map(word).collect::<Vec<_>>(), "{given:?}");
        };
        check(&[], &[]);
        check(&[(1, 5), (3, 1)], &[(1, 5), (3, 1)]);
        check(&[(1, 4), (3, 1)], &[(3, 1)]);
        check(&[(1, 6)], &[(1, 6)]);
        check(&[(1, 4), (1, 5), (1, 5)], &[(1, 5)]);
        check(&[(2, 1), (9, 1), (4, 2)], &[(4, 2)]);
    }
}
