//! Which of the log lines about connections without an association are written. Whoever can reach the port can cause them, as
//! many as he likes, so that each neighbourhood has a few of them a minute, and the rest is one line with their number.

use std::{
    collections::HashMap,
    fmt,
    net::IpAddr,
    sync::{Mutex, PoisonError},
};

use crate::bounds::neighbourhood;

/// Lines about one neighbourhood that are written in a minute: enough for somebody who sets up a peer and tries again and
/// again.
const LINES_OF_NEIGHBOURHOOD: usize = 16;
/// Those about one that had more than that in the minute before.
const LINES_OF_A_LOUD_ONE: usize = 1;
/// Those about all neighbourhoods together.
const LINES: usize = 128;
/// Neighbourhoods that are told apart. All others count as one.
const NEIGHBOURHOODS: usize = 64;

/// What was written in this minute, and what was not.
#[derive(Debug, Default)]
pub(super) struct Tally(Mutex<Minute>);

#[derive(Debug, Default)]
struct Minute {
    written: usize,
    /// By neighbourhood; without one, all that are not told apart.
    rows: HashMap<Option<IpAddr>, Row>,
}

#[derive(Debug)]
struct Row {
    lines_left: usize,
    unwritten: u64,
}

/// The lines about a neighbourhood that were not written in the last minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Unwritten {
    /// None: about those that are not told apart.
    neighbourhood: Option<IpAddr>,
    lines: u64,
}

impl Tally {
    /// Whether one more line about an address is written; it is counted otherwise.
    pub(super) fn has_line(&self, address: IpAddr) -> bool {
        let mut minute = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Minute { written, rows } = &mut *minute;
        let known = Some(neighbourhood(address));
        let key = if rows.contains_key(&known) || rows.len() < NEIGHBOURHOODS { known } else { None };
        let row = rows.entry(key).or_insert(Row { lines_left: LINES_OF_NEIGHBOURHOOD, unwritten: 0 });
        if row.lines_left == 0 || *written >= LINES {
            row.unwritten += 1;
            return false;
        }
        row.lines_left -= 1;
        *written += 1;
        true
    }

    /// A minute is over, and the next one begins: what was not written in it.
    pub(super) fn end_minute(&self) -> Vec<Unwritten> {
        let mut minute = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        minute.written = 0;
        // Who was not loud is forgotten.
        minute.rows.retain(|_, row| row.unwritten > 0);
        let mut ended = Vec::new();
        for (neighbourhood, row) in &mut minute.rows {
            ended.push(Unwritten { neighbourhood: *neighbourhood, lines: row.unwritten });
            *row = Row { lines_left: LINES_OF_A_LOUD_ONE, unwritten: 0 };
        }
        ended.sort_unstable();
        ended
    }
}

impl fmt::Display for Unwritten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "and {} more like that in the last minute, about ", self.lines)?;
        match self.neighbourhood {
            Some(address @ IpAddr::V4(_)) => write!(f, "{address}"),
            Some(network @ IpAddr::V6(_)) => write!(f, "{network}/64"),
            None => f.write_str("other addresses"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines about each address in a minute, those of them that are written, and what is said of the others.
    type Rows<'a> = &'a [(&'a str, usize, usize)];

    #[test]
    fn a_neighbourhood_has_a_few_lines_a_minute_and_a_count() {
        let check = |minutes: &[(Rows<'_>, &[&str])]| {
            let tally = Tally::default();
            for (at, (rows, expected)) in minutes.iter().enumerate() {
                for (address, lines, written) in *rows {
                    let address = address.parse().unwrap();
                    let found = (0..*lines).filter(|_| tally.has_line(address)).count();
                    assert_eq!(found, *written, "{address} in minute {at}");
                }
                let said: Vec<_> = tally.end_minute().iter().map(ToString::to_string).collect();
                assert_eq!(said, *expected, "minute {at}");
            }
        };
        check(&[(&[("10.0.0.1", 16, 16)], &[]), (&[("10.0.0.1", 16, 16)], &[])]);
        check(&[
            (
                &[("10.0.0.1", 4000, 16), ("10.0.0.2", 1, 1)],
                &["and 3984 more like that in the last minute, about 10.0.0.1"],
            ),
            // It goes on: one line, and the count. The other one comes as if for the first time.
            (
                &[("10.0.0.1", 4000, 1), ("10.0.0.2", 17, 16)],
                &[
                    "and 3999 more like that in the last minute, about 10.0.0.1",
                    "and 1 more like that in the last minute, about 10.0.0.2",
                ],
            ),
            (&[("10.0.0.1", 1, 1)], &[]),
            (&[("10.0.0.1", 16, 16)], &[]),
        ]);
        // Two addresses of one network, and an IPv4 one in two notations.
        check(&[(
            &[("2001:db8::1", 10, 10), ("2001:db8::2", 10, 6), ("::ffff:10.0.0.1", 10, 10), ("10.0.0.1", 10, 6)],
            &[
                "and 4 more like that in the last minute, about 10.0.0.1",
                "and 4 more like that in the last minute, about 2001:db8::/64",
            ],
        )]);
    }

    #[test]
    fn many_addresses_are_bounded_too() {
        let tally = Tally::default();
        let address = |at: u32| IpAddr::from(at.to_be_bytes());
        let written = (0..100_000).filter(|at| tally.has_line(address(*at))).count();
        assert_eq!(written, NEIGHBOURHOODS + LINES_OF_NEIGHBOURHOOD);
        assert_eq!(tally.0.lock().unwrap().rows.len(), NEIGHBOURHOODS + 1);
        let said: Vec<_> = tally.end_minute().iter().map(ToString::to_string).collect();
        assert_eq!(said, ["and 99920 more like that in the last minute, about other addresses"]);
        // A few lines about each of many.
        let written = (0..1000).filter(|at| tally.has_line(address(at % 50))).count();
        assert_eq!(written, LINES);
        assert!(tally.end_minute().len() <= NEIGHBOURHOODS + 1);
    }
}
