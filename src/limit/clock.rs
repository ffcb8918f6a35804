//! The limiter's clock: the system's monotonic one, which every process on the machine reads alike, and which begins anew with the machine.

use rustix::time::{ClockId, clock_gettime};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// Nanoseconds since the machine was started, or a little later, at a moment of this process.
#[must_use]
pub fn nanoseconds(at: Instant) -> u64 {
    let (instant, moment) = *PAIR;
    let since = match at.checked_duration_since(instant) {
        Some(later) => moment.saturating_add(later),
        None => moment.saturating_sub(instant.saturating_duration_since(at)),
    };
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// One moment on both clocks. `Instant` is the same clock, but does not say what it shows; so both are read one right after the other, and the
/// closest of some tries is kept. What they are apart is what processes differ by: some ten nanoseconds.
static PAIR: LazyLock<(Instant, Duration)> = LazyLock::new(|| {
    let pair = |_| {
        let before = system();
        let instant = Instant::now();
        (system().saturating_sub(before), (instant, before))
    };
    (0..TRIES).map(pair).min_by_key(|(apart, _)| *apart).map_or((Instant::now(), system()), |(_, pair)| pair)
});

fn system() -> Duration {
    let time = clock_gettime(ClockId::Monotonic);
    // Neither is negative: the clock begins at zero.
    let whole = Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or_default());
    whole.saturating_add(Duration::from_nanos(u64::try_from(time.tv_nsec).unwrap_or_default()))
}

const TRIES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_shows_what_the_system_shows() {
        for _ in 0..100 {
            let (before, shown, after) = (system(), nanoseconds(Instant::now()), system());
            let shown = Duration::from_nanos(shown);
            assert!(
                before.saturating_sub(APART) <= shown && shown <= after,
                "{before:?} {shown:?} {after:?}"
            );
        }
    }

    /// What the clocks may be apart, even where the machine was busy at each try.
    const APART: Duration = Duration::from_secs(1);

    #[test]
    fn a_moment_moved_by_hand_is_moved_by_as_much() {
        let now = Instant::now();
        let hour = Duration::from_secs(3600);
        assert_eq!(nanoseconds(now + hour) - nanoseconds(now), 3600 * 1_000_000_000);
        let (first, _) = *PAIR;
        let back = Duration::from_nanos(7);
        assert_eq!(nanoseconds(first) - nanoseconds(first - back), 7, "also before the first reading");
    }
}
