//! Which share of every rate this edge has without asking.
//!
//! Pure: from how many edges there are, and whether leases can be had, to a share. Alone an edge has all of it. Among several
//! it has a little of every rate without a lease, and leases the rest where it is wanted; while leases cannot be had it has
//! an equal share. Never more than its part of the edges it knows of.

use super::gcra::Share;

/// Of every rate this part is not leased but divided among the edges, so that a key that is little used needs no lease.
const UNLEASED: u64 = Share::PARTS as u64 / 8;

/// The edges that share the limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Edges {
    count: u32,
    leasing: bool,
}

impl Edges {
    /// So many (at least this one), and whether leases can be had.
    pub(super) const fn new(count: u32, leasing: bool) -> Self {
        Self {
            count: if count == 0 { 1 } else { count },
            leasing,
        }
    }

    /// How many there are.
    pub(super) const fn count(self) -> u32 {
        self.count
    }

    /// Is there anybody to share with, and a way to?
    pub(super) const fn leases(self) -> bool {
        self.leasing && self.count > 1
    }

    /// The share of a subject without a lease.
    pub(super) const fn unleased(self) -> Share {
        let whole = if self.leases() { UNLEASED } else { Share::PARTS as u64 };
        Share::of_parts(whole / self.count as u64)
    }

    /// The share of a subject for which no lease can be had though leases exist, because too many are active.
    pub(super) const fn equal(self) -> Share {
        Share::of_parts(Share::PARTS as u64 / self.count as u64)
    }

    /// What is leased, of each rate, to all edges together, in 4096ths.
    pub(super) const fn pool() -> u64 {
        Share::PARTS as u64 - UNLEASED
    }

    /// The share with a lease of `parts` 4096ths.
    pub(super) const fn leased(self, parts: u64) -> Share {
        Share::of_parts(self.unleased().parts() as u64 + parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alone_it_is_all_and_with_leases_the_sum_is_no_more_than_all() {
        assert_eq!(Edges::new(1, true).unleased(), Share::WHOLE);
        assert_eq!(Edges::new(0, false).unleased(), Share::WHOLE);
        for count in 2..=512 {
            let edges = Edges::new(count, true);
            let all = u64::from(edges.unleased().parts()) * u64::from(count) + Edges::pool();
            assert!(all <= u64::from(Share::PARTS), "{count}: {all}");
        }
    }

    #[test]
    fn without_leases_all_have_the_same_and_together_no_more_than_all() {
        for count in 1..=4096 {
            let edges = Edges::new(count, false);
            assert_eq!(edges.unleased(), edges.equal());
            assert!(u64::from(edges.equal().parts()) * u64::from(count) <= u64::from(Share::PARTS));
        }
    }
}
