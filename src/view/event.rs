// SPDX-License-Identifier: Apache-2.0
//! Drops and traces, as `culvert monitor` prints them.

use serde::{Deserialize, Serialize};

use super::{address, protocol};
use crate::abi::{EVENT_DROP, Event, Hook, Outcome};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EventView {
    /// Nanoseconds of `CLOCK_MONOTONIC`.
    pub time: u64,
    /// `drop` or `trace`.
    pub r#type: String,
    /// The program that met the packet.
    pub hook: String,
    /// The reason of a drop, or what became of a traced packet.
    pub outcome: String,
    pub source: String,
    pub destination: String,
    pub protocol: String,
    pub ifindex: u32,
    /// Bytes.
    pub length: u32,
    /// As in `culvert service list`; 0 when none was found.
    pub service: u32,
    /// Negative errno of the helper that failed; 0 when none did.
    pub error: i32,
}

impl From<&Event> for EventView {
    fn from(event: &Event) -> Self {
        let number = |number: u8| number.to_string();
        let hook = Hook::from_number(event.hook.into());
        let outcome = Outcome::from_number(event.outcome.into());
        Self {
            time: event.time,
            r#type: if event.r#type == EVENT_DROP { "drop" } else { "trace" }.to_owned(),
            hook: hook.map_or_else(|| number(event.hook), |hook| hook.name().to_owned()),
            outcome: outcome.map_or_else(|| number(event.outcome), |o| o.name().to_owned()),
            source: address(event.saddr, event.sport.get()),
            destination: address(event.daddr, event.dport.get()),
            protocol: protocol(event.proto),
            ifindex: event.ifindex,
            length: event.length,
            service: event.service,
            error: event.error,
        }
    }
}

impl std::fmt::Display for EventView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (seconds, micros) = (self.time / 1_000_000_000, self.time / 1_000 % 1_000_000);
        write!(f, "{seconds}.{micros:06} {} {}", self.r#type, self.outcome)?;
        write!(f, " {} -> {}/{}", self.source, self.destination, self.protocol)?;
        write!(f, " at {} ifindex {} length {}", self.hook, self.ifindex, self.length)?;
        if self.service != 0 {
            write!(f, " service {}", self.service)?;
        }
        if self.error != 0 {
            write!(f, " error {}", self.error)?;
        }
        Ok(())
    }
}

/// The bit mask of these hooks' names; `all` is every one that traces.
///
/// # Errors
/// A name that is no hook's, or of one that has no traces: sockets are translated before there is a
/// packet, and what leaves by the Geneve device was traced where it was sent there.
pub fn hook_mask<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<u32, String> {
    let mut mask = 0;
    for name in names {
        mask |= match traced().find(|hook| hook.name() == name) {
            Some(hook) => 1 << hook.number(),
            None if name == "all" => traced().fold(0, |mask, hook| mask | 1 << hook.number()),
            None => {
                let names: Vec<_> = traced().map(Hook::name).collect();
                return Err(format!("`{name}` traces no packets; these do: {}", names.join(", ")));
            }
        };
    }
    Ok(mask)
}

fn traced() -> impl Iterator<Item = Hook> {
    let silent = |hook: &Hook| matches!(hook, Hook::Socket | Hook::ToOverlay);
    Hook::ALL.iter().copied().filter(move |hook| !silent(hook))
}

#[cfg(test)]
mod tests {
    use zerocopy::FromZeros as _;

    use super::*;
    use crate::abi::Addr;

    #[test]
    fn a_drop_says_why_where_and_whose() {
        let mut event = Event::new_zeroed();
        event.time = 12_000_345_678;
        event.saddr = Addr::from("10.0.0.1".parse::<std::net::IpAddr>().unwrap());
        event.daddr = Addr::from("fd00::1".parse::<std::net::IpAddr>().unwrap());
        (event.sport, event.dport) = (40000.into(), 80.into());
        (event.r#type, event.proto, event.ifindex, event.length) = (EVENT_DROP, 6, 3, 60);
        event.hook = Hook::FromNetdev.number() as u8;
        event.outcome = Outcome::DropNoLocal.number() as u8;
        (event.service, event.error) = (7, -2);
        assert_eq!(
            EventView::from(&event).to_string(),
            "12.000345 drop no_local_endpoint 10.0.0.1:40000 -> [fd00::1]:80/TCP at from_netdev \
             ifindex 3 length 60 service 7 error -2"
        );
    }

    #[test]
    fn hooks_are_chosen_by_name() {
        assert_eq!(hook_mask(["from_container", "to_netdev"]), Ok(0b1001));
        assert_eq!(hook_mask(["all"]), Ok(0b0101_1111));
        for silent in ["socket", "to_overlay"] {
            assert!(hook_mask([silent]).unwrap_err().contains("from_netdev"));
        }
        assert!(hook_mask(["nowhere"]).unwrap_err().contains("from_netdev"));
    }
}
