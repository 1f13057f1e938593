//! The keys that sign and verify tokens: RSA (RS256) and elliptic curves (ES256, ES384, ES512).
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
    Es256,
    Es384,
    Es512,
}

impl Algorithm {
    /// The name in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
        }
    }

    fn verifier(self) -> &'static dyn VerificationAlgorithm {
        match self {
            Self::Rs256 => &signature::RSA_PKCS1_2048_8192_SHA256,
            Self::Es256 => &signature::ECDSA_P256_SHA256_FIXED,
            Self::Es384 => &signature::ECDSA_P384_SHA384_FIXED,
            Self::Es512 => &signature::ECDSA_P521_SHA512_FIXED,
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

    /// The key's id: the hash of its DER, as upstream makes it.
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
    let (message, signature) = token.rsplit_once('.').ok_or(KeyError::Malformed)?;
    let (header, _) = message.split_once('.').ok_or(KeyError::Malformed)?;
    let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| KeyError::Malformed);
    let header: Value = serde_json::from_slice(&decode(header)?).map_err(|_| KeyError::Malformed)?;
    let signature = decode(signature)?;
    let text = |key: &str| header.get(key).and_then(Value::as_str).unwrap_or_default();
    let (id, algorithm) = (text("kid"), text("alg"));
    let mut candidates = keys.iter().filter(|key| id.is_empty() || key.id == id).peekable();
    if candidates.peek().is_none() {
        return Err(KeyError::NoMatchingKey);
    }
    // The key decides the algorithm; a header that says another is a forgery.
    let good = candidates
        .filter(|key| key.algorithm.as_str() == algorithm)
        .any(|key| {
            UnparsedPublicKey::new(key.algorithm.verifier(), &key.key)
                .verify(message.as_bytes(), &signature)
                .is_ok()
        });
    if good { Ok(()) } else { Err(KeyError::BadSignature) }
}
