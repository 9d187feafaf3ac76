//! Which addresses are asked.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(a: u16, b: u16, prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, 0, 0, 0, 0, 0, 0), prefix)
}

/// What of IPv4 not everybody can reach, or is nobody's (IANA's registry of special-purpose addresses).
const CLOSED_V4: [Ipv4Net; 17] = [
    v4(0, 0, 0, 0, 8),
    v4(10, 0, 0, 0, 8),
    // Shared by customers of one provider; the metadata of one cloud.
    v4(100, 64, 0, 0, 10),
    v4(127, 0, 0, 0, 8),
    // Link-local; the metadata of most clouds.
    v4(169, 254, 0, 0, 16),
    v4(172, 16, 0, 0, 12),
    v4(192, 0, 0, 0, 24),
    v4(192, 0, 2, 0, 24),
    // Once the way to 6to4.
    v4(192, 88, 99, 0, 24),
    v4(192, 168, 0, 0, 16),
    v4(198, 18, 0, 0, 15),
    v4(198, 51, 100, 0, 24),
    v4(203, 0, 113, 0, 24),
    // In no registry: what one cloud tells its machines.
    v4(168, 63, 129, 16, 32),
    // Multicast.
    v4(224, 0, 0, 0, 4),
    // Reserved, and everybody at once.
    v4(240, 0, 0, 0, 4),
    v4(255, 255, 255, 255, 32),
];

/// All that is given out of IPv6; beyond it are loopback, IPv4 in other clothes, local and link-local addresses and multicast.
const OPEN_V6: Ipv6Net = v6(0x2000, 0, 3);

/// What of that not everybody can reach, or leads to IPv4 by a way of its own.
const CLOSED_V6: [Ipv6Net; 4] = [
    // Protocols, with Teredo.
    v6(0x2001, 0, 23),
    v6(0x2001, 0xdb8, 32),
    // 6to4.
    v6(0x2002, 0, 16),
    v6(0x3fff, 0, 20),
];

/// Where networks that have IPv6 alone find IPv4 (RFC 6052): what is behind it counts.
const NAT64: Ipv6Net = v6(0x64, 0xff9b, 96);

/// Whether everybody can reach an address.
#[must_use]
pub fn is_open(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !CLOSED_V4.iter().any(|network| network.contains(&address)),
        IpAddr::V6(address) if NAT64.contains(&address) => {
            let [.., a, b, c, d] = address.octets();
            is_open(Ipv4Addr::new(a, b, c, d).into())
        }
        IpAddr::V6(address) => {
            OPEN_V6.contains(&address) && !CLOSED_V6.iter().any(|network| network.contains(&address))
        }
    }
}

/// Which addresses a place may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Those that everybody can reach, and those of an operator's networks.
    Open,
    /// Those of an operator's networks alone.
    Networks,
}

/// An operator's networks: what is in them is asked although not everybody can reach it.
#[derive(Clone, Debug, Default)]
pub struct Networks(Vec<IpNet>);

impl Networks {
    /// Reads addresses and networks (`10.1.2.3, fd00::/8`), separated by commas or line breaks.
    ///
    /// # Errors
    /// What is none, or a network of all addresses: then nothing would be held back.
    pub fn parse(list: &str) -> Result<Self, String> {
        let texts = list.split([',', '\n', '\r']).map(str::trim).filter(|text| !text.is_empty());
        texts.map(network).collect::<Result<_, _>>().map(Self)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an address may be connected to.
    pub(super) fn allow(&self, reach: Reach, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address)) || reach == Reach::Open && is_open(address)
    }
}

fn network(text: &str) -> Result<IpNet, String> {
    let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    match network {
        Ok(network) if network.prefix_len() == 0 => Err(format!("{text} would let every address in")),
        Ok(network) => Ok(network),
        Err(_) => Err(format!("{text:?} is neither an address nor a network such as 10.0.0.0/8")),
    }
}
