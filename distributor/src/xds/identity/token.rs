//! A bearer token as it was shown: taken from the header, and read as far as that can spare the API
//! server a question.
//!
//! What it says of itself is not believed: the claims read here can only make a token refused, or a
//! stream end. Whether it is genuine is for the API server to say.

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use tonic::metadata::MetadataMap;

use super::Refusal;

/// A token of a pod has about 1.5 KB.
const LONGEST: usize = 16 << 10;

/// A token that may be worth asking about.
pub(super) struct Token<'a> {
    /// The secret itself, for the API server's eyes alone.
    pub(super) secret: &'a str,
    /// What it is remembered by.
    pub(super) digest: [u8; 32],
    /// When it expires, as it says itself.
    pub(super) expires: SystemTime,
}

#[derive(Deserialize)]
struct Claims {
    exp: u64,
    #[serde(default)]
    aud: Audiences,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audiences {
    One(String),
    Many(Vec<String>),
}

impl Default for Audiences {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

/// The token that a call carries, if it carries one.
///
/// # Errors
/// When the header holds something else, or the token is meant for somebody else or out of date.
pub(super) fn shown<'a>(
    metadata: &'a MetadataMap,
    audience: &str,
    now: SystemTime,
) -> Result<Option<Token<'a>>, Refusal> {
    let mut headers = metadata.get_all("authorization").iter();
    let Some(header) = headers.next() else {
        return Ok(None);
    };
    if headers.next().is_some() {
        return Err(Refusal::MalformedToken("there are two of them"));
    }
    let secret = header
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, secret)| secret.trim())
        .ok_or(Refusal::MalformedToken("it is not \"Bearer TOKEN\""))?;
    let claims = claims(secret).map_err(Refusal::MalformedToken)?;
    let found = match claims.aud {
        Audiences::One(one) => vec![one],
        Audiences::Many(many) => many,
    };
    if !found.iter().any(|found| found == audience) {
        let expected = audience.to_owned();
        return Err(Refusal::TokenAudience { found, expected });
    }
    let expires = SystemTime::UNIX_EPOCH
        .checked_add(Duration::from_secs(claims.exp))
        .ok_or(Refusal::MalformedToken("its expiry is no time"))?;
    if expires <= now {
        return Err(Refusal::TokenExpired);
    }
    Ok(Some(Token {
        secret,
        digest: Sha256::digest(secret).into(),
        expires,
    }))
}

fn claims(secret: &str) -> Result<Claims, &'static str> {
    if secret.len() > LONGEST {
        return Err("it is longer than any token");
    }
    let mut parts = secret.split('.');
    let (Some(_), Some(payload), Some(_), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err("it is no JSON Web Token");
    };
    let payload = URL_SAFE_NO_PAD
        .decode(payload)
        .map_err(|_| "its claims are not base64")?;
    serde_json::from_slice(&payload).map_err(|_| "its claims are not JSON with an expiry (exp)")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(claims: &str) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn carrying(header: &str) -> MetadataMap {
        let mut metadata = MetadataMap::new();
        metadata.insert("authorization", header.parse().unwrap());
        metadata
    }

    fn refusal(header: &str) -> String {
        match shown(&carrying(header), "sidewall", at(1000)) {
            Err(refusal) => refusal.to_string(),
            Ok(_) => panic!("{header:?} passes"),
        }
    }

    #[test]
    fn no_header_is_no_token() {
        let metadata = MetadataMap::new();
        assert!(shown(&metadata, "sidewall", at(1000)).unwrap().is_none());
    }

    #[test]
    fn a_token_tells_its_expiry_and_is_remembered_by_its_digest() {
        for audiences in [r#""sidewall""#, r#"["x", "sidewall"]"#] {
            let secret = token(&format!(r#"{{"exp": 1001, "aud": {audiences}}}"#));
            let metadata = carrying(&format!("bearer {secret}"));
            let shown = shown(&metadata, "sidewall", at(1000)).unwrap().unwrap();
            assert_eq!(shown.secret, secret);
            assert_eq!(shown.expires, at(1001));
            assert_eq!(shown.digest, <[u8; 32]>::from(Sha256::digest(&secret)));
        }
    }

    #[test]
    fn what_is_no_token_is_told_why() {
        let long = "x".repeat(LONGEST + 1);
        for (header, reason) in [
            ("Basic dXNlcg==", "it is not \"Bearer TOKEN\""),
            ("Bearer", "it is not \"Bearer TOKEN\""),
            ("Bearer abc", "it is no JSON Web Token"),
            ("Bearer a.b.c.d", "it is no JSON Web Token"),
            ("Bearer a.!.c", "its claims are not base64"),
            (&format!("Bearer {long}"), "it is longer than any token"),
            (
                &format!("Bearer {}", token("[]")),
                "its claims are not JSON with an expiry (exp)",
            ),
            (
                &format!("Bearer {}", token(r#"{"aud": "sidewall"}"#)),
                "its claims are not JSON with an expiry (exp)",
            ),
        ] {
            let refusal = refusal(header);
            assert!(refusal.ends_with(reason), "{header}: {refusal}");
        }
        let mut two = carrying("Bearer a.b.c");
        two.append("authorization", "Bearer a.b.c".parse().unwrap());
        let refused = shown(&two, "sidewall", at(1000)).err();
        assert_eq!(
            refused,
            Some(Refusal::MalformedToken("there are two of them"))
        );
    }

    #[test]
    fn a_refusal_never_shows_the_token() {
        let secret = token(r#"{"exp": 999, "aud": "sidewall"}"#);
        assert!(!refusal(&format!("Bearer {secret}")).contains(&secret));
    }

    #[test]
    fn audience_and_expiry_are_looked_at_before_anybody_is_asked() {
        let other = format!("Bearer {}", token(r#"{"exp": 1001, "aud": ["vault"]}"#));
        assert_eq!(
            refusal(&other),
            "the token is for the audiences [\"vault\"], not for \"sidewall\""
        );
        let none = format!("Bearer {}", token(r#"{"exp": 1001}"#));
        assert!(refusal(&none).contains("audiences []"));
        let old = format!("Bearer {}", token(r#"{"exp": 1000, "aud": "sidewall"}"#));
        assert!(refusal(&old).starts_with("the token has expired"));
        let never = format!(
            "Bearer {}",
            token(r#"{"exp": 18446744073709551615, "aud": "sidewall"}"#)
        );
        assert!(refusal(&never).ends_with("its expiry is no time"));
    }
}
