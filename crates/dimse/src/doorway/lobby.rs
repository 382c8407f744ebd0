//! Connections that have not shown yet who they are, and need not have an address that is known: there is room for many,
//! and when there is none left the oldest goes, so that whoever says nothing keeps nobody out.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio_util::sync::CancellationToken;

/// Where connections stay until their TLS handshake is done.
#[derive(Debug)]
pub(super) struct Lobby {
    most: usize,
    most_of_neighbourhood: usize,
    guests: Mutex<Guests>,
}

#[derive(Debug, Default)]
struct Guests {
    /// How many ever came.
    came: u64,
    /// In the order in which they came.
    here: BTreeMap<u64, Guest>,
    /// How many of them each neighbourhood has; those that have none are not in it.
    of_neighbourhood: HashMap<IpAddr, usize>,
}

#[derive(Debug)]
struct Guest {
    neighbourhood: IpAddr,
    leave: CancellationToken,
}

/// A connection's stay, which ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Stay {
    lobby: Arc<Lobby>,
    number: u64,
    leave: CancellationToken,
    /// Whether half of the places in all were taken when it came.
    pub(super) is_crowded: bool,
}

impl Lobby {
    /// Room for `most` in all and `most_of_neighbourhood` of each neighbourhood, both at least 1.
    pub(super) fn new(most: usize, most_of_neighbourhood: usize) -> Arc<Self> {
        Arc::new(Self { most, most_of_neighbourhood, guests: Mutex::default() })
    }

    /// Takes one more in. It may cost another its place: the oldest of its own neighbourhood where that has all that it
    /// may have, else the oldest of the neighbourhood that has most.
    pub(super) fn enter(self: &Arc<Self>, neighbourhood: IpAddr) -> Stay {
        let mut guests = self.lock();
        let own = guests.of_neighbourhood.get(&neighbourhood).copied().unwrap_or(0);
        if own >= self.most_of_neighbourhood {
            guests.send_away(|_, of| of == neighbourhood);
        } else if guests.here.len() >= self.most {
            let most = guests.of_neighbourhood.values().copied().max();
            guests.send_away(|guests, of| guests.of_neighbourhood.get(&of).copied() == most);
        }
        let is_crowded = guests.here.len() * 2 >= self.most;
        let (number, leave) = (guests.came, CancellationToken::new());
        guests.came += 1;
        guests.here.insert(number, Guest { neighbourhood, leave: leave.clone() });
        *guests.of_neighbourhood.entry(neighbourhood).or_default() += 1;
        drop(guests);
        Stay { lobby: Arc::clone(self), number, leave, is_crowded }
    }

    /// Nothing panics while it is locked.
    fn lock(&self) -> MutexGuard<'_, Guests> {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Guests {
    /// Sends away the oldest of a neighbourhood that fits.
    fn send_away(&mut self, fits: impl Fn(&Self, IpAddr) -> bool) {
        let oldest = self.here.iter().find(|(_, guest)| fits(self, guest.neighbourhood)).map(|(number, _)| *number);
        if let Some(guest) = oldest.and_then(|number| self.remove(number)) {
            guest.leave.cancel();
        }
    }

    fn remove(&mut self, number: u64) -> Option<Guest> {
        let guest = self.here.remove(&number)?;
        if let Some(count) = self.of_neighbourhood.get_mut(&guest.neighbourhood) {
            *count -= 1;
            if *count == 0 {
                self.of_neighbourhood.remove(&guest.neighbourhood);
            }
        }
        Some(guest)
    }
}

impl Stay {
    /// Waits until another takes this one's place, which may be never.
    pub(super) async fn is_over(&self) {
        self.leave.cancelled().await;
    }

    /// Leaves for a better place. `false` when another has taken this one already.
    pub(super) fn leave(self) -> bool {
        self.lobby.lock().remove(self.number).is_some()
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        self.lobby.lock().remove(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_came_first_goes_first_and_of_the_largest_neighbourhood() {
        // Who comes, in order, by the last number of its address; and who is there at the end.
        let check = |most: usize, of_each: usize, come: &[u8], stay: &[usize]| {
            let lobby = Lobby::new(most, of_each);
            let guests: Vec<_> = come.iter().map(|host| lobby.enter(IpAddr::from([10, 0, 0, *host]))).collect();
            let there: Vec<_> = (0..guests.len()).filter(|at| !guests[*at].leave.is_cancelled()).collect();
            assert_eq!(there, stay, "{come:?}");
            assert_eq!(lobby.lock().here.len(), stay.len(), "{come:?}");
            drop(guests);
            assert!(lobby.lock().here.is_empty() && lobby.lock().of_neighbourhood.is_empty(), "{come:?}");
        };
        check(4, 4, &[1, 1, 1], &[0, 1, 2]);
        check(4, 4, &[1, 1, 1, 1, 1], &[1, 2, 3, 4]);
        // All have one each: the oldest.
        check(4, 4, &[1, 2, 3, 4, 5], &[1, 2, 3, 4]);
        // The one that came first stays, because its neighbourhood has fewer.
        check(4, 4, &[1, 2, 2, 2, 3], &[0, 2, 3, 4]);
        check(4, 4, &[1, 2, 2, 3, 4, 5], &[2, 3, 4, 5]);
        // A neighbourhood that has all that it may have takes its own places, though others are free.
        check(8, 2, &[1, 2, 2, 2, 2], &[0, 3, 4]);
    }

    #[test]
    fn who_left_or_was_sent_away_takes_nobodys_place() {
        let lobby = Lobby::new(2, 2);
        let host = |host: u8| IpAddr::from([10, 0, 0, host]);
        let (first, second) = (lobby.enter(host(1)), lobby.enter(host(2)));
        assert!(!first.is_crowded && second.is_crowded);
        let third = lobby.enter(host(3));
        assert!(!first.leave(), "its place was taken");
        assert!(second.leave());
        assert_eq!(lobby.lock().here.len(), 1);
        let fourth = lobby.enter(host(4));
        assert!(third.leave() && fourth.leave(), "a free place was there for each");
    }
}
