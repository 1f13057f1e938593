//! What the scheduler remembers about the cluster: trimmed forms of API objects, with shared strings and whole numbers.
//!
//! Guarantee: two values that mean the same to placement compare equal, so equal pods share one [`Template`]. Nothing here knows a plugin.

pub mod affinity;
pub mod labels;
pub mod node;
pub mod pod;
pub mod request;
pub mod resources;
pub mod selector;
pub mod strings;
pub mod template;
pub mod volume;

pub use affinity::{AffinityTerm, WeightedTerm};
pub use labels::Labels;
pub use node::{Effect, Node, Taint, Toleration};
pub use pod::{Pod, Uid};
pub use resources::Resources;
pub use selector::{NodeSelector, Selector};
pub use strings::Str;
pub use template::{HostPort, Spread, Template};
