//! The bug bank: plants one mutant after the other and sees how soon the simulator finds it.
//!
//! Each mutant lives in a process of its own, so that whatever it does is contained: a child runs
//! seed after seed and says so; a seed that does not end, or ends the child, counts as found.
//! Before the first mutant the same seeds are run without any: they must be clean, or a mutant would
//! take the credit for somebody else's mistake.

mod child;
mod hunt;
mod table;

pub use child::{Said, run as run_child};
pub use hunt::{Found, Hunt};
pub use table::{Figures, markdown};
