//! Which endpoint answers a request: one table of route and method.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::Method;

use crate::error::Error;
use crate::route::Route;
use crate::server::{Api, Label, method_not_allowed};

/// The handles that endpoints are given, each only those it uses.
pub(crate) struct Endpoints {
    api: Api,
}

impl Endpoints {
    pub(crate) fn new(api: Api) -> Self {
        Endpoints { api }
    }
}

/// Answers any request that no other route took.
pub(crate) async fn serve(State(endpoints): State<Arc<Endpoints>>, request: Request) -> Response {
    let route = match Route::parse(request.method(), request.uri().path()) {
        Ok(route) => route,
        Err(error) => return error.into_response(),
    };
    let label = Label(route.label());
    let mut response = match endpoints.answer(route, request).await {
        Ok(response) => response,
        Err(error) => error.into_response(),
    };
    response.extensions_mut().insert(label);
    response
}

impl Endpoints {
    async fn answer(&self, route: Route, request: Request) -> Result<Response, Error> {
        let _ = &self.api.metadata;
        match (request.method(), &route) {
            (&Method::GET | &Method::HEAD, Route::Base) => {
                Ok(axum::Json(serde_json::json!({})).into_response())
            }
            (method, route) => Ok(method_not_allowed(route.methods(), method)),
        }
    }
}
