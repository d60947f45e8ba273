"""What tikv_python can do with raw keys, over all regions of a cluster: its members are the arguments."""

import asyncio
import sys
import time

from tikv import AsyncRawClient, RawClient

KEYS = [b"k%03d" % number for number in range(200)]
ITEMS = {key: b"value " + key for key in KEYS}
# A loaded machine may be slow; nothing here is about speed.
PATIENCE = 60.0


def check(found, expected, what):
    if found != expected:
        sys.exit(f"{what}: found {found!r}, expected {expected!r}")


def one_key(client):
    check(client.get(b"k100"), None, "a missing key")
    client.put(b"k100", b"one")
    client.put(b"k100", b"two")
    check(client.get(b"k100"), b"two", "the last value")
    client.delete(b"k100")
    client.delete(b"k100")
    check(client.get(b"k100"), None, "a deleted key")
    client.put(b"binary\x00\xff", bytes(range(256)))
    check(client.get(b"binary\x00\xff"), bytes(range(256)), "bytes that are no text")
    client.delete(b"binary\x00\xff")


def many_keys(client):
    client.put_many(ITEMS)
    check(client.get_many(KEYS + [b"missing"]), ITEMS, "get_many")
    pairs = list(ITEMS.items())
    check(list(client.scan()), pairs, "a scan over everything")
    check(list(client.scan(b"k015", b"k170")), pairs[15:170], "a scan over many regions")
    check(list(client.scan(b"k015", b"k170", reverse=True)), pairs[169:14:-1], "the same backwards")
    check(list(client.scan(prefix=b"k1", limit=70)), pairs[100:170], "a prefix with a limit")
    check(list(client.scan_keys(prefix=b"k05")), KEYS[50:60], "keys alone")
    whole = client.checksum()
    check((whole.keys, whole.size), (200, sum(len(k) + len(v) for k, v in pairs)), "a checksum")
    parts = client.checksum(end=b"k077").crc64_xor ^ client.checksum(b"k077").crc64_xor
    check(parts, whole.crc64_xor, "the checksum of the parts")
    client.delete_many(KEYS[:10])
    client.delete_range(b"k090", b"k130")
    check(list(client.scan()), pairs[10:90] + pairs[130:], "what is left")
    client.delete_range(prefix=b"k")
    check(list(client.scan()), [], "nothing is left")


def compare_and_swap(client):
    check(client.compare_and_swap(b"cas", None, b"1"), (True, None), "a first swap")
    check(client.compare_and_swap(b"cas", None, b"2"), (False, b"1"), "a swap of what is there")
    check(client.compare_and_swap(b"cas", b"1", b"2"), (True, b"1"), "a swap")
    check(client.get(b"cas"), b"2", "what was swapped in")
    client.delete(b"cas")


def times_to_live(client):
    client.put(b"ttl", b"v", ttl=1000)
    if not 900 <= client.ttl(b"ttl") <= 1000:
        sys.exit(f"a time to live: {client.ttl(b'ttl')}")
    client.put(b"ttl", b"v")
    check(client.ttl(b"ttl"), None, "a put takes the expiry away")
    client.put(b"short", b"v", ttl=1)
    while client.get(b"short") is not None:
        time.sleep(0.05)
    client.delete_range(b"")


async def at_once(members):
    async with AsyncRawClient(members, timeout=PATIENCE) as client:
        await asyncio.gather(*(client.put(key, value) for key, value in ITEMS.items()))
        found = await asyncio.gather(*(client.get(key) for key in KEYS))
        check(found, list(ITEMS.values()), "many calls at once")


def main(members):
    with RawClient(members, timeout=PATIENCE) as client:
        one_key(client)
        many_keys(client)
        times_to_live(client)
    with RawClient(members, timeout=PATIENCE, atomic=True) as client:
        compare_and_swap(client)
    asyncio.run(at_once(members))


main(sys.argv[1:])
