//! The texts in which lists come. Pure: bytes in, a set and its problems out.

pub(crate) mod cidr;
