//! Who may: who a request comes from, and whether that caller may do what it asks.
//!
//! Always holds: credentials that are wrong are refused, also where none are needed; an answer to
//! a caller without the right does not depend on what is stored; secrets are compared in constant
//! time, and are neither logged nor put in a reply. Never does: files; who is a user is told to
//! [`Users`] from outside.

mod admin_token;
mod credentials;
mod htpasswd;
mod rights;
mod users;
mod verdicts;

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use axum::extract::ConnectInfo;
use http::header::WWW_AUTHENTICATE;
use http::{Extensions, HeaderMap, HeaderValue};

pub use admin_token::AdminToken;
pub use htpasswd::{BadLine, Htpasswd, Work};
pub use rights::{Action, Caller, Rights, Verdict};
pub use users::{Busy, Users};

use crate::error::{Error, Problem};
use credentials::Credentials;

/// How a client is asked for credentials: with a 401, and with the answer to an anonymous
/// `GET /v2/`, since podman, buildah and skopeo send none later on unless that asked for them.
pub(crate) const CHALLENGE: HeaderValue = HeaderValue::from_static("Basic realm=\"trow\", charset=\"UTF-8\"");

/// The settings in `[auth]`.
#[derive(Clone, Debug)]
pub struct Auth {
    /// `auth.htpasswd`: those who can log in, if there are users.
    pub users: Option<Users>,
    /// `auth.anonymous_pull`.
    pub anonymous_pull: bool,
    /// `auth.anonymous_push`; counts once there are users.
    pub anonymous_push: bool,
}

impl Default for Auth {
    fn default() -> Self {
        Auth { users: None, anonymous_pull: true, anonymous_push: false }
    }
}

/// Lets callers in, or not. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Access {
    token: AdminToken,
    users: Option<Users>,
    rights: Rights,
}

impl Access {
    /// By the settings, with the administrator's token.
    pub fn new(token: AdminToken, auth: &Auth) -> Self {
        let rights = Rights::new(auth.users.is_some(), auth.anonymous_pull, auth.anonymous_push);
        Access { token, users: auth.users.clone(), rights }
    }

    /// Who sends this, if that caller may do `action`. The caller's name goes into the log lines
    /// of the request.
    ///
    /// # Errors
    /// 401 with the challenge for credentials that are wrong, or missing where they are needed;
    /// 403 for a user without the right; 503 when too many passwords are being checked.
    pub async fn require(
        &self,
        action: Action,
        headers: &HeaderMap,
        extensions: &Extensions,
    ) -> Result<Caller, Error> {
        let from = extensions.get::<ConnectInfo<SocketAddr>>().map(|from| from.0.ip());
        let caller = self.caller(headers, from).await?;
        tracing::Span::current().record("caller", caller.name());
        match self.rights.of(&caller, action) {
            Verdict::Allowed => Ok(caller),
            Verdict::Unauthorized => Err(unauthorized(match action {
                Action::Pull | Action::Push if self.users.is_some() => {
                    "this needs a login: send a user's name and password"
                }
                Action::Pull | Action::Push => {
                    "this needs the admin token, since there are no users: as a bearer token, or as the password \
                     of user admin"
                }
                Action::Delete | Action::Administer => {
                    "this needs the admin token: as a bearer token, or as the password of user admin"
                }
            })),
            Verdict::Denied => Err(Error::new(Problem::Denied, "only the administrator may do this")),
        }
    }

    async fn caller(&self, headers: &HeaderMap, from: Option<IpAddr>) -> Result<Caller, Error> {
        // One answer for every kind of wrong, so that names cannot be found out.
        let wrong = || {
            tracing::debug!(?from, "wrong credentials");
            unauthorized("the credentials are wrong")
        };
        match Credentials::of(headers) {
            Credentials::None => Ok(Caller::Anonymous),
            Credentials::Bearer(token) if self.token.is(token.as_bytes()) => Ok(Caller::Admin),
            Credentials::Basic { user, password } if user == Caller::ADMIN => {
                if self.token.is(&password) {
                    Ok(Caller::Admin)
                } else {
                    Err(wrong())
                }
            }
            Credentials::Basic { user, password } => {
                // Where there is nobody to log in as, a name is as good as none.
                let Some(users) = &self.users else { return Ok(Caller::Anonymous) };
                let busy = |_| Error::new(Problem::Unavailable, "too many logins at once; try again");
                if users.verify(&user, &password, from).await.map_err(busy)? {
                    Ok(Caller::User(user.into()))
                } else {
                    Err(wrong())
                }
            }
            Credentials::Bearer(_) | Credentials::Unreadable => Err(wrong()),
        }
    }
}

/// 401 with the challenge.
pub(crate) fn unauthorized(why: impl Into<Cow<'static, str>>) -> Error {
    Error::new(Problem::Unauthorized, why).header(WWW_AUTHENTICATE, CHALLENGE)
}
