"""Noise: the published vectors of the pattern; only the next message of the right key decrypts."""

from __future__ import annotations

import os

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from ipfs_dataset_bitswap.libp2p.identity import Identity
from ipfs_dataset_bitswap.libp2p.noise import Cipher, Payload, XXHandshake

from ipfs_dataset_core import FormatError, VerificationError
from tests.support.ending import check_ending

# From the test vectors of the implementations cacophony and snow.
VECTORS = {
    "cacophony": {
        "prologue": "4a6f686e2047616c74",
        "init_static": "e61ef9919cde45dd5f82166404bd08e38bceb5dfdfded0a34c8df7ed542214d1",
        "init_ephemeral": "893e28b9dc6ca8d611ab664754b8ceb7bac5117349a4439a6b0569da977c464a",
        "resp_static": "4a3acbfdb163dec651dfa3194dece676d437029c62a408b4c5ea9114246e4893",
        "resp_ephemeral": "bbdb4cdbd309f1a1f2e1456967fe288cadd6f712d65dc7b7793d5e63da6b375b",
        "handshake_hash": "c8e5f64e846193be2a834104c2a009868d6c9f3bd3c186299888b488b2f1f58e",
        "messages": [
            (
                "4c756477696720766f6e204d69736573",
                (
                    "ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c79444c756477"
                    "696720766f6e204d69736573"
                ),
            ),
            (
                "4d757272617920526f746862617264",
                (
                    "95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f14480884381cbad1f"
                    "276e038c48378ffce2b65285e08d6b68aaa3629a5a8639392490e5b9bd5269c2f1e4f488"
                    "ed8831161f19b7815528f8982ffe09be9b5c412f8a0db50f8814c7194e83f23dbd8d162c"
                    "9326ad"
                ),
            ),
            (
                "462e20412e20486179656b",
                (
                    "c7195ffacac1307ff99046f219750fc47693e23c3cb08b89c2af808b444850a80ae475b9"
                    "df0f169ae80a89be0865b57f58c9fea0d4ec82a286427402f113e4b6ae769a1d95941d49"
                    "b25030"
                ),
            ),
            (
                "4361726c204d656e676572",
                "96763ed773f8e47bb3712f0e29b3060ffc956ffc146cee53d5e1df",
            ),
            (
                "4a65616e2d426170746973746520536179",
                "3e40f15f6f3a46ae446b253bf8b1d9ffb6ed9b174d272328ff91a7e2e5c79c07f5",
            ),
            (
                "457567656e2042f6686d20766f6e2042617765726b",
                ("eb3f3515110702e047a6c9da4478b6ead94873c11c0f2d710ddb3f09fce024b3a58502ae3f"),
            ),
        ],
    },
    "snow": {
        "prologue": (
            "5468657265206973206e6f20726967687420616e642077726f6e672e2054686572652773"
            "206f6e6c792066756e20616e6420626f72696e672e"
        ),
        "init_static": "7dec208517a3b81a2861d7a71266d5d6dc944c5a8816634a86fe63198a0148ee",
        "init_ephemeral": "a32daf21e93c0131495ce1d903181fde81cc46937daaeb990bae7c992709421e",
        "resp_static": "4d0aed5098e3b4ef20357e9f686ce66204c792b358da2e475017d6c485304881",
        "resp_ephemeral": "4eece0f195d026db035ff987597c429d3ad3bcc2944df37d649528951b2a27c5",
        "messages": [
            (
                "d03c489139e645d0711a3c9e810d776b46a84912463fafa87b884eebf242dc34",
                (
                    "f9fa868ba97ab8a2686deccfaad5a484ee10a5bb85e3d1dce015a84797f92818d03c4891"
                    "39e645d0711a3c9e810d776b46a84912463fafa87b884eebf242dc34"
                ),
            ),
            (
                "d8190a92f7dc0c93dbea9118ba8055751fb7c6590c416ffbd419964132b99a85",
                (
                    "8c4e6fdb7d09d501a86f7eca5c234522751706ed409182c05cdf5f827d4dae47b81c6c5f"
                    "43b025692c24391eefee725c17d8cb0fbe3e4abb8aedf42c4fd2592d4ea48ac08989d6ae"
                    "8b4adae08b2c34087c808c7aa55a63c02b0fab9e930612336bd43eaea04d3c670a0a1466"
                    "91aa9cc9d357872320dc735dbc48580cffb553db"
                ),
            ),
            (
                "77891b19dcb92ef7c055b672c4a5aa7fdf1c84146b8b303459022729473ce254",
                (
                    "933ca6b5ed60df3df66121f0ab49a09e49efa45c613a86a3cecbf4c535cef2f83f72b428"
                    "37b18e3572f2fdc2b74c331e2368a545cef54bdca081678ab0e9dd5348122459e0c034c8"
                    "51984d88ce610963d43cde6cfe73a67fbd5a63e8bfca96d0"
                ),
            ),
            (
                "d7efdf988072881941db045a42882433817555128fbf5663e56081712ec7d212",
                (
                    "54ef0ff0629e1aaa7685a2806ab111cba76b52331f2642276736f415868eacb69ab2577f"
                    "3bda0cbf72f879685f6ed25f"
                ),
            ),
            (
                "dd7bf01a588bafb52c6cfba952e5d8fe35cc2b3f92b4730ae2474615157345ce",
                (
                    "356be70f110306d5c699bb834bb9d58d909e325924dfbec972e406e6f294dc63e1daebef"
                    "e8a62a334facc8048ab4ad66"
                ),
            ),
        ],
    },
}


def key(text):
    return X25519PrivateKey.from_private_bytes(bytes.fromhex(text))


def side(vector, name, *, initiator):
    return XXHandshake(
        initiator=initiator,
        static=key(vector[f"{name}_static"]),
        ephemeral=key(vector[f"{name}_ephemeral"]),
        prologue=bytes.fromhex(vector["prologue"]),
    )


@pytest.mark.parametrize("vector", VECTORS.values(), ids=VECTORS)
def test_messages_are_those_of_the_vectors(vector):
    writer = side(vector, "init", initiator=True)
    reader = side(vector, "resp", initiator=False)
    ciphers = None
    for number, texts in enumerate(vector["messages"]):
        payload, message = map(bytes.fromhex, texts)
        if number < 3:
            assert writer.write(payload) == message
            assert reader.read(message) == payload
            if "handshake_hash" in vector and number == 2:
                assert writer._hash.hex() == vector["handshake_hash"] == reader._hash.hex()
        else:
            # The responder sends first in the vectors.
            ciphers = ciphers or (writer.split(), reader.split())
            assert ciphers[0][0].encrypt(payload) == message
            assert ciphers[1][1].decrypt(message) == payload
            ciphers = ciphers[::-1]
        writer, reader = reader, writer


def shaken():
    """Returns the ciphers of both sides after a handshake."""
    one, other = XXHandshake(initiator=True), XXHandshake(initiator=False)
    other.read(one.write())
    one.read(other.write())
    other.read(one.write())
    return one.split(), other.split()


def test_the_handshake_transfers_both_static_keys():
    one, other = XXHandshake(initiator=True), XXHandshake(initiator=False)
    other.read(one.write(b"1"))
    assert one.read(other.write(b"2")) == b"2"
    assert other.read(one.write(b"3")) == b"3"
    assert one.remote_static == other.static_key
    assert other.remote_static == one.static_key
    assert one.finished
    assert other.finished


@given(st.binary(max_size=300), st.integers(0, 315), st.integers(1, 255))
def test_a_changed_message_does_not_decrypt(plain, position, change):
    (sending, _), (_, receiving) = shaken()
    message = bytearray(sending.encrypt(plain))
    message[position % len(message)] ^= change
    with pytest.raises(VerificationError, match="does not decrypt"):
        receiving.decrypt(message)


def test_messages_decrypt_once_and_in_order():
    (sending, _), (_, receiving) = shaken()
    first, second = sending.encrypt(b"first"), sending.encrypt(b"second")
    with pytest.raises(VerificationError):
        receiving.decrypt(second)
    (sending, _), (_, receiving) = shaken()
    first = sending.encrypt(b"first")
    assert receiving.decrypt(first) == b"first"
    with pytest.raises(VerificationError):
        receiving.decrypt(first)


def test_a_nonce_is_never_used_twice():
    cipher = Cipher(bytes(32))
    cipher._number = (1 << 64) - 1
    with pytest.raises(VerificationError, match="no nonce left"):
        cipher.encrypt(b"")


@given(st.binary(max_size=400))
def test_random_bytes_are_refused_as_a_handshake(message):
    handshake = XXHandshake(initiator=True)
    handshake.write()
    with pytest.raises((FormatError, VerificationError)):
        handshake.read(message)


@given(st.integers(0, 95), st.integers(1, 255))
def test_a_changed_handshake_is_refused(position, change):
    one, other = XXHandshake(initiator=True), XXHandshake(initiator=False)
    other.read(one.write())
    message = bytearray(other.write())
    # The highest bit of an X25519 key has no meaning, but the hash covers it.
    message[position % len(message)] ^= change
    with pytest.raises(VerificationError):
        one.read(bytes(message))


@pytest.mark.parametrize(
    "point",
    [
        "00" * 32,
        "01" + "00" * 31,
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    ],
)
def test_points_of_low_order_are_refused(point):
    handshake = XXHandshake(initiator=True)
    handshake.write()
    with pytest.raises(VerificationError, match="invalid"):
        handshake.read(bytes.fromhex(point) + bytes(64))


@given(st.lists(st.text("/abc0.", min_size=1), max_size=5).map(tuple))
def test_payloads_are_decoded_as_encoded(muxers):
    identity = Identity.generate()
    payload = Payload.from_bytes(Payload.sign(identity, b"k" * 32, muxers).to_bytes())
    payload.verify(b"k" * 32)
    assert payload.muxers == muxers
    assert payload.key.multihash == identity.peer_id.multihash
    with pytest.raises(VerificationError):
        payload.verify(b"l" * 32)


@given(st.binary(max_size=200))
def test_random_bytes_are_refused_as_a_payload(data):
    try:
        payload = Payload.from_bytes(data)
    except FormatError:
        return
    with pytest.raises(VerificationError):
        payload.verify(bytes(32))


# Uses the ciphers for the first time in threads, while processes are forked that use them as well.
FORKS = """
import os, signal, sys, threading, time, warnings
warnings.simplefilter("ignore")
from ipfs_dataset_bitswap.libp2p.identity import Identity
from ipfs_dataset_bitswap.libp2p.noise import Cipher, XXHandshake
sys.setswitchinterval(1e-5)

def use():
    XXHandshake(initiator=True)
    Identity.generate().sign(b"message")
    Cipher(bytes(32)).encrypt(bytes(60000))

def use_for_ever():
    while True:
        use()

for _ in range(3):
    threading.Thread(target=use_for_ever, daemon=True).start()
statuses = []
for _ in range(10):
    child = os.fork()
    if not child:
        signal.alarm(60)
        use()
        os._exit(0)
    statuses.append(os.waitpid(child, 0)[1])
os.write(1, repr(statuses).encode())
os._exit(0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_process_forked_while_threads_use_ciphers_can_use_them():
    assert check_ending(FORKS) == repr([0] * 10)
