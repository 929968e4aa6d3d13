//! What clients send: requests with values of their own, over either listener.
use std::fmt::Write as _;

use crate::support::random::Random;
use crate::support::training::{FEATURES, raw, scaled};
use crate::upstream::{ECHO, SCALED, is_narrow};

/// What a client does with one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Act {
    /// One row, as the first signature declares it.
    Row,
    /// Several rows.
    Rows,
    /// One row in a body that is compressed with gzip.
    Gzip,
    /// One row without the batch dimension.
    Flat,
    /// One row in another dtype; over REST, integers as `7.0`.
    Cast,
    /// What nothing repairs: strings, or a feature too few.
    Wrong,
    /// Sets a deadline of 1 to 50 ms.
    Hurry,
    /// Cancels after up to 20 ms.
    Cancel,
    /// Closes the connection under the call.
    Vanish,
}

/// The listener that a client uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Door {
    Grpc,
    Rest,
}

/// Who a client is, and what it sends.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) door: Door,
    pub(crate) model: &'static str,
    /// Sends the features as they are before the scaler.
    pub(crate) unscaled: bool,
    pub(crate) number: u64,
}

/// A request before it is written for a listener.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) act: Act,
    pub(crate) door: Door,
    pub(crate) model: &'static str,
    pub(crate) unscaled: bool,
    /// Of this client alone: pairs of integers, or float32 values.
    pub(crate) rows: Vec<Vec<f64>>,
}

impl Identity {
    /// The user agent, which names the client in the access log and in metrics. Requests that are
    /// broken off have another one, because nobody knows how many of them were answered.
    pub(crate) fn name(&self, act: Act) -> String {
        let kind = match act {
            Act::Cancel | Act::Vanish => "leaving",
            _ if self.unscaled => "unscaled",
            _ => "honest",
        };
        format!("{kind}-{}/1.0", self.number)
    }

    /// The next request; `serial` is another one each time.
    pub(crate) fn next(&self, serial: u64, random: &mut Random) -> Sent {
        let act = match random.below(100) {
            0..38 => Act::Row,
            38..52 => Act::Rows,
            52..56 => Act::Gzip,
            56..68 => Act::Flat,
            68..76 => Act::Cast,
            76..85 => Act::Wrong,
            85..92 => Act::Hurry,
            92..99 => Act::Cancel,
            _ => Act::Vanish,
        };
        // JSON has no dtype that floats could be cast from.
        let act =
            if act == Act::Cast && self.door == Door::Rest && self.model == SCALED { Act::Row } else { act };
        let count = if act == Act::Rows { 2 + random.below(3) } else { 1 };
        let rows = (0..count)
            .map(|row| match self.model {
                ECHO => {
                    // Below 2^31 for up to 40 clients.
                    let value = (self.number * 50_000_000 + serial * 4 + row) as f64;
                    vec![value, -value]
                }
                _ => {
                    let row = scaled(random);
                    let row = if self.unscaled { raw(&row) } else { row };
                    row.into_iter().map(|value| f64::from(value as f32)).collect()
                }
            })
            .collect();
        Sent { act, door: self.door, model: self.model, unscaled: self.unscaled, rows }
    }
}

impl Sent {
    /// How many repairs this request takes for a version of its model.
    pub(crate) fn repairs(&self, version: i64) -> usize {
        let flat = usize::from(self.act == Act::Flat);
        let cast = match (self.door, self.model) {
            // Integers are read as the signature declares them.
            (Door::Rest, _) => self.act == Act::Cast,
            // int32 is sent by `Cast` alone, int64 by all others.
            (Door::Grpc, ECHO) => is_narrow(version) != (self.act == Act::Cast),
            (Door::Grpc, _) => self.act == Act::Cast,
        };
        flat + usize::from(cast)
    }

    /// The JSON of the request.
    pub(crate) fn json(&self) -> String {
        let number = |value: f64| match (self.model, self.act) {
            (ECHO, Act::Wrong) => r#""one""#.to_owned(),
            (ECHO, Act::Cast) => format!("{value:.1}"),
            _ => format!("{value}"),
        };
        let mut rows = Vec::new();
        for row in &self.rows {
            let mut text = String::from("[");
            for (at, value) in row[..self.width()].iter().enumerate() {
                write!(text, "{}{}", if at == 0 { "" } else { "," }, number(*value)).unwrap();
            }
            rows.push(text + "]");
        }
        match self.act {
            Act::Flat => format!(r#"{{"instances":{}}}"#, rows[0]),
            _ => format!(r#"{{"instances":[{}]}}"#, rows.join(",")),
        }
    }

    /// Values of each row that are sent.
    pub(crate) fn width(&self) -> usize {
        match (self.model, self.act) {
            (SCALED, Act::Wrong) => FEATURES - 1,
            (SCALED, _) => FEATURES,
            _ => 2,
        }
    }
}
