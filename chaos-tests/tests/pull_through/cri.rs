//! The kubelet's side of the Container Runtime Interface, as far as images go.
//!
//! The messages are those of `runtime.v1` with the fields that are used here. Never does: start a container.

use std::path::Path;

use anyhow::{Context, Result};
use prost::Message;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

/// Asks a container runtime.
pub struct Cri(Grpc<Channel>);

/// What a Pod's pull secret says.
#[derive(Clone, PartialEq, Message)]
pub struct Auth {
    #[prost(string, tag = "1")]
    username: String,
    #[prost(string, tag = "2")]
    password: String,
}

impl Auth {
    pub fn new(username: &str, password: &str) -> Self {
        Auth { username: username.to_owned(), password: password.to_owned() }
    }
}

#[derive(Clone, PartialEq, Message)]
struct Spec {
    #[prost(string, tag = "1")]
    image: String,
}

#[derive(Clone, PartialEq, Message)]
struct Pull {
    #[prost(message, optional, tag = "1")]
    image: Option<Spec>,
    #[prost(message, optional, tag = "2")]
    auth: Option<Auth>,
}

#[derive(Clone, PartialEq, Message)]
struct Pulled {
    #[prost(string, tag = "1")]
    image_ref: String,
}

/// What is asked of an image that is there or not.
#[derive(Clone, PartialEq, Message)]
struct Of {
    #[prost(message, optional, tag = "1")]
    image: Option<Spec>,
}

#[derive(Clone, PartialEq, Message)]
struct Shown {
    #[prost(message, optional, tag = "1")]
    image: Option<Image>,
}

/// An image that the runtime has.
#[derive(Clone, PartialEq, Message)]
pub struct Image {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(string, repeated, tag = "2")]
    pub tags: Vec<String>,
    #[prost(string, repeated, tag = "3")]
    pub digests: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Nothing {}

impl Cri {
    /// The runtime that listens at a socket.
    pub async fn connect(socket: &Path) -> Result<Self> {
        let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display()))?;
        Ok(Cri(Grpc::new(endpoint.connect().await.context("connect to the runtime")?)))
    }

    /// Pulls an image; what it is called from then on.
    pub async fn pull(&mut self, image: &str, auth: Option<Auth>) -> Result<String, Status> {
        let pulled: Pulled = self.call("PullImage", Pull { image: spec(image), auth }).await?;
        Ok(pulled.image_ref)
    }

    /// The image, if it is there.
    pub async fn status(&mut self, image: &str) -> Result<Option<Image>, Status> {
        let shown: Shown = self.call("ImageStatus", Of { image: spec(image) }).await?;
        Ok(shown.image)
    }

    /// Removes an image.
    pub async fn remove(&mut self, image: &str) -> Result<(), Status> {
        self.call::<_, Nothing>("RemoveImage", Of { image: spec(image) }).await.map(drop)
    }

    async fn call<Q, A>(&mut self, method: &str, request: Q) -> Result<A, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        self.0.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let path = PathAndQuery::try_from(format!("/runtime.v1.ImageService/{method}"));
        let path = path.map_err(|error| Status::internal(error.to_string()))?;
        Ok(self.0.unary(Request::new(request), path, ProstCodec::default()).await?.into_inner())
    }
}

fn spec(image: &str) -> Option<Spec> {
    Some(Spec { image: image.to_owned() })
}
