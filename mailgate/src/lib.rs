//! The daemon and the command line.
//!
//! **Purpose**: read the configuration, join the stations in the order of a message, and let people look and steer.
//! **In**: one TOML file, command lines, the control socket. **Out**: a running mail host, listings, exit codes.
//! **Trust**: configuration and control socket belong to the administrator; the socket is 0600.
//! **Standards**: sysexits(3) for exit codes, systemd's readiness protocol.
//! **Failure**: all problems of a configuration are told at once with file and line; exit 78.
//! **Start reading at**: [`wire`], the map of the whole program.
//!
//! A crate of its own because it is the top: it may know every station, and no station may know it.

/// What the administrator may ask of a running daemon.
pub mod admin;
/// The commands.
pub mod cli;
/// The configuration: as written, and as meant.
pub mod config;
/// The look around without a configuration.
pub mod tour;
/// The map: every station, joined in message order.
pub mod wire;
