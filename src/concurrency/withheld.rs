//! Permits that are kept back for a while after refusals.
//!
//! A refusal now and then is chance, and its permit is used again at once. When refusals follow
//! each other, each one withholds a permit until some calls were answered, or for a time if none
//! are. Both double with each further refusal, up to 64 answers, and halve when calls are answered
//! without one. If one call in sixteen is refused at random, this keeps back nearly nothing. If the
//! server has fewer threads than the limit allows, it keeps back the difference most of the time.
//! If the server has no thread at all, it is tried every 64 milliseconds with each permit.
use super::Micros;

/// A refusal is more than chance if at most so many calls were answered since a permit was given
/// back, and one more for each so many permits: the call that it allowed may be the refused one.
const NEAR: usize = 2;
const PERMITS: usize = 8;
/// After at least so many answers without a refusal, permits are withheld for half as long.
const CALM: u64 = 8;
/// A permit is withheld for at most so many answers.
const MAX_ANSWERS: u32 = 64;
/// And for this time per answer, if the pace of answers is not known or they stop.
const PER_ANSWER: Micros = 1_000;
/// Answers may take so many times their usual pace.
const LATE: Micros = 2;
/// A server whose answers are rare is still tried after so long.
const MAX_PAUSE: Micros = 1_000_000;

#[derive(Debug, Default)]
pub(super) struct Withheld {
    permits: Vec<Permit>,
    /// Calls answered so far.
    answers: u64,
    /// How many answers the last permit was withheld for.
    hold: u32,
    /// The answers when a permit was last given back.
    returned: u64,
    /// When `hold` is halved.
    calm_at: u64,
    /// Refusals since the last answer.
    in_vain: u32,
}

#[derive(Debug)]
struct Permit {
    /// Given back when so many calls were answered.
    answers: u64,
    until: Micros,
}

impl Withheld {
    pub(super) fn count(&self) -> usize {
        self.permits.len()
    }

    /// A call was refused. Returns until when its permit is withheld at the latest, if it is.
    /// `interval` is the usual one between answers, 0 if it is not known.
    pub(super) fn refused(&mut self, limit: usize, interval: Micros, now: Micros) -> Option<Micros> {
        let again = self.answers <= self.returned + (NEAR + limit / PERMITS) as u64;
        self.hold = if again { (self.hold * 2).clamp(1, MAX_ANSWERS) } else { self.hold / 2 };
        self.calm_at = self.answers + u64::from(self.hold).max(CALM);
        if self.hold == 0 {
            self.returned = self.answers;
            return None;
        }
        let pause = if self.permits.len() + 1 < limit {
            Micros::from(self.hold) * PER_ANSWER.max(LATE * interval)
        } else {
            // The last permit: without it no answer can come.
            PER_ANSWER << self.in_vain.min(MAX_ANSWERS.ilog2())
        };
        self.in_vain += 1;
        let until = now + pause.min(MAX_PAUSE);
        self.permits.push(Permit { answers: self.answers + u64::from(self.hold), until });
        Some(until)
    }

    /// The limit was lowered: so many permits are gone instead of withheld.
    pub(super) fn lowered(&mut self, by: usize) {
        self.permits.truncate(self.permits.len().saturating_sub(by));
    }

    pub(super) fn answered(&mut self, now: Micros) {
        self.answers += 1;
        self.in_vain = 0;
        if self.hold > 0 && self.answers >= self.calm_at {
            self.hold /= 2;
            self.calm_at = self.answers + u64::from(self.hold).max(CALM);
        }
        self.expire(now);
    }

    pub(super) fn expire(&mut self, now: Micros) {
        let before = self.permits.len();
        if before > 0 {
            self.permits.retain(|permit| permit.answers > self.answers && permit.until > now);
            if self.permits.len() < before {
                self.returned = self.answers;
            }
        }
    }
}
