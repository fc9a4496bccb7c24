//! `railgauge inventory`: what this node is. Reading it takes no state of the agent's, so the words are those of `fabric`.

pub use railgauge_fabric::ethtool::Timestamping;
pub use railgauge_fabric::inventory::{
    Inventory, Limit, Nic, NumaNode, RdmaDevice, RdmaPort, Reading, Role, Roots, collect,
};
