//! What the objects of these tests consist of: every byte of a head and of a body follows from who it is.

use std::sync::LazyLock;

use portcullis::shm::arena::Pinned;

/// One object in one of its lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Id {
    /// Under which it is found.
    pub key: u64,
    /// Which of all objects it is: no two have the same.
    pub version: u64,
}

/// How large the objects of a test are.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// The largest body in bytes; the least has 1.
    pub most: usize,
}

impl Id {
    /// The key of an arena.
    pub fn primary(self) -> u128 {
        primary(self.key)
    }

    /// How long the body is: each order of magnitude as often as another.
    pub fn body_bytes(self, sizes: Sizes) -> usize {
        let share = (self.hash() >> 11) as f64 / (1u64 << 53) as f64;
        (((sizes.most as f64).ln() * share).exp() as usize).clamp(1, sizes.most)
    }

    /// The body from a position on, as far as it lies together.
    pub fn body(self, from: usize) -> &'static [u8] {
        let begins = self.hash() as usize % POOL_BYTES;
        &POOL[(begins + from) % POOL_BYTES..]
    }

    /// The CRC-32 of the body.
    pub fn body_sum(self, bytes: usize) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        let mut at = 0;
        while at < bytes {
            let piece = self.body(at);
            let piece = &piece[..piece.len().min(bytes - at)];
            hasher.update(piece);
            at += piece.len();
        }
        hasher.finalize()
    }

    /// The head: who it is, which of its heads it is, some bytes, and a checksum.
    pub fn head(self, revision: u32) -> Vec<u8> {
        let mut head = Vec::new();
        head.extend_from_slice(&self.key.to_le_bytes());
        head.extend_from_slice(&self.version.to_le_bytes());
        head.extend_from_slice(&revision.to_le_bytes());
        let seed = mix(self.hash() ^ u64::from(revision));
        let begins = seed as usize % (POOL_BYTES - MAX_FILLING);
        head.extend_from_slice(&POOL[begins..begins + (seed >> 32) as usize % MAX_FILLING]);
        let sum = crc32fast::hash(&head);
        head.extend_from_slice(&sum.to_le_bytes());
        head
    }

    fn hash(self) -> u64 {
        mix(self.key ^ mix(self.version))
    }
}

/// The key of an arena for a key.
pub fn primary(key: u64) -> u128 {
    u128::from(mix(key)) << 64 | u128::from(mix(key ^ 1 << 63))
}

/// Who says that it is, and which of its heads it has. `None`: the head does not match its own checksum.
pub fn read_head(head: &[u8]) -> Option<(Id, u32)> {
    let (content, sum) = head.split_last_chunk::<4>()?;
    let (key, rest) = content.split_first_chunk::<8>()?;
    let (version, rest) = rest.split_first_chunk::<8>()?;
    let (revision, _) = rest.split_first_chunk::<4>()?;
    let id = Id { key: u64::from_le_bytes(*key), version: u64::from_le_bytes(*version) };
    (crc32fast::hash(content) == u32::from_le_bytes(*sum)).then_some((id, u32::from_le_bytes(*revision)))
}

/// Compares a whole object with what it should consist of.
pub fn check(pinned: &Pinned, sizes: Sizes) -> Result<(Id, u32), String> {
    let head = pinned.head().ok_or("no head")?;
    let (id, revision) = read_head(&head).ok_or("a head that does not match its checksum")?;
    if head != id.head(revision) {
        return Err(format!("{id:?} has a wrong head"));
    }
    if pinned.primary() != id.primary() {
        return Err(format!("{id:?} is found under another key"));
    }
    let bytes = id.body_bytes(sizes);
    if pinned.body_bytes() != bytes {
        return Err(format!("{id:?} has {} bytes of {bytes}", pinned.body_bytes()));
    }
    let mut at = 0;
    while at < bytes {
        let piece = pinned.body(at, usize::MAX).ok_or_else(|| format!("{id:?} ends at {at} of {bytes}"))?;
        check_piece(id, at, &piece)?;
        at += piece.len();
    }
    Ok((id, revision))
}

/// Compares a piece of a body.
pub fn check_piece(id: Id, mut at: usize, mut piece: &[u8]) -> Result<(), String> {
    while !piece.is_empty() {
        let expected = id.body(at);
        let (now, later) = piece.split_at(piece.len().min(expected.len()));
        if now != &expected[..now.len()] {
            return Err(format!("{id:?} has a wrong byte behind {at}"));
        }
        at += now.len();
        piece = later;
    }
    Ok(())
}

/// Numbers that look random.
#[derive(Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub fn one_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }
}

/// The last step of splitmix64.
fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ (number >> 31)
}

/// A prime, so that no block of a body looks like the one before.
const POOL_BYTES: usize = 1_048_583;
/// The most bytes that fill a head.
const MAX_FILLING: usize = 700;

static POOL: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut random = Random(7);
    let words = POOL_BYTES.div_ceil(8);
    let mut pool: Vec<u8> = (0..words).flat_map(|_| random.next().to_le_bytes()).collect();
    pool.truncate(POOL_BYTES);
    pool
});
