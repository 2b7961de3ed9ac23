//! Who is let in.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rand::RngCore as _;

/// What credentials are demanded.
#[derive(Clone, Debug)]
pub enum Guard {
    /// A user's name and password with each request.
    Basic {
        /// The name.
        user: String,
        /// The password.
        password: String,
    },
    /// A token for the repository, which the token service gives.
    Bearer {
        /// Where clients are told to get one; of this upstream: [`Guard::REALM`] at its address.
        realm: String,
        /// Who gets one: anybody, or this user.
        user: Option<(String, String)>,
    },
}

impl Guard {
    /// The path of the token service.
    pub const REALM: &str = "/token";

    /// What is said to one who is not let in.
    pub(super) fn challenge(&self, repo: &str) -> String {
        match self {
            Guard::Basic { .. } => "Basic realm=\"upstream\"".to_owned(),
            Guard::Bearer { realm, .. } => {
                format!("Bearer realm=\"{realm}\",service=\"upstream\",scope=\"repository:{repo}:pull\"")
            }
        }
    }

    /// Whether one with this `Authorization` may have what is in `repo`.
    pub(super) fn lets_in(&self, authorization: Option<&str>, repo: &str, tokens: &Tokens) -> bool {
        match self {
            Guard::Basic { user, password } => authorization == Some(&basic(user, password)),
            Guard::Bearer { .. } => {
                let token = authorization.and_then(|text| text.strip_prefix("Bearer "));
                token.is_some_and(|token| tokens.good_for(token, repo))
            }
        }
    }

    /// Whether one with this `Authorization` gets a token.
    pub(super) fn gives_token(&self, authorization: Option<&str>) -> bool {
        match self {
            Guard::Basic { .. } => false,
            Guard::Bearer { user: None, .. } => true,
            Guard::Bearer { user: Some((user, password)), .. } => {
                authorization == Some(&basic(user, password))
            }
        }
    }
}

/// The tokens that were given, with the scope of each.
#[derive(Debug, Default)]
pub(super) struct Tokens(BTreeMap<String, String>);

impl Tokens {
    pub(super) fn give(&mut self, scope: &str) -> String {
        let token = format!("{:032x}", u128::from(rand::rng().next_u64()));
        self.0.insert(token.clone(), scope.to_owned());
        token
    }

    fn good_for(&self, token: &str, repo: &str) -> bool {
        self.0.get(token).is_some_and(|scope| scope.starts_with(&format!("repository:{repo}:")))
    }
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")))
}
