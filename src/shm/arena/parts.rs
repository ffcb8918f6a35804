//! Where the parts of an arena lie in its file: for who draws them, and for who damages them to see what comes of it.

use std::ops::Range;

use super::{Arena, Geometry, OWN_BYTES, UNIT};
use crate::shm::region::HEADER_BYTES;

/// The parts of an arena, in bytes of the file and in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts {
    /// The region's own page.
    pub header: Range<usize>,
    /// The arena's own words.
    pub own: Range<usize>,
    /// The user's words.
    pub user: Range<usize>,
    /// The first record of each chain.
    pub chains: Range<usize>,
    /// The records.
    pub records: Range<usize>,
    /// Heads, bodies, lists of runs.
    pub data: Range<usize>,
}

impl Arena {
    /// Where its parts lie.
    #[must_use]
    pub fn parts(&self) -> Parts {
        self.geometry.parts().expect("checked when the geometry was made")
    }
}

impl Geometry {
    fn parts(self) -> Option<Parts> {
        let (own, user, data) = (HEADER_BYTES, HEADER_BYTES + OWN_BYTES, self.data_at()?);
        let chains_end = self.chains_at()? + self.chains as usize * 4;
        Some(Parts {
            header: 0..own,
            own: own..user,
            user: user..self.chains_at()?,
            chains: self.chains_at()?..chains_end,
            records: self.records_at()?..data,
            data: data..data + self.units as usize * UNIT,
        })
    }
}
