//! The lab: one scenario, played by `cargo xtask lab` and by the e2e test.
