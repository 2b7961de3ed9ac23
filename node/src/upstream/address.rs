//! Which addresses an upstream may be at.
//!
//! Always holds: what embeds an IPv4 address (mapped, NAT64, 6to4) is judged as that address is. Never does:
//! resolve a name.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What an address means for a request that others caused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// Anybody's.
    Public,
    /// Of this machine, this network, or no network at all: only for who is allowed to.
    Private,
    /// Where no registry is: what gives credentials to whoever runs on this machine, groups, nobody.
    Never,
}

/// Addresses at which clouds tell machines their secrets, besides what is link-local anyway.
const METADATA_V4: [Ipv4Addr; 6] = [
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(169, 254, 170, 2),
    Ipv4Addr::new(169, 254, 170, 23),
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(168, 63, 129, 16),
    Ipv4Addr::new(192, 0, 0, 192),
];
const METADATA_V6: [Ipv6Addr; 3] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
];

/// Where an address is.
pub(super) fn place(address: IpAddr) -> Place {
    match address {
        IpAddr::V4(address) => v4(address),
        IpAddr::V6(address) => v6(address),
    }
}

fn v4(address: Ipv4Addr) -> Place {
    let [a, b, c, _] = address.octets();
    let never = METADATA_V4.contains(&address) || a == 0 || address.is_multicast() || address.is_broadcast();
    let private = address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || (a == 100 && (64..128).contains(&b)) // carrier-grade NAT
        || (a == 192 && b == 0 && c == 0) // protocol assignments
        || (a == 192 && b == 88 && c == 99) // relays of 6to4
        || (a == 198 && (18..20).contains(&b)) // benchmarks
        || a >= 240; // reserved
    match (never, private) {
        (true, _) => Place::Never,
        (false, true) => Place::Private,
        (false, false) => Place::Public,
    }
}

fn v6(address: Ipv6Addr) -> Place {
    let s = address.segments();
    if METADATA_V6.contains(&address) || address.is_unspecified() || address.is_multicast() {
        return Place::Never;
    }
    if address.is_loopback() {
        return Place::Private;
    }
    let low = Ipv4Addr::from((u32::from(s[6]) << 16) | u32::from(s[7]));
    match s {
        [0, 0, 0, 0, 0, 0xffff, ..] => v4(low),
        // Compatible addresses are used by nobody; what they would lead to counts nevertheless.
        [0, 0, 0, 0, 0, 0, ..] => v4(low).max(Place::Private),
        // NAT64: how a network without IPv4 reaches what has nothing else.
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => v4(low),
        // The NAT64 of one's own network.
        [0x64, 0xff9b, 1, ..] => v4(low).max(Place::Private),
        [0x2002, high, middle, ..] => v4(Ipv4Addr::from((u32::from(high) << 16) | u32::from(middle))),
        // Protocol assignments, Teredo and ORCHID among them; documentation.
        [0x2001, second, ..] if second < 0x200 || second == 0xdb8 => Place::Private,
        [0x3fff, second, ..] if second < 0x1000 => Place::Private,
        [0x2000..=0x3fff, ..] => Place::Public,
        // All else is of one's own network or nobody's.
        _ => Place::Private,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(expected: Place, addresses: &[&str]) {
        for address in addresses {
            assert_eq!(place(address.parse().unwrap()), expected, "{address}");
        }
    }

    #[test]
    fn public_addresses_are_public_however_they_are_written() {
        check(
            Place::Public,
            &[
                "1.1.1.1",
                "172.15.0.1",
                "172.32.0.1",
                "100.63.0.1",
                "100.128.0.1",
                "192.0.1.1",
                "198.17.0.1",
                "223.255.255.255",
            ],
        );
        check(
            Place::Public,
            &[
                "2606:4700::1111",
                "::ffff:1.1.1.1",
                "64:ff9b::1.1.1.1",
                "2002:101:101::1",
                "2a00::1",
                "3fff:1000::1",
                "2001:200::1",
            ],
        );
    }

    #[test]
    fn what_is_of_ones_own_network_is_private_however_it_is_written() {
        check(
            Place::Private,
            &[
                "10.0.0.1",
                "172.16.0.1",
                "172.31.255.255",
                "192.168.1.1",
                "127.0.0.1",
                "127.255.255.254",
                "169.254.1.1",
                "100.64.0.1",
                "100.127.255.255",
                "192.0.0.1",
                "192.0.2.1",
                "198.51.100.1",
                "203.0.113.1",
                "198.18.0.1",
                "198.19.255.255",
                "192.88.99.1",
                "240.0.0.1",
            ],
        );
        check(
            Place::Private,
            &[
                "::1",
                "::ffff:10.0.0.1",
                "::ffff:127.0.0.1",
                "::10.0.0.1",
                "::1.1.1.1",
                "64:ff9b::10.0.0.1",
                "64:ff9b:1::1.1.1.1",
                "2002:a00:1::",
                "2002:7f00:1::1",
                "2002:c0a8:101::1",
                "2001::1",
                "2001:0:4136:e378::1",
                "2001:20::1",
                "2001:db8::1",
                "3fff::1",
                "fe80::1",
                "febf::1",
                "fec0::1",
                "fc00::1",
                "fdff::1",
                "100::1",
                "4000::1",
                "5f00::1",
            ],
        );
    }

    #[test]
    fn nobody_is_led_to_secrets_groups_or_nowhere() {
        check(
            Place::Never,
            &[
                "169.254.169.254",
                "169.254.170.2",
                "169.254.170.23",
                "100.100.100.200",
                "168.63.129.16",
                "192.0.0.192",
                "0.0.0.0",
                "0.1.2.3",
                "224.0.0.1",
                "239.255.255.255",
                "255.255.255.255",
            ],
        );
        check(
            Place::Never,
            &[
                "::",
                "ff02::1",
                "fd00:ec2::254",
                "fd00:ec2::23",
                "fd20:ce::254",
                "::ffff:169.254.169.254",
                "::169.254.169.254",
                "64:ff9b::169.254.169.254",
                "64:ff9b::a9fe:a9fe",
                "64:ff9b:1::169.254.169.254",
                "2002:a9fe:a9fe::1",
                "::ffff:0.0.0.0",
            ],
        );
    }
}
