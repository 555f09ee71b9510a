use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures::future::BoxFuture;
use sidewall_policy::model::NamespacedName;

use super::*;
use crate::authority::Bearer;

const HOUR: Duration = Duration::from_secs(3600);

/// Counts questions; knows tokens that begin with `good`, and pods of nobody.
#[derive(Default)]
struct Counting {
    asked: AtomicUsize,
    away: AtomicBool,
}

impl Counting {
    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Authority for Counting {
    fn review<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Review, Unavailable>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let review = if self.away.load(Ordering::Relaxed) {
            Err(Unavailable("away".to_owned()))
        } else if token.starts_with("good") {
            Ok(good(token))
        } else {
            Ok(bad())
        };
        Box::pin(std::future::ready(review))
    }

    fn account_of<'a>(
        &'a self,
        _: &'a NamespacedName,
    ) -> BoxFuture<'a, Result<Option<NamespacedName>, Unavailable>> {
        Box::pin(std::future::pending())
    }
}

fn good(name: &str) -> Review {
    Review::Authenticated(Bearer {
        account: NamespacedName::new("shop", name),
        pod: None,
        pod_uid: None,
        node: None,
    })
}

fn bad() -> Review {
    Review::Rejected("unknown".to_owned())
}

fn token(secret: &str, expires: SystemTime) -> Token<'_> {
    let mut digest = [0; 32];
    digest[..secret.len()].copy_from_slice(secret.as_bytes());
    Token {
        secret,
        digest,
        expires,
    }
}

#[tokio::test]
async fn one_question_a_token() {
    let authority = Arc::new(Counting::default());
    let reviews = Reviews::new(authority.clone());
    let later = SystemTime::now() + HOUR;
    for secret in ["good1", "good1", "good2", "good1", "bad", "bad"] {
        let review = reviews.review(&token(secret, later)).await;
        let expected = if secret == "bad" { bad() } else { good(secret) };
        assert_eq!(review, Ok(expected));
    }
    assert_eq!(authority.asked(), 3);
}

#[tokio::test]
async fn while_nobody_answers_what_is_remembered_goes_on() {
    let authority = Arc::new(Counting::default());
    let reviews = Reviews::new(authority.clone());
    let later = SystemTime::now() + HOUR;
    reviews.review(&token("good1", later)).await.unwrap();
    authority.away.store(true, Ordering::Relaxed);
    reviews.review(&token("good1", later)).await.unwrap();
    reviews.review(&token("good2", later)).await.unwrap_err();
    authority.away.store(false, Ordering::Relaxed);
    // That nobody answered is not remembered.
    reviews.review(&token("good2", later)).await.unwrap();
}

#[test]
fn acceptance_is_remembered_for_a_minute_and_rejection_for_less() {
    let now = SystemTime::UNIX_EPOCH;
    let mut memory = Memory::default();
    for (secret, review, longest) in [("good", good("good"), ACCEPTED), ("bad", bad(), REJECTED)] {
        let token = token(secret, now + HOUR);
        memory.keep(&token, review.clone(), now);
        let last = now + longest - Duration::from_millis(1);
        assert_eq!(memory.get(&token, last), Some(review));
        assert_eq!(memory.get(&token, now + longest), None);
    }
}

#[test]
fn nothing_is_remembered_beyond_the_tokens_end() {
    let now = SystemTime::UNIX_EPOCH;
    let mut memory = Memory::default();
    let token = token("good", now + Duration::from_secs(3));
    memory.keep(&token, good("good"), now);
    assert_eq!(memory.get(&token, token.expires), None);
}

#[test]
fn memory_has_an_end() {
    let now = SystemTime::UNIX_EPOCH;
    let mut memory = Memory::default();
    for number in 0..=MOST {
        memory.keep(&token(&number.to_string(), now + HOUR), bad(), now);
    }
    assert_eq!(memory.kept.len(), MOST);
    let late = token("late", now + HOUR);
    memory.keep(&late, bad(), now + REJECTED);
    assert_eq!(memory.kept.len(), 1, "what is over makes room");
}

#[tokio::test]
async fn a_question_that_has_no_turn_is_given_up() {
    let reviews = Reviews::new(Arc::new(Counting::default()));
    let _asked = reviews.questions.acquire_many(QUESTIONS as u32).await;
    let token = token("good", SystemTime::now() + HOUR);
    // It waits for its turn, for five seconds.
    let refused = reviews.review(&token).await.unwrap_err();
    assert!(refused.0.contains("unanswered"), "{refused}");
}
