//! `preferred:node=N`: there as long as there is room, then the nodes nearest to it, as `numactl --preferred`.

use crate::event::Fault;
use crate::nodes::Node;
use crate::options::{Spec, SpecError};
use crate::policy::Policy;
use crate::world::World;

/// The policy.
#[derive(Clone, Copy, Debug)]
pub struct Preferred {
    node: Node,
}

impl Preferred {
    /// From its options.
    ///
    /// # Errors
    /// [`SpecError`].
    pub fn new<'a>(spec: &Spec<'a>) -> Result<Self, SpecError<'a>> {
        spec.only(&["node"])?;
        let text = spec.get("node").ok_or(SpecError::Missing("node"))?;
        Ok(Self { node: text.parse().map_err(|_| SpecError::Value("node", text))? })
    }
}

impl Policy for Preferred {
    type Record = ();

    fn place(&mut self, _: &World<'_>, _: &Fault) -> Node {
        self.node
    }
}
