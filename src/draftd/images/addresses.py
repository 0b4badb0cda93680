"""Which addresses belong to the public Internet.

Owns the tables of special networks, and the ways in which an IPv6 address embeds an IPv4 one. ``gate`` decides about exceptions.
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network

# IANA IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890 and its updates). An own table, because
# ipaddress.is_global has changed between patch releases of Python.
_CLOSED_V4 = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's wire server: a metadata service on a public address
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
_OPEN_V6 = IPv6Network("2000::/3")
_CLOSED_V6 = tuple(
    IPv6Network(text)
    for text in (
        "2001::/23",  # Teredo, ORCHID, benchmarking: no image servers
        "2001:db8::/32",
        "2002::/16",  # 6to4 sends packets to the nearest relay, an unknown machine
        "2620:4f:8000::/48",
        "3fff::/20",
    )
)
_NAT64 = IPv6Network("64:ff9b::/96")
# RFC 5214: an IPv4 address of the site behind a public prefix; the masked bit says whether it is a public one.
_ISATAP, _ISATAP_MASK = 0x0000_5EFE, 0xFDFF_FFFF


def embedded_ipv4(address: IPAddress) -> IPv4Address | None:
    """Return the IPv4 address embedded in an IPv4-mapped or NAT64 address, or None."""
    if isinstance(address, IPv4Address):
        return None
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped


def is_public(address: IPAddress) -> bool:
    """Return whether the address is ordinary unicast on the public Internet."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _CLOSED_V4)
    inner = embedded_ipv4(address)
    if inner is not None:
        return is_public(inner)
    if int(address) >> 32 & _ISATAP_MASK == _ISATAP:
        return False
    return address in _OPEN_V6 and not any(address in network for network in _CLOSED_V6)
