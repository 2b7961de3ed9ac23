//! Why a server was not reached, and what to do about it.
//!
//! Never does: guess. What the network or the other side did is said as it is; advice is given where
//! one cause is all but certain.

use std::error::Error;
use std::io;

use reqwest::Url;
use rustls::{CertificateError, InvalidMessage};

/// What kept a request to `base` from being answered, in words.
pub(super) fn why(base: &Url, error: &(dyn Error + 'static)) -> String {
    let said = chain(error).last().map(ToString::to_string).unwrap_or_default();
    let advice = match chain(error).find_map(tls) {
        Some(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
            Some(format!("what listens there does not speak TLS: name it as {}", with_scheme(base, "http")))
        }
        Some(rustls::Error::InvalidCertificate(what)) => Some(certificate(base, what)),
        _ if base.scheme() == "http" && chain(error).any(is_not_http) => Some(format!(
            "what listens there does not answer in HTTP; if it is a node with server.tls, name it as {}",
            with_scheme(base, "https")
        )),
        _ => None,
    };
    match advice {
        Some(advice) => format!("{advice} ({said})"),
        None => said,
    }
}

/// The error and what caused it, outermost first.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let now = next?;
        next = now.source();
        Some(now)
    })
}

/// The error of TLS behind `error`: an error of the system keeps what it is made of to itself, and
/// may be made of another one.
fn tls<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    match error.downcast_ref::<io::Error>() {
        Some(system) => tls(system.get_ref()?),
        None => error.downcast_ref(),
    }
}

fn is_not_http(error: &(dyn Error + 'static)) -> bool {
    error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse)
}

fn with_scheme(base: &Url, scheme: &str) -> String {
    let rest = base.as_str().split_once(':').map_or("", |(_, rest)| rest);
    format!("{scheme}:{}", rest.trim_end_matches('/'))
}

fn certificate(base: &Url, what: &CertificateError) -> String {
    let host = base.host_str().unwrap_or_default();
    match what {
        CertificateError::UnknownIssuer => {
            "its certificate is from a CA that is not trusted here: name that CA with --ca-file".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!(
                "its certificate is not for {host}: use a name that it is for, or give the server another"
            )
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate has expired: give the server a new one".to_owned()
        }
        _ => {
            "its certificate is not accepted: look at what server.tls.cert names, and at --ca-file".to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(base: &str, error: impl Error + 'static) -> String {
        why(&base.parse().unwrap(), &error)
    }

    fn certificate(error: CertificateError) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, rustls::Error::InvalidCertificate(error))
    }

    #[test]
    fn a_wrong_scheme_or_ca_is_said_with_what_to_do() {
        let plain = rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType);
        let text = said("https://h:5000/", io::Error::other(plain));
        assert!(text.contains("does not speak TLS: name it as http://h:5000 ("), "{text}");
        let text = said("https://h:5000/", certificate(CertificateError::UnknownIssuer));
        assert!(text.contains("--ca-file") && text.contains("UnknownIssuer"), "{text}");
        let nested = io::Error::other(certificate(CertificateError::UnknownIssuer));
        assert!(said("https://h:5000/", nested).contains("--ca-file"));
        let text = said("https://h:5000/", certificate(CertificateError::NotValidForName));
        assert!(text.contains("is not for h:"), "{text}");
        let text = said("http://h:5000/", io::Error::from(io::ErrorKind::ConnectionRefused));
        assert_eq!(text, "connection refused");
    }

    #[tokio::test]
    async fn a_listener_that_speaks_no_http_is_named() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base: Url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        tokio::spawn(async move {
            use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 1024]).await;
            // What a TLS server says to a request in the clear: an alert.
            stream.write_all(&[0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x16]).await.unwrap();
            let _ = stream.shutdown().await;
        });
        let _ = rustls::crypto::ring::default_provider().install_default();
        let error = reqwest::Client::builder().no_proxy().build().unwrap().get(base.clone()).send().await;
        let text = why(&base, &error.unwrap_err());
        assert!(text.contains(&format!("name it as https://{}", base.authority())), "{text}");
    }
}
