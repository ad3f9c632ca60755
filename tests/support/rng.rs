//! Chance that can be repeated: a seed gives the same run again.

/// SplitMix64: small, fast, and good enough to choose faults with.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Seeded by the environment variable `MMS_SEED`, else by `default`; prints the seed, which
    /// the test harness shows if the test fails.
    pub fn from_env(default: u64) -> Self {
        let seed = seed_from_env(default);
        println!("MMS_SEED={seed}");
        Self::new(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not zero.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    pub fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            *byte = self.next() as u8;
        }
    }
}

/// The seed in `MMS_SEED`, else `default`.
pub fn seed_from_env(default: u64) -> u64 {
    std::env::var("MMS_SEED").map_or(default, |text| text.parse().expect("MMS_SEED is a number"))
}

/// How many runs there are, from that seed on: `MMS_RUNS`, else one if a seed is named, else
/// `default`.
pub fn runs_from_env(default: u64) -> u64 {
    match (std::env::var("MMS_RUNS"), std::env::var("MMS_SEED")) {
        (Ok(text), _) => text.parse().expect("MMS_RUNS is a number"),
        (Err(_), Ok(_)) => 1,
        (Err(_), Err(_)) => default,
    }
}
