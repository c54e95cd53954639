//! Longest prefix match for the addresses of one family: a path-compressed binary trie in one
//! vector.
//!
//! Whatever the prefixes are, a lookup or a change visits at most one node for each bit of an
//! address, in a loop without recursion.

use std::ops::BitXor;

/// No node, or no value: an index past the end of any table.
pub(super) const NONE: u32 = u32::MAX;

/// An address as an integer, the first bit being the most significant.
pub(super) trait Bits: Copy + Eq + BitXor<Output = Self> {
    /// Returns the number of leading zero bits.
    fn leading_zeros(self) -> u32;
    /// Returns the bits after the first `count`, shifted to the front.
    fn after(self, count: u8) -> Self;
    /// Returns the first `count` bits, followed by zeros.
    fn first(self, count: u8) -> Self;
    /// Returns the bit at `place`, counted from 0 at the front; false past the last.
    fn bit(self, place: u8) -> bool;
}

macro_rules! bits {
    ($number:ty) => {
        impl Bits for $number {
            fn leading_zeros(self) -> u32 {
                self.leading_zeros()
            }

            fn after(self, count: u8) -> Self {
                self.unbounded_shl(count.into())
            }

            fn first(self, count: u8) -> Self {
                self & !Self::MAX.unbounded_shr(count.into())
            }

            fn bit(self, place: u8) -> bool {
                self.after(place).leading_zeros() == 0
            }
        }
    };
}

bits!(u32);
bits!(u128);

/// A map from prefixes to integers other than [`NONE`].
#[derive(Clone, Debug)]
pub(super) struct Trie<B> {
    nodes: Vec<Node<B>>,
    root: u32,
    /// Index of the first free node; free nodes are chained by their values.
    free: u32,
}

/// A prefix with its value, or, without a value, the branch between two longer prefixes.
#[derive(Clone, Debug)]
pub(super) struct Node<B> {
    /// Prefix bits; zero past the length.
    bits: B,
    /// Indices of the child whose next bit is zero and of the one whose next bit is one.
    children: [u32; 2],
    value: u32,
    length: u8,
}

/// The location that holds a node's index.
#[derive(Clone, Copy, Debug)]
enum Link {
    Root,
    Child(u32, bool),
}

impl<B: Bits> Trie<B> {
    pub(super) const fn new() -> Self {
        Self { nodes: Vec::new(), root: NONE, free: NONE }
    }

    /// Returns true if another prefix fits; it may need two nodes.
    pub(super) const fn has_capacity(&self) -> bool {
        self.nodes.len() < NONE as usize - 1
    }

    /// Returns the value of the longest prefix that `address` begins with, or [`NONE`].
    pub(super) fn longest_match(&self, address: B) -> u32 {
        let mut longest = NONE;
        let mut next = self.root;
        while let Some(node) = self.node(next) {
            if node.shared_with(address) < node.length {
                break;
            }
            if node.value != NONE {
                longest = node.value;
            }
            next = node.child(address.bit(node.length));
        }
        longest
    }

    /// Returns the value of the prefix for the caller to set, inserting the prefix if it is new; it
    /// is [`NONE`] then. `bits` must be zero past `length`.
    pub(super) fn entry(&mut self, bits: B, length: u8) -> Option<&mut u32> {
        let index = self.node_for(bits, length);
        self.node_mut(index).map(|node| &mut node.value)
    }

    /// Removes the prefix if `wanted` returns true for its value, and returns that value.
    pub(super) fn remove_if(&mut self, bits: B, length: u8, wanted: impl FnOnce(u32) -> bool) -> Option<u32> {
        let mut above = None;
        let mut link = Link::Root;
        let index = loop {
            let index = self.resolve(link);
            let node = self.node(index)?;
            if node.shared_with(bits) < node.length || node.length > length {
                return None;
            }
            if node.length == length {
                break index;
            }
            above = Some((link, index));
            link = Link::Child(index, bits.bit(node.length));
        };
        let node = self.node_mut(index)?;
        let value = node.value;
        if value == NONE || !wanted(value) {
            return None;
        }
        node.value = NONE;
        self.splice_out(link, index);
        if let Some((link, parent)) = above {
            // a branch with only one child left is removed
            self.splice_out(link, parent);
        }
        Some(value)
    }

    /// Returns the node of the prefix, inserting it if necessary.
    fn node_for(&mut self, bits: B, length: u8) -> u32 {
        let mut link = Link::Root;
        loop {
            let index = self.resolve(link);
            let Some(node) = self.node(index) else {
                let leaf = self.allocate(bits, length);
                self.set_link(link, leaf);
                return leaf;
            };
            let other = node.bits;
            let shared = node.shared_with(bits).min(length).min(node.length);
            if shared == node.length {
                if shared == length {
                    return index;
                }
                link = Link::Child(index, bits.bit(shared));
                continue;
            }
            // the existing node moves below the new one, or below a branch to both
            let new = self.allocate(bits, length);
            let above = if shared == length {
                new
            } else {
                let branch = self.allocate(bits.first(shared), shared);
                self.set_link(Link::Child(branch, bits.bit(shared)), new);
                branch
            };
            self.set_link(Link::Child(above, other.bit(shared)), index);
            self.set_link(link, above);
            return new;
        }
    }

    /// Frees the node that `link` holds if it has neither a value nor two children.
    fn splice_out(&mut self, link: Link, index: u32) {
        let only = match self.node(index) {
            Some(Node { value: NONE, children: [only, NONE] | [NONE, only], .. }) => *only,
            _ => return,
        };
        self.set_link(link, only);
        let free = self.free;
        if let Some(node) = self.node_mut(index) {
            node.value = free;
            self.free = index;
        }
    }

    fn allocate(&mut self, bits: B, length: u8) -> u32 {
        let new = Node { bits, children: [NONE; 2], value: NONE, length };
        let index = self.free;
        if let Some(node) = self.node_mut(index) {
            self.free = std::mem::replace(node, new).value;
            return index;
        }
        let index = u32::try_from(self.nodes.len()).unwrap_or(NONE);
        self.nodes.push(new);
        index
    }

    fn node(&self, index: u32) -> Option<&Node<B>> {
        self.nodes.get(index as usize)
    }

    fn node_mut(&mut self, index: u32) -> Option<&mut Node<B>> {
        self.nodes.get_mut(index as usize)
    }

    fn resolve(&self, link: Link) -> u32 {
        match link {
            Link::Root => self.root,
            Link::Child(index, side) => self.node(index).map_or(NONE, |node| node.child(side)),
        }
    }

    fn set_link(&mut self, link: Link, to: u32) {
        match link {
            Link::Root => self.root = to,
            Link::Child(index, side) => {
                let children = self.node_mut(index).map(|node| &mut node.children);
                if let Some(child) = children.and_then(|children| children.get_mut(usize::from(side))) {
                    *child = to;
                }
            }
        }
    }
}

impl<B: Bits> Node<B> {
    /// Returns the number of leading bits that are equal, which may exceed the length.
    #[expect(clippy::cast_possible_truncation, reason = "at most 128")]
    fn shared_with(&self, address: B) -> u8 {
        (self.bits ^ address).leading_zeros() as u8
    }

    fn child(&self, side: bool) -> u32 {
        // an index instead of a conditional: the side is unpredictable, and a branch misprediction
        // is expensive
        self.children.get(usize::from(side)).copied().unwrap_or(NONE)
    }
}

#[cfg(test)]
impl<B: Bits + std::fmt::Debug> Trie<B> {
    /// Checks the invariants: every node is reached once or free, a node without a value has two
    /// children, and a child's prefix lies in its parent's, on the side where it hangs. Returns the
    /// numbers of values and of nodes.
    pub(super) fn check(&self) -> (usize, usize) {
        let (mut reached, mut values) = (0, 0);
        let mut open = vec![self.root];
        while let Some(node) = open.pop().and_then(|index| self.node(index)) {
            reached += 1;
            values += usize::from(node.value != NONE);
            assert_eq!(node.bits, node.bits.first(node.length), "no bits past the prefix");
            for side in [false, true] {
                let child = self.node(node.child(side));
                assert!(node.value != NONE || child.is_some(), "a branch leads two ways");
                if let Some(child) = child {
                    assert!(child.length > node.length);
                    assert!(child.shared_with(node.bits) >= node.length);
                    assert_eq!(child.bits.bit(node.length), side);
                    open.push(node.child(side));
                }
            }
        }
        let free = std::iter::successors(self.node(self.free), |node| self.node(node.value)).count();
        assert_eq!(reached + free, self.nodes.len());
        (values, reached + free)
    }
}
