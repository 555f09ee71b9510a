//! The API server's verdicts, remembered for a short time.
//!
//! A distributor that restarts, or an API server that stumbles, would otherwise meet one question
//! for every attempt of every client. Tokens are remembered by their SHA-256 digest: a weaker hash
//! could be made to collide, and one pod would be taken for another.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::token::Token;
use crate::authority::{Authority, Review, Unavailable};

/// A token that was withdrawn, because its pod is gone, may open streams for this long.
const ACCEPTED: Duration = Duration::from_secs(60);
/// A client that is refused comes back twice a second. What stood in its way may pass: the API
/// server may have heard of its pod by then.
const REJECTED: Duration = Duration::from_secs(5);

/// More are not remembered. A distributor has one client a pod, and each entry is some 200 bytes.
const MOST: usize = 65_536;

/// How many questions may be open at the same time.
const QUESTIONS: usize = 64;
/// How long a client waits for its turn before it is told to come back.
const TURN: Duration = Duration::from_secs(5);

/// An authority, and what it said last.
pub(super) struct Reviews {
    authority: Arc<dyn Authority>,
    questions: Semaphore,
    memory: Mutex<Memory>,
}

/// Verdicts by the digests of tokens.
#[derive(Default)]
struct Memory {
    kept: HashMap<[u8; 32], Kept>,
}

struct Kept {
    review: Review,
    until: SystemTime,
}

impl Reviews {
    pub(super) fn new(authority: Arc<dyn Authority>) -> Self {
        Self {
            authority,
            questions: Semaphore::new(QUESTIONS),
            memory: Mutex::default(),
        }
    }

    /// What the authority says of a token, or said a moment ago.
    pub(super) async fn review(&self, token: &Token<'_>) -> Result<Review, Unavailable> {
        if let Some(review) = self.memory().get(token, SystemTime::now()) {
            return Ok(review);
        }
        let review = self.in_turn(self.authority.review(token.secret)).await?;
        self.memory().keep(token, review.clone(), SystemTime::now());
        Ok(review)
    }

    /// Asks, when it is this question's turn.
    pub(super) async fn in_turn<T>(
        &self,
        question: impl Future<Output = Result<T, Unavailable>>,
    ) -> Result<T, Unavailable> {
        let turn = timeout(TURN, self.questions.acquire()).await;
        let Ok(Ok(_turn)) = turn else {
            return Err(Unavailable(format!(
                "{QUESTIONS} questions are unanswered already"
            )));
        };
        question.await
    }

    /// The authority itself, for questions whose answers are not remembered.
    pub(super) fn authority(&self) -> &dyn Authority {
        self.authority.as_ref()
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        // No method leaves it half changed.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    fn get(&self, token: &Token<'_>, now: SystemTime) -> Option<Review> {
        let kept = self.kept.get(&token.digest)?;
        (kept.until > now).then(|| kept.review.clone())
    }

    fn keep(&mut self, token: &Token<'_>, review: Review, now: SystemTime) {
        let longest = match review {
            Review::Authenticated(_) => ACCEPTED,
            Review::Rejected(_) => REJECTED,
        };
        if self.kept.len() >= MOST {
            self.kept.retain(|_, kept| kept.until > now);
        }
        if self.kept.len() < MOST {
            // Never beyond the token's own end.
            let until = token.expires.min(now + longest);
            self.kept.insert(token.digest, Kept { review, until });
        }
    }
}

#[cfg(test)]
mod tests;
