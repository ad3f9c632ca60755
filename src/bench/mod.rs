//! The bench: how fast this server is on this machine, beside a bare relay that does nothing else
//! than copy bytes, and beside other servers that happen to be installed. It starts them, pins
//! them to one processor and the load to another, and ends them.
//!
//! The room stands outside of the server: it speaks to MMS over the wire as any client does, and
//! knows neither rules nor journal.

mod clock;
mod contender;
mod histogram;
mod load;
mod machine;
mod picture;
mod relay;
mod run;
mod started;
mod table;
mod targets;
mod tongue;
mod trouble;
mod turns;
mod work;

pub use contender::Contender;
pub use histogram::Histogram;
pub use machine::{Interrupt, Machine};
pub use picture::picture;
pub use relay::relay;
pub use run::{Metric, Run};
pub use targets::{Aim, Results, Scope, TARGETS, Target, Trial, Verdict, trials};
pub use tongue::{Dialect, SignIn};
pub use trouble::Trouble;
pub use turns::{End, Failed, Turns, take_turns};
pub use work::{Setup, Sync, Until, Work};
