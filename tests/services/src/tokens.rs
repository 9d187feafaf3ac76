//! Tokens, good and forged, and the keys that sign them. Every run makes its own keys.

use std::sync::LazyLock;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, encode, jwk::Jwk};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PKCS_RSA_SHA256, SignatureAlgorithm};
use serde_json::{Value, json};

/// A secret that is long enough.
pub const SECRET: &str = "a secret of tests, as long as it must be";

/// Somebody who signs.
pub struct Signer {
    /// How.
    pub algorithm: Algorithm,
    /// The public half of the key, in PEM; nothing of a secret.
    pub public_pem: String,
    /// The private half, in PEM.
    pub private_pem: String,
    key: EncodingKey,
    public: Option<DecodingKey>,
}

type ReadKey = fn(&[u8]) -> jsonwebtoken::errors::Result<EncodingKey>;
type ReadPublicKey = fn(&[u8]) -> jsonwebtoken::errors::Result<DecodingKey>;

impl Signer {
    /// One who signs by HMAC.
    #[must_use]
    pub fn secret(secret: &str) -> Self {
        let key = EncodingKey::from_secret(secret.as_bytes());
        Self { algorithm: Algorithm::HS256, public_pem: String::new(), private_pem: String::new(), key, public: None }
    }

    fn pair(
        kind: &'static SignatureAlgorithm,
        algorithm: Algorithm,
        read: ReadKey,
        read_public: ReadPublicKey,
    ) -> Option<Self> {
        let pair = KeyPair::generate_for(kind).ok()?;
        let (public_pem, private_pem) = (pair.public_key_pem(), pair.serialize_pem());
        let key = read(private_pem.as_bytes()).ok()?;
        let public = read_public(public_pem.as_bytes()).ok()?;
        Some(Self { algorithm, public_pem, private_pem, key, public: Some(public) })
    }

    /// A token with these claims.
    ///
    /// # Panics
    /// The claims cannot be signed.
    #[must_use]
    pub fn sign(&self, claims: &Value) -> String {
        self.sign_under(&Header::new(self.algorithm), claims)
    }

    /// A token with these claims whose head names the key.
    #[must_use]
    pub fn sign_as(&self, key_id: &str, claims: &Value) -> String {
        self.sign_under(&Header { kid: Some(key_id.to_owned()), ..Header::new(self.algorithm) }, claims)
    }

    fn sign_under(&self, head: &Header, claims: &Value) -> String {
        encode(head, claims, &self.key).unwrap_or_default()
    }

    /// A token of whatever head and claims, which need not be JSON; the signature is right.
    #[must_use]
    pub fn sign_raw(&self, head: &[u8], claims: &[u8]) -> String {
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(head), URL_SAFE_NO_PAD.encode(claims));
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &self.key, self.algorithm).unwrap_or_default();
        format!("{message}.{signature}")
    }

    /// The public half as an issuer publishes it.
    #[must_use]
    pub fn jwk(&self, key_id: &str) -> Value {
        let public = self.public.as_ref().and_then(|key| Jwk::from_decoding_key(key, None).ok());
        let mut key = json!(public);
        key["kid"] = json!(key_id);
        key
    }
}

macro_rules! signer {
    ($(#[doc = $doc:literal])+ $name:ident, $kind:ident, $algorithm:ident, $read:ident, $read_public:ident) => {
        $(#[doc = $doc])+
        ///
        /// # Panics
        /// The machine has no randomness.
        #[must_use]
        pub fn $name() -> &'static Signer {
            static SIGNER: LazyLock<Option<Signer>> = LazyLock::new(|| {
                Signer::pair(&$kind, Algorithm::$algorithm, EncodingKey::$read, DecodingKey::$read_public)
            });
            SIGNER.as_ref().unwrap_or_else(|| unreachable!("a key can be made wherever there is randomness"))
        }
    };
}

signer!(/// One who signs by RSA, the same in the whole process.
    rsa_signer, PKCS_RSA_SHA256, RS256, from_rsa_pem, from_rsa_pem);
signer!(/// Another one who signs by RSA.
    other_rsa_signer, PKCS_RSA_SHA256, RS256, from_rsa_pem, from_rsa_pem);
signer!(/// One who signs by ECDSA on the curve P-256.
    ec_signer, PKCS_ECDSA_P256_SHA256, ES256, from_ec_pem, from_ec_pem);
signer!(/// One who signs by Ed25519.
    ed_signer, PKCS_ED25519, EdDSA, from_ed_pem, from_ed_pem);
signer!(/// Another one who signs by Ed25519.
    other_ed_signer, PKCS_ED25519, EdDSA, from_ed_pem, from_ed_pem);
