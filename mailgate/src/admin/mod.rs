//! Looking and steering: nothing here changes a message.

mod answers;
mod bgp;
mod call;
mod control;
mod firewall;
mod grey;
mod offline;
mod records;
mod tables;

pub use answers::Answers;
pub use call::{Answer, Call, Failure, GreyKind, SpamdbRow};
pub use control::{Socket, ask, bind, serve};
pub use firewall::Firewall;
pub use offline::answer_offline;
pub use records::answer_records;
pub use tables::{PAGE, how};
