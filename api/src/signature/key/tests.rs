//! Keys that `openssl` wrote, those that are taken and those that are not, and damaged ones.

use super::*;

macro_rules! pem {
    ($name:literal) => {
        include_str!(concat!("../fixtures/keys/", $name, ".pem"))
    };
}

#[test]
fn keys_of_four_kinds_are_read() {
    for (pem, kind) in [
        (pem!("ecdsa-p256"), "ECDSA P-256"),
        (pem!("ecdsa-p384"), "ECDSA P-384"),
        (pem!("ed25519"), "Ed25519"),
        (pem!("rsa-2048"), "RSA"),
        (pem!("rsa-4096"), "RSA"),
    ] {
        let key = PublicKey::from_pem(pem).unwrap();
        assert_eq!(key.kind(), kind);
        // As YAML may have it: on lines of Windows, indented, without its last line's end.
        for spelled in [pem.replace('\n', "\r\n"), pem.replace('\n', "\n  "), pem.trim().to_owned()] {
            assert_eq!(PublicKey::from_pem(&spelled), Ok(key.clone()));
        }
        assert!(!key.verifies(b"message", b"") && !key.verifies(b"", &[0; 64]));
    }
}

#[test]
fn other_keys_are_refused_and_the_reason_said() {
    let check =
        |pem: &str, expected: InvalidKey| assert_eq!(PublicKey::from_pem(pem), Err(expected), "{pem}");
    check(pem!("ecdsa-p521"), InvalidKey::Unsupported("ECDSA on this curve"));
    check(pem!("ecdsa-compressed"), InvalidKey::Unsupported("ECDSA with a compressed point"));
    check(pem!("ecdsa-explicit"), InvalidKey::Unsupported("a curve without a name"));
    check(pem!("ecdsa-off-curve"), InvalidKey::Numbers("ECDSA key"));
    check(pem!("ed448"), InvalidKey::Unsupported("a key of this algorithm"));
    check(pem!("rsa-pss"), InvalidKey::Unsupported("RSA with PSS"));
    check(pem!("rsa-1024"), InvalidKey::RsaSize { bits: 1024 });
    check(pem!("rsa-16384"), InvalidKey::RsaSize { bits: 16384 });
    for (pem, how) in [(pem!("rsa-pkcs1"), "openssl rsa"), (pem!("certificate"), "openssl x509")] {
        assert!(PublicKey::from_pem(pem).unwrap_err().to_string().contains(how));
    }
}

#[test]
fn a_key_that_any_signature_would_fit_is_refused() {
    let der = decode(pem!("ed25519")).unwrap();
    // Points of order 4 and 1, and one that is not on the curve.
    for (first, rest) in [(0, 0), (1, 0), (2, 0)] {
        let mut der = der.clone();
        let point = der.len() - 32;
        der[point..].fill(rest);
        der[point] = first;
        let pem =
            format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(&der));
        assert_eq!(PublicKey::from_pem(&pem), Err(InvalidKey::Numbers("Ed25519 key")));
    }
}

#[test]
fn what_is_no_block_is_refused() {
    let good = pem!("ecdsa-p256").trim();
    for text in [
        String::new(),
        "acme-release".to_owned(),
        good[26..].to_owned(),
        good[..good.len() - 5].to_owned(),
        format!("{good}\n{good}"),
        format!("{good}\nand more"),
        format!("comment\n{good}"),
        "-----BEGIN PUBLIC KEY-----".to_owned(),
        " ".repeat(1 << 20),
    ] {
        assert_eq!(PublicKey::from_pem(&text), Err(InvalidKey::NotPem), "{text}");
    }
    let private = "-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\nc2VjcmV0\n-----END ENCRYPTED SIGSTORE PRIVATE KEY-----";
    let why = PublicKey::from_pem(private).unwrap_err();
    assert_eq!(why, InvalidKey::Private);
    assert!(!why.to_string().contains("c2VjcmV0"));
}

#[test]
fn no_damage_panics_and_none_leaves_the_key_as_it_was() {
    for pem in [pem!("ecdsa-p256"), pem!("ed25519"), pem!("rsa-2048")] {
        let der = decode(pem).unwrap();
        let key = PublicKey::from_pem(pem).unwrap();
        let written = |der: &[u8]| {
            format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der))
        };
        assert_eq!(PublicKey::from_pem(&written(&der)), Ok(key.clone()));
        for at in 0..der.len() {
            assert!(PublicKey::from_pem(&written(&der[..at])).is_err(), "the first {at} bytes are a key");
            let mut damaged = der.clone();
            damaged[at] ^= 1;
            // RSA's NULL, and a set bit within a number, leave a key: another one, or none.
            if let Ok(read) = PublicKey::from_pem(&written(&damaged)) {
                assert!(read != key || at < der.len() - key.bytes.len(), "byte {at}");
            }
        }
        let longer = [der.as_slice(), &[0]].concat();
        assert!(PublicKey::from_pem(&written(&longer)).is_err());
    }
}
