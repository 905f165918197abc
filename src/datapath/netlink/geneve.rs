// SPDX-License-Identifier: Apache-2.0
//! The node's Geneve device: one for all peers, each packet of which says where it goes.

use rtnetlink::packet_core::ErrorMessage;
use rtnetlink::packet_route::link::LinkMessage;
use rtnetlink::{Handle, LinkGeneve, LinkMessageBuilder, LinkUnspec};

use super::watch::Connection;
use super::{Error, io};

/// Its name.
pub const DEVICE: &str = "culvert_geneve";

/// UDP port of Geneve (RFC 8926 3.3).
pub const PORT: u16 = 6081;

/// Makes and removes the device, in the network namespace of the thread that opens it.
pub struct Geneve {
    handle: Handle,
    _connection: Connection,
}

impl std::fmt::Debug for Geneve {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Geneve")
    }
}

impl Geneve {
    /// Must be called in a Tokio runtime.
    pub fn open() -> Result<Self, Error> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(Error::Socket)?;
        Ok(Self { handle, _connection: Connection::run(connection) })
    }

    /// Makes the device unless it is there, and brings it up.
    ///
    /// # Errors
    /// The kernel has no such devices, or another one has the port.
    pub async fn make(&self) -> Result<(), Error> {
        match self.handle.link().add(message()).execute().await {
            Ok(()) => tracing::info!(device = DEVICE, port = PORT, "Geneve device made"),
            Err(error) if errno(&error) == Some(libc::EEXIST) => {}
            Err(error) => return Err(failed("make", error)),
        }
        let up = LinkUnspec::new_with_name(DEVICE).up().build();
        self.handle.link().set(up).execute().await.map_err(|error| failed("bring up", error))
    }

    /// Removes the device. Returns whether there was one.
    ///
    /// # Errors
    /// The kernel refuses.
    pub async fn remove(&self) -> Result<bool, Error> {
        let named = LinkUnspec::new_with_name(DEVICE).build();
        match self.handle.link().del_with_message(named).execute().await {
            Ok(()) => Ok(true),
            Err(error) if errno(&error) == Some(libc::ENODEV) => Ok(false),
            Err(error) => Err(failed("remove", error)),
        }
    }
}

fn message() -> LinkMessage {
    LinkMessageBuilder::<LinkGeneve>::new(DEVICE).collect_metadata().port(PORT).build()
}

fn failed(action: &'static str, error: rtnetlink::Error) -> Error {
    Error::Device { action, device: DEVICE, source: io(error) }
}

fn errno(error: &rtnetlink::Error) -> Option<i32> {
    match error {
        rtnetlink::Error::NetlinkError(message) => ErrorMessage::to_io(message).raw_os_error(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rtnetlink::packet_core::Emitable as _;

    /// What `ip link add culvert_geneve type geneve external` asks for, besides the port.
    #[test]
    fn the_device_takes_each_packets_destination_from_its_metadata() {
        let message = message();
        let mut bytes = vec![0; message.buffer_len()];
        message.emit(&mut bytes);
        let has = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
        assert!(has(b"culvert_geneve\0") && has(b"geneve"));
        // IFLA_GENEVE_COLLECT_METADATA is a flag: an attribute without a value.
        assert!(has(&[4, 0, 6, 0]), "{bytes:x?}");
        // IFLA_GENEVE_PORT, in network order.
        assert!(has(&[6, 0, 5, 0, 0x17, 0xc1]), "{bytes:x?}");
    }
}
