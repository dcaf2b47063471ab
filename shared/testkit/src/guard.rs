//! A child process that cannot outlive the process that started it, without any unsafe code.
//!
//! The child runs under a small `sh` guard whose standard input is a pipe held open by us. However we end, SIGKILL
//! included, the kernel closes the pipe; the guard then stops the child (its own stop signal first, SIGKILL after a bounded
//! time) and removes its scratch directory. The guard sits in a process group of its own, so a Ctrl-C in a terminal reaches
//! only us and the order of stopping stays ours.
//!
//! [`GuardedCommand`] says what to run, [`GuardedChild`] is what runs, and its log file is its lock as well ([`in_use`]).

mod child;
mod command;
mod exit;
mod log;
mod process;
mod script;

pub use child::GuardedChild;
pub use command::GuardedCommand;
pub use exit::Exit;
pub use log::{in_use, log_tail, wait_until_unused};
