//! A histogram of latencies in little memory: 32 buckets for each doubling, so that what it tells
//! is off by 3 % at most; and the bars that a terminal shows of it.

use std::fmt::Write as _;

/// Bits of a value that its bucket keeps, below the highest one.
const FINE_BITS: u32 = 5;
const FINE: usize = 1 << FINE_BITS;
/// Enough for all of 64 bits.
const BUCKETS: usize = (65 - FINE_BITS as usize) * FINE;
/// Characters of the longest bar.
const BAR_CHARS: f64 = 48.0;
/// Rows of the picture for each doubling, and rows at most: beyond that only the ends are shown.
const ROWS_A_DOUBLING: usize = 2;

/// Latencies in nanoseconds.
#[derive(Clone, Debug)]
pub struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    most: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: vec![0; BUCKETS], count: 0, most: 0 }
    }
}

fn bucket(ns: u64) -> usize {
    if ns < FINE as u64 {
        return ns as usize;
    }
    let doublings = ns.ilog2() - FINE_BITS;
    // The bits behind the highest one, which is there and is counted as a doubling.
    (doublings as usize + 1) * FINE + ((ns >> doublings) as usize & (FINE - 1))
}

/// The smallest value of a bucket; behind the last one, the highest value that there is.
fn floor(bucket: usize) -> u64 {
    match bucket {
        0..FINE => return bucket as u64,
        BUCKETS.. => return u64::MAX,
        _ => {}
    }
    let doublings = bucket / FINE - 1;
    ((FINE + bucket % FINE) as u64) << doublings
}

impl Histogram {
    /// Counts one.
    pub fn add(&mut self, ns: u64) {
        self.buckets[bucket(ns)] += 1;
        self.count += 1;
        self.most = self.most.max(ns);
    }

    /// Counts all that another one has counted.
    pub fn merge(&mut self, other: &Self) {
        self.buckets.iter_mut().zip(&other.buckets).for_each(|(ours, theirs)| *ours += theirs);
        self.count += other.count;
        self.most = self.most.max(other.most);
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The highest, exactly.
    #[must_use]
    pub fn most_ns(&self) -> u64 {
        self.most
    }

    /// What so many of a thousand do not exceed, to the accuracy of a bucket. 0 of none.
    #[must_use]
    pub fn permille_ns(&self, permille: u64) -> u64 {
        // The one at that place, counted from 1; the first even of few.
        let place = (self.count * permille).div_ceil(1000).max(1);
        let mut passed = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            passed += count;
            if passed >= place {
                return floor(bucket + 1).saturating_sub(1).min(self.most);
            }
        }
        0
    }

    /// Bars, one line for each half doubling from the lowest to the highest, and what most had to
    /// wait below them.
    #[must_use]
    pub fn draw(&self) -> String {
        let step = FINE / ROWS_A_DOUBLING;
        let rows: Vec<(usize, u64)> = (0..BUCKETS / step)
            .map(|row| (row * step, self.buckets[row * step..][..step].iter().sum()))
            .collect();
        let first = rows.iter().position(|row| row.1 > 0).unwrap_or_default();
        let last = rows.iter().rposition(|row| row.1 > 0).unwrap_or_default();
        let highest = rows.iter().map(|row| row.1).max().unwrap_or_default().max(1);
        let mut out = String::new();
        for (begin, count) in &rows[first..=last] {
            let (length, percent) = (*count as f64 / highest as f64, *count as f64 * 100.0);
            let (from, to) = (time(floor(*begin)), time(floor(begin + step)));
            let percent = percent / self.count.max(1) as f64;
            let line = format!("{from:>9} - {to:<9}{percent:>7.2} %  {}", bar(length));
            _ = writeln!(out, "{}", line.trim_end());
        }
        let of = |permille| time(self.permille_ns(permille));
        let (half, p99, p999, most) = (of(500), of(990), of(999), time(self.most));
        _ = writeln!(out, "p50 {half}, p99 {p99}, p99.9 {p999}, max {most}");
        out
    }
}

/// A bar, to an eighth of a character; what is there at all is seen.
fn bar(length: f64) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (length * BAR_CHARS * 8.0).ceil() as usize;
    "█".repeat(eighths / 8) + EIGHTHS[eighths % 8]
}

/// A time with the unit that suits it.
pub(super) fn time(ns: u64) -> String {
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..100_000 => format!("{:.1} us", ns as f64 / 1e3),
        100_000..1_000_000 => format!("{} us", ns / 1_000),
        1_000_000..100_000_000 => format!("{:.1} ms", ns as f64 / 1e6),
        100_000_000..1_000_000_000 => format!("{} ms", ns / 1_000_000),
        _ => format!("{:.1} s", ns as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_bucket_holds_its_values_and_is_narrow(ns in 0..=u64::MAX) {
            let at = bucket(ns);
            prop_assert!(floor(at) <= ns);
            prop_assert!(at + 1 == BUCKETS || ns < floor(at + 1));
            prop_assert!(ns - floor(at) <= ns / FINE as u64);
        }

        #[test]
        fn the_places_are_those_of_the_sorted_list(
            mut all in prop::collection::vec(0..5_000_000_u64, 1..300),
            permille in 1..=1000_u64,
        ) {
            let mut histogram = Histogram::default();
            all.iter().for_each(|&ns| histogram.add(ns));
            all.sort_unstable();
            let exact = all[(all.len() * permille as usize).div_ceil(1000) - 1];
            let told = histogram.permille_ns(permille);
            prop_assert!(told >= exact && told - exact <= exact / FINE as u64 + 1);
        }
    }

    #[test]
    fn the_picture_has_a_line_for_each_half_doubling() {
        let mut histogram = Histogram::default();
        (0..75).for_each(|_| histogram.add(100_000));
        (0..24).for_each(|_| histogram.add(200_000));
        histogram.add(3_000_000);
        let picture = histogram.draw();
        let lines: Vec<&str> = picture.lines().collect();
        assert_eq!(lines.len(), 11, "{picture}");
        assert!(lines[0].starts_with("  98.3 us - 131 us     75.00 %  "), "{picture}");
        assert_eq!(lines[0].matches('█').count(), 48);
        assert_eq!(lines[9].matches('▊').count(), 1, "few are seen, too: {picture}");
        assert!(picture.ends_with("p50 100 us, p99 200 us, p99.9 3.0 ms, max 3.0 ms\n"));
        assert_eq!(Histogram::default().draw().lines().count(), 2, "of none there is one, too");
    }
}
