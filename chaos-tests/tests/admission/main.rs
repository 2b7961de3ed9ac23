//! The admission webhooks of three nodes, as an API server asks them: over HTTPS, with only the caBundle.

mod copies;
mod leader;
mod paused;
mod signed;
mod site;
