//! Looking and steering: nothing here changes a message.

mod answers;
mod call;
mod control;
mod tables;

pub use answers::{Answers, answer_records};
pub use call::{Answer, Call, Failure, GreyKind, SpamdbRow};
pub use control::{Socket, ask, bind, serve};
pub use tables::{PAGE, how};
