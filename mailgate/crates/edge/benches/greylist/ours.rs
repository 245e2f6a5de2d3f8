//! mailgate's own policies.

use crate::replay::Policy;

/// All of them.
pub(crate) fn policies() -> Vec<Box<dyn Policy>> {
    Vec::new()
}
