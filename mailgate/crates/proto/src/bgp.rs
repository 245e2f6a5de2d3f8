//! BGP-4: messages and their attributes, as a leaf needs them that receives routes and announces none.

mod community;

pub use community::{Community, LargeCommunity};
