"""Splits files into content-defined chunks, like Kubo's ``ipfs add --chunker=buzhash``.

The rolling hash covers the last 32 bytes. Each byte maps to 32 random bits, which are rotated left by the
byte's distance from the end of the window, and all are XORed. A chunk ends after the first window whose hash
ends in 17 zero bits; it has at least 128 KiB, at most 512 KiB, and 250 KiB on average. An insertion therefore
changes the chunks that contain it and, with high probability, none after the next boundary.

A loop over bytes would take a hundred times as long as hashing the block, so many windows are hashed at once
with array operations. The 256 table entries are rotated by each position modulo 32 (32 tables) and combined
into prefix XORs. The hash of a window is the XOR of the prefixes at its end and at its start, rotated by the
position of its last byte.
"""

from __future__ import annotations

import threading
from base64 import b85decode
from typing import Any

MIN_BYTES, MAX_BYTES = 128 << 10, 512 << 10
_WINDOW = 32
_MASK = (1 << 17) - 1
_ZEROS = bytes(_WINDOW)
# Bytes hashed at once: the working set fits into a core's cache, and torch uses a single thread.
_STRETCH = 32 << 10

# The table of random bits, as little-endian integers: `bytehash` in chunker/buzhash.go of
# github.com/ipfs/boxo, generated there from seed 0 of Go's math/rand (chunker/gen/main.go).
_BYTES = (
    ")#o;13!5hpf`Nf@6lGG}Js#9A$oPJDg;MT=H#Uzf8k__#k(b|B9~B3Z7)Vr`SoZF8V9F>U8rg9Ieps$2U;6p%&2ercE{Zzzf",
    "HScRERk29+iaqVaXrtU@uqF4cJoP`$Lwk}?x~dU%jucw#uFE?`_GC9`=DScY+_0@Mk?}ur5bu|7D;hx%2d=rFt{ayWA$YV%I",
    "tqcUh2^K)YI9)bj4oF0_mz%=fLfTGoCsP;lT~(Irhcl3KT<|#R^Hr`!GOW)oquK>S%PRZ|^YprPUtHcupT-1sT!Z1UX^yxo2",
    "!v%v@TKq_a1BiiuN8ozjnMbrsmE6yzIG=fV0sd7&wQ+WrpI0uDF_{qLLHf{+9)F?hV0r~**`Mt062n*_}PPnkmxrNzd>P+!`",
    "+$6mn>wi(-+xqu!FXeqV186+021++pXoi3!2X!hW1xu(}{w09@GR?cGK)v9Jf1h@TQr84+t%J!9&?L6rInT;Y<C=S08S!9W3",
    "+OLTRsJemzL!)OSu#ps5v83@YwmAnupjB|2DY6bOQiA*>-_s{EX(o8EY2acU0Wna2u9F4zT_@|=c(xAU-pm(S3TC;NEg%NnB",
    "Az1czct6H=5I09OfJW7qTdDrT3oT#Nqg97MR&;wVO>NMs&%O~xv83k69716kz@PO{Z*2}kvmFwCQRqKKuykLp1yp*o>JuIFJ",
    "rS0$=NuRsFW{g5k~#^?ZJK}*5h19u`TXk0<iijcu1Zr-axa4%Kd^Azq3L9uo9%yjJciQQ(dpYU*c7MIBPW1y)2=(x+iFy?u+",
    "+vQV%+eu#p5666tO7PC7m#y6Xwk|KO>hAz3TRJc+sPh@OHoD$H=0(7D7Tqb{TCB2BElOvK1LmjjI+HFq-kp8z{}LN~Y$aoiy",
    "$1APJQp$c|fOMz)xe+1)}-kdzC^@dzwr7AMCO;aU8<1H=?OU(StS1POv1Z|-3H`jQ)X7|zZJe8;Qh1%b|)wdH;D5L1S7+;Um",
    "L_!JMQxaGH?x%k-Lr*eF**W|_j{37vpYBU~g2uaePy<|_Y$*N$hPGNH*Y|7fikQR-`VinhY2#nU%Sl(HH|2yYWAmThnh#VUG",
    "@Fd7vv$N=*GpF&tpJgdP2M3#1smTdMuo9hWM}8MSWb}Np;xb$GsI23{cR<t^O!mIGg#p9CeI4u*4cmcO$#uPkV4;yyd2PI<3",
    "5ScMxa8>8yJpvc3dWB#H4}gp&glmlyZ-7Vy@!ma2Q1Vwy@!qCHO@If3%ZYzVw`4=W*JEu!5DH?=|?F;$a_Ig;_E~F5@j-55J",
    "F%I1jUxZd<Jf-%gWG4w=+ES>jWWeT6|>",
)


def cut(data: bytearray, *, last: bool) -> list[int]:
    """Returns the lengths of the chunks at the start of a file, or of the rest of a file.

    Args:
        data: The bytes, from the end of the last chunk on.
        last: Whether the data ends the file. If not, the last chunk is left out because its end is unknown.
    """
    if len(data) < MAX_BYTES and not last:
        return []
    if len(data) <= MIN_BYTES:
        return [len(data)] if data else []
    sizes, position = [], 0
    while (left := len(data) - position) >= (1 if last else MAX_BYTES):
        size = _next_cut(data, position, min(left, MAX_BYTES))
        sizes.append(size)
        position += size
    return sizes


def _next_cut(data: bytearray, position: int, size: int) -> int:
    """Returns the length of the chunk that starts at a position, looking at no more than `size` bytes."""
    if size <= MIN_BYTES:
        return size
    # A chunk of `size` bytes ends there in any case. A run of zeros as long as a window also ends a chunk,
    # because equal bytes hash to 0: each bit is set in exactly 16 of the 32 rotations. TAR headers are
    # followed by such runs.
    zeros = data.find(_ZEROS, position + MIN_BYTES - _WINDOW, position + size)
    end = size if zeros < 0 else zeros + _WINDOW - position
    hashes = _hashes()
    start = MIN_BYTES - _WINDOW
    while start + _WINDOW < end:
        stop = min(start + _STRETCH, end - 1)
        found = hashes.first_zero(data, position + start, position + stop)
        if found is not None:
            return start + _WINDOW + found
        start = stop - _WINDOW + 1
    return end


class _Hashes:
    """Hashes many windows at once, with buffers and tables for use by one thread."""

    def __init__(self) -> None:
        import numpy as np  # noqa: PLC0415 - only needed for this chunker
        import torch  # noqa: PLC0415

        self._torch, self._xor = torch, np.bitwise_xor
        self._and = np.bitwise_and
        words = np.frombuffer(b85decode("".join(_BYTES)), dtype="<u4").astype(np.uint32)
        mask = np.full(1, _MASK, dtype=np.uint32)
        places = range(_WINDOW)
        tables = np.concatenate([_rotated_right(words, place) for place in places])
        masks = np.concatenate([_rotated_right(mask, place) for place in places])
        self._table = torch.from_numpy(tables.view(np.int32))
        self._masks = np.tile(masks.view(np.int32), _STRETCH // _WINDOW)
        self._offsets = (
            torch.arange(_WINDOW, dtype=torch.int32).mul_(256).repeat(_STRETCH // _WINDOW)
        )
        # First the table index of each byte, later the hash of each window; and the prefix XORs.
        self._index = torch.empty(_STRETCH, dtype=torch.int32)
        self._sums = torch.empty(_STRETCH, dtype=torch.int32)
        self._arrays = self._index.numpy(), self._sums.numpy()

    def first_zero(self, data: bytearray, start: int, stop: int) -> int | None:
        """Returns the index of the first window whose hash ends in 17 zero bits; None if there is none.

        Args:
            data: The bytes.
            start: Start of the first window.
            stop: End of the last window; at most `_STRETCH` bytes after `start`.
        """
        torch, size = self._torch, stop - start
        some = torch.frombuffer(data, dtype=torch.uint8, count=size, offset=start)
        index, sums = self._index[:size], self._sums[:size]
        torch.add(some, self._offsets[:size], out=index)
        torch.index_select(self._table, 0, index, out=sums)
        hashes, summed = self._arrays
        hashes, summed = hashes[_WINDOW - 1 : size], summed[:size]
        self._xor.accumulate(summed, out=summed)
        hashes[0] = summed[_WINDOW - 1]
        self._xor(summed[_WINDOW:], summed[:-_WINDOW], out=hashes[1:])
        self._and(hashes, self._masks[_WINDOW - 1 : size], out=hashes)
        return None if hashes.all() else int((hashes == 0).argmax())


def _rotated_right(words: Any, places: int) -> Any:
    return words >> places | words << (_WINDOW - places) if places else words


class _Local(threading.local):
    hashes: _Hashes | None = None


_local = _Local()


def _hashes() -> _Hashes:
    if _local.hashes is None:
        _local.hashes = _Hashes()
    return _local.hashes
