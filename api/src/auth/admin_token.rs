//! The administrator's secret.

use std::fmt;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// The secret in `admin.token`, kept as its hash.
#[derive(Clone)]
pub struct AdminToken([u8; 32]);

impl AdminToken {
    /// The token's text; white space around it does not count.
    pub fn new(text: &str) -> Self {
        AdminToken(Sha256::digest(text.trim().as_bytes()).into())
    }

    /// Whether this is it. Takes the same time however much of it is right.
    pub(super) fn is(&self, text: &[u8]) -> bool {
        let hash: [u8; 32] = Sha256::digest(text).into();
        self.0.ct_eq(&hash).into()
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminToken(..)")
    }
}
