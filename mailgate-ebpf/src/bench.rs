//! What `cargo xtask bench kernel` and `bench flood` load besides the filter; never in the daemon's object.

mod lookup;
mod packet;
