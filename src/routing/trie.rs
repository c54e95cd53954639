//! Longest prefix match for the addresses of one family: a binary trie in one block of memory, with paths that
//! do not branch left out.
//!
//! Whatever the prefixes are, a look-up or a change visits at most one node for each bit of an address, in a
//! loop.

use std::ops::BitXor;

/// No node, no value: past the end of any table.
pub(super) const NONE: u32 = u32::MAX;

/// An address as a number, its first bit the highest.
pub(super) trait Bits: Copy + Eq + BitXor<Output = Self> {
    /// How many leading bits are zero.
    fn leading_zeros(self) -> u32;
    /// The bits that come after the first `count`, moved to the front.
    fn after(self, count: u8) -> Self;
    /// The first `count` bits, and zeros.
    fn first(self, count: u8) -> Self;
    /// The bit that `place` others come before; zero past the last.
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

/// A map from prefixes to numbers other than [`NONE`].
#[derive(Clone, Debug)]
pub(super) struct Trie<B> {
    nodes: Vec<Node<B>>,
    root: u32,
    /// The first of the nodes that are free, which are chained by their values.
    free: u32,
}

/// A prefix with its value, or, without one, the place where two longer prefixes part.
#[derive(Clone, Debug)]
pub(super) struct Node<B> {
    /// Zero past the length.
    bits: B,
    /// Where the next bit is zero, and where it is one.
    children: [u32; 2],
    value: u32,
    length: u8,
}

/// A place that holds a node's number.
#[derive(Clone, Copy, Debug)]
enum Link {
    Root,
    Child(u32, bool),
}

impl<B: Bits> Trie<B> {
    pub(super) const fn new() -> Self {
        Self { nodes: Vec::new(), root: NONE, free: NONE }
    }

    /// Whether there is room for another prefix, which may need two nodes.
    pub(super) const fn has_room(&self) -> bool {
        self.nodes.len() < NONE as usize - 1
    }

    /// The value of the longest prefix that `address` begins with, or [`NONE`].
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

    /// The value of the prefix, which a caller may set; [`NONE`] if it is new. `bits` are zero past `length`.
    pub(super) fn entry(&mut self, bits: B, length: u8) -> Option<&mut u32> {
        let index = self.node_for(bits, length);
        self.node_mut(index).map(|node| &mut node.value)
    }

    /// Removes the prefix if `wanted` says so of its value, which is then given back.
    pub(super) fn remove_if(&mut self, bits: B, length: u8, wanted: impl FnOnce(u32) -> bool) -> Option<u32> {
        let mut above = None;
        let mut link = Link::Root;
        let index = loop {
            let index = self.follow(link);
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
            // a branch that now leads one way only is none
            self.splice_out(link, parent);
        }
        Some(value)
    }

    /// The node of the prefix, made if need be.
    fn node_for(&mut self, bits: B, length: u8) -> u32 {
        let mut link = Link::Root;
        loop {
            let index = self.follow(link);
            let Some(node) = self.node(index) else {
                let leaf = self.allocate(bits, length);
                self.point(link, leaf);
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
            // the node that was here moves below the new one, or below a branch to both
            let made = self.allocate(bits, length);
            let above = if shared == length {
                made
            } else {
                let branch = self.allocate(bits.first(shared), shared);
                self.point(Link::Child(branch, bits.bit(shared)), made);
                branch
            };
            self.point(Link::Child(above, other.bit(shared)), index);
            self.point(link, above);
            return made;
        }
    }

    /// Frees the node that `link` holds if it has neither a value nor two children.
    fn splice_out(&mut self, link: Link, index: u32) {
        let only = match self.node(index) {
            Some(Node { value: NONE, children: [only, NONE] | [NONE, only], .. }) => *only,
            _ => return,
        };
        self.point(link, only);
        let free = self.free;
        if let Some(node) = self.node_mut(index) {
            node.value = free;
            self.free = index;
        }
    }

    fn allocate(&mut self, bits: B, length: u8) -> u32 {
        let made = Node { bits, children: [NONE; 2], value: NONE, length };
        let index = self.free;
        if let Some(node) = self.node_mut(index) {
            self.free = std::mem::replace(node, made).value;
            return index;
        }
        let index = u32::try_from(self.nodes.len()).unwrap_or(NONE);
        self.nodes.push(made);
        index
    }

    fn node(&self, index: u32) -> Option<&Node<B>> {
        self.nodes.get(index as usize)
    }

    fn node_mut(&mut self, index: u32) -> Option<&mut Node<B>> {
        self.nodes.get_mut(index as usize)
    }

    fn follow(&self, link: Link) -> u32 {
        match link {
            Link::Root => self.root,
            Link::Child(index, side) => self.node(index).map_or(NONE, |node| node.child(side)),
        }
    }

    fn point(&mut self, link: Link, to: u32) {
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
    /// How many leading bits are the same, past the length too.
    #[expect(clippy::cast_possible_truncation, reason = "at most 128")]
    fn shared_with(&self, address: B) -> u8 {
        (self.bits ^ address).leading_zeros() as u8
    }

    fn child(&self, side: bool) -> u32 {
        // an index, not a choice: which way to go is a coin's toss, and the processor's wrong guess is dear
        self.children.get(usize::from(side)).copied().unwrap_or(NONE)
    }
}

#[cfg(test)]
impl<B: Bits + std::fmt::Debug> Trie<B> {
    /// Checks what the code relies on: every node is reached once or free, a node without a value has two
    /// children, and a child's prefix lies in its parent's, on the side that it hangs on. Gives the number of
    /// values and of nodes.
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
