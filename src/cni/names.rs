// SPDX-License-Identifier: Apache-2.0
//! How an attachment is called on the host.

use serde::{Deserialize, Serialize};

/// Every host-side device starts with this.
pub const PREFIX: &str = "lxc";

/// What the runtime calls an attachment: the same pair in ADD, DEL, CHECK and GC.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Attachment {
    #[serde(rename = "containerID")]
    pub container_id: String,
    pub ifname: String,
}

impl Attachment {
    /// Twelve hex digits that follow from the attachment alone, so that DEL finds the device
    /// without the agent. FNV-1a, folded to 48 bits.
    pub fn id(&self) -> String {
        let bytes = self.container_id.bytes().chain([0]).chain(self.ifname.bytes());
        let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        format!("{:012x}", (hash ^ (hash >> 48)) & 0xffff_ffff_ffff)
    }

    /// Name of the host side of the veth pair: 15 characters, the longest the kernel allows.
    pub fn host_ifname(&self) -> String {
        format!("{PREFIX}{}", self.id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_interfaces_of_a_container_get_two_devices_of_legal_length() {
        let of = |ifname: &str| Attachment { container_id: "c1".into(), ifname: ifname.into() };
        assert_eq!(of("eth0").host_ifname().len(), 15);
        assert_ne!(of("eth0").id(), of("eth1").id());
    }

    #[test]
    fn the_name_of_a_device_never_changes_between_versions() {
        let attachment = Attachment { container_id: "abc".into(), ifname: "eth0".into() };
        assert_eq!(attachment.host_ifname(), "lxc4ae81be84f2c");
    }
}
