//! The ciphers with their keys: what they seal is the bytes that upstream's seal.
//!
//! AES-GCM binds a value to its key in the store; AES-CBC and secretbox can't.

use aws_lc_rs::aead::{
    AES_128_GCM, AES_192_GCM, AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey,
};
use aws_lc_rs::cipher::{
    AES_128, AES_192, AES_256, DecryptionContext, PaddedBlockDecryptingKey, PaddedBlockEncryptingKey,
    UnboundCipherKey,
};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::rand::fill;
use crypto_secretbox::aead::Aead;
use crypto_secretbox::{KeyInit, XSalsa20Poly1305};

/// How long the seed and the info of [`Seed`] are, in bytes.
pub const SEED: usize = 32;
const BLOCK: usize = 16;
const SECRETBOX_NONCE: usize = 24;

/// A local key with its cipher.
pub enum Cipher {
    /// AES in Galois counter mode, random nonces.
    Gcm(Gcm),
    /// AES in cipher block chaining mode, PKCS #7 padding.
    Cbc(Box<(PaddedBlockEncryptingKey, PaddedBlockDecryptingKey)>),
    /// XSalsa20 and Poly1305.
    Secretbox(XSalsa20Poly1305),
}

impl Cipher {
    /// AES-GCM with a key of 16, 24 or 32 bytes.
    pub fn gcm(key: &[u8]) -> Result<Self, String> {
        Gcm::new(key).map(Self::Gcm)
    }

    /// AES-CBC with a key of 16, 24 or 32 bytes.
    pub fn cbc(key: &[u8]) -> Result<Self, String> {
        let algorithm = match key.len() {
            16 => &AES_128,
            24 => &AES_192,
            32 => &AES_256,
            other => return Err(format!("a key of {other} bytes is none of AES")),
        };
        let unbound = || UnboundCipherKey::new(algorithm, key).map_err(refused("the key"));
        let seal = PaddedBlockEncryptingKey::cbc_pkcs7(unbound()?).map_err(refused("the key"))?;
        let open = PaddedBlockDecryptingKey::cbc_pkcs7(unbound()?).map_err(refused("the key"))?;
        Ok(Self::Cbc(Box::new((seal, open))))
    }

    /// Secretbox with a key of 32 bytes.
    pub fn secretbox(key: &[u8]) -> Result<Self, String> {
        let cipher = XSalsa20Poly1305::new_from_slice(key);
        cipher
            .map(Self::Secretbox)
            .map_err(|_| format!("a key of {} bytes is none of secretbox", key.len()))
    }

    /// Appends the sealed value to `out`.
    pub fn seal(&self, bound: &str, value: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
        match self {
            Self::Gcm(gcm) => gcm.seal(bound, value, out),
            Self::Cbc(keys) => {
                let mut sealed = value.to_vec();
                let with = keys.0.encrypt(&mut sealed).map_err(refused("the value"))?;
                let DecryptionContext::Iv128(iv) = with else {
                    return Err("the cipher gave no initial vector".to_owned());
                };
                out.extend_from_slice(iv.as_ref());
                out.extend_from_slice(&sealed);
                Ok(())
            }
            Self::Secretbox(cipher) => {
                let mut nonce = [0; SECRETBOX_NONCE];
                fill(&mut nonce).map_err(refused("randomness"))?;
                let sealed = cipher
                    .encrypt(&nonce.into(), value)
                    .map_err(refused("the value"))?;
                out.extend_from_slice(&nonce);
                out.extend_from_slice(&sealed);
                Ok(())
            }
        }
    }

    /// The value.
    pub fn open(&self, bound: &str, sealed: &[u8]) -> Result<Vec<u8>, String> {
        match self {
            Self::Gcm(gcm) => gcm.open(bound, sealed),
            Self::Cbc(keys) => {
                let (iv, sealed) = sealed.split_at_checked(BLOCK).ok_or_else(too_short)?;
                if sealed.is_empty() || sealed.len() % BLOCK != 0 {
                    return Err("the stored data is not a multiple of the block size".to_owned());
                }
                let iv = FixedLength::try_from(iv).map_err(refused("the initial vector"))?;
                let mut value = sealed.to_vec();
                let opened = keys.1.decrypt(&mut value, DecryptionContext::Iv128(iv));
                let length = opened.map_err(|_| "invalid padding on input".to_owned())?.len();
                value.truncate(length);
                Ok(value)
            }
            Self::Secretbox(cipher) => {
                let (nonce, sealed) = sealed.split_at_checked(SECRETBOX_NONCE).ok_or_else(too_short)?;
                let nonce: [u8; SECRETBOX_NONCE] = nonce.try_into().map_err(refused("the nonce"))?;
                let opened = cipher.decrypt(&nonce.into(), sealed);
                opened.map_err(|_| "output array was not large enough for encryption".to_owned())
            }
        }
    }
}

/// AES in Galois counter mode.
pub struct Gcm(LessSafeKey);

impl Gcm {
    /// With a key of 16, 24 or 32 bytes.
    pub fn new(key: &[u8]) -> Result<Self, String> {
        let algorithm = match key.len() {
            16 => &AES_128_GCM,
            24 => &AES_192_GCM,
            32 => &AES_256_GCM,
            other => return Err(format!("a key of {other} bytes is none of AES")),
        };
        let key = UnboundKey::new(algorithm, key).map_err(refused("the key"))?;
        Ok(Self(LessSafeKey::new(key)))
    }

    fn seal(&self, bound: &str, value: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
        let mut nonce = [0; NONCE_LEN];
        fill(&mut nonce).map_err(refused("randomness"))?;
        out.extend_from_slice(&nonce);
        let from = out.len();
        out.extend_from_slice(value);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let sealed = out.get_mut(from..).unwrap_or_default();
        let tag = self
            .0
            .seal_in_place_separate_tag(nonce, Aad::from(bound), sealed)
            .map_err(refused("the value"))?;
        out.extend_from_slice(tag.as_ref());
        Ok(())
    }

    fn open(&self, bound: &str, sealed: &[u8]) -> Result<Vec<u8>, String> {
        let (nonce, sealed) = sealed.split_at_checked(NONCE_LEN).ok_or_else(too_short)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(refused("the nonce"))?;
        let mut value = sealed.to_vec();
        let opened = self.0.open_in_place(nonce, Aad::from(bound), &mut value);
        let length = opened
            .map_err(|_| "cipher: message authentication failed".to_owned())?
            .len();
        value.truncate(length);
        Ok(value)
    }
}

/// A seed from which each value's own AES-GCM key is made, by HKDF's second step over random bytes that precede the value.
pub struct Seed(Prk);

struct DerivedLength;

impl KeyType for DerivedLength {
    fn len(&self) -> usize {
        32
    }
}

impl Seed {
    /// Of at least 32 bytes.
    pub fn new(seed: &[u8]) -> Result<Self, String> {
        if seed.len() < SEED {
            return Err(format!(
                "invalid seed length {} used for key generation",
                seed.len()
            ));
        }
        Ok(Self(Prk::new_less_safe(HKDF_SHA256, seed)))
    }

    fn derived(&self, info: &[u8]) -> Result<Gcm, String> {
        let mut key = [0; 32];
        let parts = [info];
        let derived = self
            .0
            .expand(&parts, DerivedLength)
            .map_err(refused("the seed"))?;
        derived.fill(&mut key).map_err(refused("the seed"))?;
        Gcm::new(&key)
    }

    /// The sealed value.
    pub fn seal(&self, bound: &str, value: &[u8]) -> Result<Vec<u8>, String> {
        let mut info = [0; SEED];
        fill(&mut info).map_err(refused("randomness"))?;
        let mut out = info.to_vec();
        self.derived(&info)?.seal(bound, value, &mut out)?;
        Ok(out)
    }

    /// The value.
    pub fn open(&self, bound: &str, sealed: &[u8]) -> Result<Vec<u8>, String> {
        let (info, sealed) = sealed.split_at_checked(SEED).ok_or_else(too_short)?;
        self.derived(info)?.open(bound, sealed)
    }
}

fn too_short() -> String {
    "the stored data was shorter than the required size".to_owned()
}

fn refused<E>(what: &'static str) -> impl FnOnce(E) -> String {
    move |_| format!("the cipher refused {what}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unhex(text: &str) -> Vec<u8> {
        let digits = text.as_bytes().chunks(2);
        digits
            .map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap())
            .collect()
    }

    #[test]
    fn what_is_sealed_is_opened_by_the_same_key_alone() {
        type Make = fn(&[u8]) -> Result<Cipher, String>;
        let makers: [(&str, Make, &[usize], bool); 3] = [
            ("aesgcm", Cipher::gcm, &[16, 24, 32], true),
            ("aescbc", Cipher::cbc, &[16, 24, 32], false),
            ("secretbox", Cipher::secretbox, &[32], false),
        ];
        for (name, make, lengths, binds) in makers {
            assert!(make(&[1; 31]).is_err(), "{name}");
            for length in lengths {
                let cipher = make(&vec![7; *length]).unwrap();
                let other = make(&vec![8; *length]).unwrap();
                for value in [&b""[..], b"x", &[3; 16], &[4; 1000]] {
                    let (mut sealed, mut again) = (Vec::new(), Vec::new());
                    cipher.seal("/registry/a", value, &mut sealed).unwrap();
                    cipher.seal("/registry/a", value, &mut again).unwrap();
                    assert_ne!(sealed, again, "{name}: two nonces are never the same");
                    assert_eq!(cipher.open("/registry/a", &sealed).unwrap(), value, "{name}");
                    assert_ne!(other.open("/registry/a", &sealed).as_deref(), Ok(value), "{name}");
                    assert_eq!(cipher.open("/registry/b", &sealed).is_err(), binds, "{name}");
                    assert!(cipher.open("/registry/a", &sealed[..7]).is_err(), "{name}");
                }
            }
        }
        let seed = Seed::new(&[5; 32]).unwrap();
        let sealed = seed.seal("/registry/a", b"value").unwrap();
        assert_eq!(seed.open("/registry/a", &sealed).unwrap(), b"value");
        assert!(seed.open("/registry/b", &sealed).is_err());
        assert!(Seed::new(&[5; 31]).is_err());
    }

    #[test]
    fn known_answers_of_the_ciphers() {
        // NaCl's own test of secretbox: the nonce before, then authenticator and text.
        let key = unhex("1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389");
        let sealed = "69696ee955b62b73cd62bda875fc73d68219e0036b7a0b37f3ffc7703f9400e52a7dfb4b3d3305d98e993b9f48681273c29650ba32fc76ce\
48332ea7164d96a4476fb8c531a1186ac0dfc17c98dce87b4da7f011ec48c97271d2c20f9b928fe2270d6fb863d51738b48eeee314a7cc8ab932164548e526ae90\
224368517acfeabd6bb3732bc0e9da99832b61ca01b6de56244a9e88d5f9b37973f622a43d14a6599b1f654cb45a74e355a5";
        let value = Cipher::secretbox(&key).unwrap().open("", &unhex(sealed)).unwrap();
        assert_eq!(value[..8], unhex("be075fc53c81f2d5")[..]);
        assert_eq!(value.len(), 131);
        // NIST SP 800-38A F.2.5, its first block, with the padding that PKCS #7 adds sealed by another implementation of AES.
        let key = unhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4");
        let sealed = unhex(concat!(
            "000102030405060708090a0b0c0d0e0f",
            "f58c4c04d6e5f1ba779eabfb5f7bfbd6",
            "485a5c81519cf378fa36d42b8547edc0"
        ));
        let value = Cipher::cbc(&key).unwrap().open("", &sealed).unwrap();
        assert_eq!(value, unhex("6bc1bee22e409f96e93d7e117393172a"));
    }
}
