//! JSON Web Tokens: the keys that sign and verify them, RSA and elliptic curves. Service account tokens are signed as RS256,
//! ES256, ES384 or ES512; those of other issuers also as RS384, RS512, PS256, PS384 or PS512.
//!
//! Every form that upstream's flags take is read: PKCS#1, PKCS#8 and SEC 1 private keys, SPKI and PKCS#1 public keys and
//! certificates, several to a file.

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    self, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair, RsaKeyPair, UnparsedPublicKey, VerificationAlgorithm,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::pem::{PemObject, SectionKind};
use rutter_api::Value;
use serde_json::json;
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

/// Why a key or a signature was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum KeyError {
    /// The file is no PEM.
    #[error("the key file is not valid PEM")]
    Pem,
    /// The file holds no key of a kind that can be used.
    #[error("the key file holds no usable RSA or EC key")]
    NoKey,
    /// A key is broken or of an unsupported size or curve.
    #[error("a key is malformed or of an unsupported size or curve: {0}")]
    Unsupported(&'static str),
    /// The system refused to sign.
    #[error("signing failed")]
    Sign,
    /// The token is not in compact form.
    #[error("the token is malformed")]
    Malformed,
    /// No key has the token's key id.
    #[error("invalid signature, no keys found")]
    NoMatchingKey,
    /// The signature is of none of the keys.
    #[error("invalid signature")]
    BadSignature,
}

/// How a token is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Algorithm {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    Es512,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Es256,
        Self::Es384,
        Self::Es512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
    ];

    /// The name in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
        }
    }

    /// By its name in JSON.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.as_str() == name)
    }

    fn verifier(self) -> &'static dyn VerificationAlgorithm {
        match self {
            Self::Rs256 => &signature::RSA_PKCS1_2048_8192_SHA256,
            Self::Rs384 => &signature::RSA_PKCS1_2048_8192_SHA384,
            Self::Rs512 => &signature::RSA_PKCS1_2048_8192_SHA512,
            Self::Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
            Self::Ps384 => &signature::RSA_PSS_2048_8192_SHA384,
            Self::Ps512 => &signature::RSA_PSS_2048_8192_SHA512,
            Self::Es256 => &signature::ECDSA_P256_SHA256_FIXED,
            Self::Es384 => &signature::ECDSA_P384_SHA384_FIXED,
            Self::Es512 => &signature::ECDSA_P521_SHA512_FIXED,
        }
    }

    /// Whether a key that signs as `key` by default can also sign so.
    fn fits(self, key: Self) -> bool {
        match key {
            Self::Es256 | Self::Es384 | Self::Es512 => self == key,
            _ => !matches!(self, Self::Es256 | Self::Es384 | Self::Es512),
        }
    }
}

/// A public key that verifies tokens.
#[derive(Clone, Debug)]
pub struct VerifyingKey {
    id: String,
    algorithm: Algorithm,
    /// PKCS#1 for RSA, the point for curves.
    key: Vec<u8>,
    jwk: Value,
}

impl VerifyingKey {
    /// All keys in a PEM file; of private keys, the public half.
    pub fn parse_all(pem: &[u8]) -> Result<Vec<Self>, KeyError> {
        let mut keys = Vec::new();
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(pem) {
            let (kind, der) = section.map_err(|_| KeyError::Pem)?;
            let key = match kind {
                SectionKind::PublicKey => Self::from_spki(&der)?,
                SectionKind::Certificate => {
                    let (_, certificate) = X509Certificate::from_der(&der)
                        .map_err(|_| KeyError::Unsupported("not a certificate"))?;
                    Self::from_spki(certificate.public_key().raw)?
                }
                SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey | SectionKind::PrivateKey => {
                    SigningKey::from_der(kind, &der)?.verifying
                }
                _ => continue,
            };
            keys.push(key);
        }
        if keys.is_empty() {
            Err(KeyError::NoKey)
        } else {
            Ok(keys)
        }
    }

    fn from_spki(spki: &[u8]) -> Result<Self, KeyError> {
        let (_, parsed) =
            SubjectPublicKeyInfo::from_der(spki).map_err(|_| KeyError::Unsupported("not a public key"))?;
        let id = URL_SAFE_NO_PAD.encode(Sha256::digest(spki));
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let (algorithm, parameters) = match parsed.parsed() {
            Ok(PublicKey::RSA(rsa)) => {
                let trim = |bytes: &[u8]| {
                    let zeros = bytes.iter().take_while(|b| **b == 0).count();
                    encode(bytes.get(zeros..).unwrap_or_default())
                };
                (
                    Algorithm::Rs256,
                    json!({"kty": "RSA", "n": trim(rsa.modulus), "e": trim(rsa.exponent)}),
                )
            }
            Ok(PublicKey::EC(point)) => {
                let coordinates = point.data().get(1..).unwrap_or_default();
                let (algorithm, curve) = match coordinates.len() {
                    64 => (Algorithm::Es256, "P-256"),
                    96 => (Algorithm::Es384, "P-384"),
                    132 => (Algorithm::Es512, "P-521"),
                    _ => return Err(KeyError::Unsupported("curves are P-256, P-384 and P-521")),
                };
                let (x, y) = coordinates.split_at(coordinates.len() / 2);
                (
                    algorithm,
                    json!({"kty": "EC", "crv": curve, "x": encode(x), "y": encode(y)}),
                )
            }
            _ => return Err(KeyError::Unsupported("keys are RSA or EC")),
        };
        let mut jwk = parameters;
        jwk["use"] = Value::from("sig");
        jwk["kid"] = Value::from(id.as_str());
        jwk["alg"] = Value::from(algorithm.as_str());
        Ok(Self {
            id,
            algorithm,
            key: parsed.subject_public_key.data.to_vec(),
            jwk,
        })
    }

    /// The keys for signatures of a JSON Web Key Set. Keys of kinds that can't be used are left out, as everybody does.
    pub fn of_key_set(set: &Value) -> Vec<Self> {
        let keys = set.get("keys").and_then(Value::as_array).into_iter().flatten();
        keys.filter_map(Self::from_jwk).collect()
    }

    fn from_jwk(jwk: &Value) -> Option<Self> {
        let text = |key: &str| jwk.get(key).and_then(Value::as_str);
        let bytes = |key: &str| URL_SAFE_NO_PAD.decode(text(key)?.trim_end_matches('=')).ok();
        if text("use").is_some_and(|purpose| purpose != "sig") {
            return None;
        }
        let (algorithm, key) = match text("kty")? {
            "RSA" => {
                let numbers = [unsigned(&bytes("n")?), unsigned(&bytes("e")?)].concat();
                (Algorithm::Rs256, element(0x30, &numbers))
            }
            "EC" => {
                let (algorithm, size) = match text("crv")? {
                    "P-256" => (Algorithm::Es256, 32),
                    "P-384" => (Algorithm::Es384, 48),
                    "P-521" => (Algorithm::Es512, 66),
                    _ => return None,
                };
                let mut point = vec![4];
                for coordinate in [bytes("x")?, bytes("y")?] {
                    point.resize(point.len() + size - coordinate.len().min(size), 0);
                    point.extend_from_slice(&coordinate);
                }
                (algorithm, point)
            }
            _ => return None,
        };
        Some(Self {
            id: text("kid").unwrap_or_default().to_owned(),
            algorithm,
            key,
            jwk: jwk.clone(),
        })
    }

    /// The key's id: the hash of its DER, as upstream makes it, or what a key set calls it.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// How it signs.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The key as JSON Web Key.
    pub fn jwk(&self) -> &Value {
        &self.jwk
    }
}

enum Pair {
    Rsa(Box<RsaKeyPair>),
    Ec(EcdsaKeyPair),
}

/// The private key that signs tokens (`--service-account-signing-key-file`).
pub struct SigningKey {
    pair: Pair,
    verifying: VerifyingKey,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey({})", self.verifying.id)
    }
}

impl SigningKey {
    /// The first private key in a PEM file.
    pub fn parse(pem: &[u8]) -> Result<Self, KeyError> {
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(pem) {
            let (kind, der) = section.map_err(|_| KeyError::Pem)?;
            if matches!(
                kind,
                SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey | SectionKind::PrivateKey
            ) {
                return Self::from_der(kind, &der);
            }
        }
        Err(KeyError::NoKey)
    }

    fn from_der(kind: SectionKind, der: &[u8]) -> Result<Self, KeyError> {
        let rsa = match kind {
            SectionKind::EcPrivateKey => None,
            SectionKind::RsaPrivateKey => RsaKeyPair::from_der(der).ok(),
            _ => RsaKeyPair::from_pkcs8(der).ok(),
        };
        if let Some(pair) = rsa {
            let spki: PublicKeyX509Der<'_> = pair
                .public_key()
                .as_der()
                .map_err(|_| KeyError::Unsupported("RSA"))?;
            let verifying = VerifyingKey::from_spki(spki.as_ref())?;
            return Ok(Self {
                pair: Pair::Rsa(Box::new(pair)),
                verifying,
            });
        }
        let curves: [&'static EcdsaSigningAlgorithm; 3] = [
            &signature::ECDSA_P256_SHA256_FIXED_SIGNING,
            &signature::ECDSA_P384_SHA384_FIXED_SIGNING,
            &signature::ECDSA_P521_SHA512_FIXED_SIGNING,
        ];
        for curve in curves {
            let pair = match kind {
                SectionKind::EcPrivateKey => EcdsaKeyPair::from_private_key_der(curve, der),
                _ => EcdsaKeyPair::from_pkcs8(curve, der),
            };
            if let Ok(pair) = pair {
                let spki: PublicKeyX509Der<'_> = pair
                    .public_key()
                    .as_der()
                    .map_err(|_| KeyError::Unsupported("EC"))?;
                let verifying = VerifyingKey::from_spki(spki.as_ref())?;
                return Ok(Self {
                    pair: Pair::Ec(pair),
                    verifying,
                });
            }
        }
        Err(KeyError::Unsupported(
            "keys are RSA (2048 bits or more), P-256, P-384 or P-521",
        ))
    }

    /// Its public half.
    pub fn verifying_key(&self) -> &VerifyingKey {
        &self.verifying
    }

    /// Signs claims into a token.
    pub fn sign(&self, claims: &Value) -> Result<String, KeyError> {
        let header = json!({"alg": self.verifying.algorithm.as_str(), "kid": self.verifying.id});
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", encode(&header), encode(claims));
        let random = SystemRandom::new();
        let signature = match &self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(
                    &signature::RSA_PKCS1_SHA256,
                    &random,
                    message.as_bytes(),
                    &mut signature,
                )
                .map_err(|_| KeyError::Sign)?;
                signature
            }
            Pair::Ec(pair) => pair
                .sign(&random, message.as_bytes())
                .map_err(|_| KeyError::Sign)?
                .as_ref()
                .to_vec(),
        };
        Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

/// Verifies a token's signature with the key that its header names, or any when it names none.
pub fn verify(token: &str, keys: &[VerifyingKey]) -> Result<(), KeyError> {
    // The key decides the algorithm; a header that says another is a forgery.
    verify_as(token, keys, |key, algorithm| key.algorithm == algorithm)
}

/// Verifies the signature of another issuer's token, which may be signed in any of the `allowed` ways.
pub fn verify_foreign(token: &str, keys: &[VerifyingKey], allowed: &[Algorithm]) -> Result<(), KeyError> {
    verify_as(token, keys, |key, algorithm| {
        allowed.contains(&algorithm) && algorithm.fits(key.algorithm)
    })
}

fn verify_as(
    token: &str,
    keys: &[VerifyingKey],
    may: impl Fn(&VerifyingKey, Algorithm) -> bool,
) -> Result<(), KeyError> {
    let (message, signature) = token.rsplit_once('.').ok_or(KeyError::Malformed)?;
    let (header, _) = message.split_once('.').ok_or(KeyError::Malformed)?;
    let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| KeyError::Malformed);
    let header: Value = serde_json::from_slice(&decode(header)?).map_err(|_| KeyError::Malformed)?;
    let signature = decode(signature)?;
    let text = |key: &str| header.get(key).and_then(Value::as_str).unwrap_or_default();
    let id = text("kid");
    // A key of a set that gives it no name may be meant by any name.
    let named = |key: &&VerifyingKey| id.is_empty() || key.id.is_empty() || key.id == id;
    let mut candidates = keys.iter().filter(named).peekable();
    if candidates.peek().is_none() {
        return Err(KeyError::NoMatchingKey);
    }
    let algorithm = Algorithm::parse(text("alg")).ok_or(KeyError::BadSignature)?;
    let good = candidates.filter(|key| may(key, algorithm)).any(|key| {
        UnparsedPublicKey::new(algorithm.verifier(), &key.key)
            .verify(message.as_bytes(), &signature)
            .is_ok()
    });
    if good { Ok(()) } else { Err(KeyError::BadSignature) }
}

/// The claims of a token in compact form, not verified.
pub fn payload(token: &str) -> Option<Value> {
    let mut parts = token.split('.');
    let (_, payload, _) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}

/// A DER element.
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match u8::try_from(content.len()) {
        Ok(short) if short < 0x80 => out.push(short),
        _ => {
            let length = content.len().to_be_bytes();
            let used: Vec<u8> = length.into_iter().skip_while(|byte| *byte == 0).collect();
            out.push(0x80 | u8::try_from(used.len()).unwrap_or_default());
            out.extend(used);
        }
    }
    out.extend_from_slice(content);
    out
}

/// A number that is not negative, in DER.
fn unsigned(bytes: &[u8]) -> Vec<u8> {
    let mut number: Vec<u8> = bytes.iter().copied().skip_while(|byte| *byte == 0).collect();
    if number.first().is_none_or(|first| first & 0x80 != 0) {
        number.insert(0, 0);
    }
    element(0x02, &number)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A public key of RFC 7517 and the token of RFC 7515 (A.2) that it verifies.
    const KEY: &str = r#"{"kty":"RSA","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ","e":"AQAB"}"#;
    const TOKEN: &str = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";

    #[test]
    fn foreign_tokens_verify_by_key_sets_in_the_allowed_ways_alone() {
        let set = |text: &str| -> Value { serde_json::from_str(&format!("{{\"keys\":[{text}]}}")).unwrap() };
        let keys = VerifyingKey::of_key_set(&set(KEY));
        assert_eq!(verify_foreign(TOKEN, &keys, &[Algorithm::Rs256]), Ok(()));
        assert_eq!(
            verify_foreign(TOKEN, &keys, &[Algorithm::Es256, Algorithm::Rs512]),
            Err(KeyError::BadSignature)
        );
        let forged = TOKEN.replacen("eyJpc3MiOiJqb2Ui", "eyJpc3MiOiJqaW0i", 1);
        assert_eq!(
            verify_foreign(&forged, &keys, &Algorithm::ALL),
            Err(KeyError::BadSignature)
        );
        assert_eq!(
            verify_foreign(TOKEN, &[], &Algorithm::ALL),
            Err(KeyError::NoMatchingKey)
        );
        for useless in [
            r#"{"kty":"oct","k":"AA"}"#,
            r#"{"kty":"EC","crv":"secp256k1"}"#,
            r#"{"kty":"RSA"}"#,
            r#"{"kty":"RSA","use":"enc","n":"AQAB","e":"AQAB"}"#,
        ] {
            assert!(VerifyingKey::of_key_set(&set(useless)).is_empty(), "{useless}");
        }
        let signer = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let signer = SigningKey::parse(signer.serialize_pem().as_bytes()).unwrap();
        let keys = VerifyingKey::of_key_set(&json!({"keys": [signer.verifying_key().jwk()]}));
        let token = signer.sign(&json!({"iss": "x"})).unwrap();
        assert_eq!(verify_foreign(&token, &keys, &Algorithm::ALL), Ok(()));
        assert_eq!(payload(&token), Some(json!({"iss": "x"})));
        assert_eq!(payload("a.b"), None);
    }
}
