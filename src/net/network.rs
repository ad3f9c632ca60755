//! Networks of addresses, for `--trusted`.

use crate::core::event::Trust;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A network: the addresses that share its first bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    first: IpAddr,
    bits: u8,
}

/// Why a word is no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotANetwork;

impl fmt::Display for NotANetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "a network is an address with the number of its bits, such as 127.0.0.0/8, ::1/128 or \
             10.1.2.3, or the word none",
        )
    }
}

impl std::error::Error for NotANetwork {}

/// The address as a number, and how many bits it has.
fn number(address: IpAddr) -> (u128, u8) {
    match address {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()), 32),
        IpAddr::V6(v6) => (v6.to_bits(), 128),
    }
}

impl FromStr for Network {
    type Err = NotANetwork;

    fn from_str(word: &str) -> Result<Self, NotANetwork> {
        let (address, bits) = match word.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (word, None),
        };
        let first: IpAddr = address.parse().map_err(|_| NotANetwork)?;
        let (_, most) = number(first);
        let bits = bits.map_or(Ok(most), |bits| bits.parse().map_err(|_| NotANetwork))?;
        if bits > most {
            return Err(NotANetwork);
        }
        Ok(Self { first, bits })
    }
}

impl Network {
    fn contains(&self, address: IpAddr) -> bool {
        let ((own, most), (other, others_most)) = (number(self.first), number(address));
        let rest = u32::from(most - self.bits);
        let prefix = |n: u128| n.checked_shr(rest).unwrap_or(0);
        most == others_most && prefix(own) == prefix(other)
    }
}

/// Whether caps hold for `address`, which is canonical: no IPv4 address in IPv6 clothes.
#[must_use]
pub(super) fn trust(trusted: &[Network], address: IpAddr) -> Trust {
    match trusted.iter().any(|network| network.contains(address)) {
        true => Trust::Trusted,
        false => Trust::Stranger,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_contains_what_shares_its_bits() {
        for (network, inside, outside) in [
            ("127.0.0.0/8", "127.255.0.1", "128.0.0.1"),
            ("10.1.2.3", "10.1.2.3", "10.1.2.4"),
            ("::1/128", "::1", "::2"),
            ("0.0.0.0/0", "255.1.2.3", "::1"),
            ("::/0", "ffff::", "1.2.3.4"),
            ("fd00::/8", "fdab::1", "fe80::1"),
        ] {
            let network: Network = network.parse().unwrap();
            assert!(network.contains(inside.parse().unwrap()), "{network:?} {inside}");
            assert!(!network.contains(outside.parse().unwrap()), "{network:?} {outside}");
        }
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for word in ["", "x", "127.0.0.0/33", "::/129", "1.2.3.4/", "1.2.3.4/-1", "/8", "1.2.3/8"] {
            assert_eq!(word.parse::<Network>(), Err(NotANetwork), "{word}");
        }
    }
}
