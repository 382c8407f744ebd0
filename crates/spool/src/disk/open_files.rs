//! How many files this process may have open at a time.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Sees to it that `wanted` files may be open at a time, by raising the limit as far as the system lets this process.
///
/// Errors with how many may be open, where that is fewer.
pub fn allow_open_files(wanted: u64) -> Result<(), u64> {
    let limit = getrlimit(Resource::Nofile);
    // No limit at all is nothing here.
    let Some(current) = limit.current.filter(|current| *current < wanted) else { return Ok(()) };
    let raised = limit.maximum.map_or(wanted, |maximum| maximum.min(wanted));
    let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum: limit.maximum });
    let current = getrlimit(Resource::Nofile).current.map_or(u64::MAX, |now| now.max(current));
    if current < wanted { Err(current) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_raised_as_far_as_it_goes_and_what_is_too_much_is_said() {
        assert_eq!(allow_open_files(16), Ok(()));
        let most = getrlimit(Resource::Nofile).maximum;
        if let Some(most) = most {
            assert_eq!(allow_open_files(most), Ok(()));
            let refused = allow_open_files(most.saturating_add(1));
            assert!(refused.is_err_and(|limit| limit <= most), "{refused:?}");
        }
    }
}
