//! The one rule of who may do what.
//!
//! Rights are the same for every repository, so a verdict needs no look at what is stored. Always
//! holds: whoever may push may pull, on which mounting a blob without naming its source relies.

use std::sync::Arc;

use trow_raft::command::SYSTEM;

/// Who sends a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Nobody said.
    Anonymous,
    /// One of the users.
    User(Arc<str>),
    /// Whoever has the admin token.
    Admin,
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// To see what is there.
    Pull,
    /// To add to it, or move a tag.
    Push,
    /// To take from it.
    Delete,
    /// To see or change the cluster.
    Administer,
}

/// What a caller is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    Allowed,
    /// Say who you are.
    Unauthorized,
    /// You may not.
    Denied,
}

/// What callers without a name may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights {
    anonymous_pull: bool,
    anonymous_push: bool,
}

impl Rights {
    /// By the settings. Without users everybody may push: the configuration does not let such a
    /// node listen beyond loopback unless that is said in so many words.
    pub fn new(users: bool, anonymous_pull: bool, anonymous_push: bool) -> Self {
        Rights { anonymous_pull, anonymous_push: anonymous_pull && (anonymous_push || !users) }
    }

    /// Whether `caller` may do `action`.
    pub fn of(&self, caller: &Caller, action: Action) -> Verdict {
        let allowed = match (caller, action) {
            (Caller::Admin, _) => true,
            (Caller::User(_), Action::Pull | Action::Push) => true,
            (Caller::Anonymous, Action::Pull) => self.anonymous_pull,
            (Caller::Anonymous, Action::Push) => self.anonymous_push,
            (_, Action::Delete | Action::Administer) => false,
        };
        match (caller, action) {
            _ if allowed => Verdict::Allowed,
            // Administration has no users: its paths ask everybody else for the token.
            (Caller::Anonymous, _) | (_, Action::Administer) => Verdict::Unauthorized,
            _ => Verdict::Denied,
        }
    }
}

impl Caller {
    /// The user name under which the admin token is a password.
    pub const ADMIN: &str = "admin";
    const ANONYMOUS: &str = "anonymous";
    /// Names that no user may have, since changes in the log are made in them: by the
    /// administrator, by nobody, by a node itself.
    pub const RESERVED: [&str; 3] = [Caller::ADMIN, Caller::ANONYMOUS, SYSTEM];

    /// In whose name changes are made and requests logged.
    pub fn name(&self) -> &str {
        match self {
            Caller::Anonymous => Caller::ANONYMOUS,
            Caller::User(name) => name,
            Caller::Admin => Caller::ADMIN,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Verdict::{Allowed, Denied, Unauthorized};

    const ACTIONS: [Action; 4] = [Action::Pull, Action::Push, Action::Delete, Action::Administer];

    fn callers() -> [Caller; 3] {
        [Caller::Anonymous, Caller::User("alice".into()), Caller::Admin]
    }

    #[test]
    fn table_of_rights() {
        // users, anonymous_pull, anonymous_push: what anonymous callers get for each action.
        for (settings, anonymous) in [
            ((false, true, false), [Allowed, Allowed, Unauthorized, Unauthorized]),
            ((false, true, true), [Allowed, Allowed, Unauthorized, Unauthorized]),
            ((false, false, false), [Unauthorized; 4]),
            ((false, false, true), [Unauthorized; 4]),
            ((true, true, false), [Allowed, Unauthorized, Unauthorized, Unauthorized]),
            ((true, true, true), [Allowed, Allowed, Unauthorized, Unauthorized]),
            ((true, false, false), [Unauthorized; 4]),
            ((true, false, true), [Unauthorized; 4]),
        ] {
            let rights = Rights::new(settings.0, settings.1, settings.2);
            let user = [Allowed, Allowed, Denied, Unauthorized];
            let expected = [anonymous, user, [Allowed; 4]];
            for (caller, expected) in callers().iter().zip(expected) {
                assert_eq!(
                    ACTIONS.map(|action| rights.of(caller, action)),
                    expected,
                    "{settings:?} {caller:?}"
                );
            }
        }
    }

    #[test]
    fn whoever_may_push_may_pull() {
        for bits in 0..8 {
            let rights = Rights::new(bits & 1 > 0, bits & 2 > 0, bits & 4 > 0);
            for caller in callers() {
                let may = |action| rights.of(&caller, action) == Allowed;
                assert!(may(Action::Pull) || !may(Action::Push), "{rights:?} {caller:?}");
            }
        }
    }
}
